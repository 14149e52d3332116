"""The files that a training run leaves, by name, and reading them back. Needs no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cxrseg.errors import CxrsegError, DatasetError, ModelFileError
from cxrseg.io.csv_file import read_csv_rows
from cxrseg.model_file import ModelInfo, read_model

__all__ = ["RunFolder", "StoredRun", "model_file_in", "read_run", "read_split"]


@dataclass(frozen=True)
class RunFolder:
    """Paths of a training run.

    Attributes:
        root: the folder; holds recipe.yaml, manifest.json, split.csv, history.csv, model.onnx, checkpoints/, figures/
            and tensorboard/.
    """

    root: Path

    @property
    def lock(self) -> Path:
        """Locked while a process trains here; empty, and left behind."""
        return self.root / ".lock"

    @property
    def recipe(self) -> Path:
        """The recipe with every setting."""
        return self.root / "recipe.yaml"

    @property
    def manifest(self) -> Path:
        """Versions, seed, device, dataset, commands, and how the run ended."""
        return self.root / "manifest.json"

    @property
    def split(self) -> Path:
        """Name and split of each image: columns name, split."""
        return self.root / "split.csv"

    @property
    def history(self) -> Path:
        """A row of figures for each epoch."""
        return self.root / "history.csv"

    @property
    def checkpoints(self) -> Path:
        """best.ckpt and last.ckpt."""
        return self.root / "checkpoints"

    @property
    def best(self) -> Path:
        """Weights of the epoch with the best val Dice, or with the lowest val loss where no Dice is above 0."""
        return self.checkpoints / "best.ckpt"

    @property
    def last(self) -> Path:
        """Everything that is needed to continue after the last complete epoch."""
        return self.checkpoints / "last.ckpt"

    @property
    def figures(self) -> Path:
        """PNG and SVG."""
        return self.root / "figures"

    @property
    def model(self) -> Path:
        """The model file: all that prediction needs."""
        return self.root / "model.onnx"


@dataclass(frozen=True)
class StoredRun:
    """A run folder read back, or a model file alone.

    Attributes:
        model: the model file.
        info: its metadata.
        history: a row for each epoch; empty for a model file alone.
        manifest: of the training; empty for a model file alone.
        recipe: as YAML; empty for a model file alone.
    """

    model: Path
    info: ModelInfo
    history: Sequence[Mapping[str, float | None]] = ()
    manifest: Mapping[str, Any] = field(default_factory=dict)
    recipe: str = ""


def model_file_in(path: Path) -> Path:
    """The model file that is meant by the path of a model file or of a run folder.

    Raises:
        ModelFileError: a folder without a model file.
    """
    if not path.is_dir():
        return path
    if not RunFolder(path).model.is_file():
        raise ModelFileError(
            f"expected a model file, or a run folder that contains model.onnx, at {path}; 'cxrseg train' writes one"
        )
    return RunFolder(path).model


def read_split(model: Path) -> dict[str, str]:
    """Name to split of each image of a training run, as its folder keeps them; empty for a model file alone.

    Args:
        model: a run folder, or the model file in it.

    Raises:
        DatasetError: split.csv is damaged.
    """
    path = RunFolder(model if model.is_dir() else model.parent).split
    return {row["name"]: row["split"] for row in read_csv_rows(path)} if path.is_file() else {}


def read_run(path: Path) -> StoredRun:
    """Read a run folder, or a model file alone.

    Raises:
        ModelFileError: the model file is missing or damaged.
        CxrsegError: history.csv, manifest.json or recipe.yaml is damaged.
    """
    if path.is_file():
        return StoredRun(path, read_model(path)[1])
    folder = RunFolder(model_file_in(path).parent if path.is_dir() else path)
    info = read_model(folder.model)[1]
    try:
        return StoredRun(
            folder.model,
            info,
            _epochs(folder.history) if folder.history.is_file() else (),
            json.loads(folder.manifest.read_text(encoding="utf-8")) if folder.manifest.is_file() else {},
            folder.recipe.read_text(encoding="utf-8") if folder.recipe.is_file() else "",
        )
    except (DatasetError, ValueError) as error:
        raise CxrsegError(f"history.csv, manifest.json or recipe.yaml in {path} is damaged ({error})") from error


def _epochs(path: Path) -> list[dict[str, float | None]]:
    return [{key: float(value) if value else None for key, value in row.items()} for row in read_csv_rows(path)]
