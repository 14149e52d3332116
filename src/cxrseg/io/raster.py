"""PNG, JPEG, TIFF, BMP and WebP files to radiographs and masks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from cxrseg.errors import ImageError
from cxrseg.io.quiet import quiet
from cxrseg.io.radiograph import Radiograph

__all__ = ["RASTER_SUFFIXES", "read_mask", "read_probability", "read_raster", "read_size"]

RASTER_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""File name endings (lower case) of the raster images that can be read."""

MAX_PIXELS = 100_000_000
"""Largest image that is decoded, in pixels: 100 megapixels, five times a large digital radiograph."""

_FORMATS = ("BMP", "JPEG", "PNG", "TIFF", "WEBP")
_DEEP_MODES = ("I", "I;16", "I;16B", "I;16L", "I;16N", "F")
_WIDTH, _HEIGHT, _PHOTOMETRIC, _ORIENTATION = 256, 257, 262, 274  # TIFF and EXIF tags


def read_raster(path: Path | str) -> Radiograph:
    """Read a raster image as a radiograph.

    Colour becomes luma (ITU-R 601), transparency is dropped, a palette is looked up, the EXIF orientation is
    applied. 8-bit values are divided by 255; 16-bit values by the largest value of 8, 10, 12, 14 or 16 bits
    that covers them, since many exports store 12 bits in 16. Each of these is named in `steps`.

    Args:
        path: a BMP, JPEG, PNG, TIFF or WebP file.

    Returns:
        A radiograph without spacing; raster files seldom carry one that can be trusted.

    Raises:
        ImageError: the file is missing, no image, truncated, empty, of several pages, or too large.
    """
    path = Path(path)
    values, steps, coloured = _decode(path)
    if values.dtype == np.uint8:
        pixels = values.astype(np.float32) / np.float32(255)
    else:
        pixels, step = _scaled(values)
        steps.append(step)
    return Radiograph(pixels, source=str(path), steps=tuple(steps), coloured=coloured)


def read_mask(path: Path | str) -> npt.NDArray[np.bool_]:
    """Read a mask; a pixel belongs to it where its value is at least half of the largest possible one.

    Masks of 0 and 1 (instead of 0 and 255) are understood as well.

    Args:
        path: a raster image.

    Returns:
        (H, W) bool.

    Raises:
        ImageError: as for `read_raster`.
    """
    path = Path(path)
    values, *_ = _decode(path)
    largest = values.max()
    full = 1 if largest <= 1 else 255 if values.dtype == np.uint8 else largest
    return values >= 0.5 * full


def read_probability(path: Path | str) -> npt.NDArray[np.float32]:
    """Read a probability map as `cxrseg.io.write.write_probability` writes it: 16 bit, 65535 times the probability.

    Returns:
        (H, W) float32 in [0, 1].

    Raises:
        ImageError: the file has fewer bits, or as for `read_raster`.
    """
    path = Path(path)
    values, *_ = _decode(path)
    if values.dtype != np.uint16:
        raise ImageError(f"expected a probability map of 16 bits at {path}, got {values.dtype}; write it anew")
    return values.astype(np.float32) / np.float32(65535)


def read_size(path: Path | str) -> tuple[int, int]:
    """Read only the header of a raster image.

    Returns:
        (height, width) in pixels, after the EXIF orientation.

    Raises:
        ImageError: the file is missing or no image.
    """
    path = Path(path)
    with _opened(path) as image:
        width, height = image.size
        if image.format == "TIFF":  # some versions of Pillow have turned its size already, others not yet
            tags = getattr(image, "tag_v2", {})
            width, height = int(tags.get(_WIDTH, width)), int(tags.get(_HEIGHT, height))
        turned = _orientation(image, header_only=True) in (5, 6, 7, 8)
    return (width, height) if turned else (height, width)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """An image whose header is read; whatever Pillow raises meanwhile comes out as an ImageError."""
    try:
        if not path.exists():
            raise ImageError(f"expected an image at {path}, but there is no such file")
        if not path.is_file():  # reading a pipe would wait for ever
            raise ImageError(f"expected an image at {path}, but it is no file")
        # Quiet: our own limit refuses large images with a reason, and odd metadata is no matter to us.
        # An open file, not its name: given a name, Pillow 13 maps a plain TIFF into memory and garbles a turned one.
        with quiet(), path.open("rb") as file, Image.open(file, formats=_FORMATS) as image:
            yield image
    except ImageError:
        raise
    except UnidentifiedImageError:
        names = ", ".join(_FORMATS)
        raise ImageError(f"{path} is none of {names}, or its header is broken; export it anew") from None
    except Image.DecompressionBombError:
        raise ImageError(f"{path} is larger than {MAX_PIXELS:,} pixels; make it smaller") from None
    except Exception as error:  # Pillow raises nearly anything on a damaged file
        raise ImageError(f"{path} is damaged or cut short ({error}); export or download it anew") from error


