"""Pixels from Python follow the rules of files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cxrseg.errors import ImageError
from cxrseg.io.array_input import radiograph_of
from cxrseg.io.radiograph import Radiograph
from cxrseg.phantom.generate import make_phantom

FILM = make_phantom(2, "COVID-19", 128).image
UNIT = FILM / 255
TWELVE = FILM.astype(np.uint16) * 16 + 8


@pytest.mark.parametrize(
    "image",
    [
        FILM,
        FILM[None],
        FILM[..., None],
        FILM.tolist(),
        UNIT,
        UNIT.astype(np.float32),
        UNIT.tolist(),
        TWELVE,
        TWELVE.astype(np.int32),
        FILM.astype(np.uint16),
        np.dstack([FILM] * 3),
        np.dstack([FILM] * 4),
        np.dstack([TWELVE] * 3),
        Image.fromarray(FILM),
        Image.fromarray(FILM).convert("RGB"),
        Image.fromarray(TWELVE),
        FILM[::-1][::-1],
    ],
    ids=lambda image: type(image).__name__,
)
def test_every_kind_of_pixels_gives_the_same_picture(image: object) -> None:
    found = radiograph_of(image)
    assert found.pixels.dtype == np.float32
    np.testing.assert_allclose(found.pixels, UNIT, atol=0.005)
    assert not found.warnings


def test_a_tiny_range_is_a_warning_and_can_be_stated() -> None:
    offset = TWELVE + np.uint16(20000)
    found = radiograph_of(offset)
    assert "do not fit any usual range" in found.warnings[0]
    stated = radiograph_of(offset, value_range=(20000, 24095))
    np.testing.assert_allclose(stated.pixels, UNIT, atol=0.005)
    assert not stated.warnings


def test_files_and_radiographs_are_taken_too(tmp_path: Path) -> None:
    Image.fromarray(FILM).save(tmp_path / "a.png")
    assert radiograph_of(str(tmp_path / "a.png")).shape == FILM.shape
    radiograph = Radiograph(UNIT.astype(np.float32))
    assert radiograph_of(radiograph) is radiograph


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (FILM > 100, "a mask is not a radiograph"),
        (FILM[0], r"got \(128,\)"),
        (np.dstack([FILM] * 5), r"got \(128, 128, 5\)"),
        (np.stack([FILM] * 3), r"got \(3, 128, 128\)"),
        (np.zeros((0, 5), np.uint8), r"got \(0, 5\)"),
        ([[1, 2], [3]], "not an array"),
        ([["a"]], "convert them to numbers"),
        (UNIT * np.nan, "pixels that are finite"),
        (None, "convert them to numbers"),
    ],
)
def test_what_is_no_picture_is_refused(image: object, words: str) -> None:
    with pytest.raises(ImageError, match=words):
        radiograph_of(image)
