"""95% confidence intervals of figures over images.

Means, and figures made of sums over images, get percentile bootstrap intervals (Efron and Tibshirani 1993, chapter 13):
images are drawn with replacement, as many as there are, and the figure is computed for each such resample. Fractions
of images get Wilson's intervals (Wilson 1927), since a bootstrap of 0 out of n would give an interval of width 0.

A resample is a row of weights: how often each image was drawn. The figures of all resamples are then a matrix product:
10,000 resamples of 932 images and 20 figures take a tenth of a second, while `scipy.stats.bootstrap` takes half a
second or more for each figure. Both give the same intervals.

Images are treated as independent. Where several are of one patient, the intervals are too narrow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "LEVEL",
    "RESAMPLES",
    "SEED",
    "Estimate",
    "Statistic",
    "estimate",
    "estimate_means",
    "estimate_fraction",
    "mean_of",
]

LEVEL = 0.95
"""Confidence level of the intervals."""

RESAMPLES = 10_000
"""Resamples of a bootstrap."""

SEED = 0
"""Random seed of every bootstrap, so that the same scores give the same intervals."""

_CHUNK = 100_000
"""Number of weights in memory at a time: more are slower, since they do not fit into the processor's cache."""

_Array = npt.NDArray[np.float64]

Statistic = Callable[[_Array], _Array]
"""From (B, n) weights of n images to (B, k): k figures of each of B resamples, nan where undefined."""


@dataclass(frozen=True)
class Estimate:
    """A figure over several images.

    Attributes:
        value: the figure; nan where undefined.
        n: the number of its images.
        low, high: its 95% interval; nan for fewer than two images.
    """

    value: float
    n: int
    low: float = np.nan
    high: float = np.nan

    def as_json(self, name: str = "mean") -> dict[str, Any]:
        """`{name: value, "n": n, "interval": [low, high]}`, with None instead of nan."""
        known = np.isfinite(self.low) and np.isfinite(self.high)
        return {
            name: float(self.value) if np.isfinite(self.value) else None,
            "n": self.n,
            "interval": [float(self.low), float(self.high)] if known else None,
        }


def estimate(
    statistic: Statistic, images: int, n: int | None = None, *, resamples: int = RESAMPLES, seed: int = SEED
) -> list[Estimate]:
    """Figures with their bootstrap intervals.

    Resamples in which a figure is undefined are left out of its interval.

    Args:
        statistic: computes k figures from the weights of the images.
        images: the number of images.
        n: the number to report; None for `images`.
        resamples: the number of resamples.
        seed: of the random generator.

    Returns:
        One estimate for each of the k figures.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        values = statistic(np.ones((1, images)))[0]
        if images < 2:
            return [Estimate(float(value), images if n is None else n) for value in values]
        found = np.concatenate([statistic(weights) for weights in _resamples(images, resamples, seed)])
    return [
        Estimate(float(value), images if n is None else n, *_interval(column))
        for value, column in zip(values, found.T, strict=True)
    ]


def estimate_means(
    columns: Mapping[str, npt.ArrayLike], *, resamples: int = RESAMPLES, seed: int = SEED
) -> dict[str, Estimate]:
    """Means with their bootstrap intervals.

    Args:
        columns: name to (n,) values, one for each image, the same images in every column; nan where undefined.
        resamples: the number of resamples.
        seed: of the random generator.

    Returns:
        Name to the mean over the images where it is defined, with their number.
    """
    if not columns:
        return {}
    table = np.stack([np.asarray(column, dtype=np.float64) for column in columns.values()], axis=1)
    counts = np.count_nonzero(~np.isnan(table), axis=0)
    found = estimate(mean_of(table), len(table), resamples=resamples, seed=seed)
    return {
        name: Estimate(one.value, int(count), *((one.low, one.high) if count > 1 else ()))
        for name, one, count in zip(columns, found, counts, strict=True)
    }


def estimate_fraction(hits: int, n: int) -> Estimate:
    """The fraction `hits` / `n` with Wilson's interval; undefined where n is 0."""
    if n == 0:
        return Estimate(np.nan, 0)
    from scipy.stats import binomtest  # here, since it takes long to import

    interval = binomtest(hits, n).proportion_ci(LEVEL, method="wilson")
    return Estimate(hits / n, n, float(interval.low), float(interval.high))


def mean_of(table: npt.NDArray[np.floating]) -> Statistic:
    """The means of the columns of (n, k) `table` as a statistic; nan is left out."""
    known = ~np.isnan(table)
    values, counts = np.where(known, table, 0.0), known.astype(np.float64)
    return lambda weights: (weights @ values) / (weights @ counts)


def _resamples(images: int, resamples: int, seed: int) -> Iterator[_Array]:
    """Weights (b, images) float64, in chunks, `resamples` rows in all."""
    rows = max(1, _CHUNK // images)
    for start in range(0, resamples, rows):
        yield _drawn(images, min(rows, resamples - start), seed, start).astype(np.float64)


@lru_cache(maxsize=256)  # at most about 25 MB; an evaluation needs the same numbers of images many times
def _drawn(images: int, rows: int, seed: int, start: int) -> npt.NDArray[np.uint8]:
    """How often each image is drawn in each of `rows` resamples."""
    drawn = np.random.default_rng((seed, start)).integers(0, images, (rows, images))
    drawn += np.arange(rows)[:, None] * images
    return np.bincount(drawn.ravel(), minlength=rows * images).reshape(rows, images).astype(np.uint8)


def _interval(values: _Array) -> tuple[float, float]:
    defined = values[np.isfinite(values)]
    if not defined.size:
        return np.nan, np.nan
    low, high = np.percentile(defined, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return float(low), float(high)
