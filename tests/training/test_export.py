from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from cxrseg.data.sample import CATEGORIES, Dataset
from cxrseg.inference.engine import Engine
from cxrseg.model_file import INPUT, OUTPUT, read_model
from cxrseg.training.checkpoints import load_weights
from cxrseg.training.export import export_model
from cxrseg.training.fit import Run
from cxrseg.training.networks import build_network
from cxrseg.training.recipe import Recipe

NETWORKS: list[dict[str, Any]] = [
    {"name": "unet", "smoothing": 2, "standard_exposure": True},
    {"name": "attention-unet"},
    {"name": "unet++"},
    {"name": "residual-unet"},
    {"name": "smp/unet", "encoder": "tu-tf_efficientnet_lite0", "decoder_channels": [16, 8, 8, 4, 4]},
    {"name": "smp/fpn", "encoder": "tu-tf_efficientnet_lite0", "within_lungs": True, "classification_head": True},
]


def trained_a_little(network: torch.nn.Module) -> torch.nn.Module:
    """Batch norms that have seen data: fresh ones change nothing, and hide a fault of theirs."""
    network.train()
    with torch.no_grad():
        for _ in range(3):
            network(torch.rand(4, 1, 64, 64))
    return network.eval()


@pytest.mark.parametrize("settings", NETWORKS, ids=lambda settings: str(settings["name"]))
def test_the_model_file_gives_the_networks_probabilities(
    tmp_path: Path, dataset: Dataset, tiny_recipe: Callable[..., Recipe], settings: dict[str, Any]
) -> None:
    recipe = tiny_recipe(network={**settings, "dropout": 0.3})
    torch.manual_seed(0)
    network = trained_a_little(build_network(recipe.network, ("infection", "lungs")))
    export_model(tmp_path / "model.onnx", network, recipe, dataset, {})
    pixels = torch.rand(3, 1, 64, 64)
    with torch.no_grad():
        found = network(pixels)
        expected = found.maps.sigmoid().numpy()
    engine = Engine(tmp_path / "model.onnx")
    assert np.ptp(expected) > 0.05
    result = engine.run(pixels[:, 0].numpy())
    np.testing.assert_allclose(result.maps, expected, rtol=0, atol=1e-4)
    one = engine.run(pixels[:1, 0].numpy())  # the number of images is free
    np.testing.assert_allclose(one.maps, expected[:1], rtol=0, atol=1e-4)
    if found.categories is None:
        assert (result.categories, engine.info.categories) == (None, ())
    else:
        assert engine.info.categories == CATEGORIES
        np.testing.assert_allclose(result.categories, found.categories.softmax(1).numpy(), rtol=0, atol=1e-4)


def test_weights_stored_in_16_bits_give_the_same_but_for_rounding(
    tmp_path: Path, dataset: Dataset, tiny_recipe: Callable[..., Recipe]
) -> None:
    settings = {**NETWORKS[-1], "within_lungs": False}
    recipe = tiny_recipe(network=settings)
    torch.manual_seed(0)
    network = trained_a_little(build_network(recipe.network, ("infection", "lungs")))
    export_model(tmp_path / "full.onnx", network, recipe, dataset, {})
    half = tiny_recipe(network={**settings, "weights_dtype": "float16"})
    export_model(tmp_path / "half.onnx", network, half, dataset, {})
    sizes = [(tmp_path / name).stat().st_size for name in ("full.onnx", "half.onnx")]
    assert sizes[1] < 0.6 * sizes[0]
    pixels = torch.rand(3, 64, 64).numpy()
    full, rounded = (Engine(tmp_path / name).run(pixels) for name in ("full.onnx", "half.onnx"))
    assert 0 < np.abs(full.maps - rounded.maps).max() < 0.01


def test_a_finished_run_left_such_a_file(tiny_run: Run, tiny_recipe: Callable[..., Recipe], dataset: Dataset) -> None:
    network = build_network(tiny_recipe().network, ("infection", "lungs")).eval()
    load_weights(network, tiny_run.folder.best)
    images = [sample.read_image().pixels for sample in dataset.select("test").samples]
    with torch.no_grad():
        expected = network(torch.from_numpy(np.stack(images))[:, None]).maps.sigmoid().numpy()
    np.testing.assert_allclose(Engine(tiny_run.folder.model).run(np.stack(images)).maps, expected, rtol=0, atol=1e-4)


def test_the_file_says_what_made_it(tiny_run: Run, tiny_recipe: Callable[..., Recipe], dataset: Dataset) -> None:
    info = read_model(tiny_run.folder.model)[1]
    assert (info.name, info.channels, info.size) == ("tiny", ("infection", "lungs"), (64, 64))
    assert info.normalisation == {"mean": 0.0, "std": 1.0}
    assert (info.threshold, info.temperature, info.fitted_on) == (0.5, 1.0, None)
    assert Recipe.model_validate(info.recipe) == tiny_recipe()
    manifest = json.loads(tiny_run.folder.manifest.read_text(encoding="utf-8"))
    assert info.dataset["sha256"] == manifest["dataset"]["sha256"]
    assert info.dataset["layout"] == dataset.layout
    assert info.figures["val"]["dice"] == tiny_run.best["val_dice"]
    assert info.figures["val"]["lungs_dice"] == tiny_run.best["val_lungs_dice"]
    assert "terms of the training data" in info.licence
    assert "CC BY-SA" not in info.licence


@pytest.mark.parametrize("layout", ["COVID-QU-Ex infection segmentation data", "MedSegBench arrays"])
def test_what_was_learned_from_covid_qu_ex_keeps_its_terms(
    layout: str, tmp_path: Path, dataset: Dataset, tiny_recipe: Callable[..., Recipe]
) -> None:
    published = Dataset(dataset.root, layout, dataset.samples)
    network = torch.nn.Conv2d(1, 2, 1)
    info = export_model(tmp_path / "model.onnx", network, tiny_recipe(), published, {})
    assert "CC BY-SA 4.0" in info.licence
    assert "10.1016/j.compbiomed.2021.105002" in info.licence


def test_one_file_holds_it_all(tiny_run: Run) -> None:
    model = onnx.load(tiny_run.folder.model, load_external_data=False)
    onnx.checker.check_model(model)
    assert [entry.name for entry in model.graph.input] == [INPUT]
    assert [entry.name for entry in model.graph.output] == [OUTPUT]
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    assert [entry.key for entry in model.metadata_props] == ["cxrseg", "cxrseg_sha256"]
    text = tiny_run.folder.model.read_bytes()
    assert str(Path(__file__).resolve().parents[2]).encode() not in text  # no path of the machine that made it
