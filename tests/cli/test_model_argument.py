"""What commands take as a model: a file or a run folder; and what they say of a broken one."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from cxrseg.cli import main
from made_models import chest, hand_model


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "mine"
    folder.mkdir()
    hand_model(folder / "model.onnx")
    return folder


def works(*arguments: object) -> str:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("name", ["", "model.onnx"])
def test_a_run_folder_stands_for_its_model(run_folder: Path, name: str, tmp_path: Path, phantoms: Path) -> None:
    model = run_folder / name
    film = tmp_path / "film.png"
    Image.fromarray(np.rint(chest((200, 240))[0] * 255).astype(np.uint8)).save(film)
    named = json.loads(works("info", model))["name"]
    works("predict", film, "-m", model, "-o", tmp_path / "out")
    with (tmp_path / "out" / "statistics.csv").open(encoding="utf-8") as file:
        assert [(row["status"], row["model"]) for row in csv.DictReader(file)] == [("ok", named)]
    works("evaluate", model, "--dataset", phantoms, "--split", "test", "-o", tmp_path / "judged")
    summary = json.loads((tmp_path / "judged" / "summary.json").read_text(encoding="utf-8"))
    assert summary["model"]["name"] == named


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    for arguments in (["predict", tmp_path, "-o", tmp_path / "out", "-m", tmp_path], ["info", tmp_path]):
        result = CliRunner().invoke(main, [str(argument) for argument in arguments])
        assert result.exit_code in (2, 3)
        assert f"a run folder that contains model.onnx, at {tmp_path}" in result.output.replace("\n", " ")


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.98])
@pytest.mark.parametrize("command", [["predict", "film.png", "-o", "out", "-m"], ["info"]], ids=lambda words: words[0])
def test_of_a_broken_model_file_one_line_is_said(
    command: list[str], kept: float, run_folder: Path, tmp_path: Path
) -> None:
    whole = (run_folder / "model.onnx").read_bytes()
    (tmp_path / "broken.onnx").write_bytes(whole[: int(kept * len(whole))] or b"no graph at all")
    Image.new("L", (64, 64)).save(tmp_path / "film.png")
    # In a process of its own: libraries write past Python's own streams.
    done = subprocess.run(
        [sys.executable, "-m", "cxrseg", *command, "broken.onnx"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3 and done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith("Error: broken.onnx cannot be used as a model file: ")
