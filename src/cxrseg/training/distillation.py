"""Knowledge distillation: a network also learns the probabilities that other trained networks give."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from cxrseg.errors import TrainingError
from cxrseg.model_file import model_sha256
from cxrseg.run_folder import RunFolder
from cxrseg.training.checkpoints import load_weights
from cxrseg.training.networks import Network, build_network
from cxrseg.training.recipe import Recipe
from cxrseg.training.recipe_file import load_recipe

__all__ = ["Distillation", "SoftTargets"]


class SoftTargets(NamedTuple):
    """The mean probabilities that the trained networks give for a batch.

    maps: (N, C, H, W) float32 of each target. categories: (N, 3) float32 of `cxrseg.data.sample.CATEGORIES`, or None
    where none of the networks has a classification head.
    """

    maps: Tensor
    categories: Tensor | None


class Distillation:
    """Trained networks, none or several, whose mean probabilities a network learns.

    Source: Hinton et al. 2015, arXiv:1503.02531. They get the same augmented pixels as the network in training (Beyer
    et al. 2022, arXiv:2106.05237), also for images without masks. Their weights are not saved in its checkpoints.

    Args:
        runs: run folders; the weights of their best epochs are used.
        recipe: of the network in training.

    Attributes:
        marks: path and SHA-256 of each run's model file, for the manifest.

    Raises:
        TrainingError: a folder holds no finished run, or one of other targets or another size.
    """

    def __init__(self, runs: Sequence[Path], recipe: Recipe) -> None:
        self.networks = [_network(run, recipe) for run in runs]
        self.marks = [{"path": os.fspath(run), "sha256": model_sha256(RunFolder(run).model)} for run in runs]

    def __len__(self) -> int:
        return len(self.networks)

    def to(self, device: torch.device, layout: torch.memory_format) -> None:
        """Move the networks to the device of the training."""
        for network in self.networks:
            network.to(device, memory_format=layout)  # type: ignore[call-overload]

    @torch.no_grad()
    def __call__(self, images: Tensor) -> SoftTargets:
        """(N, 1, H, W) float32 in [0, 1] to mean probabilities."""
        found = [network(images) for network in self.networks]
        categories = [one.categories.float().softmax(1) for one in found if one.categories is not None]
        return SoftTargets(
            torch.stack([one.maps.float().sigmoid() for one in found]).mean(0),
            torch.stack(categories).mean(0) if categories else None,
        )


def _network(run: Path, recipe: Recipe) -> Network:
    folder = RunFolder(run)
    if not folder.model.exists():
        raise TrainingError(f"expected a finished run with model.onnx at {run} (--distill-from), found none")
    theirs = load_recipe(folder.recipe)
    if theirs.data.size != recipe.data.size:
        raise TrainingError(
            f"{run} was trained on images of {theirs.data.size[0]}x{theirs.data.size[1]}, and this recipe uses "
            f"{recipe.data.size[0]}x{recipe.data.size[1]}; distill from a run with the same data.size"
        )
    if theirs.data.targets != recipe.data.targets:
        raise TrainingError(
            f"{run} was trained for {', '.join(theirs.data.targets)}, and this recipe is for "
            f"{', '.join(recipe.data.targets)}; distill from a run with the same data.targets"
        )
    network = build_network(theirs.network.model_copy(update={"pretrained": False}), theirs.data.targets)
    load_weights(network, run)
    return network.eval().requires_grad_(False)
