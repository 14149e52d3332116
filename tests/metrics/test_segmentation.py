"""Counts, ratios and the scores of an image, against hand-counted cases, MONAI and MedPy."""

import math

import numpy as np
import pytest
from scipy import ndimage

from cxrseg.errors import ImageError
from cxrseg.metrics.segmentation import Counts, count, rmse, score, squared_error

EMPTY = np.zeros((8, 10), dtype=bool)


def box(rows: slice, columns: slice) -> np.ndarray:
    mask = EMPTY.copy()
    mask[rows, columns] = True
    return mask


def blob(seed: int, shape: tuple[int, int] = (96, 80), level: float = 0.3) -> np.ndarray:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 6)
    return noise > level * noise.std()


def test_counts_and_ratios_by_hand() -> None:
    counts = count(box(slice(0, 4), slice(0, 4)), box(slice(2, 4), slice(0, 6)))
    assert counts == Counts(tp=8, fp=8, fn=4, tn=60)
    assert counts.dice == pytest.approx(16 / 28)
    assert counts.iou == pytest.approx(8 / 20)
    assert counts.precision == pytest.approx(8 / 16)
    assert counts.recall == pytest.approx(8 / 12)
    assert counts.specificity == pytest.approx(60 / 68)
    assert counts.status == ""


def test_counts_pool_by_addition() -> None:
    pooled = Counts(1, 2, 3, 4) + Counts(10, 20, 30, 40)
    assert pooled == Counts(11, 22, 33, 44)
    assert pooled.pixels == 110


def test_empty_cases_are_named_and_undefined() -> None:
    some = box(slice(1, 3), slice(1, 3))
    nothing, missed, alarm = count(EMPTY, EMPTY), count(EMPTY, some), count(some, EMPTY)
    assert [each.status for each in (nothing, missed, alarm)] == ["both empty", "missed", "false alarm"]
    assert (nothing.both_empty, nothing.missed, nothing.false_alarm) == (True, False, False)
    assert math.isnan(nothing.dice) and math.isnan(nothing.iou)
    assert missed.dice == missed.recall == 0 and math.isnan(missed.precision)
    assert alarm.dice == alarm.precision == 0 and math.isnan(alarm.recall)
    assert math.isnan(count(EMPTY, ~EMPTY).specificity)


def test_rmse_runs_over_all_pixels_of_all_images() -> None:
    probability = np.zeros((2, 4, 4), dtype=np.float32)
    truth = np.zeros((2, 4, 4), dtype=bool)
    probability[0], truth[1, :2] = 0.5, True
    assert rmse(probability, truth) == pytest.approx(math.sqrt((16 * 0.25 + 8) / 32))
    sums = [squared_error(p, t) for p, t in zip(probability, truth, strict=True)]
    assert sum(total for total, _ in sums) == pytest.approx(12)
    assert sum(pixels for _, pixels in sums) == 32


def test_wrong_shapes_and_nan_are_refused() -> None:
    with pytest.raises(ImageError, match=r"shape \(8, 10\), got \(8, 9\)"):
        count(EMPTY[:, :9], EMPTY)
    with pytest.raises(ImageError, match=r"shape \(8, 10\), got \(7, 10\)"):
        rmse(np.zeros((7, 10)), EMPTY)
    with pytest.raises(ImageError, match="nan or inf"):
        score(np.full(EMPTY.shape, np.nan), EMPTY)
    with pytest.raises(ImageError, match="shape"):
        score(np.zeros(EMPTY.shape), EMPTY, lungs=EMPTY[1:])


def test_score_thresholds_from_the_threshold_upwards() -> None:
    truth = box(slice(2, 5), slice(2, 5))
    probability = np.where(truth, np.float32(0.5), np.float32(0.49))
    assert score(probability, truth).dice == 1
    assert score(probability, truth).status == ""
    assert score(probability, truth, threshold=0.51).status == "missed"
    assert score(probability, truth, threshold=0.3).fp == truth.size - 9


