"""The run folder: everything that a training run leaves behind, and the rules for going on with one."""

from __future__ import annotations

import datetime
import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from cxrseg._version import __version__
from cxrseg.data.sample import Dataset
from cxrseg.errors import TrainingError
from cxrseg.io.write import write_bytes, write_json
from cxrseg.training.recipe import Recipe
from cxrseg.training.recipe_file import load_recipe

__all__ = ["RunFolder"]

_PACKAGES = ("kornia", "lightning", "monai", "numpy", "segmentation_models_pytorch", "timm", "torch")


@dataclass(frozen=True)
class RunFolder:
    """Paths of a run.

    Attributes:
        root: the folder; holds recipe.yaml, manifest.json, history.csv, model.onnx, checkpoints/, figures/ and
            tensorboard/.
    """

    root: Path

    @property
    def recipe(self) -> Path:
        """The recipe, every setting spelt out."""
        return self.root / "recipe.yaml"

    @property
    def manifest(self) -> Path:
        """Versions, seed, device, dataset, command, and how the run ended."""
        return self.root / "manifest.json"

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
        """Weights of the epoch with the best val Dice."""
        return self.checkpoints / "best.ckpt"

    @property
    def last(self) -> Path:
        """Everything needed to go on after the last complete epoch."""
        return self.checkpoints / "last.ckpt"

    @property
    def figures(self) -> Path:
        """PNG and SVG."""
        return self.root / "figures"

    @property
    def model(self) -> Path:
        """The model file: all that prediction needs."""
        return self.root / "model.onnx"

    def begin(self, recipe: Recipe, dataset: Dataset, resume: bool, teachers: Sequence[Mapping[str, str]] = ()) -> None:
        """Check that a run may begin here, or that the run in the folder is the one that is to go on.

        Raises:
            TrainingError: the folder holds other things, another run, or a run of another recipe, dataset or teachers.
        """
        if self.recipe.exists():
            if not resume:
                raise TrainingError(
                    f"{self.root} holds a run already; go on with it with --resume, or name another folder with -o"
                )
            self._check_same(recipe, dataset)
            self._check_teachers(teachers)
        elif self.root.is_file():
            raise TrainingError(f"expected a run folder at {self.root}, but it is a file; name another folder with -o")
        elif self.root.exists() and any(self.root.iterdir()):
            raise TrainingError(f"{self.root} is not empty and holds no run; name another folder with -o")
        for unfinished in self.root.rglob(".*.part"):  # of a process that was killed while it wrote
            unfinished.unlink()

    def write_recipe(self, recipe: Recipe) -> None:
        """Write the recipe; from now on the folder holds a run."""
        write_bytes(self.recipe, recipe.to_yaml().encode())

    def write_manifest(self, recipe: Recipe, dataset: Dataset, device: str, **more: Any) -> None:
        """Write the manifest: what made this run, so that another can make it again."""
        command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])
        before = json.loads(self.manifest.read_text(encoding="utf-8"))["commands"] if self.manifest.exists() else []
        write_json(
            self.manifest,
            {
                "cxrseg": __version__,
                "commands": before if before[-1:] == [command] else [*before, command],
                "written": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                "seed": recipe.seed,
                "device": device,
                "threads": torch.get_num_threads(),
                "python": platform.python_version(),
                "platform": platform.platform(),
                "packages": {package: version(package) for package in _PACKAGES},
                "dataset": {
                    "path": os.fspath(dataset.root),
                    "layout": dataset.layout,
                    "images": dataset.describe(),
                    "sha256": dataset.fingerprint,
                },
                **more,
            },
        )

    def _check_same(self, recipe: Recipe, dataset: Dataset) -> None:
        old, new = load_recipe(self.recipe).model_dump(), recipe.model_dump()
        faults = [
            f"{section}.{key}: the run has {before!r}, now {after!r}"
            for section in ("data", "network", "loss", "augment", "optimiser")
            for key, before in old[section].items()
            if (after := new[section][key]) != before
        ]
        if old["seed"] != new["seed"]:
            faults.append(f"seed: the run has {old['seed']}, now {new['seed']}")
        if faults:
            listed = "\n  - ".join(faults)
            raise TrainingError(
                f"{self.root} was begun with another recipe, so it cannot go on with this one; take the old settings, "
                f"or name another folder with -o:\n  - {listed}"
            )
        manifest = self.manifest
        if manifest.exists() and dataset.fingerprint not in manifest.read_text(encoding="utf-8"):
            raise TrainingError(
                f"{self.root} was begun on other images than {dataset.root} holds now; name another folder with -o"
            )

    def _check_teachers(self, teachers: Sequence[Mapping[str, str]]) -> None:
        if not self.manifest.exists():
            return
        before = json.loads(self.manifest.read_text(encoding="utf-8")).get("teachers", [])
        if [teacher["sha256"] for teacher in before] != [teacher["sha256"] for teacher in teachers]:
            old, new = (", ".join(teacher["path"] for teacher in some) or "none" for some in (before, teachers))
            raise TrainingError(
                f"{self.root} was begun with other teachers ({old}, now {new}), or they have been trained on since; "
                "give the same with --distill-from, or name another folder with -o"
            )
