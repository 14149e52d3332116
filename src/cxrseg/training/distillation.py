"""Finished runs as teachers: their probabilities, on the images as they are varied, beside the masks."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from cxrseg.errors import TrainingError
from cxrseg.model_file import model_sha256
from cxrseg.training.finish import load_weights
from cxrseg.training.networks import Network, build_network
from cxrseg.training.recipe import Recipe
from cxrseg.training.recipe_file import load_recipe
from cxrseg.training.run import RunFolder

__all__ = ["SoftTargets", "Distillation"]


class SoftTargets(NamedTuple):
    """What the teachers find on a batch, on average.

    maps: (N, C, H, W) float32 probabilities of each target. categories: (N, 3) float32 probabilities of
    `cxrseg.data.sample.CATEGORIES`, or None where no teacher judges the whole image.
    """

    maps: Tensor
    categories: Tensor | None


class Distillation:
    """Runs, none or several, whose mean probabilities a student learns to give (Hinton et al. 2015, arXiv:1503.02531).

    They see the very pixels that the student sees (Beyer et al. 2022, arXiv:2106.05237), and give masks to
    images that have none. Their weights are not the student's, so they are in no checkpoint.

    Args:
        runs: run folders; the weights of their best epochs teach.
        recipe: the student's.

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
        """Move them to where the student learns."""
        for network in self.networks:
            network.to(device, memory_format=layout)  # type: ignore[call-overload]

    @torch.no_grad()
    def __call__(self, images: Tensor) -> SoftTargets:
        """(N, 1, H, W) in [0, 1] to what they find."""
        found = [network(images) for network in self.networks]
        judged = [one.categories.float().softmax(1) for one in found if one.categories is not None]
        return SoftTargets(
            torch.stack([one.maps.float().sigmoid() for one in found]).mean(0),
            torch.stack(judged).mean(0) if judged else None,
        )


def _network(run: Path, recipe: Recipe) -> Network:
    folder = RunFolder(run)
    if not folder.model.exists():
        raise TrainingError(f"expected a finished run with model.onnx at {run} to teach, found none; train it first")
    theirs = load_recipe(folder.recipe)
    if theirs.data.size != recipe.data.size:
        raise TrainingError(
            f"{run} sees images of {theirs.data.size[0]}x{theirs.data.size[1]}, and cannot teach a network that sees "
            f"{recipe.data.size[0]}x{recipe.data.size[1]}; take a run of the recipe's data.size"
        )
    if theirs.data.targets != recipe.data.targets:
        raise TrainingError(
            f"{run} finds {', '.join(theirs.data.targets)}, and cannot teach {', '.join(recipe.data.targets)}; "
            "take a run with the recipe's data.targets"
        )
    network = build_network(theirs.network.model_copy(update={"pretrained": False}), theirs.data.targets)
    load_weights(network, run)
    return network.eval().requires_grad_(False)
