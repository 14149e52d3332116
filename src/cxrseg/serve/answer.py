"""A prediction as the JSON that the page and other programs get: the row of `cxrseg predict`, and pictures."""

from __future__ import annotations

import base64
import io
import math
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from cxrseg.inference.outputs import row_of
from cxrseg.inference.prediction import Prediction
from cxrseg.io.radiograph import Radiograph
from cxrseg.metrics.regions import REGIONS

__all__ = ["LARGEST_SIDE", "ZONES", "answer_of", "bytes_of_probability", "grid_of", "png_of"]

LARGEST_SIDE = 2048
"""Longest side of the grid, in pixels. Larger radiographs are reduced: a page on a phone cannot hold more."""

ZONES = tuple(region for region in REGIONS if "_" in region)
"""The thirds of each lung, 'left_upper' to 'right_lower': labels 1 to 6 of the answer's `regions`."""

_Pixels = npt.NDArray[np.float32]
_Bytes = npt.NDArray[np.uint8]


def answer_of(name: str, radiograph: Radiograph, prediction: Prediction, task: str) -> dict[str, Any]:
    """The JSON value for a radiograph, as `cxrseg.serve.schema.Segmented` describes it.

    Args:
        name: of the image, as the client named it.
        radiograph: what was read.
        prediction: what was found on it, or a refused one.
        task: the one that the prediction was made for.
    """
    row = row_of(name, radiograph, prediction)
    height, width = grid_of(radiograph)
    spacing = None
    if radiograph.spacing_mm is not None:
        steps = radiograph.shape[0] / height, radiograph.shape[1] / width
        spacing = [each * step for each, step in zip(radiograph.spacing_mm, steps, strict=True)]
    pixels = _resized(radiograph.pixels, (height, width))
    found = prediction.probabilities
    probability = None
    if "infection" in found:
        values = _resized(found["infection"], (height, width))
        probability = png_of(bytes_of_probability(values, prediction.thresholds["infection"]))
    regions = _regions(prediction, (height, width))
    return {
        "name": row.pop("path"),
        **row,
        "task": task,
        "disclaimer": "Research use only. Not for diagnosis.",
        "grid": {"width": width, "height": height, "spacing_mm": spacing},
        "image": _picture(png_of(np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8))),
        "probability": _picture(probability),
        "lungs": _picture(None if regions is None else png_of((regions > 0).astype(np.uint8) * 255)),
        "regions": _picture(None if regions is None else png_of(regions)),
    }


def grid_of(radiograph: Radiograph) -> tuple[int, int]:
    """(height, width) of the pictures for a radiograph: its own, or smaller with a longest side of `LARGEST_SIDE`."""
    height, width = radiograph.shape
    factor = min(1.0, LARGEST_SIDE / max(height, width))
    return max(1, round(height * factor)), max(1, round(width * factor))


def bytes_of_probability(probability: _Pixels, threshold: float) -> _Bytes:
    """A probability map in 8 bits, of which the mask at `threshold` can be made again exactly.

    A byte b stands for the probability b / 255. A pixel belongs to the mask at t where b >= ceil(255 * t): exact for
    `threshold`, and within 1 / 255 for others.

    Args:
        probability: (H, W) float32 in [0, 1].
        threshold: in (0, 1).

    Returns:
        (H, W) uint8.
    """
    first = math.ceil(255 * threshold)
    values = np.floor(probability * np.float32(255) + np.float32(first - 255 * threshold))
    marked = probability >= threshold
    exact: _Bytes = np.where(marked, np.clip(values, first, 255), np.clip(values, 0, first - 1)).astype(np.uint8)
    return exact


def png_of(values: _Bytes) -> bytes:
    """(H, W) uint8 as a gray PNG file."""
    file = io.BytesIO()
    Image.fromarray(values).save(file, "PNG", compress_level=1)
    return file.getvalue()


def _picture(png: bytes | None) -> dict[str, str] | None:
    return None if png is None else {"png": base64.b64encode(png).decode()}


def _resized(values: _Pixels, shape: tuple[int, int]) -> _Pixels:
    if values.shape == shape:
        return values
    image = Image.fromarray(np.ascontiguousarray(values, dtype=np.float32))
    return np.asarray(image.resize(shape[::-1], Image.Resampling.BILINEAR))


def _regions(prediction: Prediction, shape: tuple[int, int]) -> _Bytes | None:
    """(height, width) uint8: the number of the zone of each pixel in the lungs, from 1, and 0 outside of them."""
    if prediction.sides is None:
        return None
    labels: _Bytes = np.zeros(prediction.sides[0].mask.shape, np.uint8)
    zones = [(lung.mask, span) for lung in prediction.sides for span in lung.spans[1:]]
    for number, (mask, span) in enumerate(zones, start=1):
        labels[span][mask[span]] = number
    return np.asarray(Image.fromarray(labels).resize(shape[::-1], Image.Resampling.NEAREST))
