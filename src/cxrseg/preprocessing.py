"""Radiograph to network input and back again: the one place, for training, judging and prediction alike.

As in the two reports that cxrseg started from: grayscale, resized to the network's size, [0, 1]; masks binary at
0.5. Images are stretched to the network's shape, as the published images of COVID-QU-Ex were.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

__all__ = ["mask_to_input", "to_input", "to_source"]


def to_input(pixels: npt.NDArray[np.float32], size: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Resize a radiograph's pixels to the network's size.

    Bilinear, with the filter widened when the image shrinks (so that nothing aliases). Pixel centres are kept:
    an image of the right size comes back unchanged.

    Args:
        pixels: (H, W) float32 in [0, 1].
        size: (height, width) of the network's input, in pixels.

    Returns:
        (height, width) float32 in [0, 1].
    """
    return np.clip(_resized(pixels, size), 0.0, 1.0)


def mask_to_input(mask: npt.NDArray[np.bool_], size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Resize a mask to the network's size: a pixel belongs to it where at least half of its area does.

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
    """Undo the geometry of `to_input`: bring a probability map back onto the pixels of its radiograph.

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
