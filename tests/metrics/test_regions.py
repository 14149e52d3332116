"""Counts within each lung and zone."""

import numpy as np
import pytest

from cxrseg.errors import ImageError
from cxrseg.metrics.lungs import find_lungs
from cxrseg.metrics.regions import REGIONS, count_regions
from cxrseg.metrics.segmentation import Counts, count
from cxrseg.metrics.severity import measure_severity

RIGHT, LEFT = np.s_[10:40, 5:15], np.s_[10:40, 30:40]


def both_lungs() -> np.ndarray:
    lungs = np.zeros((60, 50), bool)
    lungs[RIGHT] = lungs[LEFT] = True
    return lungs


def test_each_pixel_is_counted_in_its_lung_and_zone() -> None:
    truth, prediction = (np.zeros((60, 50), bool) for _ in range(2))
    truth[10:15, 5:15] = True  # 50 in the upper third of the lung on the image's left: the patient's right
    prediction[12:22, 5:15] = True  # 30 of them, then 50 false ones above row 20, and 20 in the middle
    prediction[35:40, 30:40] = True
    found = count_regions(prediction, truth, find_lungs(both_lungs()))
    assert list(found) == list(REGIONS)
    assert found["right_upper"] == Counts(30, 50, 20, 0)
    assert found["right_middle"] == Counts(0, 20, 0, 80)
    assert found["right_lower"] == Counts(0, 0, 0, 100)
    assert found["left_lower"] == Counts(0, 50, 0, 50)
    assert found["left"] == found["left_upper"] + found["left_middle"] + found["left_lower"]
    assert found["left"] + found["right"] == Counts(30, 120, 20, 430)


def test_agrees_with_the_fractions_that_users_are_told() -> None:
    random = np.random.default_rng(0)
    prediction, truth = (random.random((60, 50)) < 0.4 for _ in range(2))
    lungs = both_lungs()
    lungs[2:4, 8:10] = True  # an island above the right lung
    found = count_regions(prediction, truth, find_lungs(lungs))
    told = measure_severity(prediction, lungs).as_row()
    for region, counts in found.items():
        assert (counts.tp + counts.fp) / counts.pixels == pytest.approx(told[f"infected_fraction_{region}"])
    assert found["left"] + found["right"] == count(prediction[lungs], truth[lungs])


def test_a_lung_that_was_not_found_has_no_pixels() -> None:
    one = both_lungs()
    one[LEFT] = False
    found = count_regions(one, one, find_lungs(one))
    assert found["left"].pixels == found["left_upper"].pixels == 0
    assert found["right"].tp == 300


def test_shapes_must_agree() -> None:
    lungs = both_lungs()
    with pytest.raises(ImageError, match=r"\(60, 50\), got \(59, 50\)"):
        count_regions(lungs[1:], lungs, find_lungs(lungs))
    with pytest.raises(ImageError, match=r"\(59, 50\), got \(60, 50\)"):
        count_regions(lungs[1:], lungs[1:], find_lungs(lungs))
