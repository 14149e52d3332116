"""Runs of several processes, started by cxrseg and by torchrun."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from cxrseg.data.sample import Dataset
from cxrseg.run_folder import RunFolder
from cxrseg.training.batches import load_pixels, select_samples
from cxrseg.training.checkpoints import load_weights
from cxrseg.training.fit import train
from cxrseg.training.networks import build_network
from cxrseg.training.recipe import Recipe
from made_runs import begin, checkpoint, figures_of, read_history


def test_two_processes_make_one_run(tmp_path: Path, dataset: Dataset, tiny_recipe: Callable[..., Recipe]) -> None:
    recipe = tiny_recipe(optimiser={"learning_rate": 1e-3, "name": "sgd"})
    process = begin(recipe, dataset, tmp_path / "two", "--processes", "2")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cxrseg.training.fit._finish", lambda *_: None)
        one = train(recipe, dataset, tmp_path / "one", device="cpu")
    text = process.communicate()[0]
    assert process.returncode == 0, text
    assert text.count("Research use only") == 1
    assert text.count("epoch   1") == 1
    folder = RunFolder(tmp_path / "two")
    rows = [{key: float(value) for key, value in row.items()} for row in read_history(folder)]
    assert [row["epoch"] for row in rows] == [1, 2]
    # The same images in the same steps; but each process normalises its half of a batch by itself.
    assert rows[0]["train_loss"] == pytest.approx(one.history[0]["train_loss"], rel=0.003)
    assert rows[0]["train_rmse"] == pytest.approx(one.history[0]["train_rmse"], rel=0.003)
    torch.manual_seed(recipe.seed)
    began = build_network(recipe.network, ("infection", "lungs")).state_dict()

    def moved(path: Path) -> torch.Tensor:
        stored = checkpoint(path)["state_dict"]
        return torch.cat([(stored[f"network.{key}"] - began[key]).flatten() for key in began if key.endswith("weight")])

    first, second = moved(one.folder.last), moved(folder.last)
    assert second.norm().item() == pytest.approx(first.norm().item(), rel=0.1)  # gradients are averaged, not summed
    assert torch.nn.functional.cosine_similarity(first, second, 0) > 0.9
    # Figures of all processes together: the model file, judged by itself, has them too.
    best = max(rows, key=lambda row: (row["val_dice"], -row["val_loss"]))
    lungs = figures_of(folder.model, dataset, recipe)["lungs"]
    assert lungs["rmse"]["value"] == pytest.approx(best["val_lungs_rmse"], abs=1e-4)
    assert lungs["infected_per_image"]["dice"]["mean"] == pytest.approx(best["val_lungs_dice"], abs=2e-4)


def test_torchrun_makes_one_run(tmp_path: Path, dataset: Dataset, tiny_recipe: Callable[..., Recipe]) -> None:
    # A network with weights that no output depends on, and images that do not go into the processes evenly.
    recipe = tiny_recipe(
        network={"name": "smp/pspnet", "encoder": "tu-tf_efficientnet_lite0"},
        optimiser={"batch_size": 5, "ema_decay": 0.5},
    )
    script = Path(__file__).parents[1] / "train_without_export.py"
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script))
    process = begin(recipe, dataset, tmp_path / "run", program=torchrun)
    text = process.communicate()[0]
    assert process.returncode == 0, text
    assert text.count("Research use only") == 1
    folder = RunFolder(tmp_path / "run")
    assert [row["epoch"] for row in read_history(folder)] == ["1", "2"]
    assert json.loads(folder.manifest.read_text(encoding="utf-8"))["ended"] == "complete"
    # The figures are those of the images of both processes.
    network = build_network(recipe.network, recipe.data.targets).eval()
    load_weights(network, folder.best)
    pixels = load_pixels(select_samples(dataset, recipe.data, "val"), recipe.data)
    with torch.no_grad():
        lungs = network(pixels.images.float() / 255).maps[:, 1].sigmoid()
    rmse = (lungs - pixels.masks[:, 1].float()).square().mean().sqrt().item()
    best = max(read_history(folder), key=lambda row: float(row["val_dice"]))
    assert rmse == pytest.approx(float(best["val_lungs_rmse"]), abs=1e-4)
