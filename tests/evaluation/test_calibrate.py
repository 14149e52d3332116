from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from scipy.special import expit

from cxrseg.cli import main
from cxrseg.data.layout import open_dataset
from cxrseg.data.sample import Dataset, Sample
from cxrseg.errors import DatasetError, ModelFileError
from cxrseg.evaluation.calibrate import COVID19_KEPT, Calibration, _covid19_threshold, fit, write_calibration
from cxrseg.evaluation.evaluate import evaluate, summary_table
from cxrseg.evaluation.image_scores import EvaluatedImage
from cxrseg.model_file import ModelInfo, read_model, write_model
from made_models import hand_model

SIZE = 64
SHARPNESS, SHIFT = 4.0, 0.77
"""The hand-made model's logit is 40 (pixel - 0.77), `SHARPNESS` times what the truth is drawn from."""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return hand_model(tmp_path / "hand.onnx", SIZE, SHIFT)


@pytest.fixture
def without_lungs(tmp_path: Path) -> Path:
    """Small pieces of the model's lungs would be emptied, and noise has many."""
    return hand_model(tmp_path / "hand.onnx", SIZE, SHIFT, lungs=False)


@pytest.fixture
def noisy(tmp_path: Path, write_sample: Callable[..., None]) -> Dataset:
    """Images of random brightness whose truth is drawn from a known probability, in two splits."""
    random = np.random.default_rng(0)
    lungs = np.zeros((SIZE, SIZE), bool)
    lungs[8:56, 8:56] = True
    for split in ("Val", "Test"):
        for number in range(4):
            pixels = random.integers(140, 250, (SIZE, SIZE)).astype(np.uint8)
            chance = expit(40 / SHARPNESS * (pixels / 255 - SHIFT))
            truth = random.random(pixels.shape) < chance
            truth[~lungs] = random.random() < 0.5  # outside of the lungs the probabilities mean nothing
            write_sample(f"covid_{number}", pixels, truth, lungs, split=split)
        write_sample("Normal (1)", np.full((SIZE, SIZE), 60, np.uint8), lungs & False, lungs, split, "Normal")
        write_sample("non_COVID (1)", np.full((SIZE, SIZE), 250, np.uint8), lungs & False, lungs, split, "Non-COVID")
    return open_dataset(tmp_path / "data")


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    return result.exit_code, result.output


def test_pixels_of_the_lungs_are_looked_at_and_non_covid_is_left_out(without_lungs: Path, noisy: Dataset) -> None:
    seen = Calibration()
    found = evaluate(without_lungs, noisy.select("val"), callback=seen.callback)
    summary = seen.summary(found.thresholds)["infection"]
    assert (summary["images"], summary["left_out"]) == (5, 1)
    assert summary["where"] == {"lungs of the dataset": 5}
    assert summary["pixels"] == 5 * 48 * 48
    assert (summary["sweep"]["images"], summary["sweep"]["uninfected_images"]) == (4, 1)
    assert summary["best_temperature"] == pytest.approx(SHARPNESS, rel=0.05)


def test_at_the_models_threshold_the_sweep_has_the_evaluations_figures(model: Path, noisy: Dataset) -> None:
    seen = Calibration()
    found = evaluate(model, noisy.select("val"), callback=seen.callback)
    summary = json.loads(json.dumps(seen.summary(found.thresholds)))
    for channel in ("infection", "lungs"):
        curves = summary[channel]["sweep"]
        place = curves["threshold"].index(0.5)
        stated = found.summary()[channel]
        assert curves["dice"][place] == pytest.approx(stated["infected_per_image"]["dice"]["mean"], abs=1e-6)
        assert curves["recall"][place] == pytest.approx(stated["infected_pooled"]["recall"]["value"], abs=1e-6)
    normal = found.summary()["infection"]["by_category"]["Normal"]["uninfected_marked"]["fraction"]
    assert summary["infection"]["sweep"]["uninfected_marked"][place] == normal == 0


