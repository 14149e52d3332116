"""From a radiograph to the network's input and back: one module for training, evaluation and prediction.

As in the two reports that cxrseg started from: grayscale, resized to the network's size, values in [0, 1]; masks binary
at 0.5. The aspect ratio is not kept, as in the published images of COVID-QU-Ex. An empty border around the film, as
viewers, scanners and collimators add it, is left out, so that the same film gives the same input with and without it.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

__all__ = ["Box", "content_box", "mask_to_input", "to_input", "to_source"]

Box: TypeAlias = tuple[slice, slice]
"""The rows and columns of the part of an image that is used."""

_UNIFORM = 0.06
"""A row or column is empty where 90% of its pixels differ by at most this fraction of the image's own range: noise and
JPEG of a black border stay below it."""

_STRIP = 4_000_000  # pixels that are made at once
_LARGEST_BORDER = 0.25
"""Largest border, as a fraction of a side of the image: what goes on beyond it is not a border."""


def content_box(pixels: npt.NDArray[np.float32]) -> Box:
    """The part of a radiograph within an empty border.

    Args:
        pixels: (H, W) float32 in [0, 1].

    Returns:
        Rows and columns of the part; the whole image where it has no border, or where there would be little left.
    """
    step = max(1, min(pixels.shape) // 64)
    limit = _UNIFORM * _spread(pixels[::step, ::step].ravel(), 0.01)
    rows = _content(pixels, limit)
    return rows, _content(pixels[rows].T, limit)


def _content(pixels: npt.NDArray[np.float32], limit: float) -> slice:
    """The rows between an empty border at the top and one at the bottom."""
    largest = int(_LARGEST_BORDER * len(pixels))
    top = _border(pixels[: largest + 1], limit)
    bottom = _border(pixels[len(pixels) - largest - 1 :][::-1], limit)
    if largest < max(top, bottom):
        return slice(0, len(pixels))
    return slice(top, len(pixels) - bottom)


def _border(rows: npt.NDArray[np.float32], limit: float) -> int:
    """How many rows are empty before the first one that is not."""
    step = max(1, rows.shape[1] // 128)
    return next((count for count, row in enumerate(rows[:, ::step]) if _spread(row, 0.05) > limit), len(rows))


def _spread(values: npt.NDArray[np.float32], tail: float) -> float:
    """The range of (N) values without the lowest and the highest `tail` of them."""
    ordered = np.sort(values)
    cut = int(tail * len(ordered))
    return float(ordered[-1 - cut] - ordered[cut])


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


def to_source(
    probability: npt.NDArray[np.float32], shape: tuple[int, int], box: Box | None = None
) -> npt.NDArray[np.float32]:
    """Resize a probability map to the pixels of its radiograph: the inverse of `to_input`.

    Args:
        probability: (h, w) float32 in [0, 1], of the network's size.
        shape: (height, width) of the radiograph.
        box: the part of the radiograph that the map is of; None for the whole. The map is 0 outside of it.

    Returns:
        (height, width) float32 in [0, 1].
    """
    rows, columns = box or (slice(None), slice(None))
    height, width = len(range(*rows.indices(shape[0]))), len(range(*columns.indices(shape[1])))
    if height >= probability.shape[0] and width >= probability.shape[1]:
        inner = _enlarged(probability, (height, width))
        np.clip(inner, 0.0, 1.0, out=inner)
    else:
        inner = np.clip(_resized(probability, (height, width)), 0.0, 1.0)
    if inner.shape == shape:
        return inner
    whole = np.zeros(shape, np.float32)
    whole[rows, columns] = inner
    return whole


def _enlarged(values: npt.NDArray[np.float32], shape: tuple[int, int]) -> npt.NDArray[np.float32]:
    """As `_resized` but for rounding, for a shape that is nowhere smaller: two to three times faster."""
    before, part = _places(values.shape[1], shape[1])
    wide = _between(values, before, part, 1)
    before, part = _places(values.shape[0], shape[0])
    made = np.empty(shape, np.float32)
    step = max(1, _STRIP // shape[1])
    for top in range(0, shape[0], step):  # strip by strip: a large film needs no second copy of itself
        rows = slice(top, top + step)
        made[rows] = _between(wide, before[rows], part[rows, None], 0)
    return made


def _places(size: int, wanted: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float32]]:
    """For each of `wanted` pixels, which of `size` lies before its centre, and the weight of the one behind."""
    places = (np.arange(wanted) + 0.5) * (size / wanted) - 0.5
    before = np.floor(places).astype(np.intp)
    return before, (places - before).astype(np.float32)


def _between(
    values: npt.NDArray[np.float32], before: npt.NDArray[np.intp], part: npt.NDArray[np.float32], axis: int
) -> npt.NDArray[np.float32]:
    first = values.take(before, axis, mode="clip")  # clip: beyond the outer pixels' centres nothing changes
    made = values.take(before + 1, axis, mode="clip")
    made -= first
    made *= part
    made += first
    return made


def _resized(
    values: npt.NDArray[np.float32], shape: tuple[int, int], how: Image.Resampling = Image.Resampling.BILINEAR
) -> npt.NDArray[np.float32]:
    if values.shape == shape:
        return values
    height, width = shape
    image = Image.fromarray(np.ascontiguousarray(values, dtype=np.float32))
    return np.asarray(image.resize((width, height), how))
