"""Left and right told apart, also where lungs touch, are broken or missing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cxrseg.metrics.lungs import find_lungs, specks_of, split_lungs

ROWS, COLUMNS = np.mgrid[:100, :120]


def ellipse(row: float, column: float, height: float, width: float) -> np.ndarray:
    return ((ROWS - row) / height) ** 2 + ((COLUMNS - column) / width) ** 2 <= 1


RIGHT = ellipse(50, 35, 38, 18)
LEFT = ellipse(50, 85, 38, 18)


def test_the_patients_right_is_on_the_images_left() -> None:
    left, right = split_lungs(LEFT | RIGHT)
    assert (left == LEFT).all() and (right == RIGHT).all()


def test_touching_lungs_are_cut_at_the_narrowest_column() -> None:
    bridge = np.zeros_like(LEFT)
    bridge[45:55, 35:85] = True
    left, right = split_lungs(LEFT | RIGHT | bridge)
    assert not (left & RIGHT).any() and not (right & LEFT).any()
    assert 53 < np.flatnonzero(left.any(axis=0))[0] < 67


def test_a_small_chest_is_cut_at_its_waist_and_not_in_its_middle() -> None:
    wide, narrow = ellipse(50, 40, 38, 26), ellipse(50, 84, 38, 12)
    bridge = np.zeros_like(LEFT)
    bridge[45:55, 40:84] = True
    lungs = np.hstack([wide | narrow | bridge, np.zeros_like(LEFT)])  # spans a third of the image
    left, right = split_lungs(lungs)
    assert not left[:, :66].any() and not right[:, 73:].any()
    assert left[:, 73:].any() and right[:, :66].any()


def test_wide_white_lungs_without_a_waist_are_cut_too() -> None:
    left, right = split_lungs(ellipse(50, 60, 40, 45))
    assert abs(int(left.sum()) - int(right.sum())) < 0.1 * int(left.sum())


@pytest.mark.parametrize(("lung", "side"), [(LEFT, 0), (RIGHT, 1), (LEFT & (abs(ROWS - 50) > 3), 0)])
def test_a_single_lung_goes_by_its_half_of_the_image(lung: np.ndarray, side: int) -> None:
    found = split_lungs(lung)
    assert (found[side] == lung).all()
    assert not found[1 - side].any()


def test_a_lung_in_two_pieces_stays_one_lung() -> None:
    broken = LEFT.copy()
    broken[48:53] = False
    left, right = split_lungs(broken | RIGHT)
    assert (left == broken).all() and (right == RIGHT).all()


def test_both_lungs_on_one_half_of_the_image() -> None:
    beside = np.zeros_like(LEFT)
    left, right = split_lungs(np.hstack([LEFT | RIGHT, beside]))
    assert (left == np.hstack([LEFT, beside])).all()
    assert (right == np.hstack([RIGHT, beside])).all()


def test_specks_are_pieces_that_are_too_small_for_a_lung() -> None:
    speck, half = np.zeros_like(LEFT), LEFT & (ROWS > 60)
    speck[97:99, 50:54] = True
    assert specks_of(LEFT | RIGHT) is None and specks_of(half | RIGHT) is None
    assert specks_of(np.zeros_like(LEFT)) is None
    found = specks_of(half | RIGHT | speck)
    assert found is not None and (found == speck).all()


def test_islands_go_to_the_nearest_lung_and_do_not_stretch_it() -> None:
    islands = np.zeros_like(LEFT)
    islands[2:4, 72:74] = islands[97:99, 52:54] = True
    left, right = find_lungs(LEFT | RIGHT | islands)
    assert left.mask[2, 72] and right.mask[97, 52]
    assert not left.mask[97, 52]
    assert (left.top, left.bottom) == (12, 89)
    assert (right.top, right.bottom) == (12, 89)


def test_no_lungs() -> None:
    left, right = split_lungs(np.zeros((5, 5), dtype=bool))
    assert left.shape == (5, 5) and not left.any() and not right.any()


@settings(max_examples=150, deadline=None)
@given(arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_the_two_lungs_are_always_the_whole(lungs: np.ndarray) -> None:
    left, right = split_lungs(lungs)
    assert ((left | right) == lungs).all()
    assert not (left & right).any()
