from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from scipy.ndimage import center_of_mass, gaussian_filter

from cxrseg import preprocessing
from cxrseg.preprocessing import content_box, mask_to_input, to_input, to_source


def noise(shape: tuple[int, int], seed: int = 0) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).random(shape, np.float32)


def blob(shape: tuple[int, int], row: float, column: float) -> npt.NDArray[np.float32]:
    """A soft spot around a place that is given as a fraction of height and width."""
    rows, columns = np.mgrid[: shape[0], : shape[1]] + 0.5
    radius = 0.08 * min(shape)
    squared = (rows - row * shape[0]) ** 2 + (columns - column * shape[1]) ** 2
    return np.exp(-squared / (2 * radius**2)).astype(np.float32)


def test_the_right_size_comes_back_unchanged() -> None:
    pixels = noise((64, 96))
    assert np.array_equal(to_input(pixels, (64, 96)), pixels)
    assert np.array_equal(to_source(pixels, (64, 96)), pixels)
    mask = pixels > 0.5
    assert np.array_equal(mask_to_input(mask, (64, 96)), mask)


@pytest.mark.parametrize("shape", [(37, 50), (64, 64), (301, 200), (1, 7)])
@pytest.mark.parametrize("size", [(64, 64), (32, 96)])
def test_shape_type_and_range(shape: tuple[int, int], size: tuple[int, int]) -> None:
    pixels = noise(shape)
    found, back = to_input(pixels, size), to_source(noise(size), shape)
    assert (found.shape, back.shape) == (size, shape)
    assert found.dtype == back.dtype == np.float32
    for values in (found, back):
        assert 0 <= values.min() <= values.max() <= 1
    mask = mask_to_input(pixels > 0.5, size)
    assert (mask.shape, mask.dtype) == (size, np.bool_)


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_an_even_image_stays_even(value: float) -> None:
    pixels = np.full((37, 51), value, np.float32)
    np.testing.assert_allclose(to_input(pixels, (64, 32)), value, atol=1e-6)
    np.testing.assert_allclose(to_source(pixels, (101, 13)), value, atol=1e-6)


@pytest.mark.parametrize("shape", [(64, 64), (101, 77), (53, 131), (299, 301), (33, 35)])
@pytest.mark.parametrize("size", [(64, 64), (96, 64)])
@pytest.mark.parametrize(("row", "column"), [(0.5, 0.5), (0.3, 0.65), (0.72, 0.28)])
def test_there_and_back_shifts_nothing(
    shape: tuple[int, int], size: tuple[int, int], row: float, column: float
) -> None:
    pixels = blob(shape, row, column)
    small = to_input(pixels, size)
    # Half a source pixel, and on the way half a pixel of the network: no shift by a corner's half pixel.
    there = np.subtract(center_of_mass(small), [row * size[0] - 0.5, column * size[1] - 0.5])
    assert np.abs(there).max() < 0.1
    back = np.subtract(center_of_mass(to_source(small, shape)), center_of_mass(pixels))
    assert np.abs(back).max() < 0.1


def test_shrinking_does_not_alias() -> None:
    stripes = np.zeros((256, 256), np.float32)
    stripes[:, ::2] = 1
    small = to_input(stripes, (64, 64))
    assert np.abs(small[:, 2:-2] - 0.5).max() < 0.05


def test_there_and_back_keeps_a_smooth_image() -> None:
    pixels = gaussian_filter(noise((151, 149)), 6)
    pixels = (pixels - pixels.min()) / (pixels.max() - pixels.min())
    back = to_source(to_input(pixels, (96, 96)), (151, 149))
    assert np.abs(back - pixels).max() < 0.05


@pytest.mark.parametrize("factor", [2, 4, 3])
def test_a_pixel_belongs_to_the_mask_where_half_of_its_area_does(factor: int) -> None:
    mask = np.random.default_rng(1).random((32 * factor, 64 * factor)) > 0.5
    area = mask.reshape(32, factor, 64, factor).mean((1, 3))
    assert np.array_equal(mask_to_input(mask, (32, 64)), area >= 0.5)
    assert (area == 0.5).any() or factor == 3  # the limit itself was met


