"""The value range of deep images: what is assumed, what is doubted, what the user states."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cxrseg.errors import ImageError
from cxrseg.io.raster import read_raster
from cxrseg.io.read import read_radiograph
from cxrseg.io.value_range import Scale, display_scale, estimate_scale, parse_value_range, stated_scale
from cxrseg.phantom.generate import make_phantom

FILM = make_phantom(2, "COVID-19", 256).image / 255
RNG = np.random.default_rng(0)


def deep(bits: int) -> np.ndarray:
    """The film in so many bits, with noise in the lowest."""
    return np.floor(FILM * (2**bits - 2) + RNG.random(FILM.shape)).astype(np.int64)


def error(values: np.ndarray, scale: Scale | None = None) -> float:
    """How far most pixels are from the film."""
    return float(np.quantile(np.abs((scale or estimate_scale(values))(values) - FILM), 0.95))


def changed(values: np.ndarray, value: float, count: int = 1) -> np.ndarray:
    values = values.copy()
    values.ravel()[RNG.choice(values.size, count, replace=False)] = value
    return values


def marked(values: np.ndarray, value: float, side: int = 20) -> np.ndarray:
    values = values.copy()
    values[4 : 4 + side, 4 : 4 + side] = value
    return values


@pytest.mark.parametrize("bits", range(9, 17))
def test_the_bits_are_told_by_the_values(bits: int) -> None:
    values = deep(bits).astype(np.uint16)
    scale = estimate_scale(values)
    assert (scale.low, scale.high) == (0, 2**bits - 1)
    assert error(values) < 0.01
    assert f"{bits} bits used" in scale.step
    assert bool(scale.warnings) == (bits % 2 == 1)  # 10, 12, 14 and 16 bits are usual


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_a_few_pixels_decide_nothing(bits: int) -> None:
    for value in (2**bits, 2**bits + 100, 65535):
        scale = estimate_scale(changed(deep(bits), value).astype(np.uint16))
        assert (scale.low, scale.high, scale.warnings) == (0, 2**bits - 1, ())
    assert error(changed(deep(bits), 60000, 15).astype(np.uint16)) < 0.01


@pytest.mark.parametrize("bits", [8, 10, 12, 13, 14, 15])
def test_a_marker_far_above_is_left_out_with_a_warning(bits: int) -> None:
    values = marked(deep(bits), 65535).astype(np.uint16)
    scale = estimate_scale(values)
    assert scale.high == 2**bits - 1
    assert "far outside" in scale.step
    assert any("--value-range" in warning for warning in scale.warnings)


def test_a_marker_within_the_bits_changes_nothing() -> None:
    scale = estimate_scale(marked(deep(12), 4095).astype(np.uint16))
    assert (scale.high, scale.warnings) == (4095, ())


def test_parts_of_an_image_that_stand_apart_are_no_outliers() -> None:
    drawn = np.where(FILM > 0.6, 62000, np.where(FILM > 0.3, 40000 + 3000 * FILM, 1000 + 5000 * FILM))
    scale = estimate_scale(drawn.astype(np.uint16))
    assert (scale.low, scale.high, scale.warnings) == (0, 65535, ())


def test_a_black_above_zero_is_a_warning() -> None:
    scale = estimate_scale((deep(12) * 0.8 + 400).astype(np.uint16))
    assert (scale.low, scale.high) == (0, 4095)
    assert "0 was assumed to be black" in scale.warnings[0]
    inverted = (4095 - deep(12) * 0.8 - 400).astype(np.uint16)
    assert "4095 was assumed to be black" in estimate_scale(inverted, white_is_low=True).warnings[0]


@pytest.mark.parametrize("offset", [1000, 2048, 8000, 32768, 60000])
def test_an_offset_is_taken_away_with_a_warning(offset: int) -> None:
    values = (deep(12) + offset).astype(np.uint16)
    assert error(values) < 0.06
    assert estimate_scale(values).warnings
    assert error(marked(values, 0, 60)) < 0.06  # a black frame below


@pytest.mark.parametrize(
    ("low", "high", "sure"),
    [
        *((0, top, True) for top in (1, 1.02, 100, 255, 4095, 65535)),
        *((-1, 1, True), (0, 0.06, False), (-1.7, 2.4, False), (-1000, 3000, False), (0, 7, False)),
    ],
)
def test_floating_point(low: float, high: float, sure: bool) -> None:
    values = ((FILM + RNG.random(FILM.shape) / 255) * (high - low) + low).astype(np.float32)
    assert error(values) < (0.03 if sure else 0.09)
    assert bool(estimate_scale(values).warnings) == (not sure)
    assert error(changed(values, 1e30)) < 0.09


@pytest.mark.parametrize("start", [-2048, -1024, -32768])
def test_signed_values(start: int) -> None:
    bits = 16 if start == -32768 else 12
    assert error((deep(bits) + start).astype(np.int32)) < 0.06


@pytest.mark.parametrize("padding", [-2000, -32768])
def test_negative_padding_is_no_image(padding: int) -> None:
    assert estimate_scale(marked(deep(12), padding).astype(np.int16)).high == 4095


def test_a_dicom_image_without_window() -> None:
    assert display_scale(deep(12), 12).high == 4095  # fills its bits: as a PNG
    partly = deep(12) // 3 + 500
    scale = display_scale(partly, 12)
    assert (scale.low, scale.high) == (partly.min(), partly.max())
    assert display_scale(marked(partly, 65535), 16).high == partly.max()
    assert display_scale(FILM * 0.9, None).high == 1


def test_the_user_states_the_range(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(deep(12).astype(np.uint16)).save(path)
    found = read_radiograph(path, value_range=(1000, 3000))
    np.testing.assert_allclose(found.pixels, np.clip((np.asarray(Image.open(path)) - 1000.0) / 2000, 0, 1), atol=1e-6)
    assert found.steps == ("value range 1000 to 3000, as stated",)
    eight = tmp_path / "b.png"
    Image.fromarray(np.uint8(FILM * 255)).save(eight)
    assert read_radiograph(eight, value_range=(0, 127)).pixels.max() == 1
    with pytest.raises(ImageError, match="the smaller first"):
        stated_scale((5, 5))


@pytest.mark.parametrize(
    ("text", "expected"), [("0:4095", (0, 4095)), ("12bit", (0, 4095)), ("16 bits", (0, 65535)), ("-1:1.5", (-1, 1.5))]
)
def test_a_range_as_users_write_it(text: str, expected: tuple[float, float]) -> None:
    assert parse_value_range(text) == expected


@pytest.mark.parametrize("text", ["", "4095", "5:5", "9:1", "a:b", "nan:1", "0:inf", "99bit", "1:2:3"])
def test_a_range_that_is_none(text: str) -> None:
    with pytest.raises(ImageError, match="0:4095 or 12bit"):
        parse_value_range(text)


def test_the_file_says_what_was_assumed(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(marked(deep(12), 65535).astype(np.uint16)).save(path)
    found = read_raster(path)
    assert any("0 to 4095 assumed" in step for step in found.steps)
    assert found.warnings
