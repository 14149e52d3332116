"""Checks before the first step whether the batch fits into memory: otherwise the kernel may kill the process."""

from __future__ import annotations

import copy

import psutil
import torch
from torch import Tensor, nn

from cxrseg.errors import OutOfMemoryError, RecipeError
from cxrseg.training.recipe import Recipe

__all__ = ["activation_bytes", "check_memory"]

_TRIAL_SIDE = 256


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
