"""The tasks, the limits at which they empty the infection map of an image, and the score for sorting films."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cxrseg.data.sample import CATEGORIES
from cxrseg.errors import ArgumentError, ModelFileError
from cxrseg.model_file import ModelInfo

__all__ = ["TASKS", "Limits", "ranking_score"]

TASKS = ("opacity", "infection", "covid19")
"""'opacity': what a radiologist would draw, whatever the cause (a model without a channel 'opacity' gives its channel
'infection'), and nothing where the image as a whole looks normal, see `Limits`.
'infection': infection as the training data define it. 'covid19': the same, but the map is emptied where the
classification head's probability of COVID-19 is below the model file's `covid19_threshold`."""


@dataclass(frozen=True)
class Limits:
    """When a task empties the infection map of a whole image.

    Attributes:
        covid19: least probability of COVID-19, or None where the task does not ask for it.
        normal: largest probability that the image is normal.
    """

    covid19: float | None
    normal: float

    @classmethod
    def of(cls, task: str, infos: Sequence[ModelInfo]) -> Limits:
        """The mean limits of the models that have what they are about.

        Raises:
            ArgumentError: there is no such task.
            ModelFileError: a classification head does not fit the categories, or the task needs one and has none.
        """
        for info in infos:
            if info.categories and set(info.categories) != set(CATEGORIES):
                raise ModelFileError(
                    f"expected the model {info.name} to tell {', '.join(CATEGORIES)} apart, got {info.categories}"
                )
        if task not in TASKS:
            raise ArgumentError(f"expected the task {', '.join(TASKS[:-1])} or {TASKS[-1]}, got {task!r}")
        opaque = [info for info in infos if task == "opacity" and "opacity" in info.channels and info.categories]
        return cls(
            _covid19(infos) if task == "covid19" else None,
            sum(info.normal_threshold for info in opaque) / len(opaque) if opaque else 1.0,
        )

    def why_emptied(self, marked: bool, categories: Mapping[str, float] | None) -> tuple[str, float] | None:
        """Why the infection map is emptied, and the probability that this is wrong; None where the map is kept.

        Args:
            marked: whether the map has anything to empty.
            categories: category to the probability of the whole image, or None.
        """
        if categories is None:
            return None
        covid19, normal = categories["COVID-19"], categories["Normal"]
        if self.covid19 is not None and covid19 < self.covid19:
            return (
                f"the infection map was emptied: the probability that the whole image shows COVID-19 is {covid19:.3f}, "
                f"below {self.covid19:.3f}",
                covid19,
            )
        if marked and normal > self.normal:
            return (
                f"the opacity map was emptied: the probability that the whole image is normal is {normal:.3f}, above "
                f"{self.normal:.3f}",
                1 - normal,
            )
        return None


def _covid19(infos: Sequence[ModelInfo]) -> float:
    limits = [info.covid19_threshold for info in infos if info.categories]
    if not limits:
        raise ModelFileError(
            f"the task covid19 needs a model with a classification head, and the model {infos[0].name} has none: it "
            f"marks opacities, but does not tell whether they are COVID-19. Use the task opacity"
        )
    return sum(limits) / len(limits)


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
