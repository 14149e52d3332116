"""Which stored values are black and white in an image of more than 8 bits: stated by the user, or estimated.

A 16-bit file seldom says how many of its bits are used, and a single hot pixel or a burnt-in marker may reach far
beyond them. So single values decide nothing: values behind a wide empty stretch of the histogram are left out, and the
0.05 and 99.95 percentiles of the rest tell the range. Each assumption is a step; a doubtful one is a warning too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cxrseg.errors import ImageError
from cxrseg.io.outliers import split_outliers

__all__ = ["Scale", "display_scale", "estimate_scale", "parse_value_range", "stated_scale"]

_Values = npt.NDArray[Any]

_TAIL = 0.0005
_OFFSET = 0.03  # values that begin above this fraction of the full range ...
_HIGH_BLACK = 0.06  # an image that begins above this fraction of the full range may be shifted
_USED = 0.55  # ... and fill less than this are shifted, not dark;
_USED_USUAL = 0.35  # less than this where the number of bits is a usual one
_FEWEST = 16  # different values that an image has at least
_FILLED = (0.05, 0.75)  # whole numbers that begin below and reach beyond these fractions of their bits fill them
_USUAL_BITS = (8, 10, 12, 14, 16, 32)
_FLOAT_TOPS = (1.0, 100.0, 255.0)
_TOLERANCE = 0.05  # floating-point images exceed their range a little after filtering
# Where the 0.05 and 99.95 percentiles of an image of unknown range are put: about where those of COVID-QU-Ex are.
_LOW_AT, _HIGH_AT = 0.01, 0.93


@dataclass(frozen=True)
class Scale:
    """A linear map of stored values to [0, 1].

    Attributes:
        low: the stored value that becomes 0.
        high: the stored value that becomes 1; larger than `low`.
        step: what was assumed, in words.
        warnings: why that may be wrong, one sentence each.
    """

    low: float
    high: float
    step: str
    warnings: tuple[str, ...] = ()

    def __call__(self, values: _Values) -> npt.NDArray[np.float32]:
        """Map values of any shape to float32 in [0, 1]; values outside of the range are clipped."""
        short = values.dtype.itemsize <= (2 if values.dtype.kind in "iu" else 4)
        if short and max(abs(self.low), abs(self.high)) < 1e30:  # else the range may not fit into float32
            pixels = values.astype(np.float32)
            pixels -= np.float32(self.low)
            pixels /= np.float32(self.high - self.low)
        else:
            pixels = ((values.astype(np.float64) - self.low) / (self.high - self.low)).astype(np.float32)
        return np.clip(pixels, 0, 1, out=pixels)


def parse_value_range(text: str) -> tuple[float, float]:
    """Read a value range as a user writes it: '0:4095', or the number of bits that are used, '12bit'.

    Raises:
        ImageError: it is neither, or the first value is not smaller than the second.
    """
    bits = re.fullmatch(r"\s*(\d{1,2})\s*-?bits?\s*", text, re.I)
    if bits and 1 <= int(bits[1]) <= 32:
        return 0.0, float(2 ** int(bits[1]) - 1)
    try:
        low, high = (float(part) for part in text.split(":"))
    except ValueError:
        low, high = 0.0, float("nan")
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise ImageError(f"expected a value range such as 0:4095 or 12bit, got {text!r}")
    return low, high


def stated_scale(value_range: tuple[float, float]) -> Scale:
    """The scale that the user states: `value_range` is the value of black and the value of white.

    Raises:
        ImageError: the first is not smaller than the second.
    """
    low, high = (float(value) for value in value_range)
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise ImageError(f"expected a value range of two numbers, the smaller first, got {low:g} and {high:g}")
    return Scale(low, high, f"value range {low:g} to {high:g}, as stated")


def estimate_scale(values: _Values, *, white_is_low: bool = False) -> Scale:
    """Estimate which values are black and white.

    Integers use as many bits as their values need (8 to 16, or up to 32); floating point ranges from 0 to 1, 100, 255
    or to as many bits as needed. Where values fill little of such a range, or begin below 0, they are shifted: then the
    range is as wide as their own.

    Args:
        values: the stored values, finite, of any shape and integer or floating type; not empty.
        white_is_low: whether small values are bright.
    """
    some, core = split_outliers(values)
    low, high = (float(value) for value in np.quantile(core, (_TAIL, 1 - _TAIL)))
    whole = values.dtype.kind in "iu" or bool((core == np.rint(core)).all() and high > 1)
    if len(np.unique(core)) < _FEWEST:  # a drawing or a blank image: its few values tell no shift
        low, shift = min(low, 0.0), 0.0
    else:
        shift = _above_padding(core)
    scale = _whole_scale(low, high, None, shift, white_is_low=white_is_low) if whole else _float_scale(low, high)
    if white_is_low and scale.warnings and scale.low != 0:  # the room that films have above is then below
        room = scale.high - high - (low - scale.low)
        scale = Scale(scale.low - room, scale.high - room, scale.step, scale.warnings)
    return scale if len(core) == len(some) else _noted(scale, 1 - len(core) / len(some))


def display_scale(values: _Values, bits: int | None) -> Scale:
    """The scale of a DICOM image that offers no window.

    Whole numbers that fill the bits that they need are taken as they are, and floating point as in any file. Else the
    range is from the smallest to the largest value, outliers left out; where the 0.1 and 99.9 percentiles lie closer
    together than half of that, these are taken.

    Args:
        values: as for `estimate_scale`.
        bits: how many bits the file says are used, None where the values are floating-point numbers in the file.
    """
    some, core = split_outliers(values)
    low, high = (float(value) for value in np.quantile(core, (_TAIL, 1 - _TAIL)))
    whole = bool((core == np.rint(core)).all())
    if bits is None and not whole:
        return estimate_scale(values)
    filled = _whole_scale(low, high, bits)
    if whole and filled.low == 0 <= low <= _FILLED[0] * filled.high and high >= _FILLED[1] * filled.high:
        scale = Scale(filled.low, filled.high, filled.step)
    else:
        scale = _stretched(values if len(core) == len(some) else core, core)
    return scale if len(core) == len(some) else _noted(scale, 1 - len(core) / len(some))


def _stretched(values: _Values, core: npt.NDArray[np.float64]) -> Scale:
    low, high, how = float(values.min()), float(values.max()), "smallest and largest value"
    inner_low, inner_high = (float(value) for value in np.quantile(core, (0.001, 0.999)))
    if 0 < inner_high - inner_low < 0.5 * (high - low):
        low, high, how = inner_low, inner_high, "0.1 and 99.9 percentiles (outliers)"
    return Scale(low, max(high, low + 1e-6), f"{how}, {low:g} to {high:g}, to [0, 1]")


def _noted(scale: Scale, left_out: float) -> Scale:
    """Tell of the fraction of the pixels that was left out as outliers."""
    note = f"{left_out:.2g} of the pixels lie far outside of it and are clipped"
    doubt = f"a fraction of {note.replace('of it', f'{scale.low:g} to {scale.high:g}')}; {_REMEDY}"
    sure = left_out < 1e-4  # single hot pixels are no reason to doubt
    return Scale(scale.low, scale.high, f"{scale.step}; {note}", scale.warnings + (() if sure else (doubt,)))


_REMEDY = "if that is wrong, state the values of black and white by the value range (--value-range LOW:HIGH)"


def _whole_scale(
    low: float, high: float, bits: int | None, above_padding: float = 0.0, *, white_is_low: bool = False
) -> Scale:
    if bits is not None and high < 2**bits:
        needed = next((usual for usual in range(8, bits) if high < 2**usual), bits)
    else:
        needed = next((usual for usual in range(8, 33) if high < 2**usual), 64)
    top = float(2**needed - 1)
    if low < 0:
        half = next((float(2**b) for b in range(7, 32) if -low <= 2**b and high < 2**b), max(-low, high + 1))
        if (high - low) >= _USED * 2 * half:
            return Scale(-half, half - 1, f"signed values: {-half:g} to {half - 1:g} assumed")
        return _shifted(low, high, whole=True)
    usual = needed in _USUAL_BITS or needed == bits
    for start in (low, above_padding):
        used = _USED_USUAL if usual else _USED
        if needed > 8 and high - start < used * top and start > _OFFSET * top:
            return _shifted(start, high, whole=True)
    step = f"{needed} bits used: 0 to {top:g} assumed"
    if usual and (needed == 8 or (top - high if white_is_low else low) <= _HIGH_BLACK * top):
        return Scale(0.0, top, step)
    if usual:
        black, found = (top, high) if white_is_low else (0, low)
        doubt = f"the darkest values are about {found:g}: {black:g} was assumed to be black; {_REMEDY}"
        return Scale(0.0, top, step, (doubt,))
    doubt = f"the values reach {high:g}: {needed} bits (0 to {top:g}) were assumed, which is unusual; {_REMEDY}"
    return Scale(0.0, top, step, (doubt,))


def _above_padding(values: npt.NDArray[np.float64]) -> float:
    """Where the image begins above a single smallest value, 0 where there is no such value."""
    rest = values[values > values.min()]
    if not len(rest) or len(values) - len(rest) < 2 * _TAIL * len(values):
        return 0.0
    return float(np.quantile(rest, _TAIL))


def _float_scale(low: float, high: float) -> Scale:
    for top in (*_FLOAT_TOPS, *(float(2**bits - 1) for bits in range(9, 33))):
        if -_TOLERANCE * top <= low and high <= (1 + _TOLERANCE) * top:
            if high - low >= 0.4 * top or high == low:
                return Scale(0.0, top, f"floating point: 0 to {top:g} assumed")
            break
    if -1 - _TOLERANCE <= low < -_USED / 2 and _USED / 2 < high <= 1 + _TOLERANCE:
        return Scale(-1.0, 1.0, "floating point: -1 to 1 assumed")
    return _shifted(low, high, whole=False)


def _shifted(low: float, high: float, *, whole: bool) -> Scale:
    """A range as wide as the values: of whole bits where the values are whole numbers."""
    span = max(high - low, 1e-12 * max(abs(low), abs(high)), 1e-30)
    if whole and span > 255:
        width = next((float(2**bits - 1) for bits in range(9, 64) if span < 2**bits), span)
        start = low - 0.2 * (width - span)  # films have less room below their values than above
    else:
        width = span / (_HIGH_AT - _LOW_AT)
        start = low - _LOW_AT * width
    stop = start + width
    doubt = f"the values ({low:g} to {high:g}) do not fit any usual range: {start:g} to {stop:g} was assumed; {_REMEDY}"
    return Scale(start, stop, f"values {low:g} to {high:g}: range {start:g} to {stop:g} assumed", (doubt,))
