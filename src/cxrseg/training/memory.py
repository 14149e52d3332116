"""Checks before the first step whether the batch fits into memory: otherwise the kernel may kill the process."""

from __future__ import annotations

import copy

import psutil
import torch
from torch import Tensor, nn

from cxrseg.errors import OutOfMemoryError, RecipeError
from cxrseg.training.recipe import Recipe

__all__ = ["activation_bytes", "check_memory", "check_network"]

_TRIAL_SIDE = 256


def check_network(network: nn.Module, recipe: Recipe, images: int) -> None:
    """Run a forward pass of the smallest batch, so that settings that do not fit each other are named before a run.

    Args:
        network: as `build_network` returns it; it is not changed.
        recipe: size and targets are taken from it.
        images: in the smallest batch of the training.

    Raises:
        RecipeError: the network cannot work on such a batch, or gives maps of another size.
    """
    height, width = (min(side, _TRIAL_SIDE) for side in recipe.data.size)
    trial = copy.deepcopy(network).train()
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        try:
            shape = tuple(trial(torch.zeros(min(images, 2), 1, height, width)).maps.shape[1:])
        except Exception as error:  # networks of other packages raise nearly anything
            if "more than 1 value per channel" in str(error):
                raise RecipeError(
                    f"{recipe.network.name} normalises over the images of a batch, and this batch has one image of "
                    f"{height}x{width}; set optimiser.batch_size to 2 or more, with at least 2 training images"
                ) from error
            raise RecipeError(
                f"the network {recipe.network.name} cannot work on images of {height}x{width} ({error}); change "
                "data.size, network.decoder_channels, network.decoder_stride or network.encoder"
            ) from error
    if shape != (len(recipe.data.targets), height, width):
        raise RecipeError(
            f"the network {recipe.network.name} gives maps of {shape[1]}x{shape[2]} for images of {height}x{width}; "
            "change network.decoder_channels or network.decoder_stride"
        )


def activation_bytes(network: nn.Module, size: tuple[int, int], autocast: torch.dtype | None) -> float:
    """Bytes that the backward pass keeps for one image, measured on a batch of two.

    Large images are replaced by small ones, so that the measurement itself fits; the bytes are proportional to pixels.

    Args:
        network: as `build_network` returns it; it is not changed.
        size: (height, width) in pixels.
        autocast: the lower precision, or None.

    Raises:
        RecipeError: the network cannot work on images of this size.
    """
    height, width = (min(side, _TRIAL_SIDE) for side in size)
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    trial = copy.deepcopy(network).train()
    fixed = {parameter.untyped_storage().data_ptr() for parameter in trial.parameters()}
    with (
        torch.random.fork_rng(devices=[]),
        torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor),
        torch.autocast("cpu", autocast or torch.bfloat16, enabled=autocast is not None),
    ):
        try:
            logits = trial(torch.zeros(2, 1, height, width))
        except RuntimeError as error:
            raise RecipeError(
                f"the network cannot work on images of {height}x{width} ({error}); "
                "use a larger data.size, or another network"
            ) from error
    total = sum(count for place, count in kept.items() if place not in fixed)
    del logits
    return total / 2 * (size[0] * size[1]) / (height * width)


def check_memory(network: nn.Module, recipe: Recipe, processes: int) -> None:
    """Compare the least memory of a step with the free memory of the machine.

    Raises:
        OutOfMemoryError: the batch cannot fit; the message says which size would.
        RecipeError: the network cannot work on images of the recipe's size.
    """
    autocast = torch.bfloat16 if recipe.optimiser.precision == "bfloat16" else None
    each = activation_bytes(network, recipe.data.size, autocast)
    needed = each * recipe.optimiser.batch_size
    free = psutil.virtual_memory().available
    if needed > free:
        fits = max(int(0.8 * free / each) // processes * processes, 1)
        raise OutOfMemoryError(
            f"a batch of {recipe.optimiser.batch_size} images of {recipe.data.size[0]}x{recipe.data.size[1]} needs at "
            f"least {needed / 2**30:.1f} GiB, but {free / 2**30:.1f} GiB are free; set optimiser.batch_size to {fits} "
            f"or less, or use a smaller network.features"
        )
