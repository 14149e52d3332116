"""Bootstrap intervals, against SciPy's, and what they do at the edges."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest, bootstrap

from cxrseg.metrics.intervals import (
    Estimate,
    chosen_groups,
    estimate,
    estimate_fraction,
    estimate_means,
    mean_of,
)


def test_agrees_with_scipy() -> None:
    values = np.random.default_rng(1).beta(4, 1, 200)
    theirs = bootstrap((values,), np.mean, n_resamples=10_000, method="percentile", rng=2).confidence_interval
    ours = estimate_means({"dice": values})["dice"]
    assert ours.value == pytest.approx(values.mean()) and ours.n == 200
    # Two bootstraps of 10,000 resamples differ by about a hundredth of the interval's width.
    assert (ours.low, ours.high) == pytest.approx(theirs, abs=0.05 * (theirs.high - theirs.low))


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    random = np.random.default_rng(3)
    samples = random.exponential(size=(60, 200))  # 200 samples of 60 images, whose true mean is 1
    found = estimate_means({str(number): column for number, column in enumerate(samples.T)}, resamples=1000)
    held = sum(one.low <= 1 <= one.high for one in found.values())
    assert 0.86 <= held / 200 <= 0.99


def test_the_same_scores_give_the_same_interval_and_another_seed_another() -> None:
    values = np.random.default_rng(0).random(50)
    first, again = (estimate_means({"a": values})["a"] for _ in range(2))
    assert first == again
    assert estimate_means({"a": values}, seed=1)["a"].low != first.low
    # Nor does it matter what else is asked for.
    beside = estimate_means({"b": values**2, "a": values})["a"]
    assert (beside.low, beside.high) == pytest.approx((first.low, first.high), rel=1e-9)


def test_undefined_values_take_no_part() -> None:
    values = np.array([0.2, np.nan, 0.4, 0.6, np.nan])
    found = estimate_means(
        {"some": values, "all": np.arange(5.0), "none": np.full(5, np.nan), "one": [1, *[np.nan] * 4]}
    )
    assert (found["some"].value, found["some"].n) == (pytest.approx(0.4), 3)
    assert 0.2 <= found["some"].low < 0.4 < found["some"].high <= 0.6
    assert found["all"].n == 5
    assert found["none"].as_json() == {"mean": None, "n": 0, "interval": None}
    assert found["one"].as_json() == {"mean": 1.0, "n": 1, "interval": None}


def test_few_images() -> None:
    assert estimate_means({}) == {}
    assert estimate_means({"dice": []})["dice"].as_json("value") == {"value": None, "n": 0, "interval": None}
    two = estimate_means({"dice": [0.0, 1.0]})["dice"]
    assert (two.value, two.low, two.high) == (0.5, 0.0, 1.0)


def test_a_figure_of_sums_is_resampled_as_a_whole() -> None:
    table = np.random.default_rng(4).random((30, 2))

    def ratio(weights: np.ndarray) -> np.ndarray:
        sums = weights @ table
        return sums[:, :1] / sums[:, 1:]

    found = estimate(ratio, 30, n=7)[0]
    theirs = bootstrap(
        tuple(table.T), lambda a, b, axis: a.sum(axis) / b.sum(axis), paired=True, method="percentile", rng=0
    ).confidence_interval
    assert found.n == 7
    assert found.value == pytest.approx(table[:, 0].sum() / table[:, 1].sum())
    assert (found.low, found.high) == pytest.approx(theirs, abs=0.05 * (theirs.high - theirs.low))


@pytest.mark.parametrize("images", [2, 317, 5000])
def test_every_resample_draws_as_many_images_as_there_are(images: int) -> None:
    seen: list[np.ndarray] = []

    def watch(weights: np.ndarray) -> np.ndarray:
        seen.append(weights)
        return weights @ np.ones((images, 1))

    found = estimate(watch, images, resamples=77)[0]
    assert found.low == found.high == found.value == images
    drawn = np.concatenate(seen[1:])
    assert drawn.shape == (77, images)
    assert np.unique(drawn, axis=0).shape[0] > 1


def test_means_by_weight() -> None:
    table = np.array([[1.0, np.nan], [3.0, 4.0], [5.0, 8.0]])
    assert mean_of(table)(np.array([[1.0, 1, 1], [2.0, 1, 0]])).tolist() == [[3.0, 6.0], [5 / 3, 4.0]]


def test_fractions_have_wilsons_interval() -> None:
    none = estimate_fraction(0, 233)
    assert none.value == none.low == 0 and 0.01 < none.high < 0.02
    some = estimate_fraction(40, 100)
    theirs = binomtest(40, 100).proportion_ci(0.95, "wilson")
    assert some == Estimate(0.4, 100, theirs.low, theirs.high)
    assert math.isnan(estimate_fraction(0, 0).value) and estimate_fraction(0, 0).as_json("fraction")["interval"] is None


def test_images_of_one_patient_are_drawn_together() -> None:
    patients = np.random.default_rng(0).random(40)
    groups = np.repeat(np.arange(40), 5)
    # Five equal images of each patient say no more than one of each.
    one = estimate_means({"dice": patients})["dice"]
    five = estimate_means({"dice": np.repeat(patients, 5)}, groups=groups)["dice"]
    apart = estimate_means({"dice": np.repeat(patients, 5)})["dice"]
    assert five.n == 200 and (five.low, five.high) == pytest.approx((one.low, one.high), abs=0.01)
    assert apart.high - apart.low < 0.6 * (five.high - five.low)
    # Numbers of groups need not be in order, nor begin at 0.
    again = estimate_means({"dice": np.repeat(patients, 5)}, groups=7 * groups + 3)["dice"]
    assert again == five


def test_groups_hold_the_truth_about_as_often_as_they_say() -> None:
    random = np.random.default_rng(3)
    groups = np.repeat(np.arange(40), 4)
    columns = {str(n): np.repeat(random.normal(size=40), 4) + 0.3 * random.normal(size=160) for n in range(150)}
    found = estimate_means(columns, groups=groups, resamples=1000).values()
    assert 0.86 <= sum(one.low <= 0 <= one.high for one in found) / 150 <= 0.99


def test_one_group_has_no_interval() -> None:
    assert estimate_means({"dice": [0.2, 0.4]}, groups=[5, 5])["dice"].as_json()["interval"] is None
    some = estimate_means({"dice": [0.2, 0.4, np.nan]}, groups=[0, 0, 1])["dice"]
    assert some.as_json()["interval"] is None


def test_fractions_of_groups_count_fewer_images() -> None:
    assert estimate_fraction(3, 10, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]) == estimate_fraction(3, 10)
    grouped, ten = estimate_fraction(0, 40, np.repeat(np.arange(10), 4)), estimate_fraction(0, 10)
    assert (grouped.low, grouped.high, grouped.n) == (0.0, pytest.approx(ten.high), 40)
    assert chosen_groups(None, [True]) is None
    chosen = chosen_groups([4, 5, 6], [True, False, True])
    assert chosen is not None and list(chosen) == [4, 6]
