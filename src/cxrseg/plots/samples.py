"""Random samples of a dataset with their masks: a first look before any training."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cxrseg.data.sample import Dataset, Sample
from cxrseg.plots.cases import Case, draw_pairs

__all__ = ["draw_samples"]


def draw_samples(dataset: Dataset, path: Path, count: int = 8, seed: int = 0) -> list[Path]:
    """Draw random images of a dataset beside their masks.

    Args:
        dataset: what to draw from.
        path: without suffix; PNG and SVG are written.
        count: how many images; all where there are fewer.
        seed: which ones.

    Returns:
        The files written.

    Raises:
        ImageError: one of the images cannot be read.
    """
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(dataset.samples), min(count, len(dataset.samples)), replace=False)
    return draw_pairs([_case(dataset.samples[index]) for index in sorted(chosen)], path)


def _case(sample: Sample) -> Case:
    return Case(
        title=sample.name,
        pixels=sample.read_image().pixels,
        truth=sample.read_mask("infection"),
        lungs=sample.read_mask("lungs"),
    )
