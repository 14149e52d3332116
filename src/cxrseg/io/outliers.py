"""Values that lie so far beyond an image's own that they cannot belong to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.ma  # np.unique imports it at its first use: in a thread, perhaps, while another one forks
import numpy.typing as npt

__all__ = ["split_outliers"]

_SAMPLE = 1_000_000  # pixels that are looked at, evenly spread over the image
_BINS = 256
_EMPTY = 3e-5  # a bin of the histogram that holds less than this fraction of the pixels counts as empty
_NEAR_BINS = 12  # images of few shades of gray have empty bins between them
_FLAT, _MARKER = 2, 0.05  # different values of a frame, and fraction of the pixels of a marker, at most
_LEAST, _FEWEST = 0.2, 16  # fraction of the pixels, and different values, that an image has at least
_FAR = 4.0  # an empty stretch this wide, compared with the image's own values, parts outliers from it
_TWICE = 1.9  # and so does a value this many times the image's largest


def split_outliers(values: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Part the values of an image from single ones far beyond them: hot pixels, markers, frames, padding.

    Args:
        values: finite, of any shape and number type; not empty.

    Returns:
        A sample of the values, evenly spread over the image, and those of it that are no outliers; both (N,) float64.
    """
    some = values.ravel()[:: max(1, values.size // _SAMPLE)].astype(np.float64)
    core = _without_outliers(some)
    # What is left must be able to be the image; a drawing of few values has no outliers.
    return some, core if len(core) > _LEAST * len(some) and len(np.unique(core)) >= _FEWEST else some


def _without_outliers(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The values without those that a wide empty stretch of the histogram parts from the image's own."""
    for _ in range(16):  # a far outlier leaves few bins to the image; then look again, closer
        low, high = float(values.min()), float(values.max())
        if not low < high:
            return values
        bins = np.minimum(((values - low) * (_BINS / (high - low))).astype(np.int64), _BINS - 1)
        filled = np.flatnonzero(np.bincount(bins, minlength=_BINS) > _EMPTY * len(values))
        parts = np.split(filled, np.flatnonzero(np.diff(filled) > _NEAR_BINS) + 1) if len(filled) else []
        found = [_Part.of(values[(bins >= part[0]) & (bins <= part[-1])], len(values)) for part in parts]
        inside = _inside(found, low, high)
        if inside is None:
            return values
        kept = values[(values >= inside[0]) & (values <= inside[1])]
        if len(kept) == len(values):
            return values
        values = kept
    return values


@dataclass(frozen=True)
class _Part:
    """A stretch of the histogram: its smallest and largest value, how many different ones, and how many pixels."""

    low: float
    high: float
    levels: int
    fraction: float

    @classmethod
    def of(cls, values: npt.NDArray[np.float64], total: int) -> _Part:
        return cls(float(values.min()), float(values.max()), len(np.unique(values)), len(values) / total)

    @property
    def is_large(self) -> bool:
        """Whether it shows something: it is no frame of one value, and more than a marker."""
        return self.levels > _FLAT and self.fraction > _MARKER


def _inside(parts: list[_Part], low: float, high: float) -> tuple[float, float] | None:
    """The range of the image's own values: the part with the most different ones, and what is not too far from it.

    None where all values from `low` to `high` belong to it.
    """
    if not parts:
        return None
    first = last = max(range(len(parts)), key=lambda place: parts[place].levels)
    while True:
        start, stop = parts[first].low, parts[last].high
        below = parts[first - 1] if first > 0 else None
        above = parts[last + 1] if last < len(parts) - 1 else None
        if below and (below.is_large or not _far_below(below.high, below.levels, start, stop)):
            first -= 1
        elif above and (above.is_large or not _far_above(above.low, start, stop)):
            last += 1
        else:
            break
    # Beyond, there may be single values in bins that count as empty.
    keeps_low = below is None and not _far_below(low, 1, start, stop)
    keeps_high = above is None and not _far_above(high, start, stop)
    if keeps_low and keeps_high:
        return None
    begin, end = below.high if below else low, above.low if above else high
    return low if keeps_low else (begin + start) / 2, high if keeps_high else (end + stop) / 2


def _far_above(value: float, start: float, stop: float) -> bool:
    """Whether a value cannot belong to an image from `start` to `stop`: it needs one bit more, or is far off."""
    return value - stop > _FAR * (stop - start) or (start >= 0 and value > _TWICE * stop)


def _far_below(value: float, levels: int, start: float, stop: float) -> bool:
    """The same below the image; a single negative value, below an image without, is padding."""
    padding = value < 0 <= start and levels <= _FLAT
    return padding or start - value > _FAR * (stop - start)
