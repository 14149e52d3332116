"""What a model finds on one radiograph, and what is read off it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

from cxrseg.errors import ImageError
from cxrseg.metrics.severity import Severity, measure_severity

__all__ = ["ModelMark", "Prediction", "dice_confidence"]


@dataclass(frozen=True)
class ModelMark:
    """Which weights made a prediction; with several models, their names, versions and sums joined by '+'.

    Attributes:
        name: the recipe's name.
        version: version of cxrseg that wrote the model file.
        sha256: of the model file's content, in hexadecimal.
    """

    name: str
    version: str
    sha256: str


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a model finds on one radiograph. Research use only, no diagnosis.

    A refused prediction holds no probabilities, so that no blank mask can be mistaken for healthy lungs.

    Attributes:
        probabilities: channel name ('infection', 'lungs') to (H, W) float32 in [0, 1], on the radiograph's pixels.
        thresholds: channel name to the probability from which a pixel is marked.
        status: 'ok', or 'refused' where this looks like no frontal chest radiograph.
        reason: why it was refused, '' otherwise.
        warnings: what a reader of the result should know, one sentence each.
        steps: what was done to the file's values before the model saw them, in order, in words.
        spacing_mm: (row, column) distance of pixel centres, as the radiograph has it.
        source: the radiograph's.
        model: which weights.
        categories: 'COVID-19', 'Non-COVID' and 'Normal' to the probability that the image as a whole is one; None where
            the model does not judge that.
        emptied: True where the infection map was emptied, since the image as a whole does not show what the task asks
            for; a warning says so.
    """

    probabilities: Mapping[str, npt.NDArray[np.float32]]
    thresholds: Mapping[str, float]
    status: Literal["ok", "refused"] = "ok"
    reason: str = ""
    warnings: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()
    spacing_mm: tuple[float, float] | None = None
    source: str = "array"
    model: ModelMark = field(default_factory=lambda: ModelMark("", "", ""))
    categories: Mapping[str, float] | None = None
    emptied: bool = False

    def mask(self, channel: str) -> npt.NDArray[np.bool_]:
        """(H, W) bool, the pixels of `channel` whose probability reaches its threshold.

        Raises:
            ImageError: the radiograph was refused, or the model has no such channel.
        """
        if self.status == "refused":
            raise ImageError(f"{self.source} was refused and has no masks: {self.reason}")
        if channel not in self.probabilities:
            raise ImageError(f"expected one of {', '.join(self.probabilities)}, got {channel!r}")
        return self.probabilities[channel] >= self.thresholds[channel]

    @cached_property
    def severity(self) -> Severity | None:
        """How much of the lungs is infected; None where it was refused, or the model finds only one of the two."""
        if not {"infection", "lungs"} <= self.probabilities.keys():
            return None
        return measure_severity(self.mask("infection"), self.mask("lungs"), self.spacing_mm)

    @cached_property
    def confidence(self) -> float | None:
        """How sure the model is of its infection mask, 0 to 1, see `dice_confidence`; None where there is no mask."""
        if "infection" not in self.probabilities:
            return None
        return dice_confidence(self.probabilities["infection"], self.thresholds["infection"])


def dice_confidence(probability: npt.NDArray[np.float32], threshold: float) -> float:
    """The Dice that a mask may be expected to have, judged by its own probability map.

    The soft Dice confidence of Borges et al. (arXiv:2402.10665): 2 * sum(p * m) / (sum(p) + sum(m)), where p is the
    probability and m the mask. That is undefined for an empty mask, whose confidence is here 1 - max(p), the
    probability that the likeliest pixel is no infection. It can be no better than the probabilities are calibrated,
    and says nothing about images unlike those that the model was trained on.

    Args:
        probability: (H, W) float32 in [0, 1].
        threshold: from which a pixel belongs to the mask.

    Returns:
        0 to 1.
    """
    marked = probability >= threshold
    count = int(np.count_nonzero(marked))
    if count == 0:
        return 1.0 - float(probability.max(initial=0.0))
    within = float(probability[marked].sum(dtype=np.float64))
    return 2.0 * within / (float(probability.sum(dtype=np.float64)) + count)
