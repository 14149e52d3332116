"""How true the expected Dice of masks is, and how well it identifies bad ones."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from cxrseg.evaluation.image_scores import EvaluatedImage, groups_of
from cxrseg.metrics.intervals import Estimate, Groups, estimate

__all__ = ["BAD_DICE", "auroc", "risk_coverage", "summarise_expected_dice"]

BAD_DICE = 0.5
"""A mask with a Dice below this is bad."""

_BINS = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Bounds of the bins of the expected Dice; a value on a bound belongs to the bin above it, 1 to the last."""

_COVERAGES = np.arange(1, 21) / 20

_Array = npt.NDArray[np.float64]


def summarise_expected_dice(images: Sequence[EvaluatedImage]) -> dict[str, Any] | None:
    """How true the expected Dice is, and how well it separates bad masks from good ones.

    Both over all images and over the infected ones.

    Over all images, a correctly empty mask has a Dice of 1.

    Returns:
        None where it is not known. Else under `all_images` and `infected`: `images`; `bins`, a list by expected Dice
        with `from`, `to`, `images`, and the means `expected` and `measured` of their Dice; `bad`, those with a Dice
        below 0.5; `auroc`, the probability that a bad one has a lower expected Dice than a good one; `risk_coverage`,
        lists of `coverage` (fraction of the images kept, the highest expected Dice first) and `risk` (1 - their mean
        Dice); and the area under that curve (Geifman & El-Yaniv 2017): `area`, beside `area_random`, the mean area of
        a random order, and `area_best`, that of the images sorted by their Dice.
    """
    known = [image for image in images if image.expected_dice is not None and "infection" in image.scores]
    if not known:
        return None
    return {"all_images": _found(known), "infected": _found([image for image in known if image.infected])}


def auroc(values: npt.ArrayLike, positive: npt.ArrayLike, groups: Groups = None) -> Estimate:
    """Area under the ROC curve: the probability that a positive has the larger value; ties count half.

    Args:
        values: (n,) float.
        positive: (n,) bool.
        groups: the group of each image.

    Returns:
        With its bootstrap interval; nan where all or none are positive.
    """
    scored, is_positive = np.asarray(values, np.float64), np.asarray(positive, bool)
    order = np.argsort(scored, kind="stable")
    starts = np.flatnonzero(np.diff(scored[order], prepend=-np.inf))
    mark = is_positive[order]

    def statistic(weights: _Array) -> _Array:
        drawn = weights[:, order]
        if not starts.size:
            return np.full((len(drawn), 1), np.nan)
        ups, downs = (np.add.reduceat(drawn * kind, starts, axis=1) for kind in (mark, ~mark))
        below = np.cumsum(downs, axis=1) - downs / 2
        whole = ups.sum(axis=1) * downs.sum(axis=1)
        found: _Array = (ups * below).sum(axis=1) / np.where(whole > 0, whole, np.nan)
        return found[:, None]

    return estimate(statistic, len(scored), groups=groups)[0]


def risk_coverage(expected: npt.ArrayLike, loss: npt.ArrayLike, groups: Groups = None) -> tuple[_Array, Estimate]:
    """Mean loss of the images with the highest expected Dice, by how many of them are kept.

    Args:
        expected: (n,) float; among equal ones, the larger loss comes first.
        loss: (n,) float.
        groups: the group of each image.

    Returns:
        (n,) the mean loss of the first 1, 2, ... n images; and the mean of these, the area under the curve.
    """
    losses = np.asarray(loss, np.float64)
    order = np.lexsort((-losses, -np.asarray(expected, np.float64)))
    ordered = losses[order]

    def statistic(weights: _Array) -> _Array:
        drawn = weights[:, order]
        kept = np.cumsum(drawn, axis=1)
        risks = np.cumsum(drawn * ordered, axis=1) / np.where(kept > 0, kept, 1)
        area: _Array = (drawn * risks).sum(axis=1) / kept[:, -1]
        return area[:, None]

    curve = np.cumsum(ordered) / np.arange(1, len(ordered) + 1)
    return curve, estimate(statistic, len(ordered), groups=groups)[0]


def _found(images: Sequence[EvaluatedImage]) -> dict[str, Any]:
    if not images:
        return {"images": 0}
    scores = [image.scores["infection"] for image in images]
    dice = np.array([1.0 if score.counts.both_empty else score.dice for score in scores])
    expected = np.array([image.expected_dice for image in images], np.float64)
    groups = groups_of(images)
    curve, area = risk_coverage(expected, 1 - dice, groups)
    kept = np.ceil(_COVERAGES * len(images)).astype(int)
    return {
        "images": len(images),
        "bins": _bins(expected, dice),
        "bad": int(np.count_nonzero(dice < BAD_DICE)),
        "auroc": auroc(-expected, dice < BAD_DICE, groups).as_json("value"),
        "risk_coverage": {"coverage": _COVERAGES.tolist(), "risk": curve[kept - 1].tolist()},
        "area": area.as_json("value"),
        "area_random": float(np.mean(1 - dice)),
        "area_best": float(risk_coverage(dice, 1 - dice)[0].mean()),
    }


def _bins(expected: _Array, dice: _Array) -> list[dict[str, Any]]:
    """Means of the expected and of the measured Dice in each bin that has images."""
    place = np.digitize(expected, _BINS[1:-1])
    found = []
    for number, (low, high) in enumerate(pairwise(_BINS)):
        inside = place == number
        if inside.any():
            means = {"expected": float(expected[inside].mean()), "measured": float(dice[inside].mean())}
            found.append({"from": low, "to": high, "images": int(inside.sum()), **means})
    return found
