"""The weights that come with cxrseg: used where no model is named, and what they say of themselves."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import cxrseg
from cxrseg.cli import main
from cxrseg.data.sample import CATEGORIES
from cxrseg.model_file import model_sha256, read_model, shipped_model
from cxrseg.phantom.generate import make_phantom
from cxrseg.training.recipe import Recipe
from cxrseg.training.recipe_file import load_recipe

CHEST = Path(__file__).resolve().parents[2] / "shared" / "dicom" / "chest-ap.dcm"


def dice(one: object, other: object) -> float:
    both = np.count_nonzero(np.logical_and(one, other))
    return 2 * both / (np.count_nonzero(one) + np.count_nonzero(other))


def test_the_file_is_small_and_complete() -> None:
    assert shipped_model().stat().st_size < 25e6
    info = read_model(shipped_model())[1]
    assert (info.name, info.channels, info.size) == ("cxrseg", ("infection", "opacity", "lungs"), (192, 192))
    assert info.categories == CATEGORIES
    assert Recipe.model_validate(dict(info.recipe)) == load_recipe("cxrseg", ["optimiser.precision=bfloat16"])
    assert {"frontal", "mirrored", "inverted", "lateral", "ct", "other-body"} <= set(info.views)
    assert info.view_fit["as_they_are"]["frontal"]["refused"] <= 0.005
    assert info.fitted_on is not None and info.fitted_on["split"] == "val"
    assert "train COVID-19 2080" in info.dataset["images"] and len(info.dataset["sha256"]) == 64
    assert 0 < info.threshold < 1 and info.temperature > 0 and 0 < info.covid19_threshold < 1
    assert set(info.figures["val"]) == {"of", "opacity", "infection", "lungs", "covid19"}
    assert "CC BY-SA 4.0" in info.licence and "10.1016/j.compbiomed.2021.105002" in info.licence


def test_info_prints_it() -> None:
    result = CliRunner().invoke(main, ["info"])
    assert result.exit_code == 0
    printed = json.loads(result.output)
    assert printed.pop("checksum") in (True, False)
    expected = json.loads(read_model(shipped_model())[1].to_json())
    assert printed == expected | {"int8_ranges": len(expected["int8_ranges"])}


def test_lungs_of_a_synthetic_chest_are_found_without_naming_a_model() -> None:
    phantom = make_phantom(3, "Normal")
    found = cxrseg.segment(phantom.image)
    assert found.model.name == "cxrseg"
    assert dice(found.mask("lungs"), phantom.left_lung | phantom.right_lung) > 0.8


def test_evaluate_without_a_model_judges_it(tmp_path: Path, phantoms: Path) -> None:
    result = CliRunner().invoke(main, ["evaluate", "--dataset", str(phantoms), "-o", str(tmp_path)])
    assert result.exit_code == 0, result.output
    model = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))["model"]
    assert (model["name"], model["sha256"]) == ("cxrseg", model_sha256(shipped_model()))


@pytest.mark.skipif(not CHEST.exists(), reason="the real radiograph in ../shared is not here")
@pytest.mark.parametrize(("task", "most"), [("opacity", 0.1), ("covid19", 0.01)])
def test_a_real_radiograph_is_taken(tmp_path: Path, task: str, most: float) -> None:
    # Nobody has said what it shows: the most under 'opacity' is what these weights find, and a half more.
    result = CliRunner().invoke(main, ["predict", "-i", str(CHEST), "-o", str(tmp_path), "-p", "-ta", task])
    assert result.exit_code == 0, result.output
    with (tmp_path / "statistics.csv").open(encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["status"], row["model"]) == ("ok", "cxrseg")
    assert float(row["infected_fraction"]) < most
    assert (tmp_path / "chest-ap_preview.png").exists()
