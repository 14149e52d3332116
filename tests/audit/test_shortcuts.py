"""What tells the category of an image without its lungs: above all, its spectrum."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from cxrseg.audit.shortcuts import measure_shortcuts, spectrum, views_of

LIMITS = (8, 16, 32, 48, 64, 80, 90, 100, 110, 120, 160, 240)


def above(pixels: np.ndarray, cycles: int) -> float:
    """Fraction of the energy above so many cycles."""
    return float(10.0 ** spectrum(pixels.astype(np.float32))[LIMITS.index(cycles)])


@pytest.mark.parametrize("shape", [(256, 256), (200, 301), (700, 512), (1500, 1400)])
@pytest.mark.parametrize("turned", [False, True])
def test_a_wave_lies_at_its_number_of_cycles_across_the_image(shape: tuple[int, int], turned: bool) -> None:
    rows, columns = np.mgrid[0 : 1 : shape[0] * 1j, 0 : 1 : shape[1] * 1j]
    wave = 0.5 + 0.4 * np.cos(2 * np.pi * 70 * (rows if turned else columns))
    assert above(wave, 64) == pytest.approx(1, abs=0.01)
    assert above(wave, 80) < 0.001


def test_both_directions_count_alike() -> None:
    place = np.linspace(0, 1, 256)
    waves = 0.5 + 0.2 * np.cos(2 * np.pi * 70 * place)[:, None] + 0.2 * np.cos(2 * np.pi * 20 * place)
    assert above(waves, 64) == pytest.approx(0.5, abs=0.01)


def test_white_noise_lies_where_its_area_does() -> None:
    noise = np.random.default_rng(0).random((256, 256))
    # The square of the spectrum is 256 cycles wide; what lies above 64 is all but a disc of that radius.
    assert above(noise, 64) == pytest.approx(1 - np.pi * 64**2 / 256**2, abs=0.02)
    assert above(noise, 120) > 50 * above(gaussian_filter(noise, 1), 120)


def test_brightness_and_a_flat_image_have_no_spectrum() -> None:
    noise = np.random.default_rng(0).random((128, 128)).astype(np.float32)
    assert spectrum(noise) == pytest.approx(spectrum(noise / 2 + 0.3), abs=1e-3)
    assert np.all(spectrum(np.full((64, 64), 0.4, np.float32)) == -9)
    assert np.isfinite(spectrum(np.zeros((1, 1), np.float32))).all()


def test_a_category_that_is_only_blurred_is_told_by_the_spectrum_alone() -> None:
    random = np.random.default_rng(0)
    views, categories = [], []
    for number in range(60):
        pixels = gaussian_filter(random.random((128, 128)), 8)
        pixels = 0.5 + 8 * (pixels - 0.5) + 0.02 * gaussian_filter(random.standard_normal((128, 128)), 0.4 + number % 2)
        views.append(views_of(np.clip(pixels, 0, 1).astype(np.float32)))
        categories.append(("sharp", "blurred")[number % 2])
    auc = {(one.view, one.category): one.auc for one in measure_shortcuts(views, categories, list(range(60)))}
    assert auc["spectrum", "blurred"] > 0.95
    assert max(auc[view, "blurred"] for view in ("frame", "thumbnail")) < 0.8
