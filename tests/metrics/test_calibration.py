from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import expit

from cxrseg.errors import ImageError
from cxrseg.metrics import calibration
from cxrseg.metrics.calibration import THRESHOLDS, PixelBins
from cxrseg.metrics.segmentation import Counts, count, squared_error

Image = tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]

EVERY_TENTH = range(5, len(THRESHOLDS), 10)


def drawn(seed: int, sharpness: float = 1.0, shape: tuple[int, int] = (48, 40)) -> Image:
    """Probabilities and a truth drawn from them, whose logits are then multiplied by `sharpness`."""
    random = np.random.default_rng(seed)
    logit = random.normal(-1, 2.5, shape)
    truth = random.random(shape) < expit(logit)
    return expit(logit * sharpness).astype(np.float32), truth


def binned(images: list[Image]) -> list[PixelBins]:
    return [calibration.bin_pixels(*image) for image in images]


IMAGES = [drawn(seed) for seed in range(5)]
EMPTY: Image = (drawn(9)[0], np.zeros((48, 40), bool))


def test_every_pixel_is_counted_once_and_apart() -> None:
    probability, truth = IMAGES[0]
    found = calibration.bin_pixels(probability, truth)
    assert (found.positive.sum(), found.negative.sum()) == (truth.sum(), (~truth).sum())
    region = np.zeros_like(truth)
    region[:10] = True
    inside = calibration.bin_pixels(probability, truth, region)
    assert inside.positive.sum() == truth[:10].sum()
    assert inside.positive.sum() + inside.negative.sum() == 400


def test_certain_pixels_are_counted_at_the_ends() -> None:
    found = calibration.bin_pixels(np.array([[0.0, 1.0, 1e-30, 0.5]]), np.array([[False, True, True, True]]))
    last = 1024 + int(np.log(2**24) * 32)
    assert (found.negative[0], found.positive[last], found.positive[0], found.positive[1024]) == (1, 1, 1, 1)


def test_the_sweep_is_what_counting_masks_gives() -> None:
    found = calibration.sweep(binned([*IMAGES, EMPTY]))
    assert found.images == len(IMAGES)
    for place in EVERY_TENTH:
        threshold = THRESHOLDS[place]
        counts = [count(probability >= threshold, truth) for probability, truth in IMAGES]
        pooled = sum(counts, Counts(0, 0, 0, 0))
        assert found.dice[place] == pytest.approx(np.mean([each.dice for each in counts]), abs=1e-12)
        assert found.precision[place] == pytest.approx(pooled.precision, abs=1e-12)
        assert found.recall[place] == pytest.approx(pooled.recall, abs=1e-12)


def test_one_half_and_other_edges_are_tried_exactly() -> None:
    assert 0.5 in THRESHOLDS
    edges = THRESHOLDS.reshape(1, -1)
    found = calibration.sweep([calibration.bin_pixels(edges, np.ones(edges.shape, bool))])
    assert found.recall * len(THRESHOLDS) == pytest.approx(np.arange(len(THRESHOLDS), 0, -1))


def test_a_temperature_renames_thresholds_only() -> None:
    found = calibration.sweep(binned(IMAGES)).at_temperature(2.0)
    colder = [(expit(np.log(p / (1 - p)) / 2), truth) for p, truth in ((p.astype(float), t) for p, t in IMAGES)]
    place = 100
    dices = [count(probability >= found.thresholds[place], truth).dice for probability, truth in colder]
    assert found.dice[place] == pytest.approx(np.mean(dices), abs=1e-3)
    assert found.thresholds[160] == 0.5


def test_uninfected_lungs_are_marked_beyond_the_limit() -> None:
    lungs = [PixelBins(np.zeros(2048, np.int64), np.zeros(2048, np.int64)) for _ in range(2)]
    lungs[0].negative[1024], lungs[0].negative[100] = 2, 98  # 2% at 0.5 or above
    lungs[1].negative[1024], lungs[1].negative[100] = 1, 99  # 1%: not more than the limit
    found = calibration.marked_fractions([*lungs, *binned(IMAGES)])
    half = int(np.searchsorted(THRESHOLDS, 0.5))
    assert (found[half], found[half + 1]) == (0.5, 0.0)
    assert np.isnan(calibration.marked_fractions(binned(IMAGES))).all()


