"""Whether the expected Dice is true and finds bad masks, and whether whole images are called rightly."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from cxrseg.data.sample import Sample
from cxrseg.evaluation.classification import summarise_image_level
from cxrseg.evaluation.expected_dice import auroc, risk_coverage, summarise_expected_dice
from cxrseg.evaluation.image_scores import EvaluatedImage
from cxrseg.metrics.segmentation import score

TRUTH = np.zeros((10, 10), bool)
TRUTH[:5] = True


def judged(rows: int, expected_dice: float | None, *, infected: bool = True) -> EvaluatedImage:
    """A prediction of so many rows, of 5 true ones or none."""
    prediction, truth = np.zeros_like(TRUTH), TRUTH & infected
    prediction[:rows] = True
    sample = Sample("a", "val", "COVID-19", Path("a.png"), {})
    return EvaluatedImage(
        sample, {"infection": score(prediction.astype(np.float32), truth)}, expected_dice=expected_dice
    )


def test_auroc_is_the_chance_that_a_positive_is_larger() -> None:
    random = np.random.default_rng(0)
    values = random.integers(0, 12, 80).astype(float)  # with ties
    positive = random.random(80) < 0.3
    pairs = np.sign(values[positive][:, None] - values[~positive][None])
    found = auroc(values, positive)
    assert found.value == pytest.approx(((pairs + 1) / 2).mean(), abs=1e-12)
    assert found.low < found.value < found.high


def test_auroc_interval_is_that_of_resampled_images() -> None:
    random = np.random.default_rng(1)
    positive = random.random(60) < 0.4
    values = random.normal(size=60) + positive
    drawn = []
    for _ in range(2000):
        index = random.integers(0, 60, 60)
        a, b = values[index][positive[index]], values[index][~positive[index]]
        drawn.append(((np.sign(a[:, None] - b[None]) + 1) / 2).mean())
    found = auroc(values, positive)
    assert (found.low, found.high) == pytest.approx(np.percentile(drawn, [2.5, 97.5]), abs=0.015)


@pytest.mark.parametrize("positive", [[True, True], [False, False], []])
def test_auroc_of_one_kind_alone_is_undefined(positive: Sequence[bool]) -> None:
    assert np.isnan(auroc(np.arange(len(positive)), positive).value)


def test_risk_by_coverage_and_its_area() -> None:
    curve, area = risk_coverage([0.9, 0.5, 0.7], [0.1, 0.6, 0.2])
    assert curve == pytest.approx([0.1, 0.15, 0.3])
    assert area.value == pytest.approx((0.1 + 0.15 + 0.3) / 3)
    assert 0.1 <= area.low < area.value < area.high <= 0.6
    # Among equals the worse comes first: nobody gains by being undecided.
    assert risk_coverage([0.5, 0.5], [0.0, 1.0])[0].tolist() == [1.0, 0.5]


def test_an_estimate_that_knows_and_one_that_does_not() -> None:
    images = [judged(rows, rows / 10) for rows in (0, 1, 2, 3, 4, 5)]
    found = summarise_expected_dice(images)
    assert found is not None and found["infected"] == found["all_images"]
    knows = found["infected"]
    assert (knows["images"], knows["bad"], knows["auroc"]["value"]) == (6, 2, 1.0)  # Dice 0 and 1/3
    assert knows["area"]["value"] == pytest.approx(knows["area_best"])
    assert knows["area"]["value"] < knows["area_random"]
    assert len(knows["risk_coverage"]["coverage"]) == len(knows["risk_coverage"]["risk"]) == 20
    assert knows["risk_coverage"]["risk"][-1] == pytest.approx(knows["area_random"])
    inverse = summarise_expected_dice([judged(rows, 1 - rows / 10) for rows in (0, 1, 2, 3, 4, 5)])
    assert inverse is not None and inverse["infected"]["auroc"]["value"] == 0
    json.dumps(found, allow_nan=False)


def test_expected_and_measured_dice_are_set_side_by_side() -> None:
    images = [judged(5, 0.5), judged(5, 0.55), judged(0, 0.58), judged(5, 1.0), judged(0, 0.49, infected=False)]
    found = summarise_expected_dice(images)
    assert found is not None
    low, high = found["infected"]["bins"]
    assert (low["from"], low["to"], low["images"]) == (0.5, 0.6, 3)
    assert (low["expected"], low["measured"]) == (pytest.approx(1.63 / 3), pytest.approx(2 / 3))
    assert high == {"from": 0.9, "to": 1.0, "images": 1, "expected": 1.0, "measured": 1.0}
    # Of all images, the one that is rightly empty counts as 1.
    assert found["all_images"]["bins"][0] == {"from": 0.0, "to": 0.5, "images": 1, "expected": 0.49, "measured": 1.0}


def test_rightly_empty_masks_are_good_and_false_alarms_bad() -> None:
    images = [judged(5, 0.9), judged(0, 0.8, infected=False), judged(2, 0.3, infected=False), judged(5, None)]
    found = summarise_expected_dice(images)
    assert found is not None
    assert (found["all_images"]["images"], found["all_images"]["bad"]) == (3, 1)
    assert found["all_images"]["auroc"]["value"] == 1
    assert (found["infected"]["images"], found["infected"]["bad"]) == (1, 0)
    assert found["infected"]["auroc"]["value"] is None
    assert summarise_expected_dice([judged(5, None)]) is None
    healthy = summarise_expected_dice([judged(0, 0.8, infected=False)])
    assert healthy is not None and healthy["infected"] == {"images": 0}


def whole(category: str | None, covid19: float, other: float, emptied: bool) -> EvaluatedImage:
    sample = Sample("a", "val", category, Path("a.png"), {})
    probabilities = {"COVID-19": covid19, "Non-COVID": other, "Normal": 1 - covid19 - other}
    return EvaluatedImage(sample, {}, categories=probabilities, emptied=emptied)


def test_whole_images_are_found_where_their_map_was_kept() -> None:
    images = [
        whole("COVID-19", 0.9, 0.1, False),
        whole("COVID-19", 0.4, 0.6, True),
        whole("Non-COVID", 0.6, 0.4, False),
        whole("Normal", 0.1, 0.1, True),
        whole("Normal", 0.0, 0.4, True),
    ]
    found = summarise_image_level([*images, whole(None, 0.5, 0.5, False)], "covid19")
    assert found is not None and found["images"] == 5
    assert (found["sensitivity"]["fraction"], found["sensitivity"]["n"]) == (0.5, 2)
    assert (found["specificity"]["fraction"], found["specificity"]["n"]) == (pytest.approx(2 / 3), 3)
    assert {name: part["fraction"] for name, part in found["kept_by_category"].items()} == {
        "COVID-19": 0.5,
        "Non-COVID": 1.0,
        "Normal": 0.0,
    }
    assert found["auroc"]["value"] == pytest.approx(5 / 6)
    assert summarise_image_level(images, "opacity") is None  # a task that goes by pixels alone
    assert summarise_image_level([judged(5, 0.5)], "covid19") is None
