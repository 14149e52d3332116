"""Agreement of a mask or a probability map with the true mask: counts first, ratios after.

Figures where a mask is empty, here and in every result of cxrseg:

==============  ================  ===============  =========  ======  ==============  =====
status          masks             Dice, IoU        precision  recall  HD95            NSD
==============  ================  ===============  =========  ======  ==============  =====
both empty      neither           nan              nan        nan     nan             nan
missed          truth only        0                nan        0       image diagonal  0
false alarm     prediction only   0                0          nan     image diagonal  0
==============  ================  ===============  =========  ======  ==============  =====

HD95, ASSD and NSD of a missed image are the worst possible values, and are part of every mean. nan means undefined and
is not part of a mean: each mean of `cxrseg.metrics.summary` has the number of its images. The mean that counts empty
against empty as 1 says so in its name.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cxrseg.errors import ImageError
from cxrseg.metrics.surface import surface_distances

__all__ = [
    "MARKED_LIMIT",
    "NSD_TOLERANCES",
    "Counts",
    "ImageScore",
    "count",
    "rmse",
    "score",
    "squared_error",
]

MARKED_LIMIT = 0.01
"""Fraction of the lungs; `cxrseg.metrics.summary` counts uninfected images with more than this marked."""

NSD_TOLERANCES = (2.0, 4.0)
"""Tolerances of the normalised surface Dice in `score`, in pixels of its masks, and in mm where their size is known."""

_Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Counts:
    """Pixels by prediction and truth; `+` pools images.

    Ratios are nan where their denominator is 0; the caller decides what to do with them.

    Attributes:
        tp, fp, fn, tn: predicted and true; predicted only; true only; neither.
    """

    tp: int
    fp: int
    fn: int
    tn: int

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn, self.tn + other.tn)

    @property
    def pixels(self) -> int:
        """Number of pixels counted."""
        return self.tp + self.fp + self.fn + self.tn

    @property
    def dice(self) -> float:
        """Dice coefficient, 2 TP / (2 TP + FP + FN)."""
        return _ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    @property
    def iou(self) -> float:
        """Intersection over union (Jaccard index), TP / (TP + FP + FN)."""
        return _ratio(self.tp, self.tp + self.fp + self.fn)

    @property
    def precision(self) -> float:
        """Precision (positive predictive value), TP / (TP + FP)."""
        return _ratio(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float:
        """Recall (sensitivity), TP / (TP + FN)."""
        return _ratio(self.tp, self.tp + self.fn)

    @property
    def specificity(self) -> float:
        """Specificity, TN / (TN + FP)."""
        return _ratio(self.tn, self.tn + self.fp)

    @property
    def both_empty(self) -> bool:
        """True where both masks are empty."""
        return self.tp + self.fn + self.fp == 0

    @property
    def missed(self) -> bool:
        """True where only the prediction is empty."""
        return self.fn > 0 and self.tp + self.fp == 0

    @property
    def false_alarm(self) -> bool:
        """True where only the true mask is empty."""
        return self.fp > 0 and self.tp + self.fn == 0

    @property
    def status(self) -> str:
        """'both empty', 'missed', 'false alarm', or '' where neither mask is empty."""
        if self.both_empty:
            return "both empty"
        return "missed" if self.missed else "false alarm" if self.false_alarm else ""


def count(prediction: _Mask, truth: _Mask) -> Counts:
    """Count the pixels of two masks.

    Args:
        prediction: (H, W) bool.
        truth: (H, W) bool.

    Raises:
        ImageError: the masks differ in shape.
    """
    if prediction.shape != truth.shape:
        raise ImageError(f"expected a prediction of the truth's shape {truth.shape}, got {prediction.shape}")
    tp = int(np.count_nonzero(prediction & truth))
    fp = int(np.count_nonzero(prediction)) - tp
    fn = int(np.count_nonzero(truth)) - tp
    return Counts(tp, fp, fn, truth.size - tp - fp - fn)


def squared_error(probability: npt.NDArray[np.floating], mask: _Mask) -> tuple[float, int]:
    """Sum over all pixels of (probability - mask)^2, and the number of pixels; sum both to pool images.

    Args:
        probability: (..., H, W) float in [0, 1].
        mask: (..., H, W) bool.

    Raises:
        ImageError: the shapes differ, or a probability is not finite.
    """
    if probability.shape != mask.shape:
        raise ImageError(f"expected a probability map of the mask's shape {mask.shape}, got {probability.shape}")
    difference = np.subtract(probability, mask, dtype=np.float64).ravel()
    total = float(difference @ difference)
    if not math.isfinite(total):
        raise ImageError("expected probabilities in [0, 1], got nan or inf; use another model file")
    return total, mask.size


def rmse(probability: npt.NDArray[np.floating], mask: _Mask) -> float:
    """Root mean squared error, Eq. 1 of the reports: the root of the mean of (probability - mask)^2.

    The mean is over all pixels of all images, so pass several images as one (N, H, W) array, or pool them with
    `squared_error`. The mean of the RMSE of single images is another, smaller figure.

    Args:
        probability: (..., H, W) float in [0, 1].
        mask: (..., H, W) bool.

    Raises:
        ImageError: the shapes differ, or a probability is not finite.
    """
    total, pixels = squared_error(probability, mask)
    return math.sqrt(total / pixels)


@dataclass(frozen=True)
class ImageScore:
    """Every figure of one image; nan where undefined.

    Attributes:
        status: 'both empty', 'missed', 'false alarm', or '' where neither mask is empty.
        tp, fp, fn, tn: pixels, as in `Counts`.
        rmse: root mean squared error of the probabilities, Eq. 1 of the reports.
        dice, iou, precision, recall, specificity: ratios of these counts, as in `Counts`.
        hd95: 95th percentile of the Hausdorff distance, in pixels.
        assd: average symmetric surface distance, in pixels.
        nsd2, nsd4: normalised surface Dice at a tolerance of 2 and of 4 pixels.
        lungs_marked: fraction of the lungs' pixels that are predicted as infected; nan where lungs are unknown.
        hd95_diagonal: HD95 as a fraction of the image's diagonal, in [0, 1]: comparable between images of any size.
        hd95_mm, assd_mm: the distances in mm, and nsd2_mm, nsd4_mm: normalised surface Dice at a tolerance of 2 and of
            4 mm; nan where the size of a pixel is unknown.
    """

    status: str
    tp: int
    fp: int
    fn: int
    tn: int
    rmse: float
    dice: float
    iou: float
    precision: float
    recall: float
    specificity: float
    hd95: float
    assd: float
    nsd2: float
    nsd4: float
    lungs_marked: float
    hd95_diagonal: float = math.nan
    hd95_mm: float = math.nan
    assd_mm: float = math.nan
    nsd2_mm: float = math.nan
    nsd4_mm: float = math.nan

    @property
    def counts(self) -> Counts:
        """The counts of the ratios."""
        return Counts(self.tp, self.fp, self.fn, self.tn)

    def as_row(self) -> dict[str, Any]:
        """Name to value, in the order of the attributes, for CSV and JSON: None instead of nan."""
        return {name: _defined(value) for name, value in asdict(self).items()}


def score(
    probability: npt.NDArray[np.floating],
    truth: _Mask,
    lungs: _Mask | None = None,
    threshold: float = 0.5,
    *,
    prediction: _Mask | None = None,
    spacing_mm: tuple[float, float] | None = None,
) -> ImageScore:
    """Compute all figures of one image.

    Args:
        probability: (H, W) float in [0, 1].
        truth: (H, W) bool, the infection.
        lungs: (H, W) bool, or None where unknown.
        threshold: in [0, 1]; probability from which a pixel is predicted as infected.
        prediction: (H, W) bool, the predicted infection; where it is given, `threshold` is not used.
        spacing_mm: (row, column) distance of pixel centres in mm, or None where unknown.

    Raises:
        ImageError: the shapes differ, or a probability is not finite.
    """
    error = rmse(probability, truth)
    marked = probability >= threshold if prediction is None else prediction
    counts = count(marked, truth)
    distances = surface_distances(marked, truth)
    near, wide = (distances.nsd(tolerance) for tolerance in NSD_TOLERANCES)
    return ImageScore(
        status=counts.status,
        **asdict(counts),
        rmse=error,
        dice=counts.dice,
        iou=counts.iou,
        precision=counts.precision,
        recall=counts.recall,
        specificity=counts.specificity,
        hd95=distances.hd95,
        assd=distances.assd,
        nsd2=near,
        nsd4=wide,
        lungs_marked=math.nan if lungs is None else count(marked, lungs).recall,
        hd95_diagonal=distances.hd95 / math.hypot(*truth.shape),
        **_in_mm(marked, truth, spacing_mm),
    )


def _in_mm(marked: _Mask, truth: _Mask, spacing_mm: tuple[float, float] | None) -> Any:
    """The distances in mm by the names of `ImageScore`; none where the size of a pixel is unknown."""
    if spacing_mm is None:
        return {}
    distances = surface_distances(marked, truth, spacing_mm)
    near, wide = (distances.nsd(tolerance) for tolerance in NSD_TOLERANCES)
    return {"hd95_mm": distances.hd95, "assd_mm": distances.assd, "nsd2_mm": near, "nsd4_mm": wide}


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


def _defined(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value
