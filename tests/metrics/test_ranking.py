"""Rank correlation, against SciPy's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from cxrseg.metrics.ranking import spearman


@pytest.mark.parametrize("levels", [3, 1000])
def test_it_is_scipys_with_and_without_ties(levels: int) -> None:
    random = np.random.default_rng(levels)
    first = random.integers(0, levels, 60)
    second = first + random.integers(0, levels, 60)
    found = spearman(first, second)
    assert found.value == pytest.approx(stats.spearmanr(first, second).statistic)
    assert found.n == 60 and found.low < found.value < found.high


def test_the_interval_is_that_of_a_plain_bootstrap() -> None:
    random = np.random.default_rng(0)
    first = random.integers(0, 8, 50)
    second = first + random.integers(0, 8, 50)
    drawn = [random.integers(0, 50, 50) for _ in range(2000)]
    plain = np.percentile([stats.spearmanr(first[rows], second[rows]).statistic for rows in drawn], [2.5, 97.5])
    found = spearman(first, second)
    assert (found.low, found.high) == pytest.approx(tuple(plain), abs=0.02)


def test_zones_of_one_image_are_drawn_together() -> None:
    random = np.random.default_rng(0)
    first = random.integers(0, 5, 20)
    second = first + random.integers(0, 5, 20)
    once, six_times = (
        spearman(first, second),
        spearman(*(np.repeat(one, 6) for one in (first, second)), np.arange(120) // 6),
    )
    assert six_times.n == 120
    assert (six_times.value, six_times.low, six_times.high) == pytest.approx((once.value, once.low, once.high))
    apart = spearman(first.repeat(6), second.repeat(6))
    assert apart.high - apart.low < 0.6 * (once.high - once.low)


def test_unknown_values_take_no_part() -> None:
    found = spearman([1, 2, np.nan, 3, 4], [1, 3, 9, 2, np.nan], ["a", "b", "c", "d", "e"])
    assert found.n == 3 and found.value == pytest.approx(0.5)


def test_a_single_value_ranks_nothing() -> None:
    assert np.isnan(spearman([1, 1, 1], [1, 2, 3]).value)
    assert np.isnan(spearman([], []).value)
