from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch

from cxrseg.errors import OutOfMemoryError, RecipeError
from cxrseg.training.memory import activation_bytes, check_memory
from cxrseg.training.networks import build_network
from cxrseg.training.recipe import Recipe


@pytest.fixture
def network(tiny_recipe: Callable[..., Recipe]) -> torch.nn.Module:
    return build_network(tiny_recipe().network, ("infection", "lungs"))


def with_free(monkeypatch: pytest.MonkeyPatch, free: float) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=int(free)))


def test_what_a_step_keeps_is_counted() -> None:
    # Linear layers keep their inputs, ReLU its output: (N, 4) into the first, (N, 8) shared by ReLU and the second.
    class Two(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = torch.nn.Conv2d(1, 8, 1)
            self.second = torch.nn.Conv2d(8, 1, 1)

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            kept: torch.Tensor = self.second(self.first(pixels).relu())
            return kept

    assert activation_bytes(Two(), (32, 64), None) == 32 * 64 * 4 * (1 + 8)


def test_it_grows_with_the_image_and_shrinks_with_the_precision(network: torch.nn.Module) -> None:
    small, large = (activation_bytes(network, size, None) for size in ((64, 64), (128, 192)))
    assert large == pytest.approx(6 * small, rel=0.1)
    assert activation_bytes(network, (64, 64), torch.bfloat16) < 0.8 * small


def test_a_large_image_is_not_tried_in_full(network: torch.nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Size] = []
    monkeypatch.setattr(torch, "zeros", lambda *size, zeros=torch.zeros: seen.append(torch.Size(size)) or zeros(*size))
    kept = activation_bytes(network, (2048, 2048), None)
    assert max(shape.numel() for shape in seen) <= 2 * 256 * 256
    assert kept == pytest.approx(64 * activation_bytes(network, (256, 256), None))


def test_the_trial_leaves_network_and_generator_alone(tiny_recipe: Callable[..., Recipe]) -> None:
    network = build_network(tiny_recipe(network={"dropout": 0.5}).network, ("infection", "lungs")).eval()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    activation_bytes(network, (64, 64), None)
    assert torch.equal(torch.rand(3), expected)
    assert not network.training
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_a_batch_too_big_names_one_that_fits(
    network: torch.nn.Module,
    tiny_recipe: Callable[..., Recipe],
    monkeypatch: pytest.MonkeyPatch,
    processes: int,
) -> None:
    recipe = tiny_recipe(optimiser={"batch_size": 4096})
    each = activation_bytes(network, (64, 64), None)
    with_free(monkeypatch, 100 * each)
    with pytest.raises(OutOfMemoryError, match="a batch of 4096 images of 64x64 needs at least") as caught:
        check_memory(network, recipe, processes)
    fits = int(str(caught.value).partition("set optimiser.batch_size to ")[2].split()[0])
    assert 60 <= fits <= 100
    assert fits % processes == 0
    check_memory(network, tiny_recipe(optimiser={"batch_size": fits}), processes)


def test_a_batch_that_fits_is_let_through(network: torch.nn.Module, tiny_recipe: Callable[..., Recipe]) -> None:
    check_memory(network, tiny_recipe(), 1)


def test_a_network_that_cannot_work_on_the_size_is_refused(tiny_recipe: Callable[..., Recipe]) -> None:
    settings: dict[str, Any] = {"name": "smp/pan", "encoder": "tu-tf_efficientnet_lite0"}
    recipe = tiny_recipe(network=settings)
    with pytest.raises(RecipeError, match=r"cannot work on images of 64x64 .*use a larger data.size"):
        check_memory(build_network(recipe.network, ("infection",)), recipe, 1)
