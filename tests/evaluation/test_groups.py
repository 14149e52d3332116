"""Means by the size of the infection and by lung and zone."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cxrseg.data.sample import Sample
from cxrseg.evaluation.groups import SIZES, by_region, by_size
from cxrseg.evaluation.image_scores import EvaluatedImage
from cxrseg.metrics.lungs import find_lungs
from cxrseg.metrics.regions import count_regions
from cxrseg.metrics.segmentation import score
from cxrseg.metrics.severity import measure_severity

LUNGS = np.zeros((60, 50), bool)
LUNGS[10:40, 5:15] = LUNGS[10:40, 30:40] = True  # 600 pixels


def judged(prediction: Any, truth: Any, *, lungs: bool = True) -> EvaluatedImage:
    sample = Sample("a", "val", "COVID-19", Path("a.png"), {})
    scores = {"infection": score(prediction.astype(np.float32), truth)}
    if not lungs:
        return EvaluatedImage(sample, scores)
    sides = find_lungs(LUNGS)
    return EvaluatedImage(
        sample, scores, true=measure_severity(truth, LUNGS), regions=count_regions(prediction, truth, sides)
    )


def infected(pixels: int) -> Any:
    """A truth that holds so many of the 600 pixels of the lungs, from above."""
    mask = np.zeros_like(LUNGS)
    mask[tuple(np.argwhere(LUNGS)[:pixels].T)] = True
    return mask


def test_sizes_are_fractions_of_the_lungs_and_a_bound_belongs_above() -> None:
    pixels = [1, 59, 60, 149, 150, 300, 449, 450, 600]
    images = [judged(infected(count), infected(count)) for count in pixels]
    found = by_size(images)
    assert [(group["from"], group["to"]) for group in found] == list(itertools.pairwise(SIZES))
    assert [group["images"] for group in found] == [2, 2, 1, 2, 2]
    assert all(group["infected_per_image"]["dice"]["mean"] == 1 for group in found)


def test_images_without_infection_or_lungs_are_in_no_bin_and_misses_are_counted() -> None:
    nothing = infected(0)
    images = [judged(nothing, nothing), judged(infected(5), nothing), judged(infected(90), infected(90), lungs=False)]
    assert sum(group["images"] for group in by_size(images)) == 0
    found = by_size([*images, judged(nothing, infected(30)), judged(infected(30), infected(30))])[0]
    assert (found["images"], found["missed"], found["infected_per_image"]["dice"]["mean"]) == (2, 1, 0.5)


def test_infection_beside_the_lungs_counts_as_the_smallest() -> None:
    beside = np.zeros_like(LUNGS)
    beside[50:55] = True
    assert by_size([judged(beside, beside)])[0]["images"] == 1


def test_regions_have_dice_where_infected_and_fraction_errors_everywhere() -> None:
    truth, prediction = np.zeros_like(LUNGS), np.zeros_like(LUNGS)
    truth[10:20, 30:40] = True  # all of the patient's left upper zone
    prediction[10:15, 30:40] = prediction[10:20, 5:10] = True
    found = by_region([judged(prediction, truth), judged(truth, truth), judged(truth, truth, lungs=False)])
    left = found["left_upper"]
    assert (left["images"], left["infected"]) == (2, 2)
    assert left["dice"]["mean"] == pytest.approx((2 * 50 / 150 + 1) / 2)
    assert left["dice_pooled"]["value"] == pytest.approx(2 * 150 / 350)
    assert (left["fraction_error"]["mean"], left["fraction_bias"]["mean"]) == pytest.approx((0.25, -0.25))
    right = found["right_upper"]
    assert (right["infected"], right["dice"]["mean"]) == (0, None)
    assert (right["fraction_error"]["mean"], right["fraction_bias"]["mean"]) == pytest.approx((0.25, 0.25))
    assert found["left"]["fraction_error"]["mean"] == pytest.approx(50 / 300 / 2)
    assert by_region([])["left"]["images"] == 0
