from __future__ import annotations

import csv
import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cxrseg.data.layout import open_dataset
from cxrseg.data.sample import Dataset, Sample
from cxrseg.errors import DatasetError, ModelFileError
from cxrseg.evaluation.baseline import threshold_baseline
from cxrseg.evaluation.evaluate import Evaluation, evaluate, summary_table, write_evaluation

DARK, BRIGHT = 51, 204
PIXELS = 64 * 64


def box(rows: slice, columns: slice) -> Any:
    mask = np.zeros((64, 64), bool)
    mask[rows, columns] = True
    return mask


NOTHING = box(slice(0), slice(0))
LUNGS = box(slice(10, 50), slice(10, 35))  # 1000 pixels


@pytest.fixture
def known(tmp_path: Path, write_sample: Callable[..., None]) -> Dataset:
    """Five images of which it is known what the model that marks bright pixels finds."""
    cases = {
        # name: category, truth, what is bright
        "covid_1": ("COVID-19", box(slice(10, 30), slice(10, 20)), box(slice(10, 30), slice(10, 25))),  # 200 of 300
        "covid_2": ("COVID-19", box(slice(10, 20), slice(10, 20)), NOTHING),  # 100 missed
        "Normal (1)": ("Normal", NOTHING, NOTHING),
        "Normal (2)": ("Normal", NOTHING, box(slice(10, 15), slice(10, 20))),  # 50 marked: 5% of the lungs
        "non_COVID (1)": ("Non-COVID", NOTHING, box(slice(10, 11), slice(10, 15))),  # 5 marked: 0.5%
    }
    for name, (category, truth, bright) in cases.items():
        write_sample(name, np.where(bright, BRIGHT, DARK).astype(np.uint8), truth, LUNGS, category=category)
    return open_dataset(tmp_path / "data")


@pytest.fixture
def judged(bright_model: Path, known: Dataset) -> Evaluation:
    return evaluate(bright_model, known)


def without(dataset: Dataset, name: str, *targets: str) -> Dataset:
    """The dataset without some masks of one image."""
    samples = tuple(
        Sample(s.name, s.split, s.category, s.image, {k: v for k, v in s.masks.items() if k not in targets})
        if s.name.endswith(name)
        else s
        for s in dataset.samples
    )
    return Dataset(dataset.root, dataset.layout, samples)


def test_every_image_has_its_row(judged: Evaluation) -> None:
    rows = {sample.name.rpartition("/")[2]: found for sample, found in judged.scores["infection"]}
    counts = {name: (row.tp, row.fp, row.fn, row.status) for name, row in rows.items()}
    assert counts == {
        "covid_1": (200, 100, 0, ""),
        "covid_2": (0, 0, 100, "missed"),
        "Normal (1)": (0, 0, 0, "both empty"),
        "Normal (2)": (0, 50, 0, "false alarm"),
        "non_COVID (1)": (0, 5, 0, "false alarm"),
    }
    first = rows["covid_1"]
    assert (first.dice, first.iou, first.precision, first.recall) == pytest.approx((4 / 5, 2 / 3, 2 / 3, 1))
    assert first.specificity == pytest.approx(1 - 100 / (PIXELS - 200))
    assert first.rmse == pytest.approx(math.sqrt(100 / PIXELS), abs=1e-6)
    assert first.hd95 == pytest.approx(5, abs=1)
    assert rows["Normal (2)"].lungs_marked == pytest.approx(0.05)
    assert rows["non_COVID (1)"].lungs_marked == pytest.approx(0.005)
    assert [found.tn + found.fp + found.fn + found.tp for found in rows.values()] == [PIXELS] * 5


def test_the_four_means_stand_side_by_side(judged: Evaluation) -> None:
    found = judged.summary()["infection"]
    assert {key: found[key] for key in ("images", "infected", "missed", "false_alarm", "both_empty")} == {
        "images": 5,
        "infected": 2,
        "missed": 1,
        "false_alarm": 2,
        "both_empty": 1,
    }
    assert found["infected_per_image"]["dice"] == {"mean": pytest.approx((4 / 5 + 0) / 2), "n": 2, "interval": [0, 0.8]}
    pooled = found["infected_pooled"]["dice"]
    assert (pooled["value"], pooled["n"]) == (pytest.approx(2 * 200 / (300 + 200 + 100)), 2)
    assert pooled["interval"] == pytest.approx([0, 0.8])
    assert found["infected_pooled"]["iou"]["value"] == pytest.approx(200 / 400)
    every = found["all_images_empty_on_empty_is_1"]
    assert (every["dice"]["mean"], every["dice"]["n"]) == (pytest.approx((4 / 5 + 0 + 1 + 0 + 0) / 5), 5)
    marked = found["uninfected_marked"]
    assert (marked["fraction"], marked["n"], marked["limit"]) == (pytest.approx(1 / 3), 3, 0.01)
    assert marked["interval"][0] < 1 / 3 < marked["interval"][1]
    assert found["rmse"]["value"] == pytest.approx(math.sqrt((100 + 100 + 50 + 5) / (5 * PIXELS)), abs=1e-6)


