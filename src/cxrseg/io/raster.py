"""PNG, JPEG, TIFF, BMP and WebP files to radiographs and masks."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from cxrseg.errors import ImageError
from cxrseg.io.radiograph import Radiograph

__all__ = ["RASTER_SUFFIXES", "read_mask", "read_raster", "read_size"]

RASTER_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""File name endings (lower case) of the raster images that can be read."""

MAX_PIXELS = 100_000_000
"""Largest image that is decoded, in pixels: 100 megapixels, five times a large digital radiograph."""

_FORMATS = ("BMP", "JPEG", "PNG", "TIFF", "WEBP")
_DEEP_MODES = ("I", "I;16", "I;16B", "I;16L", "F")


def read_raster(path: Path | str) -> Radiograph:
    """Read a raster image as a radiograph.

    Colour becomes luma (ITU-R 601), transparency is dropped, a palette is looked up, the EXIF orientation is
    applied. 8-bit values are divided by 255; 16-bit values by the largest value of 10, 12, 14 or 16 bits that
    covers them, since many exports store 12 bits in 16. Each of these is named in `steps`.

    Args:
        path: a BMP, JPEG, PNG, TIFF or WebP file.

    Returns:
        A radiograph without spacing; raster files seldom carry one that can be trusted.

    Raises:
        ImageError: the file is missing, no image, truncated, empty, of several pages, or too large.
    """
    path = Path(path)
    values, steps = _decode(path)
    if values.dtype == np.uint8:
        pixels = values.astype(np.float32) / np.float32(255)
    else:
        pixels, step = _scaled(path, values)
        steps.append(step)
    return Radiograph(pixels, source=str(path), steps=tuple(steps))


def read_mask(path: Path | str) -> npt.NDArray[np.bool_]:
    """Read a mask; a pixel belongs to it where its value is at least half of the file's largest possible value.

    Masks of 0 and 1 (instead of 0 and 255) are understood as well.

    Args:
        path: a raster image.

    Returns:
        (H, W) bool.

    Raises:
        ImageError: as for `read_raster`.
    """
    path = Path(path)
    values, _ = _decode(path)
    largest = values.max()
    full = 1 if largest <= 1 else 255 if values.dtype == np.uint8 else largest
    return values >= 0.5 * full


def read_size(path: Path | str) -> tuple[int, int]:
    """Read only the header of a raster image.

    Returns:
        (height, width) in pixels, after the EXIF orientation.

    Raises:
        ImageError: the file is missing or no image.
    """
    path = Path(path)
    with _open(path) as image:
        width, height = image.size
        turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
    return (width, height) if turned else (height, width)


def _open(path: Path) -> Image.Image:
    try:
        with warnings.catch_warnings():
            # Our own limit below refuses large images with a reason; Pillow's warning would only repeat it.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return Image.open(path, formats=_FORMATS)
    except FileNotFoundError:
        raise ImageError(f"expected an image at {path}, but there is no such file") from None
    except IsADirectoryError:
        raise ImageError(f"expected an image at {path}, but it is a folder") from None
    except UnidentifiedImageError:
        names = ", ".join(_FORMATS)
        raise ImageError(f"{path} is none of {names}, or its header is broken; export it anew") from None
    except Image.DecompressionBombError:
        raise ImageError(f"{path} is larger than {MAX_PIXELS:,} pixels; make it smaller") from None
    except (OSError, ValueError, SyntaxError) as error:
        raise ImageError(f"{path} cannot be opened: {error}") from error


def _decode(path: Path) -> tuple[npt.NDArray[np.generic], list[str]]:
    """(H, W) uint8, or the stored type of deeper images, and the steps that led there."""
    steps: list[str] = []
    with _open(path) as image:
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise ImageError(f"{path} has {width}x{height} pixels, more than {MAX_PIXELS:,}; make it smaller")
        if width * height == 0:
            raise ImageError(f"{path} has no pixels ({width}x{height})")
        if getattr(image, "n_frames", 1) > 1:
            raise ImageError(f"{path} holds {getattr(image, 'n_frames', 1)} pages; save the radiograph alone")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Pillow warns of odd metadata; the pixels decide.
                image.load()
                upright = ImageOps.exif_transpose(image)
        except Exception as error:  # Pillow's decoders raise nearly anything on a damaged file
            raise ImageError(f"{path} is damaged or cut short ({error}); export or download it anew") from error
        if upright.size != image.size or image.getexif().get(0x0112, 1) != 1:
            steps.append("EXIF orientation applied")
        if upright.mode not in _DEEP_MODES and upright.mode != "L":
            steps.append(f"{upright.mode} to grayscale")
            if upright.mode in ("P", "PA"):
                upright = upright.convert("RGB")
            upright = upright.convert("L")
        return np.asarray(upright), steps


def _scaled(path: Path, values: npt.NDArray[np.generic]) -> tuple[npt.NDArray[np.float32], str]:
    """Values deeper than 8 bits to [0, 1], and the step in words."""
    numbers = values.astype(np.float32)
    if not np.isfinite(numbers).all():
        raise ImageError(f"{path} holds values that are not finite; export it anew")
    low, high = float(numbers.min()), float(numbers.max())
    if values.dtype.kind == "f" and 0 <= low and high <= 1:
        return numbers, "floating point in [0, 1]"
    if low < 0 or high > 65535:
        span = max(high - low, 1e-6)
        return (numbers - np.float32(low)) / np.float32(span), f"values {low:g} to {high:g} stretched to [0, 1]"
    bits = next(bits for bits in (10, 12, 14, 16) if high < 2**bits)
    return numbers / np.float32(2**bits - 1), f"{bits} of 16 bits used"