def test_a_mask_keeps_its_area_and_place_when_it_grows() -> None:
    mask = np.zeros((32, 32), bool)
    mask[8:20, 4:9] = True
    grown = mask_to_input(mask, (96, 64))
    expected = np.zeros((96, 64), bool)
    expected[24:60, 8:18] = True
    assert np.array_equal(grown, expected)


@pytest.mark.parametrize("shape", [(67, 91), (100, 300), (300, 200)])
def test_a_mask_of_an_odd_size_keeps_its_fraction(shape: tuple[int, int]) -> None:
    mask = blob(shape, 0.4, 0.6) > 0.3
    small = mask_to_input(mask, (64, 64))
    assert small.mean() == pytest.approx(mask.mean(), rel=0.06)
    assert np.abs(np.subtract(center_of_mass(small), [0.4 * 64 - 0.5, 0.6 * 64 - 0.5])).max() < 0.5


@pytest.mark.parametrize("shape", [(128, 128), (128, 300), (256, 256), (251, 240), (1001, 700), (90, 300), (60, 60)])
def test_a_map_goes_back_as_pillow_resizes_it(shape: tuple[int, int]) -> None:
    """But for rounding, and within a box as well as without."""
    small = noise((128, 128))
    pillow = np.clip(np.asarray(Image.fromarray(small).resize(shape[::-1], Image.Resampling.BILINEAR)), 0, 1)
    whole = to_source(small, shape)
    np.testing.assert_allclose(whole, pillow, rtol=0, atol=3e-7)
    box = slice(7, 7 + shape[0]), slice(0, shape[1])
    framed = to_source(small, (shape[0] + 9, shape[1] + 4), box)
    assert np.array_equal(framed[box], whole)
    assert np.count_nonzero(framed) == np.count_nonzero(whole)


def test_the_given_pixels_are_left_as_they_were() -> None:
    pixels = noise((40, 40))
    before = pixels.copy()
    to_input(pixels, (64, 64))[:] = 0
    to_source(pixels, (64, 64))
    assert np.array_equal(pixels, before)


def test_pixels_that_lie_apart_in_memory_are_read_right() -> None:
    wide = noise((80, 40))
    assert np.array_equal(to_input(wide[::2], (32, 32)), to_input(wide[::2].copy(), (32, 32)))
    assert np.array_equal(to_input(wide[:, ::-1], (32, 32)), to_input(wide[:, ::-1].copy(), (32, 32)))


@pytest.mark.parametrize("level", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("widths", [(20, 20, 20, 20), (0, 31, 7, 0), (1, 0, 0, 40)])
def test_an_empty_border_is_left_out(level: float, widths: tuple[int, int, int, int]) -> None:
    top, bottom, left, right = widths
    film = gaussian_filter(noise((160, 200)), 2)
    film = (film - film.min()) / (film.max() - film.min())
    assert content_box(film) == (slice(0, 160), slice(0, 200))
    noisy = 1.5 if level == 0.4 else 5  # black and white cut half of the noise
    grain = np.random.default_rng(2).normal(0, noisy / 255, (160 + top + bottom, 200 + left + right))
    framed = np.pad(film, ((top, bottom), (left, right)), constant_values=level)
    for image in (framed, np.clip(framed + grain, 0, 1).astype(np.float32)):
        assert content_box(image) == (slice(top, top + 160), slice(left, left + 200))
    box = content_box(framed)
    back = to_source(framed[box], (framed.shape[0], framed.shape[1]), box)
    assert np.array_equal(back, np.pad(film, ((top, bottom), (left, right))))


def test_an_image_that_is_mostly_empty_is_kept_whole() -> None:
    blank = np.zeros((100, 80), np.float32)
    assert content_box(blank) == (slice(0, 100), slice(0, 80))
    blank[45:55, 35:45] = noise((10, 10))
    assert content_box(blank) == (slice(0, 100), slice(0, 80))
    assert content_box(noise((1, 1))) == (slice(0, 1), slice(0, 1))


def test_a_large_map_is_made_strip_by_strip(monkeypatch: pytest.MonkeyPatch) -> None:
    small = noise((96, 96))
    whole = to_source(small, (501, 333))
    monkeypatch.setattr(preprocessing, "_STRIP", 3000)
    assert np.array_equal(to_source(small, (501, 333)), whole)
