"""Mask files: which values mean that a pixel is marked. What is unclear is refused, never guessed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cxrseg.errors import ImageError
from cxrseg.io.decode import Decoded, decode_raster
from cxrseg.io.settings import reduce, reduction

__all__ = ["MaskValues", "mask_of", "read_mask"]

_Mask = npt.NDArray[np.bool_]
_Values = npt.NDArray[Any]

_FULL = (1, 255, 65535)  # what a mask that is marked everywhere holds
_FEW = 16  # with at most this many values, each is looked at; with more, they are grouped
_SMALL = 32  # values up to this are numbers of classes, not shades
_AREA = 9  # pixels with equal neighbours that make a value one of the mask's own, and no smoothed edge
_GROUPS = 16
_EVEN = 0.03  # neighbours that differ by less than this fraction of the range are equal
_WIDEST = 0.4  # a group of values this wide, as a fraction of the range, is a picture and no mask
_OFF_LINE = 0.12  # how far a colour may lie from the line between two others, as a fraction of white
_REMEDY = "state which are marked (--mask-values, such as infection=1,2 or infection=#ff0000)"


@dataclass(frozen=True)
class MaskValues:
    """Which values of a mask file are marked.

    Attributes:
        numbers: ranges of values, both ends included; of an image with a palette, of its entries.
        colours: (red, green, blue), each 0 to 255.
    """

    numbers: tuple[tuple[float, float], ...] = ()
    colours: tuple[tuple[int, int, int], ...] = ()

    @classmethod
    def parse(cls, text: str) -> MaskValues:
        """Read values as a user writes them, separated by commas: '1,2', '128-255', '#ff0000'.

        Raises:
            ImageError: they are not written so.
        """
        numbers, colours = [], []
        for part in (part.strip() for part in text.split(",")):
            if colour := re.fullmatch(r"#([0-9a-fA-F]{2})([0-9a-fA-F]{2})([0-9a-fA-F]{2})", part):
                colours.append((int(colour[1], 16), int(colour[2], 16), int(colour[3], 16)))
            elif number := re.fullmatch(r"(\d+(?:\.\d+)?)(?:-(\d+(?:\.\d+)?))?", part):
                numbers.append((float(number[1]), float(number[2] or number[1])))
            else:
                raise ImageError(f"expected the values of a mask such as 1,2 or 128-255 or #ff0000, got {text!r}")
        return cls(tuple(numbers), tuple(colours))

    def __str__(self) -> str:
        """As `parse` reads it."""
        ranges = (f"{low:g}" if low == high else f"{low:g}-{high:g}" for low, high in self.numbers)
        return ",".join([*ranges, *("#{:02x}{:02x}{:02x}".format(*colour) for colour in self.colours)])


def read_mask(path: Path | str, marked: MaskValues | None = None) -> _Mask:
    """Read a mask.

    With two values, pixels of the larger are marked, whatever they are: 0 and 255, 0 and 1, 0 and 127. Edges smoothed
    by JPEG or resizing are cut in the middle. One colour on another: a colour counts more than gray, else the brighter
    is marked. Where the colour is the same everywhere that is not transparent, what is not transparent is marked. An
    image of one value is empty if it is 0, and marked everywhere if it is 1, 255 or 65535.

    Args:
        path: a raster image.
        marked: the values that are marked, where these rules cannot tell.

    Returns:
        (H, W) bool; reduced where a radiograph of its size is.

    Raises:
        UnreadableImageError: as for `read_raster`.
        ImageError: as for `read_raster`; or it holds more than two classes, or is not a mask.
    """
    mask = mask_of(decode_raster(Path(path)), str(path), marked)
    height, width = mask.shape
    factor = reduction(height, width)
    return mask if factor == 1 else reduce(mask.astype(np.float32), factor) >= 0.5


def mask_of(decoded: Decoded, source: str, marked: MaskValues | None = None) -> _Mask:
    """A mask of decoded values; arguments, rules and errors as for `read_mask`, whose `source` is the path."""
    try:
        if marked is not None:
            return _stated(decoded, marked)
        values = _visible(decoded)
        if decoded.white_is_zero:
            values = (values.max() - values) if values.any() else values
        if values.ndim == 3:
            values = _along_colours(values, decoded)
        return _binary(values, decoded.lossy)
    except ImageError as error:
        raise ImageError(f"{source} {error}") from None


def _stated(decoded: Decoded, marked: MaskValues) -> _Mask:
    values = decoded.values
    mask = np.zeros(values.shape[:2], dtype=np.bool_)
    reach = 12 if decoded.lossy else 0
    if marked.numbers:
        if decoded.entries is not None:
            single = decoded.entries
        elif values.ndim == 2:
            single = values
        elif values.shape[2] == 2 or (values[..., :1] == values[..., 1:3]).all():
            single = values[..., 0]
        else:
            raise ImageError("is a colour image: state the marked colours (--mask-values, such as infection=#ff0000)")
        for low, high in marked.numbers:
            mask |= (single >= low - reach) & (single <= high + reach)
    if marked.colours:
        rgb = _eight_bits(values if values.ndim == 3 and values.shape[2] >= 3 else _repeated(values)).astype(np.int64)
        for colour in marked.colours:
            mask |= (np.abs(rgb - np.array(colour)) <= reach).all(axis=-1)
    if values.ndim == 3 and values.shape[2] in (2, 4) and values[..., -1].any():
        mask &= values[..., -1] > 0
    return mask


def _visible(decoded: Decoded) -> _Values:
    """(H, W), or (H, W, 3) where there are colours; transparency is resolved."""
    values = decoded.values
    if values.ndim == 2:
        return values
    if values.shape[2] in (2, 4):
        colours, alpha = values[..., :-1], values[..., -1]
        solid = alpha >= max(0.5 * alpha.max(), 1)
        if alpha.min() == alpha.max():
            if alpha.max() == 0 and np.ptp(colours, axis=(0, 1)).any():
                raise ImageError(f"is transparent everywhere, so it is unclear what is marked; {_REMEDY}")
            values = colours if alpha.max() > 0 else np.zeros_like(colours)
        elif (np.ptp(colours[solid].astype(np.float64), axis=0) <= 0.1 * _top(values)).all():
            return alpha  # one colour on transparent: only the alpha channel holds the mask
        else:
            values = np.where(solid[..., None], colours, np.zeros_like(colours))
    gray = values.shape[2] < 3 or bool((values[..., :1] == values[..., 1:3]).all())
    return values[..., 0] if gray else values[..., :3]


def _along_colours(values: _Values, decoded: Decoded) -> _Values:
    """(H, W) float32 from 0 (background) to 255 (marked) of an image of two colours and the steps between them."""
    rgb = _eight_bits(values)
    packed = (rgb.astype(np.int64) * np.array([65536, 256, 1])).sum(axis=-1)
    found, counts = np.unique(packed, return_counts=True)
    common = found[np.argsort(-counts)]
    first, second = (_unpacked(int(code)) for code in common[:2])
    if decoded.lossy:  # the second most common colour of a JPEG is a neighbour of the first
        far = [code for code in common[:4096] if np.abs(_unpacked(int(code)) - first).max() > 64]
        second = _unpacked(int(far[0])) if far else second
    low, high = sorted((first, second), key=_prominence)
    line = high - low
    if not line.any():
        return values[..., 0]
    along = ((rgb - low) @ line / (line @ line)).astype(np.float32)
    off = np.abs(rgb - (low + along[..., None] * line)).max(axis=-1) > _OFF_LINE * 255 * (2 if decoded.lossy else 1)
    if _area(off) >= _AREA or off.mean() > 0.01:
        shades = ", ".join(
            f"#{int(code):06x} ({count / packed.size:.1%})"
            for code, count in sorted(zip(found, counts, strict=True), key=lambda item: -item[1])[:6]
        )
        raise ImageError(f"holds more than two colours ({shades}, ...); {_REMEDY}")
    return np.asarray(np.clip(along, 0, 1) * np.float32(255))


def _binary(values: _Values, lossy: bool) -> _Mask:
    if values.dtype.kind == "f":
        values = values.astype(np.float64)
    found, counts = _counted(values)
    if len(found) == 1:
        return _uniform(values, found[0])
    if found[-1] <= 0:
        raise ImageError(f"holds no value above 0 (down to {found[0]:g}), so it is unclear what is marked; {_REMEDY}")
    if len(found) == 2:
        return np.asarray(values == found[1])
    if not lossy and found[-1] <= _SMALL and (found == np.rint(found)).all():
        raise ImageError(_classes(found, counts))
    if not lossy and len(found) <= _FEW:
        own = [value for value in found if _area(values == value) >= _AREA]
        if len(own) > 2:
            raise ImageError(_classes(found, counts))
    else:
        own = _groups(values)
    low, high = _ends(own, float(found[0]), float(found[-1]))
    return np.asarray(values > (low + high) / 2)


def _counted(values: _Values) -> tuple[_Values, _Values]:
    """The different values in order, and how many pixels have each."""
    if values.dtype != np.uint8:
        return np.unique(values, return_counts=True)
    counts = np.bincount(values.ravel(), minlength=256)
    found = np.flatnonzero(counts)
    return found, counts[found]


def _uniform(values: _Values, value: Any) -> _Mask:
    if value == 0:
        return np.zeros(values.shape, dtype=np.bool_)
    if value in _FULL:
        return np.ones(values.shape, dtype=np.bool_)
    where = "everywhere, so it is unclear whether all or nothing is marked"
    raise ImageError(f"has the value {value:g} {where}; {_REMEDY}")


def _groups(values: _Values) -> list[float]:
    """The values that cover areas of their own, close ones taken together."""
    low, high = float(values.min()), float(values.max())
    from scipy import ndimage  # here and below, since it takes long to import

    even = ndimage.maximum_filter(values, 3).astype(np.float64) - ndimage.minimum_filter(values, 3)
    flat = values[even <= _EVEN * (high - low)].astype(np.float64)
    places = np.minimum((flat - low) / (high - low) * _GROUPS, _GROUPS - 1).astype(np.int64)
    filled = np.flatnonzero(np.bincount(places, minlength=_GROUPS) >= max(_AREA, 1e-4 * values.size))
    groups = np.split(filled, np.flatnonzero(np.diff(filled) > 1) + 1) if len(filled) else []
    if any((group[-1] - group[0] + 1) / _GROUPS > _WIDEST for group in groups):
        raise ImageError(
            f"holds many values between {low:g} and {high:g}: it is not a mask. Expected two values; "
            f"cut a probability map at a threshold first"
        )
    means = [float(flat[(places >= group[0]) & (places <= group[-1])].mean()) for group in groups]
    if len(means) > 2:
        shades = ", ".join(f"{mean:.0f}" for mean in means)
        raise ImageError(f"holds areas of more than two values (about {shades}); {_REMEDY.replace('1,2', '100-200')}")
    return means


def _ends(own: list[Any], low: float, high: float) -> tuple[float, float]:
    """The values of background and mark: those that cover areas, or the extremes where thin lines cover none."""
    if len(own) == 2:
        return float(own[0]), float(own[1])
    if len(own) == 1:
        value = float(own[0])
        return (value, high) if value - low < high - value else (low, value)
    return low, high


def _classes(found: _Values, counts: _Values) -> str:
    total = counts.sum()
    shares = ", ".join(f"{value:g} ({count / total:.1%})" for value, count in zip(found, counts, strict=True))
    return f"holds {len(found)} values: {shares}; expected two. Several classes? {_REMEDY[0].upper()}{_REMEDY[1:]}"


def _area(mask: _Mask) -> int:
    """How many pixels have only neighbours like themselves."""
    from scipy import ndimage

    return int(np.count_nonzero(ndimage.binary_erosion(mask, np.ones((3, 3), dtype=np.bool_), border_value=1)))


def _top(values: _Values) -> float:
    return float(np.iinfo(values.dtype).max) if values.dtype.kind in "iu" else 1.0


def _eight_bits(values: _Values) -> npt.NDArray[np.float64]:
    """(H, W, 3) of whole numbers from 0 to 255."""
    colours = values[..., :3].astype(np.float64)
    return colours if values.dtype == np.uint8 else np.rint(colours * (255 / _top(values)))


def _repeated(values: _Values) -> _Values:
    return np.repeat((values if values.ndim == 2 else values[..., 0])[..., None], 3, axis=2)


def _unpacked(code: int) -> npt.NDArray[np.float64]:
    return np.array([code >> 16, code >> 8 & 255, code & 255], dtype=np.float64)


def _prominence(colour: npt.NDArray[np.float64]) -> tuple[float, float]:
    """What makes a colour the mark rather than the background: being no gray, then being bright."""
    return float(np.ptp(colour) > 32), float(colour @ np.array([0.299, 0.587, 0.114]))
