"""Scores by size of the infection, and by lung and zone."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from cxrseg.evaluation.image_scores import EvaluatedImage
from cxrseg.metrics.intervals import estimate, estimate_means
from cxrseg.metrics.regions import REGIONS
from cxrseg.metrics.segmentation import Counts
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
                "infected_per_image": per_image(scores),
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
    return {region: _region([image.regions[region] for image in images if _found(image, region)]) for region in REGIONS}


def _found(image: EvaluatedImage, region: str) -> bool:
    return region in image.regions and image.regions[region].pixels > 0


def _region(every: Sequence[Counts]) -> dict[str, Any]:
    infected = [counts for counts in every if counts.tp + counts.fn]
    sums = np.array([(2 * each.tp, 2 * each.tp + each.fp + each.fn) for each in infected], float).reshape(-1, 2)

    def pooled(weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        found = weights @ sums
        return np.asarray(found[:, :1] / found[:, 1:])

    differences = np.array([(each.fp - each.fn) / each.pixels for each in every])
    fractions = estimate_means({"fraction_error": np.abs(differences), "fraction_bias": differences})
    return {
        "images": len(every),
        "infected": len(infected),
        "dice": estimate_means({"dice": [each.dice for each in infected]})["dice"].as_json(),
        "dice_pooled": estimate(pooled, len(infected))[0].as_json("value"),
        **{name: found.as_json() for name, found in fractions.items()},
    }
