"""The different means over images that publications report, each with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cxrseg.metrics.intervals import Estimate, Groups, chosen_groups, estimate, estimate_fraction, estimate_means
from cxrseg.metrics.segmentation import MARKED_LIMIT, ImageScore

__all__ = ["FIGURES", "per_image", "pooled_rmse", "summarise"]

FIGURES = (
    *("dice", "iou", "precision", "recall", "specificity", "rmse", "hd95", "assd", "nsd2", "nsd4"),
    *("hd95_diagonal", "hd95_mm", "assd_mm", "nsd2_mm", "nsd4_mm"),
)
"""The figures of an `ImageScore` for which there are means per image."""

_RATIOS = ("dice", "iou", "precision", "recall", "specificity")
_WITH_EMPTY = ("dice", "iou", "nsd2", "nsd4")


def summarise(rows: Sequence[ImageScore], groups: Groups = None) -> dict[str, Any]:
    """The four means of the scores of many images that publications report.

    Args:
        rows: the scores.
        groups: the group of each image, such as its patient, for the intervals.

    Returns:
        a dict of JSON values; each figure has `n`, the number of its images, and its 95% `interval` (see
        `cxrseg.metrics.intervals`). Undefined values are None.

        - images, infected, both_empty, missed, false_alarm: numbers of images.
        - rmse: {value, n, interval}, Eq. 1 of the reports over all pixels of all images.
        - infected_per_image: images with infection only; name to {mean, n, interval}.
        - infected_pooled: the same images, with the pixels of all images pooled; name to {value, n, interval}.
        - all_images_empty_on_empty_is_1: all images; Dice, IoU and NSD of empty against empty count as 1.
        - uninfected_marked: {fraction, n, interval, limit}, the fraction of the images without infection in which
          more than `limit` (1%) of the lungs is marked.
    """
    has_infection = np.array([row.tp + row.fn > 0 for row in rows], bool)
    infected = [row for row in rows if row.tp + row.fn]
    of_infected = chosen_groups(groups, has_infection)
    fractions = np.array([row.lungs_marked for row in rows], np.float64)
    counted = ~has_infection & ~np.isnan(fractions)
    marked = estimate_fraction(
        int(np.count_nonzero(fractions[counted] > MARKED_LIMIT)),
        int(np.count_nonzero(counted)),
        chosen_groups(groups, counted),
    )
    every = {name: [1.0 if row.counts.both_empty else getattr(row, name) for row in rows] for name in _WITH_EMPTY}
    return {
        "images": len(rows),
        "infected": len(infected),
        "both_empty": sum(row.counts.both_empty for row in rows),
        "missed": sum(row.counts.missed for row in rows),
        "false_alarm": sum(row.counts.false_alarm for row in rows),
        "rmse": pooled_rmse(rows, groups).as_json("value"),
        "infected_per_image": per_image(infected, of_infected),
        "infected_pooled": {
            **{name: found.as_json("value") for name, found in _pooled(infected, of_infected).items()},
            "rmse": pooled_rmse(infected, of_infected).as_json("value"),
        },
        "all_images_empty_on_empty_is_1": {
            name: found.as_json() for name, found in estimate_means(every, groups=groups).items()
        },
        "uninfected_marked": {**marked.as_json("fraction"), "limit": MARKED_LIMIT},
    }


def per_image(rows: Sequence[ImageScore], groups: Groups = None) -> dict[str, dict[str, Any]]:
    """Name of each of `FIGURES` to the mean over the images where it is defined: {mean, n, interval}."""
    columns = {name: [getattr(row, name) for row in rows] for name in FIGURES}
    return {name: found.as_json() for name, found in estimate_means(columns, groups=groups).items()}


def pooled_rmse(rows: Sequence[ImageScore], groups: Groups = None) -> Estimate:
    """Root mean squared error over all pixels of all images, Eq. 1 of the reports."""
    pixels = np.array([row.counts.pixels for row in rows], dtype=np.float64)
    sums = np.stack([np.array([row.rmse for row in rows]) ** 2 * pixels, pixels], axis=1)

    def statistic(weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        found = weights @ sums
        return np.sqrt(found[:, :1] / found[:, 1:])

    return estimate(statistic, len(rows), groups=groups)[0]


def _pooled(rows: Sequence[ImageScore], groups: Groups) -> dict[str, Estimate]:
    """The ratios of the pooled counts of all images."""
    counts = np.array([[row.tp, row.fp, row.fn, row.tn] for row in rows], dtype=np.float64).reshape(-1, 4)

    def statistic(weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        tp, fp, fn, tn = (weights @ counts).T
        parts = (2 * tp, tp, tp, tp, tn)
        wholes = (2 * tp + fp + fn, tp + fp + fn, tp + fp, tp + fn, tn + fp)
        return np.stack([part / whole for part, whole in zip(parts, wholes, strict=True)], axis=1)

    return dict(zip(_RATIOS, estimate(statistic, len(rows), groups=groups), strict=True))
