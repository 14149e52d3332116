"""PNG, JPEG, TIFF, BMP and WebP files to radiographs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from cxrseg.errors import ImageError
from cxrseg.io.decode import Decoded, decode_raster, read_size
from cxrseg.io.radiograph import Radiograph
from cxrseg.io.settings import ReadSettings, reduce, reduction
from cxrseg.io.value_range import Scale, estimate_scale, stated_scale

__all__ = ["RASTER_SUFFIXES", "read_probability", "read_raster", "read_size", "to_gray", "to_radiograph"]

RASTER_SUFFIXES = (".bmp", ".dib", ".jfif", ".jpe", ".jpeg", ".jpg", ".mpo", ".png", ".tif", ".tiff", ".webp")
"""File name endings (lower case) of the raster images that can be read."""

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
_STRIP = 4_000_000  # pixels that are reduced at once


def read_raster(path: Path | str, settings: ReadSettings | None = None) -> Radiograph:
    """Read a raster image as a radiograph.

    Colour becomes luma (ITU-R 601), transparency is dropped, a palette is looked up, the EXIF orientation is
    applied. 8-bit values are divided by 255; the range of deeper ones is as the file or the settings state it, or
    estimated (`cxrseg.io.value_range`). Images of more than 50 megapixels are reduced. Each of these is named in
    `steps`, what is doubtful in `warnings`.

    Args:
        path: a BMP, JPEG, PNG, TIFF or WebP file.
        settings: how to read it.

    Returns:
        A radiograph without spacing; raster files seldom carry one that can be trusted.

    Raises:
        UnreadableImageError: the file is missing, not an image, or damaged.
        ImageError: it is of several pages, of a kind that is not supported, empty or too large, or a result of cxrseg.
    """
    settings = settings or ReadSettings()
    decoded = decode_raster(Path(path), settings.max_pixels)
    if decoded.is_result:
        raise ImageError(
            f"{path} was written by cxrseg (a mask, a map or a picture of results); name the radiograph instead"
        )
    return to_radiograph(decoded, str(path), settings)


def to_radiograph(decoded: Decoded, source: str, settings: ReadSettings) -> Radiograph:
    """Make a radiograph of decoded values; as `read_raster`, whose `source` is the path.

    Raises:
        ImageError: there are no pixels, or too many.
    """
    try:
        gray = to_gray(decoded.values)
        height, width = gray.shape
        factor = reduction(height, width, settings.max_pixels)
        scale = _scale(gray, decoded, settings.value_range)
    except ImageError as error:
        raise ImageError(f"{source} {error}") from None
    pixels = _reduced(gray, factor, scale or (lambda values: values.astype(np.float32) / np.float32(255)))
    steps = [*decoded.steps, *([scale.step] if scale else [])]
    if decoded.white_is_zero:
        steps.append("inverted (TIFF, white is zero)")
        pixels = 1 - pixels
    warnings = scale.warnings if scale else ()
    if factor > 1:
        steps.append(f"reduced by {factor} in each direction")
    return Radiograph(
        pixels,
        None,
        source,
        tuple(steps),
        coloured=coloured_fraction(decoded.values),
        warnings=warnings,
        reduced_by=factor,
        stored_shape=(height, width),
    )


def coloured_fraction(values: npt.NDArray[Any]) -> float:
    """Fraction of the pixels whose colour is by more than 32 of 255 not that of other pixels as bright.

    So a film with an even tint, such as a photographed one, has no colour.

    Args:
        values: (H, W) or (H, W, C) of any type; fewer than three channels have no colour.
    """
    if values.ndim == 2 or values.shape[2] < 3 or 0 in values.shape:
        return 0.0
    rows, columns = (np.linspace(0, side - 1, 128).astype(np.intp) for side in values.shape[:2])
    small = values[rows[:, None], columns, :3].reshape(-1, 3).astype(np.float32)
    small *= np.float32(255 / (np.iinfo(values.dtype).max if values.dtype.kind in "iu" else max(small.max(), 1e-6)))
    level = np.clip(small.mean(1) / 16, 0, 15).astype(np.intp)
    counts = np.maximum(np.bincount(level, minlength=16), 1)
    against_green = [small[:, channel] - small[:, 1] for channel in (0, 2)]
    red, blue = (each - (np.bincount(level, each, 16) / counts)[level] for each in against_green)
    return float((np.maximum.reduce([abs(red), abs(blue), abs(red - blue)]) > 32).mean())


def to_gray(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """(H, W, C) values of one of the kinds of `Decoded` to (H, W) of the same type."""
    if values.ndim == 2:
        return values
    channels = values.shape[2]
    if channels <= 2:
        return values[..., 0]
    if values.dtype == np.uint8:
        colour = np.ascontiguousarray(values[..., :3])
        return np.asarray(Image.fromarray(colour).convert("L"))
    first, second, third = values[..., 0], values[..., 1], values[..., 2]
    if np.array_equal(first, second) and np.array_equal(first, third):  # gray, saved as colour; keeps its type
        return first
    gray = np.empty(values.shape[:2], values.dtype if values.dtype.kind in "iu" else np.float64)
    rows = max(1, _STRIP // values.shape[1])
    for top in range(0, len(values), rows):
        weighted = values[top : top + rows, :, :3].astype(np.float64) @ np.array(_LUMA)
        gray[top : top + rows] = np.rint(weighted) if values.dtype.kind in "iu" else weighted
    return gray


def _scale(gray: npt.NDArray[Any], decoded: Decoded, stated: tuple[float, float] | None) -> Scale | None:
    """None for plain 8-bit values."""
    if stated is not None:
        return stated_scale(stated)
    if gray.dtype == np.uint8:
        return None
    if decoded.bits is not None:
        return Scale(0.0, float(2**decoded.bits - 1), f"{decoded.bits} bits used, as the file says")
    return estimate_scale(gray, white_is_low=decoded.white_is_zero)


def _reduced(
    gray: npt.NDArray[Any], factor: int, scale: Callable[[npt.NDArray[Any]], npt.NDArray[np.float32]]
) -> npt.NDArray[np.float32]:
    """Scale and reduce; strip by strip where it is reduced, so that no copy of the whole is needed."""
    if factor == 1:
        return scale(gray)
    rows = max(1, _STRIP // (factor * gray.shape[1])) * factor
    return np.concatenate([reduce(scale(gray[top : top + rows]), factor) for top in range(0, gray.shape[0], rows)])


def read_probability(path: Path | str) -> npt.NDArray[np.float32]:
    """Read a probability map as `cxrseg.io.write.write_probability` writes it: 16 bit, 65535 times the probability.

    Returns:
        (H, W) float32 in [0, 1].

    Raises:
        ImageError: the file has fewer bits, or as for `read_raster`.
    """
    path = Path(path)
    values = decode_raster(path).values
    if values.dtype != np.uint16 or values.ndim != 2:
        raise ImageError(f"expected a probability map of 16 bits at {path}, got {values.dtype}; write it again")
    return values.astype(np.float32) / np.float32(65535)