def test_what_is_fitted_is_written_into_a_new_model_file(tmp_path: Path, without_lungs: Path, noisy: Dataset) -> None:
    info = fit(without_lungs, noisy.select("val"), tmp_path / "fitted.onnx", evaluated=noisy.select("test"))
    assert info.temperature == pytest.approx(SHARPNESS, rel=0.05)
    assert info.fitted_on is not None
    assert info.fitted_on["split"] == "val"
    assert info.fitted_on["sha256"] == noisy.select("val").fingerprint
    assert read_model(tmp_path / "fitted.onnx")[1] == info
    assert read_model(without_lungs)[1].fitted_on is None  # the old file stays as it is

    seen = Calibration()
    again = evaluate(tmp_path / "fitted.onnx", noisy.select("val"), callback=seen.callback)
    after = seen.summary(again.thresholds)["infection"]
    assert after["best_temperature"] == pytest.approx(1, abs=0.01)
    assert after["expected_calibration_error"] < 0.05
    assert after["log_loss"] == pytest.approx(info.fitted_on["log_loss"], abs=1e-3)
    assert again.thresholds["infection"] == info.threshold
    stated = again.summary()["infection"]["infected_per_image"]["dice"]["mean"]
    assert stated == pytest.approx(info.fitted_on["dice"], abs=2e-3)
    assert stated >= max(after["sweep"]["dice"]) - 0.002


def test_the_evaluation_says_what_was_fitted_here(tmp_path: Path, model: Path, noisy: Dataset) -> None:
    fit(model, noisy.select("val"), tmp_path / "fitted.onnx")
    expected = {"val": True, "test": False}
    for split, here in expected.items():
        found = evaluate(tmp_path / "fitted.onnx", noisy.select(split))
        assert found.summary()["model"]["fitted_here"] is here
        assert any("fitted on this split" in line for line in summary_table(found)) is here
    part = evaluate(tmp_path / "fitted.onnx", noisy.select("val", ["COVID-19"]))
    assert part.fitted_here
    assert not evaluate(model, noisy.select("val")).fitted_here


def test_a_temperature_that_is_there_is_multiplied(tmp_path: Path, without_lungs: Path, noisy: Dataset) -> None:
    once = fit(without_lungs, noisy.select("val"), tmp_path / "once.onnx")
    twice = fit(tmp_path / "once.onnx", noisy.select("val"), tmp_path / "twice.onnx")
    assert twice.temperature == pytest.approx(once.temperature, rel=0.01)
    assert twice.threshold == pytest.approx(once.threshold, abs=0.011)


def test_the_images_that_are_judged_are_refused(tmp_path: Path, model: Path, noisy: Dataset) -> None:
    with pytest.raises(DatasetError, match=r"on 1 of the images .*Normal \(1\).*another split"):
        fit(model, noisy.select("val"), tmp_path / "fitted.onnx", evaluated=noisy.select("val", ["Normal"]))
    assert not (tmp_path / "fitted.onnx").exists()


def test_without_an_infection_there_is_nothing_to_fit(tmp_path: Path, model: Path, noisy: Dataset) -> None:
    with pytest.raises(DatasetError, match="expected infected and uninfected pixels"):
        fit(model, noisy.select("val", ["Normal"]), tmp_path / "fitted.onnx")


def test_a_model_of_lungs_alone_has_nothing_to_fit(tmp_path: Path, model: Path, noisy: Dataset) -> None:
    info = ModelInfo("lungs", ("heart", "lungs"), (SIZE, SIZE), {"mean": 0.0, "std": 1.0})
    write_model(tmp_path / "lungs.onnx", model.read_bytes(), info)
    with pytest.raises(ModelFileError, match="segments heart, lungs"):
        fit(tmp_path / "lungs.onnx", noisy, tmp_path / "fitted.onnx")


