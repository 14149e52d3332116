"""How well a mask or a probability map agrees with the truth: counts first, ratios after.

What an empty mask makes of each figure, here and in every result of cxrseg:

==============  ================  ===============  =========  ======  ==============  =====
status          masks             Dice, IoU        precision  recall  HD95            NSD
==============  ================  ===============  =========  ======  ==============  =====
both empty      neither           nan              nan        nan     nan             nan
missed          truth only        0                nan        0       image diagonal  0
false alarm     prediction only   0                0          nan     image diagonal  0
==============  ================  ===============  =========  ======  ==============  =====

nan means undefined and enters no mean: each mean of `summarise` comes with the number of images behind it.
The one mean that counts empty-on-empty as 1 says so by its name.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cxrseg.errors import ImageError
from cxrseg.measure.surface import surface_distances

__all__ = [
    "MARKED_LIMIT",
    "NSD_TOLERANCE",
    "Counts",
    "ImageScore",
    "count",
    "rmse",
    "score",
    "squared_error",
    "summarise",
]

MARKED_LIMIT = 0.01
"""Share of the lungs; an uninfected image with more than this marked is counted in `summarise`."""

NSD_TOLERANCE = 2.0
"""Tolerance of the normalised surface Dice in `score`, in pixels of the masks given to it."""

_Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Counts:
    """Pixels by prediction and truth; `+` pools images.

    Ratios are nan where their denominator is 0: what such a case counts as is for the caller to say.

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
        """Neither truth nor prediction holds a pixel."""
        return self.tp + self.fn + self.fp == 0

    @property
    def missed(self) -> bool:
        """The truth holds pixels, the prediction none at all."""
        return self.fn > 0 and self.tp + self.fp == 0

    @property
    def false_alarm(self) -> bool:
        """The prediction holds pixels, the truth none at all."""
        return self.fp > 0 and self.tp + self.fn == 0

    @property
    def status(self) -> str:
        """'both empty', 'missed', 'false alarm', or '' where both masks hold pixels."""
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
    """Sum over all pixels of (probability - mask)^2, and the number of pixels: add both up to pool images.

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
        raise ImageError("expected probabilities in [0, 1], got nan or inf; the model's output is unusable")
    return total, mask.size


def rmse(probability: npt.NDArray[np.floating], mask: _Mask) -> float:
    """Root mean squared error, Eq. 1 of the reports: the root of the mean of (probability - mask)^2.

    The mean runs over all pixels of all images, so several images are passed as one (N, H, W) array or pooled
    with `squared_error`; a mean of the values of single images is another, smaller figure.

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
        status: 'both empty', 'missed', 'false alarm', or '' where both masks hold pixels.
        tp, fp, fn, tn: pixels, as in `Counts`.
        rmse: root mean squared error of the probabilities, Eq. 1 of the reports.
        dice, iou, precision, recall, specificity: ratios of these counts, as in `Counts`.
        hd95: 95th percentile of the Hausdorff distance, in pixels.
        assd: average symmetric surface distance, in pixels.
        nsd2: normalised surface Dice at a tolerance of 2 pixels.
        lungs_marked: share of the lungs' pixels that are predicted as infected; nan where lungs are unknown.
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
    lungs_marked: float

    @property
    def counts(self) -> Counts:
        """The counts that the ratios are made of."""
        return Counts(self.tp, self.fp, self.fn, self.tn)

    def as_row(self) -> dict[str, Any]:
        """Name to value, in the order of the attributes, for CSV and JSON: None in place of nan."""
        return {name: _defined(value) for name, value in asdict(self).items()}


def score(
    probability: npt.NDArray[np.floating], truth: _Mask, lungs: _Mask | None = None, threshold: float = 0.5
) -> ImageScore:
    """Measure one image in every way.

    Args:
        probability: (H, W) float in [0, 1]; a pixel is predicted as infected from `threshold` upwards.
        truth: (H, W) bool, the infection.
        lungs: (H, W) bool, or None where unknown.
        threshold: in [0, 1].

    Raises:
        ImageError: the shapes differ, or a probability is not finite.
    """
    error = rmse(probability, truth)
    prediction = probability >= threshold
    counts = count(prediction, truth)
    distances = surface_distances(prediction, truth)
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
        nsd2=distances.nsd(NSD_TOLERANCE),
        lungs_marked=math.nan if lungs is None else count(prediction, lungs).recall,
    )


def summarise(rows: Sequence[ImageScore]) -> dict[str, Any]:
    """Bring the scores of many images down to the four means that published figures mix, side by side.

    Returns:
        a dict ready for JSON; a mean over nothing is None, and `n` is the number of images behind each:

        - images, infected, both_empty, missed, false_alarm: numbers of images.
        - rmse: {value, n}, Eq. 1 of the reports over all pixels of all images.
        - infected_per_image: images with infection only; name to {mean, n}.
        - infected_pooled: the same images, their pixels counted together first; name to {value, n}.
        - all_images_empty_on_empty_is_1: every image; Dice, IoU and NSD of empty on empty count as 1.
        - uninfected_marked: {share, n, limit}, the share of images without infection of whose lungs more than
          `limit` (1%) is marked.
    """
    infected = [row for row in rows if row.tp + row.fn]
    uninfected = [row.lungs_marked for row in rows if not row.tp + row.fn]
    marked = [float(share > MARKED_LIMIT) for share in uninfected if not math.isnan(share)]
    pooled = sum((row.counts for row in infected), Counts(0, 0, 0, 0))
    ratios = ("dice", "iou", "precision", "recall", "specificity")
    per_image = (*ratios, "rmse", "hd95", "assd", "nsd2")
    return {
        "images": len(rows),
        "infected": len(infected),
        "both_empty": sum(row.counts.both_empty for row in rows),
        "missed": sum(row.counts.missed for row in rows),
        "false_alarm": sum(row.counts.false_alarm for row in rows),
        "rmse": _pooled_rmse(rows),
        "infected_per_image": {name: _mean(getattr(row, name) for row in infected) for name in per_image},
        "infected_pooled": {
            **{name: {"value": _defined(getattr(pooled, name)), "n": len(infected)} for name in ratios},
            "rmse": _pooled_rmse(infected),
        },
        "all_images_empty_on_empty_is_1": {
            name: _mean(1.0 if row.counts.both_empty else getattr(row, name) for row in rows)
            for name in ("dice", "iou", "nsd2")
        },
        "uninfected_marked": {"share": _mean(marked)["mean"], "n": len(marked), "limit": MARKED_LIMIT},
    }


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


def _defined(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


def _mean(values: Iterable[float]) -> dict[str, Any]:
    """The mean of the values that are defined, and how many they are."""
    defined = [value for value in values if not math.isnan(value)]
    return {"mean": math.fsum(defined) / len(defined) if defined else None, "n": len(defined)}


def _pooled_rmse(rows: Sequence[ImageScore]) -> dict[str, Any]:
    pixels = sum(row.counts.pixels for row in rows)
    squares = math.fsum(row.rmse**2 * row.counts.pixels for row in rows)
    return {"value": math.sqrt(squares / pixels) if pixels else None, "n": len(rows)}
