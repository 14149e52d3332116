"""Upright and unmirrored by the file's tags, and back onto the file's own pixels."""

from __future__ import annotations

import numpy as np
import pytest

from cxrseg.io.orientation import UPRIGHT, exif_orientation, patient_orientation
from cxrseg.io.radiograph import Radiograph

IMAGE = np.arange(6).reshape(2, 3)

# How an upright image is stored where its rows and columns run as the tag says.
STORED = {
    "L\\F": IMAGE,
    "R\\F": IMAGE[:, ::-1],
    "L\\H": IMAGE[::-1],
    "R\\H": IMAGE[::-1, ::-1],
    "F\\L": IMAGE.T,
    "H\\L": np.rot90(IMAGE, -1),
    "F\\R": np.rot90(IMAGE),
    "H\\R": IMAGE[::-1, ::-1].T,
    "RP\\FA": IMAGE[:, ::-1],
    "r\\h": IMAGE[::-1, ::-1],
}


@pytest.mark.parametrize("tag", STORED)
def test_patient_orientation(tag: str) -> None:
    found = patient_orientation(tag)
    assert found is not None
    np.testing.assert_array_equal(found.apply(STORED[tag]), IMAGE)
    np.testing.assert_array_equal(found.undo(IMAGE), STORED[tag])
    assert (found == UPRIGHT) == (str(found) == "nothing")


@pytest.mark.parametrize("tag", ["", "L", "L\\", "A\\F", "L\\P", "L\\R", "H\\F", "X\\F", "LE\\D", "L\\F\\H"])
def test_what_is_no_frontal_view(tag: str) -> None:
    assert patient_orientation(tag) is None


def test_words_tell_a_quarter_turn() -> None:
    np.testing.assert_array_equal(exif_orientation(6).apply(IMAGE), np.rot90(IMAGE, -1))
    assert "clockwise" in str(exif_orientation(6))
    assert exif_orientation(1) == exif_orientation(9) == UPRIGHT


def test_a_mask_goes_back_onto_the_pixels_of_the_file() -> None:
    stored = np.zeros((5, 7), bool)
    stored[0, 6] = True
    orientation = patient_orientation("F\\R")
    assert orientation is not None
    upright = orientation.apply(stored)
    radiograph = Radiograph(upright.astype(np.float32), orientation=orientation, stored_shape=(5, 7))
    np.testing.assert_array_equal(radiograph.to_file(upright), stored)
    reduced = Radiograph(np.zeros((3, 4), np.float32), reduced_by=2, stored_shape=(5, 7))
    small = np.zeros((3, 4), bool)
    small[2, 3] = True
    np.testing.assert_array_equal(np.argwhere(reduced.to_file(small)), [[4, 6]])
    assert reduced.file_shape == (5, 7)
