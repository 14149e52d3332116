"""Calibration of probabilities, and figures at all thresholds, from one histogram for each image.

The pixels of an image are counted by their logit in 2,048 bins, separately inside and outside of the true mask. Every
threshold at an edge of the bins is exact. Temperature, reliability and Brier score use the centre of each bin, which
differs from a pixel's logit by at most 1/64: the figures differ in the fourth decimal.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import expit

from cxrseg.errors import ImageError
from cxrseg.metrics.segmentation import MARKED_LIMIT

__all__ = [
    "THRESHOLDS",
    "PixelBins",
    "ReliabilityBin",
    "Sweep",
    "average_precision",
    "best_threshold",
    "bin_pixels",
    "brier_score",
    "expected_calibration_error",
    "fit_temperature",
    "log_loss",
    "marked_fractions",
    "pool",
    "reliability",
    "sweep",
]

_LIMIT, _PER_UNIT = 32, 32
_BINS = 2 * _LIMIT * _PER_UNIT
_CENTRES = (np.arange(_BINS) + 0.5) / _PER_UNIT - _LIMIT
_LOWEST, _HIGHEST = math.exp(-_LIMIT), 1 - 2.0**-24
_FIRST, _LAST = (_LIMIT - 5) * _PER_UNIT, (_LIMIT + 5) * _PER_UNIT

_Counts = npt.NDArray[np.int64]
_Values = npt.NDArray[np.float64]

THRESHOLDS: _Values = expit(np.arange(_FIRST, _LAST + 1) / _PER_UNIT - _LIMIT)
"""The thresholds of `sweep`: 321 from 0.007 to 0.993, 0.008 apart at 0.5 and closer towards both ends."""

_FLAT = 0.001
"""Difference of mean Dice that is too small to measure: the standard error over 400 images is about 0.01."""


@dataclass(frozen=True, eq=False)
class PixelBins:
    """Pixels of one image or of many, counted by their predicted logit; `+` pools images.

    Attributes:
        negative, positive: (2048,) int64, the pixels outside and inside of the true mask, by logit from -32 to 32;
            lower logits are counted in the first bin, and a probability of 1 as the largest float32 below 1.
    """

    negative: _Counts
    positive: _Counts

    def __add__(self, other: PixelBins) -> PixelBins:
        return PixelBins(self.negative + other.negative, self.positive + other.positive)

    @property
    def infected(self) -> bool:
        """True where the true mask is not empty."""
        return bool(self.positive.any())


def bin_pixels(
    probability: npt.NDArray[np.floating], truth: npt.NDArray[np.bool_], region: npt.NDArray[np.bool_] | None = None
) -> PixelBins:
    """Count the pixels of one image by their logit.

    Args:
        probability: (H, W) float in [0, 1].
        truth: (H, W) bool.
        region: (H, W) bool, which pixels to count, or None for all.

    Raises:
        ImageError: the shapes differ, or a probability is not finite.
    """
    if not probability.shape == truth.shape == (truth if region is None else region).shape:
        raise ImageError(f"expected a probability map of the mask's shape {truth.shape}, got {probability.shape}")
    if region is not None:
        probability, truth = probability[region], truth[region]
    if not np.isfinite(probability).all():
        raise ImageError("expected probabilities in [0, 1], got nan or inf; use another model file")
    chance = np.clip(probability, _LOWEST, _HIGHEST, dtype=np.float64)
    logit = np.log(chance) - np.log1p(-chance)
    # 1e-9 undoes the rounding of a logarithm, so that a probability that is an edge falls above it.
    place = np.floor(logit * _PER_UNIT + 1e-9).astype(np.intp) + _LIMIT * _PER_UNIT
    every = np.bincount(place.ravel(), minlength=_BINS)
    positive = np.bincount(place[truth], minlength=_BINS)
    return PixelBins(every - positive, positive)


def pool(images: Iterable[PixelBins]) -> PixelBins:
    """All pixels of many images together; no pixels where there is no image."""
    nothing = np.zeros(_BINS, np.int64)
    return sum(images, PixelBins(nothing, nothing))


@dataclass(frozen=True, eq=False)
class Sweep:
    """Figures at each threshold on images with a mask.

    Attributes:
        thresholds: (T,) ascending, `THRESHOLDS`.
        dice: (T,) mean of the images' Dice.
        precision: (T,) of the pixels of all images together; nan where nothing is marked.
        recall: (T,) of the pixels of all images together.
        images: number of images.
    """

    thresholds: _Values
    dice: _Values
    precision: _Values
    recall: _Values
    images: int

    def at_temperature(self, temperature: float) -> Sweep:
        """The same masks with the thresholds that give them after the logits are divided by `temperature`.

        Exact where the image has the network's size. Where the map is resized, there is a small error, since averaging
        probabilities and averaging logits differ slightly.
        """
        logits = np.log(self.thresholds / (1 - self.thresholds))
        return replace(self, thresholds=expit(logits / temperature))


def sweep(images: Sequence[PixelBins]) -> Sweep:
    """Compute the figures at all `THRESHOLDS` on the images with a mask; images without a mask are left out."""
    infected = [image for image in images if image.infected]
    dices = np.zeros(len(THRESHOLDS))
    for image in infected:
        tp, fp = _above(image.positive), _above(image.negative)
        dices += 2 * tp / (tp + fp + image.positive.sum())
    together = pool(infected)
    tp, fp = _above(together.positive), _above(together.negative)
    return Sweep(
        THRESHOLDS,
        dices / len(infected) if infected else np.full(len(THRESHOLDS), math.nan),
        _ratio(tp, tp + fp),
        _ratio(tp, together.positive.sum()),
        len(infected),
    )


def marked_fractions(lungs: Sequence[PixelBins], limit: float = MARKED_LIMIT) -> _Values:
    """Fraction of the uninfected images with more than `limit` of the lungs marked, for each of `THRESHOLDS`.

    Args:
        lungs: the pixels within the lungs of each image; images with a mask are left out.
        limit: fraction of the lungs.

    Returns:
        (T,) in [0, 1]; nan where there is no such image.
    """
    fractions = [_ratio(_above(image.negative), image.negative.sum()) for image in lungs if not image.infected]
    return np.mean(np.array(fractions) > limit, axis=0) if fractions else np.full(len(THRESHOLDS), math.nan)


def best_threshold(thresholds: _Values, dice: _Values) -> float:
    """The best threshold: the middle of the range in which the mean Dice is at most 0.001 below its maximum.

    Of several ranges, the widest is used: a threshold in a wide range is also good on other images, a narrow peak may
    not be. It is rounded to two decimals where that stays in the range, else to four.

    Args:
        thresholds: (T,) ascending, in (0, 1).
        dice: (T,) mean Dice.

    Returns:
        A threshold from 0.001 to 0.999.
    """
    good = np.flatnonzero(dice >= np.nanmax(dice) - _FLAT)
    stretches = np.split(good, np.flatnonzero(np.diff(good) > 1) + 1)
    first, last = max(
        ((thresholds[run[0]], thresholds[run[-1]]) for run in stretches), key=lambda ends: ends[1] - ends[0]
    )
    middle = min(max(float(first + last) / 2, 0.001), 0.999)  # at an extreme temperature, rounding could give 0 or 1
    return round(middle, 2) if first <= round(middle, 2) <= last else round(middle, 4)


def average_precision(pixels: PixelBins) -> float:
    """Area under the precision-recall curve as a sum of steps, sum of (R_n - R_(n-1)) P_n; nan without positives."""
    tp, fp = np.cumsum(pixels.positive[::-1]), np.cumsum(pixels.negative[::-1])
    if not tp[-1]:
        return math.nan
    precision = np.nan_to_num(_ratio(tp, tp + fp))
    return float(np.sum(np.diff(tp, prepend=0) * precision) / tp[-1])


@dataclass(frozen=True)
class ReliabilityBin:
    """The pixels whose probability is in one interval.

    Attributes:
        low, high: the interval [low, high).
        pixels: their number.
        predicted: their mean probability; nan without pixels.
        observed: the fraction of them inside the true mask; nan without pixels.
    """

    low: float
    high: float
    pixels: int
    predicted: float
    observed: float


def reliability(pixels: PixelBins, temperature: float = 1.0, bins: int = 15) -> list[ReliabilityBin]:
    """Predicted and observed probability in bins of equal width (DeGroot & Fienberg 1983).

    Args:
        pixels: of all images together.
        temperature: divides the logits first.
        bins: number of bins.
    """
    chance = expit(_CENTRES / temperature)
    place = np.minimum((chance * bins).astype(np.intp), bins - 1)
    count = pixels.negative + pixels.positive
    every = np.bincount(place, count, bins)
    predicted = _ratio(np.bincount(place, count * chance, bins), every)
    observed = _ratio(np.bincount(place, pixels.positive, bins), every)
    return [
        ReliabilityBin(each / bins, (each + 1) / bins, int(every[each]), float(predicted[each]), float(observed[each]))
        for each in range(bins)
    ]


def expected_calibration_error(bins: Sequence[ReliabilityBin]) -> float:
    """Mean of |observed - predicted| over pixels (Guo et al. 2017, Eq. 3, for one class); nan without pixels."""
    filled = [each for each in bins if each.pixels]
    total = sum(each.pixels for each in filled)
    return (
        math.fsum(each.pixels * abs(each.predicted - each.observed) for each in filled) / total if total else math.nan
    )


def brier_score(pixels: PixelBins, temperature: float = 1.0) -> float:
    """Mean of (probability - truth)^2 over pixels (Brier 1950); nan without pixels."""
    chance = expit(_CENTRES / temperature)
    return _mean(pixels, chance**2, (1 - chance) ** 2)


def log_loss(pixels: PixelBins, temperature: float = 1.0) -> float:
    """Mean negative log-likelihood of the truth, in nats a pixel; nan without pixels."""
    logits = _CENTRES / temperature
    return _mean(pixels, np.logaddexp(0, logits), np.logaddexp(0, -logits))


def fit_temperature(pixels: PixelBins) -> float:
    """The temperature with the least `log_loss` (Guo et al. 2017, section 4.2), between 0.05 and 20.

    Args:
        pixels: of all images together; some must be inside and some outside of the true mask.
    """
    span = math.log(20)
    found = minimize_scalar(
        lambda value: log_loss(pixels, math.exp(value)), bounds=(-span, span), method="bounded", options={"xatol": 1e-4}
    )
    return math.exp(float(found.x))


def _above(counts: _Counts) -> _Values:
    """Pixels at or above each of `THRESHOLDS`."""
    return np.cumsum(counts[::-1])[::-1][_FIRST : _LAST + 1].astype(np.float64)


def _ratio(part: npt.ArrayLike, whole: npt.ArrayLike) -> _Values:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(part, np.float64) / np.asarray(whole, np.float64)


def _mean(pixels: PixelBins, negative: _Values, positive: _Values) -> float:
    total = int(pixels.negative.sum() + pixels.positive.sum())
    return float(pixels.negative @ negative + pixels.positive @ positive) / total if total else math.nan
