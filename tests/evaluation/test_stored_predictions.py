"""What `cxrseg predict` wrote, judged as its users get it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from cxrseg.cli import main
from cxrseg.data.layout import open_dataset
from cxrseg.data.sample import Dataset
from cxrseg.errors import DatasetError
from cxrseg.evaluation.evaluate import evaluate, evaluate_predictions, summary_table, write_evaluation
from cxrseg.evaluation.stored_predictions import StoredPredictions
from cxrseg.inference.files import Options, predict_files
from made_models import chest, hand_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hand_model(tmp_path_factory.mktemp("models") / "hand.onnx", threshold=0.6)


@pytest.fixture
def dataset(tmp_path: Path, write_sample: Callable[..., None]) -> Dataset:
    """An infected chest, a healthy one, and an image that is no chest but has an infection mask."""
    for name, infected, category in (("covid_1", True, "COVID-19"), ("Normal (1)", False, "Normal")):
        pixels, infection, lungs = chest((128, 128), infected)
        write_sample(name, np.rint(pixels * 255).astype(np.uint8), infection, lungs, category=category)
    _, infection, lungs = chest((128, 128))
    write_sample("covid_2", np.full((128, 128), 128, np.uint8), infection, lungs)
    return open_dataset(tmp_path / "data")


@pytest.fixture
def predicted(tmp_path: Path, model: Path, dataset: Dataset) -> Path:
    predict_files(dataset.root, tmp_path / "found", Options((model,), precision="float32", save_probabilities=True))
    return tmp_path / "found"


def test_files_give_what_the_model_gives(predicted: Path, model: Path, dataset: Dataset) -> None:
    stored, direct = evaluate_predictions(predicted, dataset), evaluate(model, dataset)
    pairs = [(a, b) for a, b in zip(stored.images, direct.images, strict=True) if not a.sample.name.endswith("covid_2")]
    assert len(pairs) == 2
    for ours, theirs in pairs:
        for channel in ("infection", "lungs"):
            assert ours.scores[channel].counts == theirs.scores[channel].counts
        # Probabilities are stored in 16 bits, and those of the lungs not at all.
        assert ours.scores["infection"].rmse == pytest.approx(theirs.scores["infection"].rmse, abs=1e-5)
        assert ours.expected_dice == pytest.approx(theirs.expected_dice, abs=1e-5)
        assert (ours.true, ours.predicted, ours.regions) == (theirs.true, theirs.predicted, theirs.regions)
    assert pairs[0][0].scores["infection"].dice > 0.8
    assert stored.thresholds == {"infection": 0.6, "lungs": 0.5}


def test_a_refused_image_counts_as_empty_and_is_named(tmp_path: Path, predicted: Path, dataset: Dataset) -> None:
    found = evaluate_predictions(predicted, dataset)
    refused = next(image for image in found.images if image.sample.name.endswith("covid_2"))
    score = refused.scores["infection"]
    assert refused.refused and (score.status, score.dice, score.hd95) == ("missed", 0, pytest.approx(128 * 2**0.5))
    assert refused.predicted is None and refused.expected_dice is None
    summary = found.summary()
    assert summary["refused"] == {"images": 1, "names": ["Test/COVID-19/covid_2"]}
    assert (summary["infection"]["infected"], summary["infection"]["missed"]) == (2, 1)
    assert summary["severity"]["infected"]["unknown"] == 1
    assert summary["model"] is None and summary["predictions"]["models"][0]["name"] == "hand"
    assert "1 images refused" in "\n".join(summary_table(found))
    write_evaluation(found, tmp_path / "out")
    assert "covid_2,test,COVID-19,infection,missed" in (tmp_path / "out" / "scores.csv").read_text(encoding="utf-8")


def test_without_probabilities_rmse_is_that_of_the_mask(predicted: Path, dataset: Dataset) -> None:
    for path in predicted.rglob("*_probability.png"):
        path.unlink()
    score = evaluate_predictions(predicted, dataset).images[0].scores["infection"]
    assert score.rmse == pytest.approx(((score.fp + score.fn) / score.counts.pixels) ** 0.5)


def test_masks_are_matched_to_their_images_where_names_repeat(
    tmp_path: Path, model: Path, write_sample: Callable[..., None]
) -> None:
    for split, infected in (("Train", True), ("Val", False)):
        pixels, infection, lungs = chest((128, 128), infected)
        write_sample("covid_1", np.rint(pixels * 255).astype(np.uint8), infection, lungs, split=split)
    dataset = open_dataset(tmp_path / "data")
    images = tmp_path / "data" / "Train" / "COVID-19" / "images"
    predict_files(images, tmp_path / "found", Options((model,)))
    assert evaluate_predictions(tmp_path / "found", dataset.select("train")).images[0].infected
    with pytest.raises(DatasetError, match=r"1 of 1 images of .* have no prediction") as caught:
        evaluate_predictions(tmp_path / "found", dataset.select("val"))
    assert caught.value.faults == ("Val/COVID-19/covid_1: no prediction",)
    # Once the dataset has moved, names are all that is left, and they must not be ambiguous.
    moved = tmp_path / "moved"
    (tmp_path / "data").rename(moved)
    with pytest.raises(DatasetError, match="match the same prediction"):
        evaluate_predictions(tmp_path / "found", open_dataset(moved))


def test_images_that_differ_in_their_ending_alone(tmp_path: Path, model: Path, dataset: Dataset) -> None:
    image = dataset.samples[0].image
    assert isinstance(image, Path)
    pixels, _, _ = chest((128, 128), infected=False)
    from PIL import Image

    Image.fromarray(np.rint(pixels * 255).astype(np.uint8)).save(image.with_suffix(".bmp"))
    predict_files(image.parent, tmp_path / "found", Options((model,)))
    assert (tmp_path / "found" / "covid_1.png_infection.png").exists()
    one = Dataset(dataset.root, dataset.layout, dataset.samples[:1])
    assert evaluate_predictions(tmp_path / "found", one).images[0].scores["infection"].dice > 0.8


def test_categories_of_the_whole_image_are_read_back(predicted: Path, dataset: Dataset) -> None:
    path = predicted / "statistics.json"
    rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    for row in rows:
        row |= {"probability_covid19": 0.2, "probability_non_covid": 0.3, "probability_normal": 0.5, "emptied": True}
        row["spacing_mm"] = "0.2x0.4"
    path.write_text(json.dumps(rows), encoding="utf-8")
    manifest = json.loads((predicted / "manifest.json").read_text(encoding="utf-8"))
    manifest["options"]["task"] = "covid19"
    (predicted / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    found = StoredPredictions(predicted, dataset).predict(dataset.samples[0])
    assert found.categories == {"COVID-19": 0.2, "Non-COVID": 0.3, "Normal": 0.5} and found.emptied
    assert found.spacing_mm == (0.2, 0.4)
    summary = evaluate_predictions(predicted, dataset).summary()
    assert summary["infection"]["infected_per_image"]["hd95_mm"]["n"] == summary["infection"]["infected"]
    assert any("in mm, 2 images" in line for line in summary_table(evaluate_predictions(predicted, dataset)))
    assert evaluate_predictions(predicted, dataset).summary()["image_level"]["specificity"]["fraction"] == 1


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "manifest.json").unlink(), "expected an output folder of 'cxrseg predict'"),
        (lambda folder: (folder / "statistics.json").write_text("{"), "damaged"),
        (lambda folder: next(folder.rglob("covid_1_infection.png")).unlink(), "expected the mask .*covid_1_infection"),
    ],
)
def test_a_folder_that_cannot_be_evaluated_is_an_error(
    predicted: Path, dataset: Dataset, spoil: Callable[[Path], object], message: str
) -> None:
    spoil(predicted)
    with pytest.raises(DatasetError, match=message):
        evaluate_predictions(predicted, dataset)


def test_the_command(tmp_path: Path, predicted: Path, dataset: Dataset) -> None:
    runner = CliRunner()
    common = ["--dataset", str(dataset.root), "--split", "test", "-o", str(tmp_path / "out")]
    done = runner.invoke(main, ["evaluate", "--predictions", str(predicted), *common])
    assert done.exit_code == 0, done.output
    assert "infection at 0.6: 3 images, 2 with a mask, 1 missed" in done.output
    for wrong in (["m.onnx", "--predictions", str(predicted)], ["--predictions", str(predicted), "-ta", "covid19"]):
        assert runner.invoke(main, ["evaluate", *wrong, *common]).exit_code == 2
