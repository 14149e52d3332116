"""Which images of a set could be copies of each other: a short signature of each, and its nearest neighbours.

All chest X-rays look similar: plain thumbnails of two unrelated images resemble each other more than a cropped copy
resembles its original. Two steps solve this: local contrast removes exposure, gamma and film, and whitening over the
set removes what all chests have in common. What remains is specific to the image.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from cxrseg.audit.registration import local_contrast, resized

__all__ = ["Candidate", "find_candidates"]

_Floats = npt.NDArray[np.float32]

_SEEN, _KEPT = 48, 32
"""Side of the thumbnails, and of the part of them that a warp shows."""

_FINE = 4.5
"""Standard deviation of the surroundings in pixels of the larger thumbnail: a tenth of the chest."""

_DIRECTIONS = 384
"""Principal directions kept. With 4,660 images, 128 directions give fifty times as many false candidates as 384."""

_DAMPING, _FEW = 0.1, 150
"""How much rare directions are damped, as a fraction of the mean variance: `_DAMPING`, or in sets of less than 1,500
images `_FEW` divided by their number; there, rare directions are due to chance and would separate copies."""

_ROWS = 1024

_STEP = 0.05
_TURN = 4.0


@dataclass(frozen=True, eq=False)
class Candidate:
    """Two images that may show the same exposure.

    Attributes:
        fixed, moving: their indices in the set.
        mirrored: the moving one must be mirrored left to right first.
        warp: (2, 3) float32, from coordinates (x, y, as fractions of the side) of the fixed one to those of the
            moving one: the initial warp of a closer comparison.
        similarity: correlation of the signatures, in [-1, 1].
    """

    fixed: int
    moving: int
    mirrored: bool
    warp: _Floats
    similarity: float


def find_candidates(pictures: npt.NDArray[np.uint8], least: float = 0.4) -> list[Candidate]:
    """Find pairs of images for a closer comparison.

    Each image is also compared mirrored, rotated by 4 degrees both ways, and cropped to windows of 90% and (not
    mirrored, to save time) 80% of its sides.

    Args:
        pictures: (N, S, S) uint8, all images resized to one square size.
        least: smallest correlation of signatures.

    Returns:
        Each pair once or, where both fit, once plain and once mirrored; the most similar first.
    """
    if len(pictures) < 2:
        return []
    plain = np.stack([local_contrast(resized(picture, _SEEN), _FINE) for picture in pictures])
    sides = {False: plain.reshape(len(plain), -1), True: plain[:, :, ::-1].reshape(len(plain), -1)}
    whole = _resampling(_window(1, 0, 0))
    whiten = _Whitening(np.concatenate([_unit(_through(side, whole)) for side in sides.values()]))
    known = whiten(_unit(_through(sides[False], whole)))
    best: dict[tuple[int, int, bool], Candidate] = {}
    for mirrored, seen in sides.items():
        for warp in _warps(0.9 if mirrored else 0.8):
            for moving, fixed, similarity in _near(whiten(_unit(_through(seen, _resampling(warp)))), known, least):
                key = (min(fixed, moving), max(fixed, moving), mirrored)
                if key not in best or best[key].similarity < similarity:
                    best[key] = Candidate(fixed, moving, mirrored, warp, similarity)
    return sorted(best.values(), key=lambda found: -found.similarity)


class _Whitening:
    """Scales each direction in which the images of a set differ to the same variance; rare ones are damped."""

    def __init__(self, signatures: _Floats) -> None:
        self._mean = signatures.mean(axis=0)
        centred = signatures - self._mean
        variances, directions = np.linalg.eigh(centred.T @ centred / len(centred))
        damping = max(_DAMPING, 2 * _FEW / len(signatures)) * variances.mean()  # each image occurs twice, once mirrored
        damped = np.sqrt(variances[-_DIRECTIONS:].clip(0) + damping + 1e-9)
        self._map = (directions[:, -_DIRECTIONS:] / damped).astype(np.float32)

    def __call__(self, signatures: _Floats) -> _Floats:
        return _unit((signatures - self._mean) @ self._map)


def _unit(vectors: _Floats) -> _Floats:
    """Rows of length 1."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-6), np.float32)


def _near(seen: _Floats, known: _Floats, least: float) -> Iterator[tuple[int, int, float]]:
    """(seen, known, similarity) of all pairs that are similar enough, without pairs of an image with itself."""
    for start in range(0, len(seen), _ROWS):
        similarity = seen[start : start + _ROWS] @ known.T
        rows = np.arange(len(similarity))
        similarity[rows, start + rows] = -1
        for row, column in np.argwhere(similarity >= least):
            yield start + int(row), int(column), float(similarity[row, column])


def _warps(smallest: float) -> list[_Floats]:
    """The warps to try: the whole, rotated about the centre, and windows at steps of a twentieth of the side."""
    warps = [_window(1, 0, 0), _rotated(-_TURN), _rotated(_TURN)]
    for size, steps in ((0.9, 2), (0.8, 4)):
        places = _STEP * np.arange(steps + 1)
        warps += [_window(size, x, y) for x, y in product(places, places) if size >= smallest]
    return warps


def _window(size: float, x: float, y: float) -> _Floats:
    """The warp that shows the window of a size whose corner is at (x, y), all as fractions of the side."""
    return np.array([[size, 0, x], [0, size, y]], np.float32)


def _rotated(degrees: float) -> _Floats:
    angle = np.deg2rad(degrees)
    linear = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.column_stack([linear, 0.5 - linear @ [0.5, 0.5]]).astype(np.float32)


def _through(flat: _Floats, resampling: csr_array) -> _Floats:
    """(N, 48 * 48) to (N, 32 * 32), resampled by a warp."""
    return np.asarray((resampling @ flat.T).T, np.float32)


def _resampling(warp: _Floats) -> csr_array:
    """The (32 * 32, 48 * 48) matrix that resamples linearly; outside of the image the edge is repeated."""
    centres = (np.arange(_KEPT) + 0.5) / _KEPT
    grid = np.stack([*np.meshgrid(centres, centres), np.ones((_KEPT, _KEPT))]).reshape(3, -1)
    x, y = (warp @ grid * _SEEN - 0.5).clip(0, _SEEN - 1.001)
    left, top = x.astype(int), y.astype(int)
    entries = [
        (np.abs(1 - right - (x - left)) * np.abs(1 - down - (y - top)), (top + down) * _SEEN + left + right)
        for right, down in product((0, 1), (0, 1))
    ]
    weights, columns = (np.concatenate(parts) for parts in zip(*entries, strict=True))
    rows = np.tile(np.arange(_KEPT**2), 4)
    return csr_array((weights.astype(np.float32), (rows, columns)), shape=(_KEPT**2, _SEEN**2))