def test_categories_are_summed_up_apart(judged: Evaluation) -> None:
    found = judged.summary()["infection"]["by_category"]
    assert list(found) == ["COVID-19", "Non-COVID", "Normal"]
    assert (found["Normal"]["uninfected_marked"]["fraction"], found["Normal"]["uninfected_marked"]["n"]) == (0.5, 2)
    assert found["Non-COVID"]["uninfected_marked"]["fraction"] == 0
    assert found["COVID-19"]["infected_per_image"]["dice"]["n"] == 2
    assert found["Normal"]["infected_per_image"]["dice"] == {"mean": None, "n": 0, "interval": None}


def test_the_summary_says_what_was_judged_by_what(judged: Evaluation, known: Dataset) -> None:
    found = judged.summary()
    assert found["model"]["name"] == "tiny"
    assert found["dataset"]["sha256"] == known.fingerprint
    assert found["thresholds"] == {"infection": 0.5, "lungs": 0.5}
    assert "Not for diagnosis" in found["note"]
    assert "Dice" in found["empty_masks"]


def test_intervals_say_what_was_resampled(
    bright_model: Path, known: Dataset, judged: Evaluation, tmp_path: Path
) -> None:
    assert judged.summary()["intervals"] | {"resampled": "images", "units": 5} == judged.summary()["intervals"]
    assert summary_table(judged)[-1] == "95% intervals: 5 images were resampled; patients are not known"
    patients = dict(zip([s.name for s in known.samples], ["p", "p", "q", "q", None], strict=True))
    told = dataclasses.replace(
        known, samples=tuple(dataclasses.replace(s, patient=patients[s.name]) for s in known.samples)
    )
    found = evaluate(bright_model, told)
    assert [image.group for image in found.images] == [0, 0, 1, 1, 2]
    assert summary_table(found)[-1] == "95% intervals: 3 patients were resampled"
    ours, theirs = (one.summary()["infection"]["all_images_empty_on_empty_is_1"]["dice"] for one in (found, judged))
    assert ours["mean"] == theirs["mean"] and ours["interval"] != theirs["interval"]
    write_evaluation(found, tmp_path / "out")
    with (tmp_path / "out" / "scores.csv").open(encoding="utf-8", newline="") as file:
        assert [row["group"] for row in csv.DictReader(file)][:5] == ["0", "0", "1", "1", "2"]


def test_lungs_are_judged_too(judged: Evaluation) -> None:
    rows = {sample.name.rpartition("/")[2]: found for sample, found in judged.scores["lungs"]}
    assert rows["Normal (1)"].tp == 1000  # all is dark, so all is lung to this model
    assert rows["Normal (1)"].fp == PIXELS - 1000
    assert math.isnan(rows["Normal (1)"].lungs_marked)


