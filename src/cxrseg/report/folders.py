"""What a report is made of: a run folder or model file, and the folder that `cxrseg evaluate` wrote."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cxrseg.errors import CxrsegError, DatasetError, ModelFileError
from cxrseg.model_file import ModelInfo, read_model

__all__ = ["Judged", "Run", "read_evaluation", "read_run"]


@dataclass(frozen=True)
class Run:
    """What is known of how a model came to be.

    Attributes:
        model: the model file.
        info: what it says about itself.
        history: a row for each epoch; empty where the run folder is not at hand.
        manifest: of the training; likewise.
        recipe: as YAML; likewise.
    """

    model: Path
    info: ModelInfo
    history: Sequence[Mapping[str, float | None]] = ()
    manifest: Mapping[str, Any] = field(default_factory=dict)
    recipe: str = ""


@dataclass(frozen=True)
class Judged:
    """What an evaluation folder holds.

    Attributes:
        folder: where it lies.
        summary: of summary.json.
        calibration: of calibration.json.
        rows: of scores.csv, those of the infection; those of the lungs where the model finds nothing else.
        stress: of stress.json; empty where the evaluation was made without --stress.
    """

    folder: Path
    summary: Mapping[str, Any]
    calibration: Mapping[str, Any]
    rows: Sequence[dict[str, str]]
    stress: Mapping[str, Any] = field(default_factory=dict)


def read_run(path: Path) -> Run:
    """Read a run folder, or a model file alone.

    Raises:
        ModelFileError: there is no model file, or it is damaged.
        CxrsegError: history.csv or manifest.json is damaged.
    """
    if path.is_file():
        return Run(path, read_model(path)[1])
    model = path / "model.onnx"
    if not model.is_file():
        raise ModelFileError(
            f"expected a model file, or a run folder with model.onnx in it, at {path}; 'cxrseg train' makes one"
        )
    history, manifest, recipe = path / "history.csv", path / "manifest.json", path / "recipe.yaml"
    try:
        return Run(
            model,
            read_model(model)[1],
            _epochs(history) if history.is_file() else (),
            json.loads(manifest.read_text(encoding="utf-8")) if manifest.is_file() else {},
            recipe.read_text(encoding="utf-8") if recipe.is_file() else "",
        )
    except ValueError as error:
        raise CxrsegError(f"history.csv, manifest.json or recipe.yaml in {path} is damaged ({error})") from error


def read_evaluation(folder: Path) -> Judged:
    """Read what `cxrseg evaluate` wrote.

    Raises:
        DatasetError: a file is missing or damaged.
    """
    try:
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        # Stored masks have no probabilities, so no calibration; and --stress is left out where time is short.
        calibration, stress = (_read_if_there(folder / name) for name in ("calibration.json", "stress.json"))
        with (folder / "scores.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        target = "infection" if "infection" in summary else rows[0]["target"]
        return Judged(folder, summary, calibration, [row for row in rows if row["target"] == target], stress)
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise DatasetError(
            f"expected summary.json, calibration.json and scores.csv in {folder}, as 'cxrseg evaluate -o {folder}' "
            f"writes them; they are missing or damaged ({error})"
        ) from error


def _read_if_there(path: Path) -> dict[str, Any]:
    """A JSON object, or an empty one where there is no such file."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found


def _epochs(path: Path) -> list[dict[str, float | None]]:
    with path.open(encoding="utf-8", newline="") as file:
        return [{key: float(value) if value else None for key, value in row.items()} for row in csv.DictReader(file)]
