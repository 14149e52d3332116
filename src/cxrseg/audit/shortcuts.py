"""How well the category of an image can be told from what has nothing to do with the lungs.

Categories of public chest X-ray sets come from different hospitals. Where the frame of an image, its gray values or
its sharpness tell the category, a classifier can live on the source in place of the disease (DeGrave et al., Nature
Machine Intelligence 3, 2021; Maguolo and Nanni, Information Fusion 76, 2021).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cxrseg.audit.registration import resized

__all__ = ["VIEWS", "Shortcut", "measure_shortcuts", "spectrum", "views_of"]

_Floats = npt.NDArray[np.float32]

VIEWS = {
    "frame": "the outer frame alone, a sixteenth of the side wide",
    "histogram": "the histogram of the gray values alone",
    "thumbnail": "a thumbnail of 16 x 16 pixels",
    "spectrum": "the spectrum alone: how blurred, grainy or compressed it is",
}
"""What a simple model gets to see, in words."""

_FRAME_SIDE, _FRAME = 32, 2
_BINS = 64
_CYCLES = (8, 16, 32, 48, 64, 80, 90, 100, 110, 120, 160, 240)
"""Limits of `spectrum`, in cycles across the image: one of 256 pixels shows 128 along its sides, 181 diagonally."""

_LARGEST = 1024
"""Longest side in pixels whose spectrum is taken; of larger images their middle is, so that a plate takes no longer."""

_NOTHING = 1e-9
_FOLDS = 5
_LEAST = 2 * _FOLDS


@dataclass(frozen=True)
class Shortcut:
    """How well one category can be told from all others by one view.

    Attributes:
        view: a key of `VIEWS`.
        category: the category.
        auc: area under the ROC curve, 0.5 for chance and 1 for always right; cross-validated in 5 folds, copies of
            one image together in one.
        images: how many of that category.
    """

    view: str
    category: str
    auc: float
    images: int


def views_of(pixels: _Floats) -> dict[str, _Floats]:
    """What a simple model gets to see of one image.

    Args:
        pixels: (H, W) float32 in [0, 1].

    Returns:
        A key of `VIEWS` to a vector of float32.
    """
    small = resized(pixels, _FRAME_SIDE)
    ring = np.ones(small.shape, dtype=bool)
    ring[_FRAME:-_FRAME, _FRAME:-_FRAME] = False
    counts, _ = np.histogram(pixels, bins=_BINS, range=(0, 1))
    return {
        "frame": small[ring].astype(np.float32),
        "histogram": np.sqrt(counts / pixels.size).astype(np.float32),  # the root makes rare values count
        "thumbnail": resized(pixels, 16).astype(np.float32).ravel(),
        "spectrum": spectrum(pixels),
    }


def spectrum(pixels: _Floats) -> _Floats:
    """How much fine detail there is: the logarithm of the energy above so many cycles, as a fraction of all.

    The image's mean and, by a Hann window, its borders take no part. Resampling, blur, compression and noise change
    these numbers; where the category of an image can be told from them, a network may learn that blurred means ill.

    Args:
        pixels: (H, W) float32 in [0, 1].

    Returns:
        (12,) float32, the decimal logarithm for 8, 16, 32, 48, 64, 80, 90, 100, 110, 120, 160 and 240 cycles across
        the image; -9 where there is nothing.
    """
    from scipy.fft import rfft2

    top, left = (max(0, (side - _LARGEST) // 2) for side in pixels.shape)
    middle = pixels[top : top + _LARGEST, left : left + _LARGEST]
    height, width = middle.shape
    window = np.hanning(height)[:, None] * np.hanning(width)
    weighted = (window * (middle - np.average(middle, weights=window + 1e-12))).astype(np.float32)
    energy = np.abs(rfft2(weighted)) ** 2
    energy[:, 1 : (width + 1) // 2] *= 2  # the half that a real transform leaves out
    down, across = np.fft.fftfreq(height) * pixels.shape[0], np.fft.rfftfreq(width) * pixels.shape[1]
    cycles = np.hypot(down[:, None], across)
    # How much lies below each limit, in one pass over the pixels.
    place = np.searchsorted(_CYCLES, cycles.ravel(), side="left")
    sums = np.bincount(place, energy.ravel(), minlength=len(_CYCLES) + 1)
    above = sums[::-1].cumsum()[::-1][1:] / max(float(sums.sum()), 1e-30)
    found: _Floats = np.log10(np.maximum(above, _NOTHING)).astype(np.float32)
    return found


def measure_shortcuts(
    views: Sequence[Mapping[str, _Floats]], categories: Sequence[str], groups: Sequence[int], seed: int = 0
) -> list[Shortcut]:
    """Fit a simple model to each view, and see how well it tells the categories of images it has not seen.

    The model is a logistic regression on the standardised values: what it finds, any network finds.

    Args:
        views: of each image, see `views_of`.
        categories: of each image.
        groups: a number for each image, the same for copies of one exposure.
        seed: of the folds.

    Returns:
        One for each view and category, or none where there are fewer than two categories, or too few images.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    labels = np.array(categories)
    names, counts = np.unique(labels, return_counts=True)
    if len(names) < 2 or counts.min() < _LEAST:
        return []
    folds = StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=seed)
    found = []
    for view in VIEWS:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=300))
        values = np.stack([seen[view] for seen in views])
        scores = cross_val_predict(model, values, labels, groups=groups, cv=folds, method="decision_function")
        for place, (name, count) in enumerate(zip(names, counts, strict=True)):
            score = scores[:, place] if scores.ndim == 2 else (2 * place - 1) * scores
            found.append(Shortcut(view, str(name), float(roc_auc_score(labels == name, score)), int(count)))
    return found
