"""Scores by size of the infection, and by lung and zone."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from cxrseg.evaluation.image_scores import EvaluatedImage, groups_of
from cxrseg.metrics.intervals import Groups, chosen_groups, estimate, estimate_means
from cxrseg.metrics.regions import REGIONS
from cxrseg.metrics.summary import per_image

__all__ = ["SIZES", "by_region", "by_size"]

SIZES = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)
"""Bounds of five bins of the true infected fraction of the lungs: those of the extent score, and 10%. They are fixed,
so that figures of two datasets can be compared; a fraction on a bound belongs to the bin above it."""


def by_size(images: Sequence[EvaluatedImage]) -> list[dict[str, Any]]:
    """Means over the infected images in each bin of `SIZES`.

    Returns:
        For each bin: `from`, `to` (fractions of the lungs), `images`, `missed`, and `infected_per_image`, as in
        `cxrseg.metrics.summary`. Images whose lungs are unknown are in no bin.
    """
    infected = [(image, image.true.infected_fraction) for image in images if image.infected and image.true is not None]
    fractions = np.array([np.nan if fraction is None else fraction for _, fraction in infected])
    bins = np.minimum(np.searchsorted(SIZES, fractions, side="right"), len(SIZES) - 1)
    groups = groups_of([image for image, _ in infected])
    found = []
    for number, (low, high) in enumerate(pairwise(SIZES), 1):
        chosen = (bins == number) & ~np.isnan(fractions)
        scores = [image.scores["infection"] for (image, _), inside in zip(infected, chosen, strict=True) if inside]
        found.append(
            {
                "from": low,
                "to": high,
                "images": len(scores),
                "missed": sum(score.counts.missed for score in scores),
                "infected_per_image": per_image(scores, chosen_groups(groups, chosen)),
            }
        )
    return found


def by_region(images: Sequence[EvaluatedImage]) -> dict[str, dict[str, Any]]:
    """Agreement within each lung and zone; left and right are the patient's.

    Returns:
        For each of `cxrseg.metrics.regions.REGIONS`: `images` that have it, `infected`: those with infection there;
        `dice`, the mean over the latter, and `dice_pooled`, their pixels counted together; `fraction_error` and
        `fraction_bias`, the mean absolute and the mean difference of predicted and true infected fraction over the
        former.
    """
    return {region: _region([image for image in images if _found(image, region)], region) for region in REGIONS}


def _found(image: EvaluatedImage, region: str) -> bool:
    return region in image.regions and image.regions[region].pixels > 0


def _region(images: Sequence[EvaluatedImage], region: str) -> dict[str, Any]:
    every = [image.regions[region] for image in images]
    groups = groups_of(images)
    has_infection = [counts.tp + counts.fn > 0 for counts in every]
    infected = [counts for counts in every if counts.tp + counts.fn]
    of_infected: Groups = chosen_groups(groups, has_infection)
    sums = np.array([(2 * each.tp, 2 * each.tp + each.fp + each.fn) for each in infected], float).reshape(-1, 2)

    def pooled(weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        found = weights @ sums
        return np.asarray(found[:, :1] / found[:, 1:])

    differences = np.array([(each.fp - each.fn) / each.pixels for each in every])
    fractions = estimate_means({"fraction_error": np.abs(differences), "fraction_bias": differences}, groups=groups)
    dice = estimate_means({"dice": [each.dice for each in infected]}, groups=of_infected)["dice"]
    return {
        "images": len(every),
        "infected": len(infected),
        "dice": dice.as_json(),
        "dice_pooled": estimate(pooled, len(infected), groups=of_infected)[0].as_json("value"),
        **{name: found.as_json() for name, found in fractions.items()},
    }
