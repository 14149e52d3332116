"""How well the category of an image can be told from what has nothing to do with the lungs.

Categories of public chest X-ray sets come from different hospitals. Where the frame of an image or its gray values tell
the category, a classifier can live on the source in place of the disease (DeGrave et al., Nature Machine Intelligence
3, 2021; Maguolo and Nanni, Information Fusion 76, 2021).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cxrseg.audit.registration import resized

__all__ = ["VIEWS", "Shortcut", "measure_shortcuts", "views_of"]

_Floats = npt.NDArray[np.float32]

VIEWS = {
    "frame": "the outer frame alone, a sixteenth of the side wide",
    "histogram": "the histogram of the gray values alone",
    "thumbnail": "a thumbnail of 16 x 16 pixels",
}
"""What a simple model gets to see, in words."""

_FRAME_SIDE, _FRAME = 32, 2
_BINS = 64
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
    }


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
