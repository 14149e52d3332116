"""Training runs in processes of their own, and what is compared between two runs."""

from __future__ import annotations

import csv
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cxrseg.data.sample import Dataset
from cxrseg.inference.engine import Engine
from cxrseg.metrics.segmentation import score
from cxrseg.metrics.summary import summarise
from cxrseg.run_folder import RunFolder
from cxrseg.training.batches import load_pixels, select_samples
from cxrseg.training.recipe import Recipe

FIGURES = [
    f"{name}.{suffix}"
    for name in ("dice", "loss", "overlays", "pairs", "rmse", "triplets")
    for suffix in ("png", "svg")
]
# All that draws random numbers, and all that has a memory.
EVERYTHING: dict[str, dict[str, Any]] = {
    "network": {"dropout": 0.2},
    "augment": {"flip": 0.5, "rotation": 10, "gamma": 0.3, "noise": 0.05, "cutout": 0.5},
    "optimiser": {
        "epochs": 8,
        "schedule": "cosine",
        "warmup_epochs": 1,
        "ema_decay": 0.9,
        "patience": 8,
        "clip_norm": 1.0,
        "name": "adamw",
        "weight_decay": 0.01,
    },
}
Rows = list[dict[str, float | None]]


def checkpoint(path: Path) -> dict[str, Any]:
    stored: dict[str, Any] = torch.load(path, weights_only=True)
    return stored


def figures_of(model: Path, dataset: Dataset, recipe: Recipe) -> dict[str, Any]:
    """Target to the means of a model file on the val images, on the network's own grid, as the history has them."""
    pixels = load_pixels(select_samples(dataset, recipe.data, "val"), recipe.data)
    maps = Engine(model).run(pixels.images[:, 0].numpy() / np.float32(255)).maps
    found = {}
    for channel, target in enumerate(recipe.data.targets):
        used = np.flatnonzero(pixels.present[:, channel].numpy())  # a Non-COVID image has no mask of the infection
        truths = pixels.masks[:, channel].numpy().astype(bool)
        found[target] = summarise([score(maps[place, channel], truths[place]) for place in used])
    return found


def tensors(value: Any, place: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor in it, with its place."""
    if isinstance(value, torch.Tensor):
        yield place, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from tensors(inner, f"{place}/{key}")
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from tensors(inner, f"{place}/{index}")


def differing(one: Path, other: Path) -> list[str]:
    kept = ("state_dict", "optimizer_states", "averaging_state", "current_model_state")
    stored = [checkpoint(path) for path in (one, other)]
    assert {key for key in stored[0] if key.endswith(("state", "states", "state_dict"))} <= set(kept)
    first, second = (dict(tensors({key: value[key] for key in kept if key in value})) for value in stored)
    assert first.keys() == second.keys()
    assert len(first) > 50
    return [key for key, value in first.items() if not torch.equal(value, second[key])]


def without_clock(rows: Rows) -> Rows:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def read_history(folder: RunFolder) -> list[dict[str, str]]:
    with folder.history.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _heed_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def begin(
    recipe: Recipe, dataset: Dataset, out: Path, *more: str, program: tuple[str, ...] = ("-m", "cxrseg")
) -> subprocess.Popen[str]:
    """`cxrseg train` in a process of its own."""
    out.parent.mkdir(parents=True, exist_ok=True)
    path = out.with_suffix(".yaml")
    path.write_text(recipe.to_yaml(), encoding="utf-8")
    command = [sys.executable, *program, "train", str(path), "--dataset", str(dataset.root)]
    return subprocess.Popen(
        [*command, "-o", str(out), "-d", "cpu", *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # Where these tests run in the background, Ctrl-C is ignored, and a child would inherit that.
        preexec_fn=_heed_ctrl_c,  # noqa: PLW1509 - it takes no lock
    )


def wait_for_rows(process: subprocess.Popen[str], folder: RunFolder, count: int) -> None:
    while process.poll() is None:
        if folder.history.exists() and len(read_history(folder)) >= count:
            return
        time.sleep(0.01)
    pytest.fail(f"the run ended with {process.returncode} before its row {count}:\n{process.communicate()[0]}")