def test_the_flat_tops_middle_wins_over_a_spike() -> None:
    dice = np.where((THRESHOLDS > 0.3) & (THRESHOLDS < 0.6), 0.7995, 0.7)
    dice[np.searchsorted(THRESHOLDS, 0.9)] = 0.8
    assert calibration.best_threshold(THRESHOLDS, dice) == pytest.approx(0.45, abs=0.011)
    assert calibration.best_threshold(THRESHOLDS, dice) == 0.45
    dice[np.searchsorted(THRESHOLDS, 0.9)] = 0.85  # no spike of chance: far better than the rest
    assert calibration.best_threshold(THRESHOLDS, dice) == pytest.approx(0.9, abs=0.011)


def test_rounding_does_not_fall_off_a_narrow_top() -> None:
    dice = np.where((THRESHOLDS > 0.003) & (THRESHOLDS < 0.008), 0.8, 0.7)
    found = calibration.best_threshold(THRESHOLDS, dice)
    assert 0.0066 < found < 0.008
    assert dice[np.searchsorted(THRESHOLDS, found)] == 0.8


def test_average_precision_is_the_sum_of_steps() -> None:
    probability = np.array([[0.9, 0.8, 0.7, 0.6, 0.2]])
    truth = np.array([[True, False, True, False, True]])
    pixels = calibration.bin_pixels(probability, truth)
    assert calibration.average_precision(pixels) == pytest.approx((1 + 2 / 3 + 3 / 5) / 3)
    assert math.isnan(calibration.average_precision(calibration.bin_pixels(*EMPTY)))


def test_reliability_is_what_counting_pixels_gives() -> None:
    probability = np.concatenate([image[0].ravel() for image in IMAGES])
    truth = np.concatenate([image[1].ravel() for image in IMAGES])
    found = calibration.reliability(calibration.pool(binned(IMAGES)), bins=10)
    total = 0.0
    for low, each in zip(np.arange(10) / 10, found, strict=True):
        inside = (probability >= low) & (probability < low + 0.1)
        total += inside.sum() * abs(probability[inside].mean() - truth[inside].mean())
        assert (each.low, each.high) == pytest.approx((low, low + 0.1))
        assert each.pixels == pytest.approx(inside.sum(), rel=0.12)
        assert each.predicted == pytest.approx(probability[inside].mean(), abs=0.01)
        assert each.observed == pytest.approx(truth[inside].mean(), abs=0.04)
    assert sum(each.pixels for each in found) == truth.size
    assert calibration.expected_calibration_error(found) == pytest.approx(total / truth.size, abs=5e-3)


def test_known_miscalibration_is_measured() -> None:
    pixels = calibration.bin_pixels(np.full((10, 10), 0.8), np.arange(100).reshape(10, 10) < 50)
    found = calibration.expected_calibration_error(calibration.reliability(pixels))
    assert found == pytest.approx(0.3, abs=0.003)
    assert math.isnan(calibration.expected_calibration_error(calibration.reliability(calibration.pool([]))))


def test_brier_and_log_loss_are_means_over_pixels() -> None:
    pixels = calibration.pool(binned(IMAGES))
    stacked = np.stack([image[0] for image in IMAGES]), np.stack([image[1] for image in IMAGES])
    squares, total = squared_error(*stacked)
    assert calibration.brier_score(pixels) == pytest.approx(squares / total, abs=1e-5)
    chance = np.where(stacked[1], stacked[0], 1 - stacked[0])
    assert calibration.log_loss(pixels) == pytest.approx(-np.log(chance).mean(), abs=1e-4)
    assert math.isnan(calibration.brier_score(calibration.pool([])))


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 3.0])
def test_the_temperature_undoes_sharpness(sharpness: float) -> None:
    pixels = calibration.pool(binned([drawn(seed, sharpness, (128, 128)) for seed in range(6)]))
    temperature = calibration.fit_temperature(pixels)
    assert temperature == pytest.approx(sharpness, rel=0.03)
    error = [calibration.expected_calibration_error(calibration.reliability(pixels, t)) for t in (1.0, temperature)]
    assert error[1] < 0.01
    assert error[1] <= error[0]


BROKEN: dict[str, Callable[[], object]] = {
    "shape": lambda: calibration.bin_pixels(np.zeros((2, 2)), np.zeros((2, 3), bool)),
    "region": lambda: calibration.bin_pixels(np.zeros((2, 2)), np.zeros((2, 2), bool), np.zeros((3, 2), bool)),
    "nan": lambda: calibration.bin_pixels(np.array([[np.nan]]), np.ones((1, 1), bool)),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_counted_is_an_error(name: str) -> None:
    with pytest.raises(ImageError, match="expected"):
        BROKEN[name]()
