"""Writing the recipe and the manifest of a run, and checking that a run may begin or continue in a folder."""

from __future__ import annotations

import datetime
import json
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import torch

from cxrseg._version import __version__
from cxrseg.data.sample import Dataset
from cxrseg.errors import TrainingError
from cxrseg.io.locks import lock
from cxrseg.io.write import write_bytes, write_csv, write_json
from cxrseg.run_folder import RunFolder
from cxrseg.training.recipe import Recipe
from cxrseg.training.recipe_file import load_recipe

__all__ = ["RunClaim", "check_run_folder", "write_manifest", "write_recipe"]

EXTENDABLE = ("constant", "plateau")
"""Schedules whose learning rate does not depend on the number of epochs, so that a run can be extended."""

_PACKAGES = ("kornia", "lightning", "monai", "numpy", "segmentation_models_pytorch", "timm", "torch")


def check_run_folder(
    folder: RunFolder, recipe: Recipe, dataset: Dataset, resume: bool, distilled: Sequence[Mapping[str, str]] = ()
) -> None:
    """Check that a run may begin in a folder, or that the run in the folder is the one that is to continue.

    Args:
        folder: where the run is to be.
        recipe: what is to be trained.
        dataset: the images that it uses.
        resume: True where the run in the folder is to continue.
        distilled: path and SHA-256 of the models that it learns from, see `Distillation.marks`.

    Raises:
        TrainingError: the folder holds other files or another run, or its run has another recipe, other images or
            other models to learn from.
    """
    if folder.recipe.exists():
        if not resume:
            raise TrainingError(
                f"{folder.root} already holds a run; continue it with --resume, or name another folder with -o"
            )
        _check_recipe(folder, recipe, dataset)
        _check_distilled(folder, distilled)
    elif folder.root.is_file():
        raise TrainingError(f"expected a run folder at {folder.root}, got a file; name another folder with -o")
    elif folder.root.exists() and any(entry != folder.lock for entry in folder.root.iterdir()):
        raise TrainingError(f"{folder.root} is not empty and does not hold a run; name another folder with -o")
    for unfinished in folder.root.rglob(".*.part"):  # of a process that was killed while it wrote
        unfinished.unlink()


class RunClaim:
    """Keeps other processes from training in a run folder, until the `with` block or this process ends.

    Args:
        folder: of the run.
        check: raises where the run may not begin there, see `check_run_folder`.
    """

    def __init__(self, folder: RunFolder, check: Callable[[], None]) -> None:
        self._folder, self._check = folder, check
        self._file: IO[bytes] | None = None

    def check(self) -> None:
        """Check the folder without a change to one that holds no run; one that holds a run is locked first.

        Raises:
            TrainingError: the run may not begin there, or another process trains there.
        """
        if self._folder.recipe.exists():
            self._lock()
        self._check()

    def take(self) -> None:
        """Lock the folder, which is made where missing, and check again what another process may have changed.

        Raises:
            TrainingError: as for `check`.
        """
        if self._file is None:
            self._lock()
            self._check()

    def _lock(self) -> None:
        root = self._folder.root
        root.mkdir(parents=True, exist_ok=True)
        self._file = self._folder.lock.open("ab")
        taken = f"another process trains in {root}; wait until it has ended, or name another folder with -o"
        lock(self._file, TrainingError(taken))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._file is not None:
            self._file.close()


def write_recipe(folder: RunFolder, recipe: Recipe, dataset: Dataset) -> None:
    """Write the splits and the recipe; from then on the folder holds a run."""
    write_csv(folder.split, ("name", "split"), [{"name": s.name, "split": s.split} for s in dataset.samples])
    write_bytes(folder.recipe, recipe.to_yaml().encode())


def write_manifest(folder: RunFolder, recipe: Recipe, dataset: Dataset, device: str, **more: Any) -> None:
    """Write the manifest: all that is needed to repeat the run.

    Args:
        folder: of the run.
        recipe: what is trained.
        dataset: the images that are used.
        device: such as 'cpu' or 'cuda:0'.
        more: other entries, of JSON values.
    """
    command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])
    before = _manifest(folder).get("commands", [])
    write_json(
        folder.manifest,
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


def _manifest(folder: RunFolder) -> dict[str, Any]:
    if not folder.manifest.exists():
        return {}
    values: dict[str, Any] = json.loads(folder.manifest.read_text(encoding="utf-8"))
    return values


def _check_recipe(folder: RunFolder, recipe: Recipe, dataset: Dataset) -> None:
    old, new = load_recipe(folder.recipe).model_dump(), recipe.model_dump()
    faults = [
        f"{section}.{key}: the run has {before!r}, now {after!r}"
        for section in ("data", "network", "loss", "augment", "optimiser")
        for key, before in old[section].items()
        if (after := new[section][key]) != before and not (key == "epochs" and _extends(old, new))
    ]
    faults += [
        f"{key}: the run has {old[key]}, now {new[key]}" for key in ("seed", "init_from") if old[key] != new[key]
    ]
    if faults:
        listed = "\n  - ".join(faults)
        raise TrainingError(
            f"the run in {folder.root} has another recipe, so it cannot continue with this one; use the settings of "
            f"the run, or begin another with its weights: -o ANOTHER --init-from {folder.root}\n  - {listed}"
        )
    stored = _manifest(folder).get("dataset", {}).get("sha256")
    if stored not in (None, dataset.fingerprint):
        raise TrainingError(
            f"the run in {folder.root} was trained on other images than {dataset.root} holds now; "
            "name another folder with -o"
        )


def _extends(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether a run only becomes longer: its steps until now are then those of the longer run as well."""
    before, after = old["optimiser"], new["optimiser"]
    return before["schedule"] in EXTENDABLE and after["epochs"] > before["epochs"]


def _check_distilled(folder: RunFolder, distilled: Sequence[Mapping[str, str]]) -> None:
    stored = _manifest(folder)
    if not stored:
        return
    before = stored.get("distilled_from", [])
    if [one["sha256"] for one in before] != [one["sha256"] for one in distilled]:
        old, new = (", ".join(one["path"] for one in some) or "none" for some in (before, distilled))
        raise TrainingError(
            f"the run in {folder.root} learned from other models ({old}, now {new}), or these models were trained "
            "further since; give the same with --distill-from, or name another folder with -o"
        )
