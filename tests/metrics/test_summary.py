"""The four means, side by side, each with its number of images and its interval."""

import json
import math
from typing import Any

import numpy as np
import pytest

from cxrseg.metrics.segmentation import score
from cxrseg.metrics.summary import FIGURES, per_image, pooled_rmse, summarise

EMPTY = np.zeros((8, 10), dtype=bool)


def box(rows: slice, columns: slice) -> Any:
    mask = EMPTY.copy()
    mask[rows, columns] = True
    return mask


def point(cell: dict[str, Any]) -> dict[str, Any]:
    """A figure without its interval, which must hold it."""
    value = next(iter(cell.values()))
    if cell["interval"] is not None:
        low, high = cell["interval"]
        assert low <= value <= high
    return {key: part for key, part in cell.items() if key != "interval"}


def test_the_four_means_do_not_mix() -> None:
    lungs = box(slice(0, 8), slice(0, 10))
    small, large = box(slice(0, 1), slice(0, 2)), box(slice(0, 8), slice(0, 8))
    cases = [
        (large, large),  # found
        (EMPTY, small),  # missed
        (EMPTY, EMPTY),  # rightly empty
        (small, EMPTY),  # 2 of 80 pixels of the lungs marked: 2.5%
    ]
    result = summarise([score(p.astype(np.float32), t, lungs) for p, t in cases])
    assert (result["images"], result["infected"]) == (4, 2)
    assert (result["both_empty"], result["missed"], result["false_alarm"]) == (1, 1, 1)
    assert point(result["infected_per_image"]["dice"]) == {"mean": 0.5, "n": 2}
    assert result["infected_per_image"]["precision"] == {"mean": 1.0, "n": 1, "interval": None}
    assert result["infected_per_image"]["hd95"]["mean"] == pytest.approx(math.hypot(8, 10) / 2)
    assert point(result["infected_pooled"]["dice"]) == {"value": pytest.approx(128 / 130), "n": 2}
    every = result["all_images_empty_on_empty_is_1"]
    for name in ("dice", "iou", "nsd2", "nsd4"):
        assert point(every[name]) == {"mean": 0.5, "n": 4}
    assert point(result["uninfected_marked"]) == {"fraction": 0.5, "n": 2, "limit": 0.01}
    assert point(result["rmse"]) == {"value": pytest.approx(math.sqrt(4 / 320)), "n": 4}
    assert point(result["infected_pooled"]["rmse"]) == {"value": pytest.approx(math.sqrt(2 / 160)), "n": 2}


def test_missed_images_are_never_dropped_from_a_mean_of_distances() -> None:
    found, missed = box(slice(2, 6), slice(2, 6)), np.zeros_like(EMPTY)
    rows = [score(each.astype(np.float32), found) for each in (found, found, missed)]
    means = per_image(rows)
    assert list(means) == list(FIGURES)
    for name in ("dice", "iou", "recall", "hd95", "assd", "nsd2", "nsd4"):
        assert means[name]["n"] == 3
    assert means["hd95"]["mean"] == means["assd"]["mean"] == pytest.approx(math.hypot(8, 10) / 3)
    assert means["nsd4"]["mean"] == pytest.approx(2 / 3)


def test_pooled_figures_are_resampled_as_pooled() -> None:
    random = np.random.default_rng(0)
    rows = [score(random.random((8, 10)), box(slice(0, rows), slice(0, 10))) for rows in random.integers(1, 8, 40)]
    found = summarise(rows)["infected_pooled"]
    # The bootstrap of a ratio of sums, written out.
    counts = np.array([[row.tp, row.fp, row.fn] for row in rows], float)
    drawn = counts[random.integers(0, 40, (4000, 40))].sum(axis=1)
    low, high = np.percentile(2 * drawn[:, 0] / (2 * drawn[:, 0] + drawn[:, 1] + drawn[:, 2]), [2.5, 97.5])
    assert found["dice"]["interval"] == pytest.approx([low, high], abs=0.01)
    rmse = pooled_rmse(rows)
    squares = np.array([row.rmse**2 for row in rows])[random.integers(0, 40, (4000, 40))].mean(axis=1)
    assert (rmse.low, rmse.high) == pytest.approx(np.percentile(np.sqrt(squares), [2.5, 97.5]), abs=0.002)


def test_one_percent_of_the_lungs_is_not_more_than_one_percent() -> None:
    lungs = np.ones((10, 10), dtype=bool)
    marked = np.zeros((10, 10), dtype=bool)
    marked[0, 0] = True
    row = score(marked.astype(np.float32), np.zeros((10, 10), dtype=bool), lungs)
    assert row.lungs_marked == 0.01
    assert summarise([row])["uninfected_marked"]["fraction"] == 0


def test_means_over_nothing_are_none_and_json_takes_them() -> None:
    for rows in ([], [score(np.zeros(EMPTY.shape), EMPTY)]):
        result = json.loads(json.dumps(summarise(rows), allow_nan=False))
        assert result["infected_per_image"]["dice"] == {"mean": None, "n": 0, "interval": None}
        assert result["infected_pooled"]["dice"] == {"value": None, "n": 0, "interval": None}
        assert result["uninfected_marked"]["fraction"] is None
