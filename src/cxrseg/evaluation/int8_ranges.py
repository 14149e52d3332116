"""Measures the ranges for int8 of a model file, and what int8 costs, on images with masks."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from cxrseg.data.sample import Dataset, Sample
from cxrseg.inference.engine import Precision
from cxrseg.inference.int8 import has_exact_int8, measure_ranges
from cxrseg.inference.segmenter import Segmenter
from cxrseg.io.write import write_bytes
from cxrseg.metadata_exchange import with_metadata
from cxrseg.metrics.segmentation import count
from cxrseg.model_file import ModelInfo, read_model
from cxrseg.preprocessing import content_box, to_input

__all__ = ["LARGEST_COST", "with_int8_ranges"]

LARGEST_COST = 0.002
"""Where int8 costs more of the mean Dice than this, a model file gets no ranges for it."""

_IMAGES = 300
"""Number of images whose ranges are measured, from the first to the last."""


def with_int8_ranges(
    model: Path | str, info: ModelInfo, dataset: Dataset, on_image: Callable[[int, int], None] | None = None
) -> ModelInfo:
    """The metadata with ranges for int8, where int8 costs at most `LARGEST_COST` of the mean Dice on a dataset.

    Args:
        model: the model file that is measured.
        info: its metadata, with the threshold that will be used.
        dataset: images with masks of the infection.
        on_image: called with (finished images, all images) while the cost is measured.

    Returns:
        The same metadata, where `int8_ranges` is empty if int8 costs too much, and `int8_cost` of `fitted_on` is the
        mean Dice of float32 minus that of int8. Unchanged where this processor cannot compute int8 exactly, so that
        the cost cannot be measured, or where the network has too few convolutions.
    """
    if not has_exact_int8():
        return info
    graph, _ = read_model(model)
    places = np.unique(np.linspace(0, len(dataset.samples) - 1, _IMAGES).astype(int))
    films = (dataset.samples[place].read_image().pixels for place in places)
    ranges = measure_ranges(graph, (to_input(pixels[content_box(pixels)], info.size) for pixels in films))
    if not ranges:
        return info
    ranged = dataclasses.replace(info, int8_ranges=ranges)
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "model.onnx"
        write_bytes(file, with_metadata(Path(model).read_bytes(), ranged))
        cost = _dice(file, dataset, "float32", on_image) - _dice(file, dataset, "int8", on_image)
    return dataclasses.replace(
        ranged,
        int8_ranges=ranges if cost <= LARGEST_COST else {},
        fitted_on={**(info.fitted_on or {}), "int8_cost": round(cost, 4)},
    )


def _dice(model: Path, dataset: Dataset, precision: Precision, on_image: Callable[[int, int], None] | None) -> float:
    """The mean Dice of the infected images."""
    segmenter = Segmenter(model, input_check=False, precision=precision, task="infection")

    def dice(sample: Sample) -> float:
        truth = sample.read_mask("infection")
        if truth is None or not truth.any():
            return np.nan
        return count(segmenter.segment(sample.read_image()).mask("infection"), truth).dice

    values = []
    with ThreadPoolExecutor() as pool:
        for done, value in enumerate(pool.map(dice, dataset.samples), 1):
            values.append(value)
            if on_image is not None:
                on_image(done, len(dataset.samples))
    return float(np.nanmean(values))
