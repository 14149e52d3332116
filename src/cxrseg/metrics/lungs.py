"""Separating the two lungs of a lung mask.

Left and right are the patient's: in the usual radiological view the patient's right lung is on the image's
left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from cxrseg.metrics.components import Components, find_components
from cxrseg.metrics.surface import boundary_pixels, nearest

__all__ = ["Lung", "find_lungs", "specks_of", "split_lungs"]

_Mask = npt.NDArray[np.bool_]
_Labels = npt.NDArray[np.signedinteger]

_ISLAND = 0.05
"""A connected piece below this fraction of the largest piece is an island: it belongs to the nearest lung."""

_SPECK = 0.02
"""A connected piece below this fraction of the largest piece is a speck; on films of Val it is rarely lung."""

_VALLEY = 0.8
"""A connected piece is two lungs where a column between two peaks is below this fraction of the lower peak."""

_WIDE = 0.6
"""A connected piece is two lungs where it is wider than this fraction of the image; one lung is rarely so wide."""


@dataclass(frozen=True, eq=False)
class Lung:
    """One lung.

    Attributes:
        mask: (H, W) bool; empty where the lung was not found.
        top, bottom: the rows [top, bottom) of its large pieces, without islands.
    """

    mask: _Mask
    top: int
    bottom: int

    @property
    def spans(self) -> tuple[slice, slice, slice, slice]:
        """Rows of the whole lung and of the thirds of its height, from the top; the outer thirds include islands."""
        third = (self.bottom - self.top) / 3
        edges = (0, self.top + round(third), self.top + round(2 * third), self.mask.shape[0])
        return slice(None), slice(*edges[:2]), slice(*edges[1:3]), slice(*edges[2:])


def split_lungs(lungs: _Mask) -> tuple[_Mask, _Mask]:
    """Separate the two lungs.

    Pieces one above the other form one lung. Lungs that touch are cut at the narrowest column near the middle of the
    piece or, where no column is narrow, at its middle. Where only one lung is visible, the half of the image with its
    centroid tells which one it is. Islands belong to the nearest lung.

    Args:
        lungs: (H, W) bool, both lungs, in the usual view (the patient's right on the image's left).

    Returns:
        (H, W) bool of the patient's left lung and of the patient's right lung; together they are `lungs`.
    """
    left, right = find_lungs(lungs)
    return left.mask, right.mask


def specks_of(lungs: _Mask) -> _Mask | None:
    """The pieces of a lung mask that are too small to be a lung or a part of one.

    Args:
        lungs: (H, W) bool.

    Returns:
        (H, W) bool, or None where there is none.
    """
    pieces = find_components(lungs)
    small = np.flatnonzero(pieces.sizes < _SPECK * pieces.sizes.max(initial=0))
    return pieces.mask(small) if small.size else None


def find_lungs(lungs: _Mask) -> tuple[Lung, Lung]:
    """The patient's left and right lung, separated as in `split_lungs`.

    Args:
        lungs: (H, W) bool.
    """
    nothing = Lung(np.zeros(lungs.shape, dtype=bool), 0, 0)
    if not lungs.any():
        return nothing, nothing
    pieces = find_components(lungs)
    is_large = pieces.sizes >= _ISLAND * pieces.sizes.max()
    large = np.flatnonzero(is_large)
    groups = _groups(pieces, large)
    if len(groups) == 1:
        piece = pieces.mask(groups[0])
        column = _cut(piece)
        if column is None:
            one = replace(_lung(piece), mask=lungs.copy())
            return (one, nothing) if pieces.centre(groups[0]) > (lungs.shape[1] - 1) / 2 else (nothing, one)
        left, right = piece.copy(), piece
        left[:, :column], right[:, column:] = False, False
    else:
        left, right = _two_sides(pieces, groups)
    found = _lung(left), _lung(right)
    _give_islands(pieces, np.flatnonzero(~is_large), left, right)
    return found


def _lung(mask: _Mask) -> Lung:
    rows = np.flatnonzero(mask.any(axis=1))
    return Lung(mask, int(rows[0]), int(rows[-1]) + 1)


def _groups(pieces: Components, large: _Labels) -> list[list[int]]:
    """Group pieces that are one above the other: they share more than half of the columns of the narrower one."""
    boxes = pieces.boxes()
    spans = [(int(piece), int(boxes[piece, 2]), int(boxes[piece, 3])) for piece in large]
    groups: list[list[tuple[int, int, int]]] = []
    for span in spans:
        over = [group for group in groups if any(_share_columns(span, other) for other in group)]
        groups = [group for group in groups if group not in over]
        groups.append([span, *(other for group in over for other in group)])
    return [[piece for piece, _, _ in group] for group in groups]


def _share_columns(a: tuple[int, int, int], b: tuple[int, int, int]) -> bool:
    shared = min(a[2], b[2]) - max(a[1], b[1])
    return shared > 0.5 * min(a[2] - a[1], b[2] - b[1])


def _cut(piece: _Mask) -> int | None:
    """The column that separates two touching lungs, or None where the piece is one lung."""
    widths = np.count_nonzero(piece, axis=0)
    columns = np.flatnonzero(widths)
    first, span = int(columns[0]), int(columns[-1] - columns[0] + 1)
    middle = widths[first + span // 3 : first + span - span // 3]
    narrowest = np.flatnonzero(middle == middle.min())
    column = first + span // 3 + int(narrowest[len(narrowest) // 2])
    lower_peak = min(widths[:column].max(initial=0), widths[column:].max())
    if widths[column] < _VALLEY * lower_peak:
        return column
    return first + span // 2 if span > max(1, _WIDE * piece.shape[1]) else None


def _two_sides(pieces: Components, groups: Sequence[list[int]]) -> tuple[_Mask, _Mask]:
    """The patient's left and right lung: groups in order of their centroids, separated at the widest gap."""
    ordered = sorted(((pieces.centre(group), group) for group in groups), key=lambda one: one[0])
    part = int(np.argmax(np.diff([centre for centre, _ in ordered]))) + 1
    left, right = ([piece for _, group in side for piece in group] for side in (ordered[part:], ordered[:part]))
    return pieces.mask(left), pieces.mask(right)


def _give_islands(pieces: Components, islands: _Labels, left: _Mask, right: _Mask) -> None:
    """Add each island to the lung nearest to the middle of its box, in place."""
    if not islands.size:
        return
    boxes = pieces.boxes()[islands]
    centres = (boxes[:, (0, 2)] + boxes[:, (1, 3)] - 1) / 2
    nearer_left = nearest(centres, boundary_pixels(left)) < nearest(centres, boundary_pixels(right))
    left |= pieces.mask(islands[nearer_left])
    right |= pieces.mask(islands[~nearer_left])
