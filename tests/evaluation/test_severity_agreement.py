"""Agreement of the infected fraction and of the extent score."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cxrseg.data.sample import Sample
from cxrseg.evaluation.image_scores import EvaluatedImage
from cxrseg.evaluation.severity_agreement import summarise_severity, weighted_kappa
from cxrseg.metrics.segmentation import score
from cxrseg.metrics.severity import Severity, extent_score, measure_severity

LUNGS = np.zeros((60, 50), bool)
LUNGS[10:40, 5:15] = LUNGS[10:40, 30:40] = True
SOME = measure_severity(LUNGS, LUNGS)


def told(fraction: float) -> Severity:
    return replace(SOME, infected_fraction=fraction, extent_score=extent_score(fraction, fraction))


def judged(true: float, predicted: float | None) -> EvaluatedImage:
    truth = np.zeros((4, 4), bool)
    truth[:2] = true > 0
    sample = Sample("a", "val", None, Path("a.png"), {})
    scores = {"infection": score(truth.astype(np.float32), truth)}
    ours = None if predicted is None else told(predicted)
    return EvaluatedImage(sample, scores, true=told(true), predicted=ours, lungs="dataset")


def kappa_by_table(ours: Any, theirs: Any) -> float:
    """Cohen 1968 from the table of counts, as scikit-learn computes it."""
    labels = np.union1d(ours, theirs)
    observed = np.array([[np.sum((ours == a) & (theirs == b)) for b in labels] for a in labels], float)
    expected = np.outer(observed.sum(1), observed.sum(0)) / observed.sum()
    weights = (labels[:, None] - labels[None]) ** 2.0
    return float(1 - (weights * observed).sum() / (weights * expected).sum())


@pytest.mark.parametrize("seed", range(5))
def test_kappa_is_cohens_with_quadratic_weights(seed: int) -> None:
    random = np.random.default_rng(seed)
    ours = random.integers(0, 9, 60)
    theirs = np.clip(ours + random.integers(-2, 3, 60), 0, 8)
    found = weighted_kappa(ours.tolist(), theirs.tolist())
    assert found.value == pytest.approx(kappa_by_table(ours, theirs), abs=1e-12)
    assert found.low < found.value < found.high


def test_kappa_at_the_edges() -> None:
    assert weighted_kappa([1, 2, 8], [1, 2, 8]).value == 1
    assert weighted_kappa([0, 8], [8, 0]).value == -1
    assert np.isnan(weighted_kappa([3, 3], [3, 3]).value)
    assert np.isnan(weighted_kappa([], []).value)


def test_error_bias_and_limits() -> None:
    truth, ours = [0.1, 0.4, 0.8, 0.5], [0.2, 0.3, 0.9, 0.7]
    found = summarise_severity([judged(*pair) for pair in zip(truth, ours, strict=True)])
    assert found is not None and found["lungs"] == {"dataset": 4}
    assert found["all_images"] == found["infected"]
    got, difference = found["infected"], np.subtract(ours, truth)
    assert got["mean_absolute_error"]["mean"] == pytest.approx(np.abs(difference).mean())
    assert got["bias"]["mean"] == pytest.approx(difference.mean())
    limits = difference.mean() + np.array([-1.96, 1.96]) * difference.std(ddof=1)
    ends = [got["limits_of_agreement"][end]["value"] for end in ("lower", "upper")]
    assert ends == pytest.approx(limits)
    low, high = got["bias"]["interval"]
    assert low < difference.mean() < high
    assert got["same_score"]["n"] == 4


def test_the_healthy_count_in_all_images_alone_and_unknown_ones_are_said() -> None:
    found = summarise_severity([judged(0.5, 0.25), judged(0.0, 0.1), judged(0.5, None)])
    assert found is not None
    assert (found["all_images"]["images"], found["all_images"]["unknown"]) == (3, 1)
    assert (found["infected"]["images"], found["infected"]["unknown"]) == (2, 1)
    assert found["all_images"]["mean_absolute_error"] == {
        "mean": pytest.approx(0.175),
        "n": 2,
        "interval": pytest.approx([0.1, 0.25]),
    }
    json.dumps(found, allow_nan=False)


def test_nothing_is_said_where_no_fraction_is_known() -> None:
    bare = replace(judged(0.5, 0.5), true=None, predicted=None)
    assert summarise_severity([bare]) is None
    only_one = summarise_severity([judged(0.5, None)])
    assert only_one is not None and only_one["infected"]["mean_absolute_error"]["mean"] is None