def _decode(path: Path) -> tuple[npt.NDArray[Any], list[str], float]:
    """(H, W) uint8, or the stored type of deeper images; the steps that led there; `Radiograph.coloured`."""
    steps: list[str] = []
    coloured = 0.0
    with _opened(path) as image:
        _check_size(path, image)
        if image.format == "PNG":
            _check_sums(path)
        orientation = _orientation(image)
        white_is_zero = image.format == "TIFF" and getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == 0
        image.load()
        # Pillow turns a TIFF while loading it; a second time would undo or spoil that.
        upright = image if image.format == "TIFF" else ImageOps.exif_transpose(image)
        if orientation in range(2, 9):
            steps.append("EXIF orientation applied")
        if upright.mode not in (*_DEEP_MODES, "L"):
            steps.append(f"{upright.mode} to grayscale")
            # Only RGB leads from everywhere to gray: a palette holds colours, and Lab knows no other way.
            upright = upright.convert("L" if upright.mode in ("1", "LA") else "RGB")
            coloured = _coloured(upright) if upright.mode == "RGB" else 0.0
            upright = upright.convert("L")
        values = np.asarray(upright)
        if white_is_zero and values.dtype == np.uint16:  # Pillow turns 8 bits by itself, but not 16
            steps.append("inverted (TIFF, white is zero)")
            values = values.dtype.type(65535) - values
        if not np.isfinite(values).all():
            raise ImageError(f"{path} holds values that are not finite; export it anew")
    return values, steps, coloured


def _coloured(image: Image.Image) -> float:
    """Share of an RGB image's pixels whose colour is by more than 32 of 255 not that of other pixels as bright.

    So a film with an even tint, such as a photographed one, has no colour.
    """
    small = np.asarray(image.resize((128, 128), Image.Resampling.NEAREST), dtype=np.float32).reshape(-1, 3)
    level = (small.mean(1) / 16).astype(np.intp)
    counts = np.maximum(np.bincount(level, minlength=16), 1)
    against_green = [small[:, channel] - small[:, 1] for channel in (0, 2)]
    red, blue = (values - (np.bincount(level, values, 16) / counts)[level] for values in against_green)
    return float((np.maximum.reduce([abs(red), abs(blue), abs(red - blue)]) > 32).mean())


def _check_size(path: Path, image: Image.Image) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ImageError(f"{path} has {width}x{height} pixels, more than {MAX_PIXELS:,}; make it smaller")
    if width * height == 0:
        raise ImageError(f"{path} has no pixels ({width}x{height})")
    pages = getattr(image, "n_frames", 1)
    if pages > 1:
        raise ImageError(f"{path} holds {pages} pages; save the radiograph alone")


def _check_sums(path: Path) -> None:
    """Compare the check sums of a PNG, since Pillow reads some damaged ones as black and says nothing.

    Raises:
        Exception: what Pillow raises where they do not fit, or the end is missing.
    """
    with Image.open(path, formats=("PNG",)) as image:
        image.verify()


def _orientation(image: Image.Image, header_only: bool = False) -> int:
    """EXIF orientation, 1 where there is none or it cannot be read."""
    try:
        # A PNG's own getexif() decodes all pixels, in search of a tag behind them.
        exif = Image.Image.getexif(image) if header_only else image.getexif()
        return int(exif.get(_ORIENTATION, 1))
    except Exception:  # damaged metadata does not spoil the pixels
        return 1


def _scaled(values: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float32], str]:
    """Values deeper than 8 bits to [0, 1], and the step in words."""
    low, high = float(values.min()), float(values.max())
    if values.dtype.kind == "f" and low >= 0 and high <= 1:
        return values.astype(np.float32), "floating point in [0, 1]"
    if low < 0 or high > 65535:
        # In float64, since the span of float32 values need not fit into float32.
        stretched = (values.astype(np.float64) - low) / max(high - low, 1e-6)
        return stretched.astype(np.float32), f"values {low:g} to {high:g} stretched to [0, 1]"
    bits = next(bits for bits in (8, 10, 12, 14, 16) if high < 2**bits)
    return values.astype(np.float32) / np.float32(2**bits - 1), f"{bits} of 16 bits used"