def test_it_is_written_as_csv_and_json(tmp_path: Path, judged: Evaluation) -> None:
    write_evaluation(judged, tmp_path / "out")
    with (tmp_path / "out" / "scores.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 10
    assert list(rows[0])[:5] == ["name", "split", "category", "target", "status"]
    row = next(row for row in rows if row["name"].endswith("covid_1") and row["target"] == "infection")
    assert (row["split"], row["category"], row["tp"], row["fn"]) == ("test", "COVID-19", "200", "0")
    assert float(row["dice"]) == pytest.approx(4 / 5)
    empty = next(row for row in rows if row["name"].endswith("Normal (1)") and row["target"] == "infection")
    assert (empty["status"], empty["dice"], empty["hd95"]) == ("both empty", "", "")
    stored = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    assert stored == json.loads(json.dumps(judged.summary()))


def test_the_table_has_the_means(judged: Evaluation) -> None:
    text = "\n".join(summary_table(judged))
    assert "infection at 0.5: 5 images, 2 with a mask, 1 missed, 2 false alarms, 1 empty on both sides" in text
    infection, lungs = text.split("lungs at 0.5")
    lines = {line.strip().split("  ")[0]: line.split() for line in infection.splitlines()}
    assert lines["images with a mask, per image"][6:8] == ["0.400", "(0.000-0.800)"]
    assert "0.667" in lines["images with a mask, pixels pooled"]
    assert "0.360" in lines["all images, empty on empty = 1"]
    assert "infected fraction of the lungs in percent, all 5 images:" in text
    assert "expected Dice, 2 with infection: finds the 1 with Dice < 0.5" in text
    assert "  measured Dice by expected Dice: " in text
    assert max(len(line) for line in text.splitlines()) <= 120
    assert "5 images, 5 with a mask" in lungs


def test_the_row_says_what_a_user_is_told_and_how_sure_the_model_is(tmp_path: Path, judged: Evaluation) -> None:
    write_evaluation(judged, tmp_path)
    with (tmp_path / "scores.csv").open(encoding="utf-8", newline="") as file:
        rows = {(row["name"].rpartition("/")[2], row["target"]): row for row in csv.DictReader(file)}
    row = rows["covid_1", "infection"]
    assert float(row["infected_fraction_true"]) == pytest.approx(200 / 1000)
    # To this model all is lung that is not bright: what it marks lies outside, and users are told of no infection.
    assert float(row["infected_fraction_predicted"]) == 0
    assert float(row["expected_dice"]) == pytest.approx(1, abs=1e-6)
    assert row["probability_covid19"] == row["emptied"] == row["refused"] == ""
    assert rows["covid_1", "lungs"]["expected_dice"] == rows["covid_1", "lungs"]["infected_fraction_true"] == ""
    with (tmp_path / "regions.csv").open(encoding="utf-8", newline="") as file:
        regions = [row for row in csv.DictReader(file) if row["name"].endswith("covid_1")]
    # One piece of lung on the image's left half: the patient's right.
    assert [row["region"] for row in regions] == ["right", "right_upper", "right_middle", "right_lower"]
    assert (regions[0]["tp"], regions[0]["fp"], regions[0]["pixels"]) == ("200", "100", "1000")
    assert (float(regions[0]["fraction_true"]), float(regions[0]["fraction_predicted"])) == pytest.approx((0.2, 0.3))


def test_severity_expected_dice_sizes_and_regions_are_summed_up(judged: Evaluation) -> None:
    found = judged.summary()
    assert found["severity"]["lungs"] == {"each its own": 5}
    assert found["severity"]["infected"]["mean_absolute_error"]["mean"] == pytest.approx((0.2 + 0.1) / 2)
    assert found["expected_dice"]["infected"]["bad"] == 1
    assert found["image_level"] is None
    sizes = found["infection"]["by_size"]
    assert [(group["from"], group["to"], group["images"], group["missed"]) for group in sizes[:2]] == [
        (0.0, 0.1, 0, 0),
        (0.1, 0.25, 2, 1),  # a tenth of the lungs belongs to the bin above it
    ]
    region = found["infection"]["by_region"]["right"]
    assert (region["images"], region["infected"], region["dice"]["mean"]) == (5, 2, pytest.approx(0.4))
    assert found["task"] == "opacity" and found["refused"] == {"images": 0, "names": []}


def test_every_mean_of_the_summary_has_its_number_and_interval(judged: Evaluation) -> None:
    def visit(value: Any) -> int:
        if isinstance(value, list):
            return sum(visit(each) for each in value)
        if not isinstance(value, dict):
            return 0
        own = any(key in value and not isinstance(value[key], dict) for key in ("mean", "value", "fraction"))
        if own:
            assert isinstance(value["n"], int)
            assert value["interval"] is None or len(value["interval"]) == 2
            assert value["interval"] is not None or value["n"] < 2
        return own + sum(visit(each) for each in value.values())

    found = judged.summary()
    json.dumps(found, allow_nan=False)
    assert visit({key: found[key] for key in ("infection", "lungs", "severity", "expected_dice")}) > 200


def test_what_an_earlier_evaluation_left_is_removed(tmp_path: Path, judged: Evaluation) -> None:
    (tmp_path / "calibration.json").write_text("{}", encoding="utf-8")
    write_evaluation(judged, tmp_path)
    assert sorted(path.name for path in tmp_path.glob("*.*")) == ["regions.csv", "scores.csv", "summary.json"]


def test_an_image_without_a_mask_has_no_row(bright_model: Path, known: Dataset) -> None:
    found = evaluate(bright_model, without(known, "covid_1", "infection"))
    assert [sample.name[-7:] for sample, _ in found.scores["infection"]] == [
        "covid_2",
        "VID (1)",
        "mal (1)",
        "mal (2)",
    ]
    assert len(found.scores["lungs"]) == 5


def test_where_lungs_are_unknown_the_models_own_count(bright_model: Path, known: Dataset) -> None:
    found = evaluate(bright_model, without(known, "Normal (2)", "lungs"))
    rows = {sample.name.rpartition("/")[2]: row for sample, row in found.scores["infection"]}
    assert rows["Normal (2)"].lungs_marked == 0  # this model's lungs are all that is not bright
    assert len(found.scores["lungs"]) == 4


def test_a_dataset_without_any_of_the_masks_is_refused(bright_model: Path, known: Dataset) -> None:
    bare = Dataset(
        known.root, known.layout, tuple(Sample(s.name, s.split, s.category, s.image, {}) for s in known.samples)
    )
    with pytest.raises(DatasetError, match=r"no mask of the model's channels \(infection, lungs\)"):
        evaluate(bright_model, bare)


def test_all_unreadable_images_are_listed(bright_model: Path, known: Dataset) -> None:
    broken = [known.samples[0].image, known.samples[3].masks["infection"]]
    for path in broken:
        assert isinstance(path, Path)
        path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(DatasetError, match="2 of 5 images cannot be evaluated") as caught:
        evaluate(bright_model, known)
    assert len(caught.value.faults) == 2
    for path, fault in zip(broken, caught.value.faults, strict=True):
        assert str(path) in fault


def test_another_threshold_is_used_and_said(bright_model: Path, known: Dataset, tmp_path: Path) -> None:
    found = evaluate(bright_model, known, threshold=0.9)
    assert found.summary()["thresholds"] == {"infection": 0.9, "lungs": 0.5}
    with pytest.raises(ModelFileError, match="found none"):
        evaluate(tmp_path / "none.onnx", known)


def test_progress_is_told_image_by_image(bright_model: Path, known: Dataset) -> None:
    seen: list[tuple[int, int]] = []
    evaluate(bright_model, known, on_image=lambda done, of: seen.append((done, of)))
    assert seen == [(number, 5) for number in range(1, 6)]


def test_images_that_are_no_chest_at_all_are_judged_too(
    tmp_path: Path, bright_model: Path, write_sample: Callable[..., None]
) -> None:
    # Prediction refuses such images; a dataset's figures must not lose them without a word.
    write_sample("covid_1", np.full((64, 64), BRIGHT, np.uint8), box(slice(64), slice(32)), LUNGS)
    found = evaluate(bright_model, open_dataset(tmp_path / "data"))
    assert found.scores["infection"][0][1].dice == pytest.approx(2 / 3)


def baseline_set(tmp_path: Path, write_sample: Callable[..., None], split: str, extra: Any) -> Dataset:
    truth = box(slice(10, 30), slice(10, 30))
    image = np.where(truth, 0.8 * 255, 0.3 * 255)
    image[extra] = 0.9 * 255
    write_sample("covid_1", image.astype(np.uint8), truth, LUNGS, split=split)
    write_sample("Normal (1)", np.full((64, 64), 250, np.uint8), NOTHING, LUNGS, split=split, category="Normal")
    return open_dataset(tmp_path / "data").select(split.lower())


def test_the_threshold_baseline_is_found_on_one_set_and_judged_on_another(
    tmp_path: Path, write_sample: Callable[..., None]
) -> None:
    train = baseline_set(tmp_path, write_sample, "Train", NOTHING)
    test = baseline_set(tmp_path, write_sample, "Test", box(slice(40, 50), slice(40, 60)))  # 200 pixels brighter still
    threshold, dice = threshold_baseline(train, test)
    assert threshold == 20 / 64  # the first step above 0.3
    assert dice == pytest.approx(2 * 400 / (400 + 600))
    assert threshold_baseline(train, train)[1] == 1


def test_a_baseline_needs_infected_images(tmp_path: Path, write_sample: Callable[..., None]) -> None:
    dataset = baseline_set(tmp_path, write_sample, "Train", NOTHING)
    with pytest.raises(DatasetError, match="expected an infected image"):
        threshold_baseline(dataset.select(categories=["Normal"]), dataset)
    with pytest.raises(DatasetError, match="expected an infected image"):
        threshold_baseline(dataset, dataset.select(categories=["Normal"]))
