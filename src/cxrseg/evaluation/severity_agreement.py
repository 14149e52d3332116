"""Agreement of the predicted infected fraction and extent score with the true ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cxrseg.evaluation.image_scores import EvaluatedImage, groups_of
from cxrseg.metrics.intervals import Estimate, Groups, Statistic, estimate, estimate_fraction

__all__ = ["summarise_severity", "weighted_kappa"]

_Array = npt.NDArray[np.float64]


def summarise_severity(images: Sequence[EvaluatedImage]) -> dict[str, Any] | None:
    """Agreement of the infected fraction and of the extent score, over all images and over the infected ones.

    Returns:
        None where no fraction is known. Else `lungs`, the number of images by whose lungs the fractions are of, and
        under `all_images` and `infected`: `images`; `unknown`, those with a true but no predicted fraction;
        `mean_absolute_error` and `bias` (predicted - true) of the fraction, in [0, 1]; `limits_of_agreement`, bias -
        and + 1.96 standard deviations of the difference (Bland & Altman 1986); `weighted_kappa` of the extent score
        with quadratic weights; and `same_score`, the fraction of images with the same score.
    """
    known = [image for image in images if image.true is not None and image.true.infected_fraction is not None]
    if not known:
        return None
    return {
        "lungs": dict(Counter(image.lungs for image in known)),
        "all_images": _agreement(known),
        "infected": _agreement([image for image in known if image.infected]),
    }


def weighted_kappa(ours: Sequence[int], theirs: Sequence[int], groups: Groups = None) -> Estimate:
    """Cohen's kappa of two scores with quadratic weights (Cohen 1968), with its bootstrap interval.

    With these weights, kappa is 1 - E[(a - b)^2] / (E[a^2] + E[b^2] - 2 E[a] E[b]): chance agreement needs no table.

    Args:
        ours, theirs: (n,) scores of the same n images; the result is nan where all scores are equal.
        groups: the group of each image.
    """
    a, b = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    table = np.stack([(a - b) ** 2, a**2 + b**2, a, b], axis=1)

    def statistic(weights: _Array) -> _Array:
        apart, squares, mean_a, mean_b = (weights @ table).T / weights.sum(axis=1)
        by_chance = squares - 2 * mean_a * mean_b
        kappa: _Array = 1 - apart / np.where(by_chance > 1e-9, by_chance, np.nan)
        return kappa[:, None]

    return estimate(statistic, len(a), groups=groups)[0]


def _agreement(images: Sequence[EvaluatedImage]) -> dict[str, Any]:
    known = [
        (image, image.predicted, image.true)
        for image in images
        if image.true is not None and image.predicted is not None
    ]
    pairs = [
        (image, ours.infected_fraction, theirs.infected_fraction)
        for image, ours, theirs in known
        if ours.infected_fraction is not None
    ]
    of_pairs = groups_of([image for image, _, theirs in pairs if theirs is not None])
    difference = np.array([ours - theirs for _, ours, theirs in pairs if theirs is not None])
    error, bias, lower, upper = (
        found.as_json() for found in estimate(_bland_altman(difference), len(difference), groups=of_pairs)
    )
    both = [
        (image, ours.extent_score, theirs.extent_score)
        for image, ours, theirs in known
        if ours.extent_score is not None and theirs.extent_score is not None
    ]
    of_both = groups_of([image for image, _, _ in both])
    kappa = weighted_kappa([ours for _, ours, _ in both], [theirs for _, _, theirs in both], of_both)
    return {
        "images": len(images),
        "unknown": len(images) - len(difference),
        "mean_absolute_error": error,
        "bias": bias,
        "limits_of_agreement": {
            "lower": {"value": lower.pop("mean"), **lower},
            "upper": {"value": upper.pop("mean"), **upper},
        },
        "weighted_kappa": kappa.as_json("value"),
        "same_score": estimate_fraction(sum(ours == theirs for _, ours, theirs in both), len(both), of_both).as_json(
            "fraction"
        ),
    }


def _bland_altman(difference: _Array) -> Statistic:
    """Mean absolute difference, mean difference, and both limits of agreement."""
    table = np.stack([np.abs(difference), difference, difference**2], axis=1)
    spread = len(difference) / (len(difference) - 1) if len(difference) > 1 else np.nan

    def statistic(weights: _Array) -> _Array:
        error, bias, square = (weights @ table).T / weights.sum(axis=1)
        deviation = np.sqrt(spread * np.maximum(square - bias**2, 0))
        return np.stack([error, bias, bias - 1.96 * deviation, bias + 1.96 * deviation], axis=1)

    return statistic
