"""95% confidence intervals of figures over images.

Means, and figures made of sums over images, get percentile bootstrap intervals (Efron and Tibshirani 1993, chapter 13):
images are drawn with replacement, as many as there are, and the figure is computed for each such resample. Fractions
of images get Wilson's intervals (Wilson 1927), since a bootstrap of 0 out of n would give an interval of width 0.

A resample is a row of weights: how often each image was drawn. The figures of all resamples are then a matrix product:
10,000 resamples of 932 images and 20 figures take a tenth of a second, while `scipy.stats.bootstrap` takes half a
second or more for each figure. Both give the same intervals.

Where several images are of one patient, or are copies of one exposure, they are not independent. Such groups are then
drawn as a whole (cluster bootstrap: Davison and Hinkley 1997, section 3.8): a resample has as many groups as there are.
Wilson's intervals then count fewer images, see `estimate_fraction`. Without groups, images are treated as independent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = [
    "LEVEL",
    "RESAMPLES",
    "SEED",
    "Estimate",
    "Groups",
    "Statistic",
    "estimate",
    "estimate_means",
    "estimate_fraction",
    "chosen_groups",
    "mean_of",
]

LEVEL = 0.95
"""Confidence level of the intervals."""

RESAMPLES = 10_000
"""Resamples of a bootstrap."""

SEED = 0
"""Random seed of every bootstrap, so that the same scores give the same intervals."""

_NORMAL = 1.959963984540054
"""The quantile of the normal distribution for `LEVEL`, two-sided."""

_CHUNK = 100_000
"""Number of weights in memory at a time: more are slower, since they do not fit into the processor's cache."""

_Array = npt.NDArray[np.float64]

Groups: TypeAlias = Sequence[int] | npt.NDArray[np.integer] | None
"""The group of each image, such as its patient; None where every image is its own group."""

Statistic = Callable[[_Array], _Array]
"""From (B, n) weights of n images to (B, k): k figures of each of B resamples, nan where undefined."""


@dataclass(frozen=True)
class Estimate:
    """A figure over several images.

    Attributes:
        value: the figure; nan where undefined.
        n: the number of its images.
        low, high: its 95% interval; nan for fewer than two images or groups.
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
    statistic: Statistic,
    images: int,
    n: int | None = None,
    *,
    groups: Groups = None,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> list[Estimate]:
    """Figures with their bootstrap intervals.

    Resamples in which a figure is undefined are left out of its interval.

    Args:
        statistic: computes k figures from the weights of the images.
        images: the number of images.
        n: the number to report; None for `images`.
        groups: the group of each image; groups are drawn as a whole.
        resamples: the number of resamples.
        seed: of the random generator.

    Returns:
        One estimate for each of the k figures.
    """
    owners = None if groups is None else np.unique(np.asarray(groups, np.int64), return_inverse=True)[1]
    units = images if owners is None else int(owners.max(initial=-1)) + 1
    with np.errstate(divide="ignore", invalid="ignore"):
        values = statistic(np.ones((1, images)))[0]
        if units < 2:
            return [Estimate(float(value), images if n is None else n) for value in values]
        drawn = _resamples(units, images, resamples, seed)
        found = np.concatenate([statistic(each if owners is None else each[:, owners]) for each in drawn])
    return [
        Estimate(float(value), images if n is None else n, *_interval(column))
        for value, column in zip(values, found.T, strict=True)
    ]


def estimate_means(
    columns: Mapping[str, npt.ArrayLike], *, groups: Groups = None, resamples: int = RESAMPLES, seed: int = SEED
) -> dict[str, Estimate]:
    """Means with their bootstrap intervals.

    Args:
        columns: name to (n,) values, one for each image, the same images in every column; nan where undefined.
        groups: the group of each image; groups are drawn as a whole.
        resamples: the number of resamples.
        seed: of the random generator.

    Returns:
        Name to the mean over the images where it is defined, with their number.
    """
    if not columns:
        return {}
    table = np.stack([np.asarray(column, dtype=np.float64) for column in columns.values()], axis=1)
    known = ~np.isnan(table)
    owners = np.arange(len(table)) if groups is None else np.asarray(groups, np.int64)
    found = estimate(mean_of(table), len(table), groups=groups, resamples=resamples, seed=seed)
    return {
        name: Estimate(one.value, int(of.sum()), *((one.low, one.high) if len(np.unique(owners[of])) > 1 else ()))
        for name, one, of in zip(columns, found, known.T, strict=True)
    }


def estimate_fraction(hits: int, n: int, groups: Groups = None) -> Estimate:
    """The fraction `hits` / `n` with Wilson's interval; undefined where n is 0.

    With groups, the interval is that of (sum of m)^2 / sum of m^2 images, m being the sizes of the groups (Kish 1965,
    section 8.2): as if the images of a group were all equal, which makes it rather too wide than too narrow.

    Args:
        hits: the number of images that count.
        n: the number of all images.
        groups: the group of each of the n images.
    """
    if n == 0:
        return Estimate(np.nan, 0)
    counted, fraction = float(n), hits / n
    if groups is not None:
        sizes = np.unique(np.asarray(groups, np.int64), return_counts=True)[1]
        counted = float(sizes.sum() ** 2 / (sizes**2).sum())
    weight = _NORMAL**2 / counted
    centre = (fraction + weight / 2) / (1 + weight)
    half = _NORMAL / (1 + weight) * np.sqrt(fraction * (1 - fraction) / counted + weight / (4 * counted))
    low, high = max(0.0, centre - half), min(1.0, centre + half)
    return Estimate(fraction, n, 0.0 if hits == 0 else float(low), 1.0 if hits == n else float(high))


def chosen_groups(groups: Groups, chosen: npt.NDArray[np.bool_] | Sequence[bool]) -> Groups:
    """The groups of some of the images; None where there are none."""
    return None if groups is None else np.asarray(groups, np.int64)[np.asarray(chosen, bool)]


def mean_of(table: npt.NDArray[np.floating]) -> Statistic:
    """The means of the columns of (n, k) `table` as a statistic; nan is left out."""
    known = ~np.isnan(table)
    values, counts = np.where(known, table, 0.0), known.astype(np.float64)
    return lambda weights: (weights @ values) / (weights @ counts)


def _resamples(units: int, images: int, resamples: int, seed: int) -> Iterator[_Array]:
    """Weights (b, units) float64, in chunks for which `images` decide, `resamples` rows in all."""
    rows = max(1, _CHUNK // images)
    for start in range(0, resamples, rows):
        yield _drawn(units, min(rows, resamples - start), seed, start).astype(np.float64)


@lru_cache(maxsize=256)  # at most about 25 MB; an evaluation needs the same numbers of images many times
def _drawn(units: int, rows: int, seed: int, start: int) -> npt.NDArray[np.uint8]:
    """How often each image or group is drawn in each of `rows` resamples."""
    drawn = np.random.default_rng((seed, start)).integers(0, units, (rows, units))
    drawn += np.arange(rows)[:, None] * units
    return np.bincount(drawn.ravel(), minlength=rows * units).reshape(rows, units).astype(np.uint8)


def _interval(values: _Array) -> tuple[float, float]:
    defined = values[np.isfinite(values)]
    if not defined.size:
        return np.nan, np.nan
    low, high = np.percentile(defined, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return float(low), float(high)
