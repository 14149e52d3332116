"""The tasks, the limits at which they empty the infection map of an image, and the score for sorting films."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from cxrseg.data.sample import CATEGORIES
from cxrseg.errors import ArgumentError, ModelFileError
from cxrseg.model_file import ModelInfo

__all__ = ["TASKS", "covid19_threshold", "normal_threshold", "ranking_score"]

TASKS = ("opacity", "infection", "covid19")
"""'opacity': what a radiologist would draw, whatever the cause (a model without a channel 'opacity' gives its channel
'infection'), and nothing where the classification head takes the image for normal, see `ModelInfo.normal_threshold`.
'infection': infection as the training data define it. 'covid19': the same, but the map is emptied where the
classification head's probability of COVID-19 is below the model file's `covid19_threshold`."""


def covid19_threshold(task: str, infos: Sequence[ModelInfo]) -> float | None:
    """The mean threshold of the models with a classification head; None where the task keeps every map."""
    for info in infos:
        if info.categories and set(info.categories) != set(CATEGORIES):
            raise ModelFileError(
                f"expected the model {info.name} to tell {', '.join(CATEGORIES)} apart, got {info.categories}"
            )
    if task not in TASKS:
        raise ArgumentError(f"expected the task {', '.join(TASKS[:-1])} or {TASKS[-1]}, got {task!r}")
    if task != "covid19":
        return None
    limits = [info.covid19_threshold for info in infos if info.categories]
    if not limits:
        raise ModelFileError(
            f"the task covid19 needs a model with a classification head, and the model {infos[0].name} has none: it "
            f"marks opacities, but does not tell whether they are COVID-19. Use the task opacity"
        )
    return sum(limits) / len(limits)


def normal_threshold(task: str, infos: Sequence[ModelInfo]) -> float:
    """The mean limit of the models with a channel 'opacity' and a classification head; 1 where every map is kept."""
    limits = [info.normal_threshold for info in infos if "opacity" in info.channels and info.categories]
    return sum(limits) / len(limits) if task == "opacity" and limits else 1.0


def ranking_score(
    task: str,
    maps: Mapping[str, npt.NDArray[np.float32]],
    thresholds: Mapping[str, float],
    categories: Mapping[str, float] | None,
) -> float | None:
    """`Prediction.ranking_score` of one image.

    Args:
        task: one of `TASKS`.
        maps: channel to (H, W) float32 in [0, 1], before the infection map may be emptied.
        thresholds: channel to the probability from which a pixel is marked.
        categories: category to the probability of the whole image, or None.

    Returns:
        0 to 1, or None where no lungs were found.
    """
    if not {"infection", "lungs"} <= maps.keys():
        return None
    lungs = maps["lungs"] >= thresholds["lungs"]
    count = np.count_nonzero(lungs)
    if not count:
        return None
    mean = float(maps["infection"].sum(where=lungs, dtype=np.float64)) / count
    if categories is None or task == "infection":
        return mean
    return mean * (categories["COVID-19"] if task == "covid19" else 1 - categories["Normal"])