def test_it_is_written_as_json(tmp_path: Path, model: Path, noisy: Dataset) -> None:
    seen = Calibration()
    found = evaluate(model, noisy.select("val", ["Normal"]), callback=seen.callback)
    write_calibration(seen, found.thresholds, tmp_path)
    stored = json.loads((tmp_path / "calibration.json").read_text(encoding="utf-8"))
    assert stored["infection"]["best"] is None  # no image with an infection
    assert set(stored["infection"]["sweep"]["dice"]) == {None}
    assert stored["lungs"]["best"]["dice"] == pytest.approx(0.72, abs=0.001)  # all is dark: 2 * 48^2 / (48^2 + 64^2)


def test_the_command_fits_on_one_split_and_judges_on_another(tmp_path: Path, model: Path, noisy: Dataset) -> None:
    given = ("evaluate", model, "--dataset", noisy.root, "-o", tmp_path / "out", "--fit", "val")
    code, text = run(*given, "--split", "test")
    assert code == 0, text
    assert "fitted on val: threshold" in text
    assert "fitted on this split" not in text
    assert read_model(tmp_path / "out" / "fitted.onnx")[1].fitted_on is not None
    assert {"calibration.json", "summary.json", "scores.csv"} <= {path.name for path in (tmp_path / "out").iterdir()}

    code, text = run(*given, "--split", "val")
    assert (code, "--allow-same-split" in text) == (3, True)
    code, text = run(*given, "--split", "val", "--allow-same-split")
    assert (code, "fitted on this split" in text) == (0, True)
    code, text = run(*given, "--split", "test", "--threshold", "0.4")
    assert (code, "use one of them" in text) == (2, True)


def judged(category: str, *chances: float) -> list[EvaluatedImage]:
    """Images of a category, with the classification head's probability of COVID-19."""
    sample = Sample("x", "val", category, Path("x.png"), {})
    return [EvaluatedImage(sample, {}, categories={"COVID-19": chance}) for chance in chances]


@pytest.mark.parametrize(("count", "lost"), [(1, 0), (100, 2), (101, 3), (466, 13)])
def test_the_task_covid19_keeps_more_than_97_of_100(count: int, lost: int) -> None:
    chances = (np.arange(count) + 1) / count
    others = judged("Normal", *chances - 0.5 / count)  # each one emptied costs a COVID-19 image, all but the first
    images = [*judged("COVID-19", *np.random.default_rng(0).permutation(chances)), *others, *others]
    threshold = _covid19_threshold(images)
    assert threshold is not None
    assert np.count_nonzero(chances < threshold) == lost
    assert (count - lost) / count > COVID19_KEPT >= (count - lost - 1) / count


def test_the_task_covid19_takes_the_middle_of_the_widest_gap() -> None:
    covid = judged("COVID-19", 0.99, 0.98, 0.8, 1.0)
    assert _covid19_threshold([*covid, *judged("Normal", 0.01, 0.1)]) == pytest.approx(0.45)
    assert _covid19_threshold([*covid, *judged("Non-COVID", 0.1, 0.9)]) == pytest.approx(0.45)  # one stays wrong
    assert _covid19_threshold(covid) == pytest.approx(0.4)
    assert _covid19_threshold(judged("Normal", 0.3)) is None
    assert _covid19_threshold([EvaluatedImage(covid[0].sample, {})]) is None


def test_the_fitted_threshold_of_the_task_covid19_is_in_the_file(tmp_path: Path, noisy: Dataset) -> None:
    judging = hand_model(tmp_path / "judging.onnx", SIZE, SHIFT, categories=(0.3, 0.6, 0.1))
    assert fit(judging, noisy.select("val"), tmp_path / "fitted.onnx").covid19_threshold == pytest.approx(0.15)
    assert read_model(tmp_path / "fitted.onnx")[1].covid19_threshold == pytest.approx(0.15)
