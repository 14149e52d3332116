"""The ways of storing a film, on a chest drawn by hand."""

from __future__ import annotations

import numpy as np
import pytest

from cxrseg.evaluation.perturbations import QUICK, WAYS, Way, ways_named
from made_models import chest

SHAPES = [(256, 256), (160, 200)]


def ids(way: Way) -> str:
    return way.name


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("way", WAYS, ids=ids)
def test_a_map_comes_back_onto_the_pixels_it_was_made_of(way: Way, shape: tuple[int, int]) -> None:
    pixels, _, _ = chest(shape)
    stored = way.store(pixels, "film")
    assert stored.dtype == np.float32 and 0 <= stored.min() <= stored.max() <= 1
    seen = way.visible(shape)
    back = way.restore(stored, shape)
    assert back.shape == shape
    assert seen.mean() > 0.65
    assert np.corrcoef(back[seen], pixels[seen])[0, 1] > 0.97


@pytest.mark.parametrize("way", [way for way in WAYS if way.geometric], ids=ids)
def test_what_is_moved_is_put_back_within_a_pixel(way: Way) -> None:
    lungs = chest((256, 256))[2].astype(np.float32)
    moved = way.store(lungs)
    assert moved.shape != lungs.shape or np.count_nonzero((moved > 0.5) != (lungs > 0.5)) > 500 or "covered" in way.name
    seen = way.visible((256, 256))
    wrong = ((way.restore(moved, (256, 256)) > 0.5) != (lungs > 0.5)) & seen
    assert np.count_nonzero(wrong) < 60


@pytest.mark.parametrize("name", ["turn+3", "shift-right", "shift-up", "covered-white", "covered-black"])
def test_what_is_hidden_is_left_out(name: str) -> None:
    (way,) = ways_named([name])
    seen = way.visible((256, 256))
    assert not seen.all()
    pixels = np.random.default_rng(0).random((256, 256), dtype=np.float32)
    wrong = np.abs(way.restore(way.store(pixels), (256, 256)) - pixels)
    assert wrong[seen].mean() < 0.2 and wrong[~seen].mean() > 0.4


@pytest.mark.parametrize("name", ["border-black", "border-white"])
def test_a_border_is_added_around_the_film(name: str) -> None:
    (way,) = ways_named([name])
    stored = way.store(np.full((256, 256), 0.5, np.float32))
    assert stored.shape == (296, 296)
    assert np.all(stored[:20] == (1 if name.endswith("white") else 0)) and np.all(stored[20:-20, 20:-20] == 0.5)
    assert way.visible((256, 256)).all()


def test_noise_follows_from_the_films_name() -> None:
    (way,) = ways_named(["noise-5"])
    pixels = np.full((128, 128), 0.5, np.float32)
    first = way.store(pixels, "one")
    assert np.array_equal(first, way.store(pixels, "one"))
    assert not np.array_equal(first, way.store(pixels, "two"))
    assert not np.array_equal(first, way.store(pixels, "one", seed=1))
    assert 4.5 < 255 * (first - pixels).std() < 5.5


def test_blur_grows_with_the_film() -> None:
    (way,) = ways_named(["blur-1"])
    point = np.zeros((256, 256), np.float32)
    large = np.zeros((1024, 1024), np.float32)
    point[128, 128], large[512, 512] = 1, 1
    assert way.store(point).max() == pytest.approx(16 * way.store(large).max(), rel=0.05)


@pytest.mark.parametrize(
    ("name", "shape"), [("x0.5-box", (128, 128)), ("x2-bicubic", (512, 512)), ("x4-nearest", (1024, 1024))]
)
def test_resampling_changes_the_size(name: str, shape: tuple[int, int]) -> None:
    (way,) = ways_named([name])
    assert way.store(chest((256, 256))[0]).shape == shape


def test_gamma_and_windows_keep_the_order_of_gray_values() -> None:
    ramp = np.linspace(0, 1, 256, dtype=np.float32)[None].repeat(8, 0)
    for way in ways_named(["gamma-0.7", "gamma-1.4", "window-narrow", "window-wide", "bits-12", "bits-8"]):
        assert np.all(np.diff(way.store(ramp)[0]) >= 0), way.name
    assert ways_named(["window-narrow"])[0].store(ramp)[0, 13] == pytest.approx(0, abs=1e-6)
    wide = ways_named(["window-wide"])[0].store(ramp)
    assert (wide.min(), wide.max()) == (pytest.approx(0.15), pytest.approx(0.85))


def test_names_are_unique_and_a_wrong_one_is_named() -> None:
    assert len({way.name for way in WAYS}) == len(WAYS)
    assert set(QUICK) <= set(WAYS)
    with pytest.raises(ValueError, match="got jpeg-7"):
        ways_named(["jpeg-60", "jpeg-7"])
