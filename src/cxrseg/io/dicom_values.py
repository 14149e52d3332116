"""From the stored values of a DICOM image to [0, 1], bright is dense: modality, VOI, polarity."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from cxrseg.errors import ImageError
from cxrseg.io.dicom_layout import Layout
from cxrseg.io.dicom_tags import Tags
from cxrseg.io.settings import ReadSettings, reduce, reduction
from cxrseg.io.value_range import display_scale, stated_scale

__all__ = ["to_unit_interval"]

Values = npt.NDArray[Any]
_View = tuple[str, Callable[[Values], Values]]
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as for raster images
_STRIP = 4_000_000  # values that are converted at once: a large film needs no second copy of itself


@dataclass(frozen=True)
class _Table:
    """A lookup table (PS3.3 C.11.1.1): values below `first` take the first entry, those beyond the last."""

    entries: Values
    first: int
    bits: int

    def __call__(self, values: Values) -> Values:
        """Look up, and divide by the largest value of `bits` bits."""
        return self.raw(values) / np.float32(2**self.bits - 1)

    def raw(self, values: Values) -> Values:
        """Look up."""
        places = np.clip(np.rint(values).astype(np.int64) - self.first, 0, len(self.entries) - 1)
        found: Values = self.entries.astype(np.float32)[places]
        return found


@dataclass(frozen=True)
class _Work:
    """What every step needs, and the record of what they did."""

    tags: Tags
    layout: Layout
    settings: ReadSettings
    steps: list[str] = field(default_factory=list)

    def ignore(self, what: str, why: str) -> None:
        """Record that a part of the file was not used, and warn, since the picture may be wrong."""
        self.steps.append(f"{what} ignored ({why})")
        self.tags.warn(f"{what} of the file was not used: {why}")


def to_unit_interval(
    stored: Values, photometric: str, tags: Tags, layout: Layout, settings: ReadSettings
) -> tuple[npt.NDArray[np.float32], list[str]]:
    """Take stored values to [0, 1], bright is dense.

    Args:
        stored: (H, W) or (H, W, 3) integers, as `cxrseg.io.dicom_frame.decode` returns them.
        photometric: what they are, from there too.
        tags: the data set with the transforms.
        layout: how the pixels were stored.
        settings: which window, or which values are black and white.

    Returns:
        (H, W) float32, reduced where there are more pixels than `cxrseg.io.settings.WHOLE_PIXELS`; the steps in words.

    Raises:
        ImageError: all pixels are padding, or there is no such window.
    """
    work = _Work(tags, layout, settings)
    factor = reduction(layout.rows, layout.columns, settings.max_pixels)
    if layout.samples == 3 or photometric == "PALETTE COLOR":
        return reduce(_luma(stored, photometric, work), factor), work.steps
    padding = _padding(stored, work)
    values = _modality(stored, work)
    view = _voi(values, padding, work)
    inverted = _inverted(work)
    in_place = factor == 1 and values.dtype == np.float32
    pixels = values if in_place else np.empty((-(-layout.rows // factor), -(-layout.columns // factor)), np.float32)
    for rows in _strips(values, factor):
        shown = np.clip(1 - view(values[rows]) if inverted else view(values[rows]), 0, 1)
        if padding is not None:
            shown[padding[rows]] = 0
        pixels[rows.start // factor : -(-rows.stop // factor)] = reduce(shown, factor)
    return pixels, work.steps


def _strips(values: Values, factor: int = 1) -> Iterator[slice]:
    """Parts of the first axis that hold few values each, and a multiple of `factor` rows."""
    rows = max(1, _STRIP * len(values) // max(values.size, 1) // factor) * factor
    return (slice(start, start + rows) for start in range(0, len(values), rows))


def _luma(stored: Values, photometric: str, work: _Work) -> npt.NDArray[np.float32]:
    work.steps.append(f"{photometric} to luma")
    full = np.float32(2 ** min(work.layout.stored, 8 * stored.dtype.itemsize) - 1)
    if photometric.startswith("YBR_FULL"):
        return np.asarray(stored[..., 0] / full, dtype=np.float32)
    if photometric == "PALETTE COLOR":
        names = [f"{name}PaletteColorLookupTable" for name in ("Red", "Green", "Blue")]
        tables = [table for name in names if (table := _table(work.tags, name, stored, work, correct=False))]
        if len(tables) != 3:
            raise ImageError("has a palette that cannot be read; convert it to MONOCHROME2")
        channels = [table(stored) for table in tables]
    else:
        channels = [stored[..., channel] / full for channel in range(3)]
    gray = sum(np.float32(weight) * channel for weight, channel in zip(_LUMA, channels, strict=True))
    if work.settings.value_range is not None:
        scale = stated_scale(work.settings.value_range)
        work.steps.append(scale.step)
        return scale(np.asarray(gray * full))
    return np.clip(gray, 0, 1).astype(np.float32, copy=False)


def _padding(stored: Values, work: _Work) -> npt.NDArray[np.bool_] | None:
    """Where there is no image (PS3.3 C.7.5.1.1.2); compared before any transform, as the standard asks."""
    value = work.tags.integer("PixelPaddingValue")
    if value is None:
        return None
    limit = work.tags.integer("PixelPaddingRangeLimit")
    ends = [_as_stored(end, work.layout) for end in (value, value if limit is None else limit)]
    mask: npt.NDArray[np.bool_] = (stored >= min(ends)) & (stored <= max(ends))
    if not mask.any():
        return None
    if mask.all():
        raise ImageError("holds nothing but padding; export it again")
    work.steps.append(f"padding ({mask.mean():.1%} of the pixels) left out of the scaling and set to black")
    return mask


def _as_stored(value: int, layout: Layout) -> int:
    """Correct a number that was written as US where SS was meant, or the other way round."""
    if layout.signed and value >= 2 ** (layout.allocated - 1):
        return value - int(2**layout.allocated)
    if not layout.signed and value < 0:
        return value + int(2**layout.allocated)
    return value


def _modality(stored: Values, work: _Work) -> Values:
    precise = np.dtype(np.float64 if work.layout.stored > 16 else np.float32)  # float32 holds 24 bits exactly
    holder = work.tags.item("ModalityLUTSequence")
    if holder is not None:
        table = _table(holder, "LUT", stored, work, correct=False)
        if table is not None:
            work.steps.append(f"modality LUT of {len(table.entries)} entries")
            return table.raw(stored)
        work.ignore("modality LUT", "it is malformed")
    slope = (work.tags.numbers("RescaleSlope") or (1.0,))[0]
    intercept = (work.tags.numbers("RescaleIntercept") or (0.0,))[0]
    if not 1e-9 < abs(slope) < 1e9 or abs(intercept) > 1e9:
        work.ignore("rescale", "its slope or intercept makes no sense")
        slope, intercept = 1.0, 0.0
    values: Values = stored.astype(precise)
    if (slope, intercept) != (1.0, 0.0):
        work.steps.append(f"rescaled: {slope:g} x value + {intercept:g}")
        values *= slope
        values += intercept
    return values


def _voi(values: Values, padding: npt.NDArray[np.bool_] | None, work: _Work) -> Callable[[Values], Values]:
    """How values after the modality LUT become [0, 1]."""
    seen = values if padding is None else values[~padding]
    if work.settings.value_range is not None:
        scale = stated_scale(work.settings.value_range)
        work.steps.append(scale.step)
        return scale
    window = work.settings.window
    views = _views(values, work)
    if views or window:
        if not 0 <= window < len(views):
            raise ImageError(f"offers {len(views)} windows, but number {window} (counted from 0) was asked for")
        name, view = views[window]
        if _shows_differences(view, seen) or seen.min() == seen.max():
            work.steps.append(name)
            return view
        work.ignore(name, "it shows every pixel alike")
    full = 2**work.layout.stored - 1
    if full <= 255 and seen.min() >= 0 and seen.max() <= full:
        # No VOI means values ready for display, and eight bits are no detector's raw values: same as a PNG.
        work.steps.append(f"no VOI: divided by {full}")
        return lambda values: np.asarray(values / full)
    bits = work.layout.stored if work.layout.keyword == "PixelData" and work.layout.stored <= 16 else None
    scale = display_scale(seen, bits)
    work.steps.append(f"no VOI: {scale.step}")
    for warning in scale.warnings:
        work.tags.warn(warning)
    return scale


def _shows_differences(view: Callable[[Values], Values], seen: Values) -> bool:
    lowest, highest = math.inf, -math.inf
    for part in _strips(seen):
        shown = view(seen[part])
        lowest, highest = min(lowest, float(shown.min())), max(highest, float(shown.max()))
        if lowest < highest:
            return True
    return False


def _views(values: Values, work: _Work) -> list[_View]:
    """Every view the file offers: VOI LUTs first, since they are made for this image, then windows."""
    views: list[_View] = []
    for index in range(256):
        holder = work.tags.item("VOILUTSequence", index)
        if holder is None:
            break
        table = _table(holder, "LUT", values, work)
        if table is None:
            work.ignore("VOI LUT", "it is malformed")
            continue
        views.append((f"VOI LUT of {len(table.entries)} entries, {table.bits} bits", table))
    function = work.tags.text("VOILUTFunction") or "LINEAR"
    if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        work.steps.append("VOI LUT Function unknown, taken as LINEAR")
        work.tags.warn("VOI LUT Function of the file is unknown; it was taken as LINEAR")
        function = "LINEAR"
    centres, widths = (work.tags.numbers(word, gaps=True) for word in ("WindowCenter", "WindowWidth"))
    if len(centres) != len(widths) and not (work.tags.unusable("WindowCenter") or work.tags.unusable("WindowWidth")):
        work.ignore("a window", f"the file has {len(centres)} centres and {len(widths)} widths")
    for centre, width in zip(centres, widths, strict=False):
        if not (math.isfinite(centre) and math.isfinite(width)):  # which is a warning already
            continue
        if width <= 0 or (function == "LINEAR" and width < 1):
            work.ignore("a window", f"its width is {width:g}")
            continue
        name = f"window {function} centre {centre:g} width {width:g}"
        views.append((name, _window(function, centre, width)))
    return views


def _window(function: str, centre: float, width: float) -> Callable[[Values], Values]:
    """PS3.3 C.11.2.1.2.1 (LINEAR), C.11.2.1.3.2 (LINEAR_EXACT), C.11.2.1.3.1 (SIGMOID), scaled to [0, 1]."""
    if function == "SIGMOID":
        return lambda values: 1 / (1 + np.exp(np.clip(-4 * (values - centre) / width, -80, 80)))
    if function == "LINEAR":
        if width == 1:
            return lambda values: (values > centre - 0.5).astype(values.dtype)
        centre, width = centre - 0.5, width - 1
    return lambda values: np.clip((values - centre) / width + 0.5, 0, 1)


def _inverted(work: _Work) -> bool:
    # MONOCHROME1: the smallest value is white after VOI (PS3.3 C.7.6.3.1.2). Presentation LUT Shape INVERSE:
    # the values become P-Values by inversion (C.11.6). A DX image shall have both or neither (C.8.11.3): they
    # state one fact twice, so one inversion serves both. Where they contradict each other, either one inverts,
    # once: MONOCHROME1 with IDENTITY because known DX writers get the shape wrong (dcm4chee-arc-light issue
    # 3155), MONOCHROME2 with INVERSE because the shape can mean nothing else. The step tells of the doubt.
    photometric, shape = work.layout.photometric, work.tags.text("PresentationLUTShape")
    reasons = [word for word in (photometric, shape) if word in ("MONOCHROME1", "INVERSE")]
    if not reasons:
        return False
    doubt = (photometric, shape) in (("MONOCHROME1", "IDENTITY"), ("MONOCHROME2", "INVERSE"))
    remark = f"; contradicted by {shape if photometric == 'MONOCHROME1' else photometric}" if doubt else ""
    work.steps.append(f"inverted once ({' and '.join(reasons)}{remark})")
    return True


def _table(holder: Tags, prefix: str, values: Values, work: _Work, *, correct: bool = True) -> _Table | None:
    """Read a lookup table, None where it is malformed; `correct` the number of bits where entries belie it."""
    descriptor = holder.numbers(f"{prefix}Descriptor")
    if len(descriptor) != 3:
        return None
    count, first, bits = (int(number) for number in descriptor)
    count = count or 2**16
    if first > 32767 and values.min() < 0:
        first -= 2**16  # a signed value that was written as unsigned
    entries = _entries(holder, f"{prefix}Data", count, big_endian=work.layout.big_endian)
    if entries is None or not 1 <= bits <= 16:
        return None
    highest = int(entries.max())
    if highest >= 2**bits or (correct and highest < 2 ** (bits - 2)):
        # Writers state 16 bits and fill 12, or the other way round; an image four times too dark helps nobody.
        bits = max(1, highest.bit_length())
    return _Table(entries, first, bits)


def _entries(holder: Tags, keyword: str, count: int, big_endian: bool) -> Values | None:
    raw = holder.raw(keyword)
    if raw is not None:
        wide = len(raw) >= 2 * count
        kind = "u1" if not wide else ">u2" if big_endian else "<u2"
        entries = np.frombuffer(raw[: len(raw) // 2 * 2] if wide else raw, kind)
    else:
        entries = np.asarray(holder.numbers(keyword), dtype=np.int64) & 0xFFFF
    return entries[:count].astype(np.uint16) if len(entries) >= count > 0 else None
