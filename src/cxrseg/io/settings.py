"""How files are read: the settings that all readers share."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cxrseg.errors import ImageError

__all__ = ["MAX_PIXELS", "WHOLE_PIXELS", "ReadSettings", "reduce", "reduction"]

MAX_PIXELS = 250_000_000
"""Largest image that is read unless told otherwise, in pixels: 250 megapixels, such as 15,800 x 15,800."""

WHOLE_PIXELS = 50_000_000
"""Larger images are reduced while they are read: the largest digital radiographs have about 20 megapixels."""


@dataclass(frozen=True)
class ReadSettings:
    """How a radiograph is read.

    Attributes:
        window: which view of a DICOM file that offers several, from 0: its VOI LUTs in order, then its windows.
        value_range: the stored values of black and of white; replaces the file's window and every assumption. For DICOM
            they are values after the modality LUT. None: the file says, or it is estimated.
        max_pixels: images with more pixels than this are refused.
    """

    window: int = 0
    value_range: tuple[float, float] | None = None
    max_pixels: int = MAX_PIXELS


def reduction(height: int, width: int, max_pixels: int = MAX_PIXELS) -> int:
    """How many pixels in each direction become one: 1 up to `WHOLE_PIXELS`, more for larger images.

    Raises:
        ImageError: the image has no pixels, or more than `max_pixels`.
    """
    if height < 1 or width < 1:
        raise ImageError(f"has no pixels ({width}x{height})")
    if height * width > max_pixels:
        raise ImageError(
            f"has {width}x{height} pixels, more than {max_pixels:,}; make it smaller, or raise the limit (--max-pixels)"
        )
    return math.ceil(math.sqrt(height * width / WHOLE_PIXELS)) if height * width > WHOLE_PIXELS else 1


def reduce(pixels: npt.NDArray[np.float32], factor: int) -> npt.NDArray[np.float32]:
    """The means of blocks of `factor` x `factor` pixels; (H, W) becomes (ceil(H / factor), ceil(W / factor))."""
    if factor == 1:
        return pixels
    height, width = pixels.shape
    rows = np.add.reduceat(pixels, np.arange(0, height, factor), axis=0, dtype=np.float32)
    sums = np.add.reduceat(rows, np.arange(0, width, factor), axis=1, dtype=np.float32)
    counts = [np.diff(np.r_[np.arange(0, side, factor), side]).astype(np.float32) for side in (height, width)]
    return np.asarray(sums / np.outer(*counts), dtype=np.float32)
