"""Runs that begin with the weights of other runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cxrseg.data.sample import Dataset
from cxrseg.errors import TrainingError
from cxrseg.training.export import export_model
from cxrseg.training.fit import Run, train
from cxrseg.training.networks import build_network
from cxrseg.training.recipe import Recipe
from made_runs import checkpoint


@pytest.mark.usefixtures("unfinished")
def test_a_run_begins_with_the_weights_given(
    tmp_path: Path, tiny_run: Run, dataset: Dataset, tiny_recipe: Callable[..., Recipe]
) -> None:
    still = tiny_recipe(optimiser={"epochs": 1, "learning_rate": 1e-12, "name": "sgd"}, augment={"flip": 0.5})
    for number, source in enumerate((tiny_run.folder.root, tiny_run.folder.last)):
        run = train(still, dataset, tmp_path / str(number), init_from=[source], device="cpu")
        expected = checkpoint(tiny_run.folder.best if source.is_dir() else source)["state_dict"]
        found = checkpoint(run.folder.last)["state_dict"]
        for key, value in expected.items():
            if key.endswith("conv.weight"):
                torch.testing.assert_close(found[key], value, rtol=0, atol=1e-6)


@pytest.mark.usefixtures("unfinished")
def test_a_run_begins_with_the_mean_of_the_weights_given(
    tmp_path: Path, tiny_run: Run, dataset: Dataset, tiny_recipe: Callable[..., Recipe]
) -> None:
    stored = checkpoint(tiny_run.folder.last)
    weights = stored["state_dict"]
    stored["state_dict"] = {key: value + 2 if value.is_floating_point() else value for key, value in weights.items()}
    torch.save(stored, tmp_path / "other.ckpt")
    still = tiny_recipe(optimiser={"epochs": 1, "learning_rate": 1e-12, "name": "sgd"})
    sources = [tiny_run.folder.last, tmp_path / "other.ckpt"]
    found = checkpoint(train(still, dataset, tmp_path / "run", init_from=sources, device="cpu").folder.last)
    for key, value in weights.items():
        if key.endswith("conv.weight"):
            torch.testing.assert_close(found["state_dict"][key], value + 1, rtol=0, atol=1e-6)


@pytest.mark.usefixtures("unfinished")
def test_beside_a_model_file_a_run_folder_counts_with_its_own(
    tmp_path: Path, tiny_run: Run, dataset: Dataset, tiny_recipe: Callable[..., Recipe]
) -> None:
    still = tiny_recipe(optimiser={"epochs": 1, "learning_rate": 1e-12, "name": "sgd"})
    folder, model = tiny_run.folder.root, tiny_run.folder.model
    other = tmp_path / "other.onnx"
    export_model(other, build_network(still.network, still.data.targets), still, dataset, {})
    found, expected, alone = (
        checkpoint(train(still, dataset, tmp_path / str(number), init_from=sources, device="cpu").folder.last)
        for number, sources in enumerate(([folder, other], [model, other], [other]))
    )
    for key, value in expected["state_dict"].items():
        if key.endswith("conv.weight"):
            torch.testing.assert_close(found["state_dict"][key], value, rtol=0, atol=1e-6)
            assert (alone["state_dict"][key] - value).abs().max() > 1e-3


@pytest.mark.parametrize("settings", [{"features": 8}, {"name": "residual-unet"}])
def test_weights_of_another_network_are_refused(
    tmp_path: Path, tiny_run: Run, dataset: Dataset, tiny_recipe: Callable[..., Recipe], settings: dict[str, Any]
) -> None:
    with pytest.raises(TrainingError, match=r"best\.ckpt is a checkpoint of another network .*instead of"):
        train(tiny_recipe(network=settings), dataset, tmp_path / "run", init_from=[tiny_run.folder.root], device="cpu")
    assert not (tmp_path / "run").exists()  # the next try may take the same name


def test_weights_that_are_not_there_are_an_error(
    tmp_path: Path, dataset: Dataset, tiny_recipe: Callable[..., Recipe]
) -> None:
    (tmp_path / "text.ckpt").write_text("hello")
    for source, expected in (
        (tmp_path / "none.ckpt", "found none"),
        (tmp_path, "found none"),
        (tmp_path / "text.ckpt", "damaged"),
    ):
        with pytest.raises(TrainingError, match=expected):
            train(tiny_recipe(), dataset, tmp_path / "run", init_from=[source], device="cpu")
