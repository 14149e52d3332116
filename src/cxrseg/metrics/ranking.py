"""Rank correlation of two readers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cxrseg.metrics.intervals import Estimate, estimate

__all__ = ["spearman"]

_Array = npt.NDArray[np.float64]


def spearman(first: npt.ArrayLike, second: npt.ArrayLike, images: npt.ArrayLike | None = None) -> Estimate:
    """Spearman's rank correlation, ties at their mean rank.

    Args:
        first, second: (n,) float; pairs with nan are left out.
        images: (n,) the image of each pair, such as a film with six zones; None where each pair is another image. The
            bootstrap draws images, so that the zones of one film do not count as independent.

    Returns:
        With its bootstrap interval and the number of pairs; nan where one side has a single value only.
    """
    one, other = np.asarray(first, np.float64), np.asarray(second, np.float64)
    known = ~(np.isnan(one) | np.isnan(other))
    owners = np.arange(len(one)) if images is None else np.unique(np.asarray(images), return_inverse=True)[1]
    one, other, owners = one[known], other[known], np.unique(owners[known], return_inverse=True)[1]
    ranks = [_Ranks(values) for values in (one, other)]

    def statistic(weights: _Array) -> _Array:
        drawn = weights[:, owners]
        total = drawn.sum(axis=1, keepdims=True)
        centred = []
        for side in ranks:
            rank = side.of(drawn)
            centred.append(rank - (drawn * rank).sum(axis=1, keepdims=True) / total)
        products = (drawn * centred[0] * centred[1]).sum(axis=1)
        spreads = [(drawn * side**2).sum(axis=1) for side in centred]
        found: _Array = products / np.sqrt(spreads[0] * spreads[1])
        return found[:, None]

    if not len(one):
        return Estimate(np.nan, 0)
    return estimate(statistic, int(owners.max()) + 1, len(one))[0]


class _Ranks:
    """The ranks of fixed values in resamples that draw each so many times."""

    def __init__(self, values: _Array) -> None:
        self.order = np.argsort(values, kind="stable")
        changes = np.diff(values[self.order], prepend=-np.inf) != 0
        self.starts = np.flatnonzero(changes)
        self.group = np.cumsum(changes) - 1

    def of(self, weights: _Array) -> _Array:
        """(B, n) weights to (B, n) ranks: what is drawn below each value, and half of what is drawn of it."""
        counts = np.add.reduceat(weights[:, self.order], self.starts, axis=1)
        middle = np.cumsum(counts, axis=1) - counts / 2
        ranks = np.empty_like(weights)
        ranks[:, self.order] = middle[:, self.group]
        return ranks