def test_score_of_a_shifted_box() -> None:
    truth, moved = box(slice(2, 6), slice(2, 6)), box(slice(2, 6), slice(5, 9))
    row = score(moved.astype(np.float32), truth, lungs=box(slice(0, 8), slice(0, 5)))
    assert (row.tp, row.fp, row.fn, row.tn) == (4, 12, 12, 52)
    assert row.rmse == pytest.approx(math.sqrt(24 / 80))
    assert row.hd95 == pytest.approx(3)
    assert 0 < row.nsd2 < row.nsd4 == 1 and 0 < row.assd < 3
    assert row.lungs_marked == 0
    assert list(row.as_row())[:5] == ["status", "tp", "fp", "fn", "tn"]


def test_distances_in_mm_where_the_size_of_a_pixel_is_known() -> None:
    truth, moved = box(slice(2, 6), slice(2, 6)), box(slice(2, 6), slice(5, 9))
    known = score(moved.astype(np.float32), truth, spacing_mm=(2.0, 0.5))
    assert known.hd95 == pytest.approx(3) and known.hd95_mm == pytest.approx(1.5)
    assert known.assd_mm < known.assd and known.nsd2_mm == known.nsd4_mm == 1 > known.nsd2
    assert known.hd95_diagonal == pytest.approx(3 / math.hypot(8, 10))
    unknown = score(moved.astype(np.float32), truth).as_row()
    assert unknown["hd95_mm"] is unknown["nsd4_mm"] is None and unknown["hd95_diagonal"] is not None
    missed = score(np.zeros(EMPTY.shape), truth, spacing_mm=(2.0, 0.5))
    assert (missed.hd95_diagonal, missed.nsd2_mm) == (1, 0)
    assert missed.hd95_mm == pytest.approx(math.hypot(16, 5))


def test_a_mask_that_was_decided_already_stands() -> None:
    truth = box(slice(2, 5), slice(2, 5))
    row = score(np.full(EMPTY.shape, 0.9), truth, prediction=truth)
    assert row.dice == 1 and row.rmse == pytest.approx(math.sqrt((9 * 0.01 + 71 * 0.81) / 80))
    with pytest.raises(ImageError, match="shape"):
        score(np.zeros(EMPTY.shape), truth, prediction=truth[1:])


def test_missed_image_counts_as_its_diagonal_and_nan_becomes_none() -> None:
    missed = score(np.zeros(EMPTY.shape), box(slice(1, 3), slice(1, 3)))
    assert missed.hd95 == missed.assd == pytest.approx(math.hypot(8, 10))
    assert (missed.dice, missed.nsd2, missed.nsd4, missed.status) == (0, 0, 0, "missed")
    row = missed.as_row()
    assert row["precision"] is None and row["lungs_marked"] is None and row["dice"] == 0
    nothing = score(np.zeros(EMPTY.shape), EMPTY)
    assert (
        math.isnan(nothing.hd95) and math.isnan(nothing.nsd2) and math.isnan(nothing.nsd4) and math.isnan(nothing.dice)
    )


@pytest.mark.parametrize("seed", range(4))
def test_dice_and_iou_agree_with_monai(seed: int) -> None:
    torch = pytest.importorskip("torch")
    monai = pytest.importorskip("monai.metrics")
    prediction, truth = blob(seed), blob(seed + 100, level=0.6) | blob(seed, level=0.9)
    a, b = (torch.from_numpy(mask)[None, None] for mask in (prediction, truth))
    counts = count(prediction, truth)
    assert counts.dice == pytest.approx(monai.DiceMetric()(a.float(), b.float()).item(), rel=1e-6)
    assert counts.iou == pytest.approx(monai.compute_iou(a.float(), b.float()).item(), rel=1e-6)


@pytest.mark.parametrize("seed", range(10))
def test_ratios_agree_with_medpy(seed: int) -> None:
    medpy = pytest.importorskip("medpy.metric.binary")
    random = np.random.default_rng(seed)
    prediction, truth = (random.random((40, 30)) < random.uniform(0.05, 0.95) for _ in range(2))
    row = score(prediction.astype(np.float32), truth)
    ours = (row.dice, row.iou, row.precision, row.recall, row.specificity)
    names = ("dc", "jc", "precision", "recall", "specificity")
    assert ours == pytest.approx([getattr(medpy, name)(prediction, truth) for name in names], abs=1e-9)
    assert row.rmse == pytest.approx(float(np.sqrt(np.mean((prediction ^ truth) ** 2.0))), abs=1e-6)
