"""The simplest baseline: a threshold on the brightness."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cxrseg.data.sample import Dataset
from cxrseg.errors import DatasetError
from cxrseg.metrics.segmentation import count

__all__ = ["threshold_baseline"]

_STEPS = np.arange(1, 64) / 64


def threshold_baseline(train: Dataset, test: Dataset) -> tuple[float, float]:
    """Mark every pixel that is brighter than one threshold as infection.

    Args:
        train: images on which the threshold with the best mean Dice is chosen, in steps of 1/64.
        test: images on which it is evaluated.

    Returns:
        The threshold in [0, 1], and its Dice on `test`: the mean per image over the infected images.

    Raises:
        DatasetError: one of the two has no infected image.
        ImageError: an image cannot be read.
    """
    best = int(_dices(train).mean(0).argmax())
    return float(_STEPS[best]), float(_dices(test)[:, best].mean())


def _dices(dataset: Dataset) -> npt.NDArray[np.float64]:
    """(infected images, thresholds) float64."""
    rows = []
    for sample in dataset.samples:
        truth = sample.read_mask("infection")
        if truth is not None and truth.any():
            pixels = sample.read_image().pixels
            rows.append([count(pixels >= step, truth).dice for step in _STEPS])
    if not rows:
        raise DatasetError(
            f"expected an infected image for the threshold baseline, got none in {dataset.root}: {dataset.describe()}"
        )
    return np.array(rows)
