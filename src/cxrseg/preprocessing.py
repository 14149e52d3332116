"""From a radiograph to the network's input and back: one module for training, evaluation and prediction.

As in the two reports that cxrseg started from: grayscale, resized to the network's size, values in [0, 1]; masks binary
at 0.5. The aspect ratio is not kept, as in the published images of COVID-QU-Ex.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

__all__ = ["mask_to_input", "to_input", "to_source"]


def to_input(pixels: npt.NDArray[np.float32], size: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Resize a radiograph's pixels to the network's size.

    Bilinear; where the image shrinks, the filter is wider, which avoids aliasing. Pixel centres are kept: an image of
    the right size is returned unchanged.

    Args:
        pixels: (H, W) float32 in [0, 1].
        size: (height, width) of the network's input, in pixels.

    Returns:
        (height, width) float32 in [0, 1].
    """
    return np.clip(_resized(pixels, size), 0.0, 1.0)


def mask_to_input(mask: npt.NDArray[np.bool_], size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Resize a mask to the network's size: a pixel belongs to the mask where at least half of its area does.

    Args:
        mask: (H, W) bool.
        size: (height, width) in pixels.

    Returns:
        (height, width) bool.
    """
    if mask.shape == size:
        return mask
    return _resized(mask.astype(np.float32), size, Image.Resampling.BOX) >= 0.5


def to_source(probability: npt.NDArray[np.float32], shape: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Resize a probability map to the pixels of its radiograph: the inverse of `to_input`.

    Args:
        probability: (h, w) float32 in [0, 1], of the network's size.
        shape: (height, width) of the radiograph.

    Returns:
        (height, width) float32 in [0, 1].
    """
    return np.clip(_resized(probability, shape), 0.0, 1.0)


def _resized(
    values: npt.NDArray[np.float32], shape: tuple[int, int], how: Image.Resampling = Image.Resampling.BILINEAR
) -> npt.NDArray[np.float32]:
    if values.shape == shape:
        return values
    height, width = shape
    image = Image.fromarray(np.ascontiguousarray(values, dtype=np.float32))
    return np.asarray(image.resize((width, height), how))
