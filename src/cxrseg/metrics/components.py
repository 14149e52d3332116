"""Connected components of a mask, found on its horizontal runs.

The work grows with the number of runs, of which a lung mask has few in each row, and not with the number of pixels. And
nothing of SciPy is needed, whose import takes longer than segmenting twenty radiographs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Components", "find_components"]

_Mask = npt.NDArray[np.bool_]
_Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Components:
    """The connected components of a mask, numbered from 0 in the order of their first pixels.

    Attributes:
        shape: (height, width) of the mask.
        rows, starts, stops: (n,) int64, of each horizontal run of pixels its row and its columns [start, stop).
        labels: (n,) int64, the component of each run.
        sizes: (count,) int64, the pixels of each component.
    """

    shape: tuple[int, int]
    rows: _Integers
    starts: _Integers
    stops: _Integers
    labels: _Integers
    sizes: _Integers

    def boxes(self) -> _Integers:
        """(count, 4) int64: rows [top, bottom) and columns [left, right) of each component."""
        if not self.sizes.size:
            return np.empty((0, 4), np.int64)
        order = np.argsort(self.labels, kind="stable")
        firsts = np.searchsorted(self.labels[order], np.arange(self.sizes.size))
        rows = self.rows[order]
        edges = (
            rows[firsts],
            np.maximum.reduceat(rows, firsts) + 1,
            np.minimum.reduceat(self.starts[order], firsts),
            np.maximum.reduceat(self.stops[order], firsts),
        )
        return np.stack(edges, axis=1)

    def mask(self, chosen: Iterable[int]) -> _Mask:
        """(H, W) bool, the pixels of the chosen components."""
        kept = self._runs(chosen)
        before = self.rows[kept] * self.shape[1]
        starts, stops = before + self.starts[kept], before + self.stops[kept]
        flat = np.zeros(self.shape[0] * self.shape[1], dtype=bool)
        for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
            flat[start:stop] = True
        return flat.reshape(self.shape)

    def centre(self, chosen: Iterable[int]) -> float:
        """The column of the centroid of the chosen components."""
        kept = self._runs(chosen)
        starts, stops = self.starts[kept], self.stops[kept]
        return float(((starts + stops - 1) * (stops - starts)).sum() / 2 / (stops - starts).sum())

    def _runs(self, chosen: Iterable[int]) -> _Mask:
        """(n,) bool, which runs belong to the chosen components."""
        wanted = np.zeros(self.sizes.size, dtype=bool)
        wanted[list(chosen)] = True
        return wanted[self.labels]


def find_components(mask: _Mask) -> Components:
    """Find the connected components of a mask; pixels that touch at a corner are connected.

    Args:
        mask: (H, W) bool.
    """
    height, width = mask.shape
    stride = width + 2  # an empty pixel at both ends of each row: no run reaches into the next row or touches it
    padded = np.zeros((height, stride), dtype=bool)
    padded[:, 1:-1] = mask
    flat = padded.ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    starts, stops = edges[::2], edges[1::2]
    first = np.searchsorted(stops, starts - stride, "left")  # of the runs above each run that touch it
    after = np.searchsorted(starts, stops - stride, "right")
    index = np.arange(len(starts))
    roots = _joined(_followed(np.where(after > first, first, index)), first, after)
    labels = (np.cumsum(roots == index) - 1)[roots]
    rows = starts // stride
    before = rows * stride + 1
    return Components(
        (height, width),
        rows,
        starts - before,
        stops - before,
        labels,
        np.bincount(labels, stops - starts).astype(np.int64),
    )


def _followed(parents: _Integers) -> _Integers:
    """The end of the chain of parents of each entry; a parent's index is never larger than its child's."""
    while True:
        further = parents[parents]
        if (further == parents).all():
            return parents
        parents = further


def _joined(roots: _Integers, first: _Integers, after: _Integers) -> _Integers:
    """Join the roots of runs that touch the same run below: `first` to `after` are the runs above each run."""
    joining = np.flatnonzero(after > first + 1).tolist()
    if not joining:
        return roots
    parents = list(range(len(roots)))

    def root(run: int) -> int:
        found = int(roots[run])
        while parents[found] != found:
            found = parents[found]
        return found

    for run in joining:
        for above in range(int(first[run]) + 1, int(after[run])):
            low, high = sorted((root(run), root(above)))
            parents[high] = low
    return _followed(np.array(parents, dtype=np.int64))[roots]
