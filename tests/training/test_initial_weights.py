"""Weights of a model file, back in the network that they came from."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from cxrseg.data.sample import Dataset
from cxrseg.errors import TrainingError
from cxrseg.training.export import export_model
from cxrseg.training.initial_weights import _stored, load_model_files
from cxrseg.training.networks import Network, build_network
from cxrseg.training.recipe import Recipe

SETTINGS = {
    "name": "smp/unet",
    "encoder": "tu-tf_efficientnet_lite0",
    "decoder_channels": [8, 8, 8, 8, 8],
    "classification_head": True,
    "within_lungs": True,
}


@pytest.fixture
def recipe(tiny_recipe: Callable[..., Recipe]) -> Recipe:
    return tiny_recipe(network=SETTINGS, data={"targets": ["infection", "lungs"], "size": 64})


def network_of(recipe: Recipe, seed: int) -> Network:
    torch.manual_seed(seed)
    network = build_network(recipe.network, recipe.data.targets)
    network.train()
    for _ in range(3):  # norms with statistics of their own
        network(torch.rand(4, 1, 64, 64))
    return network.eval()


def test_the_network_computes_what_the_file_does_and_trains_alike(tmp_path: Path, recipe: Recipe) -> None:
    trained, other = network_of(recipe, 1), network_of(recipe, 2)
    export_model(tmp_path / "model.onnx", trained, recipe, Dataset(tmp_path, "made", ()), {})
    images = torch.rand(16, 1, 64, 64)
    with torch.no_grad():
        expected = trained(images)
        assert (other(images).maps - expected.maps).abs().max() > 0.1
        assert load_model_files(other, [tmp_path / "model.onnx"], images.split(8)) == []
        found = other(images)
        torch.testing.assert_close(found.maps, expected.maps, atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(found.categories, expected.categories, atol=1e-3, rtol=1e-3)
        other.train()
        in_training = other(images).maps
    # The statistics are those of the images, so that the first step of training starts near what the file computes.
    assert (in_training - expected.maps).abs().mean() < 0.2 * expected.maps.abs().mean()


def test_transposed_convolutions_are_loaded_too(tmp_path: Path, tiny_recipe: Callable[..., Recipe]) -> None:
    recipe = tiny_recipe()
    trained, other = network_of(recipe, 1), network_of(recipe, 2)
    assert any(isinstance(module, torch.nn.ConvTranspose2d) for module in trained.modules())
    export_model(tmp_path / "model.onnx", trained, recipe, Dataset(tmp_path, "made", ()), {})
    images = torch.rand(4, 1, *recipe.data.size)
    with torch.no_grad():
        assert load_model_files(other, [tmp_path / "model.onnx"], [images]) == []
        torch.testing.assert_close(other(images).maps, trained(images).maps, atol=1e-3, rtol=1e-3)


def test_another_architecture_is_refused(tmp_path: Path, recipe: Recipe, tiny_recipe: Callable[..., Recipe]) -> None:
    export_model(tmp_path / "model.onnx", network_of(recipe, 1), recipe, Dataset(tmp_path, "made", ()), {})
    plain = tiny_recipe()
    network = build_network(plain.network, plain.data.targets)
    with pytest.raises(TrainingError, match="another architecture"):
        load_model_files(network, [tmp_path / "model.onnx"], [torch.rand(2, 1, 64, 64)])


def test_several_files_give_the_mean_of_what_they_compute_with(tmp_path: Path, recipe: Recipe) -> None:
    networks = [network_of(recipe, seed) for seed in (1, 2, 3)]
    paths = [tmp_path / f"{seed}.onnx" for seed in (1, 2)]
    for network, path in zip(networks, paths, strict=False):
        export_model(path, network, recipe, Dataset(tmp_path, "made", ()), {})
    load_model_files(networks[2], [paths[0], paths[0], paths[0], paths[1]], [torch.rand(4, 1, 64, 64)])
    export_model(tmp_path / "mean.onnx", networks[2], recipe, Dataset(tmp_path, "made", ()), {})
    one, other, mean = (_stored(path) for path in (*paths, tmp_path / "mean.onnx"))
    names = [name for name in mean if name.startswith("network.")]
    assert any(name.endswith("weight_bias") for name in names)
    for name in names:
        expected = 0.75 * one[name] + 0.25 * other[name]
        torch.testing.assert_close(mean[name], expected, atol=2e-3, rtol=2e-3)


def test_files_of_two_architectures_have_no_mean(
    tmp_path: Path, recipe: Recipe, tiny_recipe: Callable[..., Recipe]
) -> None:
    wide = tiny_recipe(network=SETTINGS | {"decoder_channels": [16] * 5}, data=recipe.data.model_dump())
    for name, one in (("one", recipe), ("wide", wide)):
        export_model(tmp_path / f"{name}.onnx", network_of(one, 1), one, Dataset(tmp_path, "made", ()), {})
    with pytest.raises(TrainingError, match=r"wide\.onnx is a model file of another architecture than .*one\.onnx"):
        load_model_files(
            network_of(recipe, 2), [tmp_path / "one.onnx", tmp_path / "wide.onnx"], [torch.rand(2, 1, 64, 64)]
        )


def test_a_file_that_is_no_model_is_named(tmp_path: Path, recipe: Recipe) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"no graph")
    with pytest.raises(TrainingError, match=r"bad\.onnx"):
        load_model_files(network_of(recipe, 1), [tmp_path / "bad.onnx"], [])
