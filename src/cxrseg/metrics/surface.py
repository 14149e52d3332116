"""Distances between the boundaries of two masks: HD95, ASSD and normalised surface Dice.

Where both masks are empty they are undefined (nan). Where exactly one is empty, HD95 and ASSD are the diagonal of the
image (the worst possible value) and NSD is 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cxrseg.errors import ImageError

__all__ = ["SurfaceDistances", "assd", "boundary_pixels", "hd95", "nearest", "nsd", "surface_distances"]

_Mask = npt.NDArray[np.bool_]
_Distances = npt.NDArray[np.float64]
_PIXELS = (1.0, 1.0)
_FEW = 20
"""For up to this number of points, such as islands of a lung mask, no KD-tree is used: its import is slow."""


@dataclass(frozen=True, eq=False)
class SurfaceDistances:
    """Distances between the boundaries of a predicted and a true mask, in both directions.

    Attributes:
        forth: (n,) float64, from each boundary pixel of the prediction to the nearest one of the true mask; of length 0
            where a mask is empty.
        back: (m,) float64, from each boundary pixel of the true mask to the nearest one of the prediction; likewise.
        otherwise: HD95 and ASSD where a mask is empty: nan if both are, else the image's diagonal.
    """

    forth: _Distances
    back: _Distances
    otherwise: float

    @property
    def hd95(self) -> float:
        """The larger of the two directed 95th percentiles (linear interpolation), as in MONAI.

        MedPy uses one percentile of both sets together instead, which gives other, mostly smaller values.
        """
        if not self.forth.size:
            return self.otherwise
        return float(max(np.percentile(self.forth, 95), np.percentile(self.back, 95)))

    @property
    def assd(self) -> float:
        """Average symmetric surface distance: the mean of both sets together."""
        if not self.forth.size:
            return self.otherwise
        return float((self.forth.sum() + self.back.sum()) / (self.forth.size + self.back.size))

    def nsd(self, tolerance: float) -> float:
        """Normalised surface Dice: the fraction of both boundaries that is within `tolerance` of the other one.

        As in Nikolov et al. 2021 (arXiv:1809.04430), but with numbers of boundary pixels instead of lengths.
        """
        if not self.forth.size:
            return math.nan if math.isnan(self.otherwise) else 0.0
        near = np.count_nonzero(self.forth <= tolerance) + np.count_nonzero(self.back <= tolerance)
        return float(near / (self.forth.size + self.back.size))


def surface_distances(prediction: _Mask, truth: _Mask, spacing: tuple[float, float] = _PIXELS) -> SurfaceDistances:
    """Measure the distances between the boundaries of two masks.

    A boundary pixel is a pixel of the mask with at least one of its 4 neighbours outside the mask. Pixels beyond the
    image's border count as outside, so a mask that the border cuts has a boundary there (as in MONAI).

    Args:
        prediction: (H, W) bool.
        truth: (H, W) bool.
        spacing: (row, column) distance of pixel centres; results have its unit, pixels by default.

    Raises:
        ImageError: the masks differ in shape.
    """
    if prediction.shape != truth.shape:
        raise ImageError(f"expected a prediction of the truth's shape {truth.shape}, got {prediction.shape}")
    ours, theirs = boundary_pixels(prediction) * spacing, boundary_pixels(truth) * spacing
    if len(ours) and len(theirs):
        # Trees of some hundred boundary pixels are several times faster than two distance transforms.
        return SurfaceDistances(nearest(ours, theirs), nearest(theirs, ours), math.nan)
    diagonal = math.hypot(truth.shape[0] * spacing[0], truth.shape[1] * spacing[1])
    nothing = np.empty(0)
    return SurfaceDistances(nothing, nothing, diagonal if len(ours) or len(theirs) else math.nan)


def hd95(prediction: _Mask, truth: _Mask, spacing: tuple[float, float] = _PIXELS) -> float:
    """95th percentile of the Hausdorff distance, in the unit of `spacing`; see `surface_distances`."""
    return surface_distances(prediction, truth, spacing).hd95


def assd(prediction: _Mask, truth: _Mask, spacing: tuple[float, float] = _PIXELS) -> float:
    """Average symmetric surface distance, in the unit of `spacing`; see `surface_distances`."""
    return surface_distances(prediction, truth, spacing).assd


def nsd(prediction: _Mask, truth: _Mask, tolerance: float = 2.0, spacing: tuple[float, float] = _PIXELS) -> float:
    """Normalised surface Dice in [0, 1]; `tolerance` has the unit of `spacing`; see `surface_distances`."""
    return surface_distances(prediction, truth, spacing).nsd(tolerance)


def nearest(points: _Distances, others: _Distances) -> _Distances:
    """(n,) float64: the distance of each of (n, 2) `points` to the nearest of (m, 2) `others`."""
    if len(points) <= _FEW:
        return np.asarray(np.sqrt(((points[:, None] - others) ** 2).sum(axis=2).min(axis=1)))
    from scipy.spatial import KDTree  # here, since it takes long to import

    return np.asarray(KDTree(others).query(points)[0], dtype=np.float64)


def boundary_pixels(mask: _Mask) -> _Distances:
    """(n, 2) float64: rows and columns of the pixels of an (H, W) mask that have a 4-neighbour outside it."""
    padded = np.pad(mask.astype(bool), 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return np.argwhere(mask & ~inner).astype(np.float64)
