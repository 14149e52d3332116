"""The benchmark of other hospitals and readers, on made folders and a model whose answer is known."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cxrseg.errors import DatasetError
from cxrseg.inference.prediction import Prediction
from cxrseg.inference.segmenter import Segmenter
from cxrseg.io.radiograph import Radiograph
from made_models import chest, hand_model

elsewhere: Any = pytest.importorskip("elsewhere", reason="needs the repository: benchmarks/ is not installed")

SIZE = 128
DICE = "Dice of films that the reader drew on"


def save(path: Path, values: np.ndarray[Any, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.rint(np.asarray(values, np.float32) * 255).astype(np.uint8)).save(path)


def index(folder: Path, rows: list[dict[str, Any]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "index.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """The four folders, with chests whose left lung (image right) has a bright spot where they are infected."""
    rows = []
    for number in range(6):
        kind = ("Lung Opacity", "Normal", "No Lung Opacity / Not Normal")[number % 3]
        # One of the films classed as 'something else' has an opacity that nobody boxed.
        pixels = chest((SIZE, SIZE), infected=kind == "Lung Opacity" or number == 2)[0]
        save(tmp_path / "nih-rsna" / "images" / f"{number}.png", pixels)
        y, x = (np.flatnonzero(chest((SIZE, SIZE))[1].any(axis=axis))[[0, -1]] for axis in (1, 0))
        box = [float(x[0]), float(y[0]), float(x[1] - x[0] + 1), float(y[1] - y[0] + 1)]
        rows.append(
            {"file": f"{number}.png", "class": kind, "boxes": json.dumps([box] if kind == "Lung Opacity" else [])}
        )
    index(tmp_path / "nih-rsna", rows)
    pixels, spot, lungs = chest((SIZE, SIZE))
    healthy = chest((SIZE, SIZE), infected=False)[0]
    for hospital, films in (("here", [healthy, healthy]), ("there", [healthy, pixels])):
        folder = tmp_path / "other-hospitals" / hospital
        for number, film in enumerate(films):
            save(folder / "images" / f"{number}.png", film)
            save(folder / "lung masks" / f"{number}.png", lungs)
        index(folder, [{"file": f"{number}.png", "class": "normal"} for number in range(2)])
    reader = tmp_path / "second-reader"
    for name, drawn in (("a", spot), ("b", spot & False)):
        save(reader / "images" / f"{name}.png", pixels)
        save(reader / "infection masks" / f"{name}.png", drawn)
        save(reader / "lung masks" / f"{name}.png", lungs)
    index(
        reader, [{"name": "a", "split": "Train", "source": "a site"}, {"name": "b", "split": "Val", "source": "a site"}]
    )
    scores = [
        ("0|0|0|0|0|0", "0|0|0|0|0|0", healthy),
        ("0|0|0|0|2|1", "0|0|0|0|3|1", pixels),
        ("0|0|0|0|0|0", "0|0|0|0|0|1", healthy),
    ]
    for number, (_, _, film) in enumerate(scores):
        save(tmp_path / "covid-qu-ex" / "Val" / "COVID-19" / "images" / f"covid_{number}.png", film)
    index(
        tmp_path / "brixia",
        [
            {"file": f"covid_{number}.png", "senior_A_to_F": senior, "junior_A_to_F": junior}
            for number, (senior, junior, _) in enumerate(scores)
        ],
    )
    return tmp_path


@pytest.fixture
def segmenter(tmp_path: Path) -> Segmenter:
    return Segmenter(hand_model(tmp_path / "hand.onnx", SIZE), precision="float32")


def test_every_source_has_its_figures(shared: Path, segmenter: Segmenter) -> None:
    found = elsewhere.evaluate_elsewhere(segmenter, shared, workers=1)
    of = {(one.source, one.name): one.estimate for one in found.figures}

    def value(source: str, name: str) -> float:
        (key,) = [key for key in of if key[0] == source and key[1].startswith(name)]
        return float(of[key].value)

    assert value("nih-rsna", "AUROC, Lung Opacity against Normal") == 1
    assert value("nih-rsna", "AUROC, Lung Opacity against all") == pytest.approx(7 / 8)
    assert value("nih-rsna", "Normal: marked") == 0
    assert value("nih-rsna", "No Lung Opacity") == 0.5
    assert value("nih-rsna", "boxes hit") == 1
    assert value("nih-rsna", "precision") == 1
    assert 0.7 < value("nih-rsna", "recall") < 0.85  # a round spot in its box
    assert value("other-hospitals/here", "normal") == 0 and value("other-hospitals/there", "normal") == 0.5
    assert value("other-hospitals/here", "lungs") > 0.98
    assert value("second-reader", DICE) > 0.98 and of["second-reader", DICE].n == 1
    assert np.isnan(value("second-reader/Val", DICE))  # the reader drew nothing there
    assert value("second-reader", "Dice of all films") == pytest.approx(0.5, abs=0.01)
    assert value("second-reader/Val", "films that the reader left empty") == 1
    assert value("second-reader/Val", "infected fraction, bias") > 0.05
    assert value("second-reader", "over 90%") == 0
    assert value("brixia", "films: Spearman, ours") == pytest.approx(0.866, abs=0.01)
    assert value("brixia", "zones: Spearman, ours") > 0.8
    assert value("brixia", "zones that both call clear: over 1%") == 0
    assert of["brixia", "zones: Spearman, reader and reader"].n == 18
    assert {row["folder"] for row in found.rows} == set(elsewhere.SOURCES)


def test_zones_that_are_marked_but_clear_are_counted(shared: Path, segmenter: Segmenter) -> None:
    save(shared / "covid-qu-ex" / "Val" / "COVID-19" / "images" / "covid_0.png", chest((SIZE, SIZE))[0])
    found = elsewhere.evaluate_elsewhere(segmenter, shared, ["brixia"], workers=1)
    (marked,) = [one.estimate.value for one in found.figures if "over 1%" in one.name]
    clear = 6 + 4 + 5
    assert marked * clear == pytest.approx(2)  # the spot lies in the left middle and lower zone


class Painter:
    """Finds the lungs, and marks all of them."""

    def segment(self, radiograph: Radiograph) -> Prediction:
        lungs = chest(radiograph.shape)[2].astype(np.float32)
        return Prediction({"infection": lungs, "lungs": lungs}, {"infection": 0.5, "lungs": 0.5})


def test_a_model_that_paints_whole_lungs_is_told_so(shared: Path) -> None:
    found = elsewhere.evaluate_elsewhere(Painter(), shared, ["second-reader"], workers=1)
    of = {one.name: one.estimate.value for one in found.figures if one.source == "second-reader"}
    assert of["over 90% of the lungs where the reader has under 80%"] == 1
    assert of["infected fraction, bias"] > 0.9


def test_what_is_missing_is_named(shared: Path, segmenter: Segmenter) -> None:
    (shared / "covid-qu-ex" / "Val" / "COVID-19" / "images" / "covid_1.png").unlink()
    with pytest.raises(DatasetError, match=r"covid_1\.png"):
        elsewhere.evaluate_elsewhere(segmenter, shared, ["brixia"])
    with pytest.raises(DatasetError, match=r"expected .*nih-rsna"):
        elsewhere.evaluate_elsewhere(segmenter, shared / "none", ["nih-rsna"])


def test_the_program_prints_a_table_and_writes_the_figures(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = hand_model(tmp_path / "hand.onnx", SIZE)
    out = [
        f"--folder={shared}",
        "--only",
        "nih-rsna",
        "-o",
        str(tmp_path / "f.json"),
        "--rows",
        str(tmp_path / "r.csv"),
    ]
    monkeypatch.setattr(sys, "argv", ["elsewhere.py", str(model), *out])
    elsewhere.main()
    assert "AUROC, Lung Opacity against Normal" in capsys.readouterr().out
    figures = json.loads((tmp_path / "f.json").read_text())["figures"]
    assert figures[0]["source"] == "nih-rsna" and figures[0]["value"] == 1
    with (tmp_path / "r.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 6
