"""Pixels from Python, as arrays, lists or Pillow images, to radiographs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from cxrseg.errors import ImageError
from cxrseg.io.decode import Decoded, channels_of
from cxrseg.io.radiograph import Radiograph
from cxrseg.io.raster import to_radiograph
from cxrseg.io.read import read_radiograph
from cxrseg.io.settings import MAX_PIXELS, ReadSettings

__all__ = ["radiograph_of"]

_EXPECTED = "expected pixels of shape (height, width), (height, width, 3) or (height, width, 4)"


def radiograph_of(
    image: Path | str | Radiograph | Image.Image | npt.ArrayLike,
    *,
    window: int = 0,
    value_range: tuple[float, float] | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Radiograph:
    """Whatever a user has as one X-ray, as a radiograph.

    Arrays and Pillow images follow the rules of files: uint8 is divided by 255, the range of other types is estimated
    (12 bits in a uint16 are seen, floating point may range from 0 to 1), colour becomes luma. What was assumed is in
    `steps`, what is doubtful in `warnings`.

    Args:
        image: a file; or pixels in which bright is dense, as a NumPy array, a list of rows, anything that NumPy takes
            for an array (such as a torch tensor), or a Pillow image; (H, W), (1, H, W), (H, W, 1), or colour (H, W, 3)
            or (H, W, 4). A `Radiograph` is returned as it is.
        window: of a DICOM file, see `cxrseg.io.read.read_radiograph`.
        value_range: the values of black and of white, such as (0, 4095), where they are known.
        max_pixels: larger images are refused.

    Raises:
        ImageError: the file cannot be read, or the pixels are not as above or not finite.
    """
    if isinstance(image, Radiograph):
        return image
    if isinstance(image, str | Path):
        return read_radiograph(image, window=window, value_range=value_range, max_pixels=max_pixels)
    settings = ReadSettings(window, value_range, max_pixels)
    if isinstance(image, Image.Image):
        steps: list[str] = []
        return to_radiograph(Decoded(channels_of(image, steps), steps=steps), "image", settings)
    values = _values(image)
    steps = [f"{'RGB' if values.shape[2] >= 3 else 'transparency'} to grayscale"] if values.ndim == 3 else []
    return to_radiograph(Decoded(values, steps=steps), "array", settings)


def _values(image: Any) -> npt.NDArray[Any]:
    try:
        values = np.asarray(image)
    except Exception as error:  # lists of different lengths, objects that refuse to become arrays
        raise ImageError(f"{_EXPECTED}, got a {type(image).__name__} that is not an array: {error}") from error
    if values.dtype.kind not in "iuf":
        remedy = "a mask is not a radiograph" if values.dtype == np.bool_ else "convert them to numbers"
        raise ImageError(f"expected pixels of an integer or floating type, got {values.dtype}; {remedy}")
    if values.ndim == 3 and values.shape[0] == 1:
        values = values[0]
    elif values.ndim == 3 and values.shape[2] == 1:
        values = values[..., 0]
    if values.ndim not in (2, 3) or 0 in values.shape or (values.ndim == 3 and values.shape[2] not in (3, 4)):
        raise ImageError(f"{_EXPECTED}, got {values.shape}")
    if not np.isfinite(values).all():
        raise ImageError("expected pixels that are finite, got some that are not")
    # Python's own numbers carry no type: whole ones up to 255 are 8 bits, as they would be in a file.
    whole = values.dtype == np.int64 and values.min() >= 0 and values.max() <= 255
    return values.astype(np.uint8) if whole else values
