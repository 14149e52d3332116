"""Infected fractions, zones, area, extent score and grade."""

from dataclasses import fields

import numpy as np
import pytest

from cxrseg.errors import ImageError
from cxrseg.metrics.severity import (
    SEVERITY_COLUMNS,
    Severity,
    extent_score,
    grade,
    infected_fraction,
    lung_extent,
    measure_severity,
)

LUNGS = np.zeros((100, 120), dtype=bool)
LUNGS[10:70, 20:50] = True  # the patient's right: 60 rows of 30
LUNGS[10:70, 70:110] = True  # the patient's left: 60 rows of 40


def test_fractions_per_lung_and_zone() -> None:
    infection = np.zeros_like(LUNGS)
    infection[50:70, 70:110] = True  # the left lung's lower third
    infection[10:20, 20:50] = True  # half of the right lung's upper third
    infection[80:100] = True  # outside of the lungs
    result = measure_severity(infection, LUNGS)
    assert result.infected_fraction == pytest.approx((800 + 300) / 4200)
    assert result.infected_fraction_left == pytest.approx(1 / 3)
    assert result.infected_fraction_right == pytest.approx(1 / 6)
    left = (
        result.infected_fraction_left_upper,
        result.infected_fraction_left_middle,
        result.infected_fraction_left_lower,
    )
    right = (
        result.infected_fraction_right_upper,
        result.infected_fraction_right_middle,
        result.infected_fraction_right_lower,
    )
    assert left == (0, 0, 1)
    assert right == (0.5, 0, 0)
    assert (result.extent_score, result.grade) == (3, "moderate")
    assert result.infected_area_mm2 is None


def test_area_needs_a_spacing_and_leaves_out_what_is_outside() -> None:
    infection = np.zeros_like(LUNGS)
    infection[10:20, 20:30] = infection[90:] = True
    assert measure_severity(infection, LUNGS, (0.5, 0.2)).infected_area_mm2 == pytest.approx(10)


def test_a_healthy_image() -> None:
    result = measure_severity(np.zeros_like(LUNGS), LUNGS, (1, 1))
    assert (result.infected_fraction, result.extent_score, result.grade) == (0, 0, "none")
    assert result.infected_area_mm2 == 0


def test_a_lung_that_was_not_found_is_not_healthy() -> None:
    only_right = LUNGS.copy()
    only_right[:, 60:] = False
    result = measure_severity(only_right, only_right)
    assert result.infected_fraction_right == result.infected_fraction == 1
    assert result.infected_fraction_left is None and result.infected_fraction_left_upper is None
    assert result.extent_score is None and result.grade is None


def test_no_lungs_gives_none_throughout() -> None:
    nothing = np.zeros_like(LUNGS)
    assert set(measure_severity(LUNGS, nothing, (1, 1)).as_row().values()) == {None}


def test_specks_make_no_grade() -> None:
    # A lung of 60x40 pixels: regions of 4 pixels count, smaller ones do not, however many there are.
    specks = np.zeros_like(LUNGS)
    specks[12:68:4, 72:108:4] = True
    result = measure_severity(specks, LUNGS)
    assert (result.extent_score, result.grade) == (0, "none")
    assert result.infected_fraction_left == pytest.approx(np.count_nonzero(specks) / 2400)
    assert measure_severity(LUNGS & ~specks, LUNGS).extent_score == 8
    specks[30:32, 80:82] = True
    assert (measure_severity(specks, LUNGS).extent_score, measure_severity(specks, LUNGS).grade) == (1, "mild")


def test_specks_do_not_move_the_zones() -> None:
    specks = LUNGS.copy()
    specks[98, 80] = specks[1, 30] = True
    lower = np.zeros_like(LUNGS)
    lower[50:70] = True
    result = measure_severity(lower, specks)
    assert result.infected_fraction_left_middle == 0
    assert result.infected_fraction_left_lower == pytest.approx(800 / 801)


@pytest.mark.parametrize(
    ("fraction", "extent"),
    [(0, 0), (0.001, 1), (0.249, 1), (0.25, 2), (0.5, 2), (0.501, 3), (0.75, 3), (0.751, 4), (1, 4)],
)
def test_extent_of_one_lung(fraction: float, extent: int) -> None:
    assert lung_extent(fraction) == extent


def test_extent_of_both_lungs_and_grades() -> None:
    # The four examples of Wong et al. 2020, Figure 2c: R + L.
    assert [extent_score(left, right) for left, right in [(0, 0.1), (0.1, 0.4), (0.6, 0.2), (0.7, 0.8)]] == [
        1,
        3,
        4,
        7,
    ]
    assert extent_score(None, 0.2) is extent_score(0.2, None) is None
    words = [grade(score) for score in range(9)]
    assert words == ["none", "mild", "mild", *["moderate"] * 3, *["severe"] * 3]


def test_fraction_of_an_empty_region_is_unknown() -> None:
    assert infected_fraction(LUNGS, np.zeros_like(LUNGS)) is None
    assert infected_fraction(LUNGS, LUNGS) == 1


def test_columns_are_those_of_the_statistics() -> None:
    zones = [
        f"infected_fraction_{side}_{third}" for side in ("left", "right") for third in ("upper", "middle", "lower")
    ]
    expected = ["infected_fraction", "infected_fraction_left", "infected_fraction_right", *zones]
    assert list(SEVERITY_COLUMNS) == [*expected, "infected_area_mm2", "extent_score", "grade"]
    assert list(measure_severity(LUNGS, LUNGS).as_row()) == [field.name for field in fields(Severity)]


def test_shapes_must_agree() -> None:
    with pytest.raises(ImageError, match=r"\(100, 120\), got \(99, 120\)"):
        measure_severity(LUNGS[1:], LUNGS)
