"""Knowledge distillation: a network also learns the probabilities that other trained networks give."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from cxrseg.data.sample import CATEGORIES
from cxrseg.errors import TrainingError
from cxrseg.model_file import model_sha256
from cxrseg.run_folder import RunFolder
from cxrseg.training.batches import Batch, Batches, Pixels, SoftTargets
from cxrseg.training.checkpoints import load_weights
from cxrseg.training.networks import Network, build_network
from cxrseg.training.recipe import Recipe
from cxrseg.training.recipe_file import load_recipe

__all__ = ["Distillation", "fit_to_categories"]

EVIDENCE = 0.7
"""Probability of the opacity that an image which shows one gets at its clearest place. Less than what
`loss.evidence_target` asks for: the place is a guess."""
LARGEST_SHIFT = 3.0
"""Largest change of the logits for it: of a place that was held for 5% likely, 50%."""

_TOGETHER = 32
"""Images in a batch of the trained networks."""


class Distillation:
    """Trained networks, none or several, whose mean probabilities a network learns.

    Source: Hinton et al. 2015, arXiv:1503.02531. They see each image as it is, and the network in training sees it
    moved and stored in another way, so that it learns to answer alike (Xie et al. 2020, arXiv:1911.04252); also for
    images without masks. Their weights are not saved in its checkpoints.

    Args:
        runs: run folders; the weights of their best epochs are used.
        recipe: of the network in training.

    Attributes:
        recipe: the same.
        networks: the trained networks.
        marks: path and SHA-256 of each run's model file, for the manifest.

    Raises:
        TrainingError: a folder holds no finished run, or one of other targets or another size.
    """

    def __init__(self, runs: Sequence[Path], recipe: Recipe) -> None:
        self.recipe = recipe
        self.networks = [_network(run, recipe) for run in runs]
        self.marks = [{"path": os.fspath(run), "sha256": model_sha256(RunFolder(run).model)} for run in runs]

    def __len__(self) -> int:
        return len(self.networks)

    @torch.no_grad()
    def soften(self, pixels: Pixels) -> Pixels:
        """The same images with soft targets, on the device that they are on.

        They are found once, since they are of the images as they are: a step then costs nothing more.
        """
        maps, categories = [], []
        networks = [network.to(pixels.images.device) for network in self.networks]
        for batch in Batches(pixels, _TOGETHER):
            found = [network(batch.images.float() / 255) for network in networks]
            mean = torch.stack([one.maps.float().sigmoid() for one in found]).mean(0)
            maps.append((fit_to_categories(mean, batch, self.recipe) * 255).round().to(torch.uint8))
            known = [one.categories.float().softmax(1) for one in found if one.categories is not None]
            categories += [torch.stack(known).mean(0)] if known else []
        soft_targets = SoftTargets(torch.cat(maps), torch.cat(categories) if categories else None)
        return replace(pixels, soft_targets=soft_targets)


def fit_to_categories(maps: Tensor, batch: Batch, recipe: Recipe) -> Tensor:
    """Probabilities that do not contradict what is known of an image: self-training on what its category allows.

    A normal image has neither infection nor opacity. An image that shows an opacity, but has no mask of it (Non-COVID,
    whole-lung masks), has one: its logits are raised until the mean of the highest reaches that of `EVIDENCE`.

    Args:
        maps: (N, C, H, W) float32 probabilities of each target.
        batch: categories, and which masks are present.
        recipe: the targets, and how many pixels are the highest (`loss.evidence_area`).

    Returns:
        The same shape.
    """
    maps, targets = maps.clone(), recipe.data.targets
    normal = batch.categories == CATEGORIES.index("Normal")
    if "opacity" in targets:
        opacity = targets.index("opacity")
        shown = (batch.categories >= 0) & ~normal & ~batch.present[:, opacity]
        maps[shown, opacity] = _raised(maps[shown, opacity], recipe)
    for channel, target in enumerate(targets):
        if target != "lungs":
            maps[normal, channel] = 0
    return maps


def _raised(probabilities: Tensor, recipe: Recipe) -> Tensor:
    """(N, H, W) probabilities whose highest reach `EVIDENCE`, unless that takes more than `LARGEST_SHIFT`."""
    logits = probabilities.logit(eps=1e-6)
    pixels = logits.flatten(1)
    highest = pixels.topk(max(1, round(recipe.loss.evidence_area * pixels.shape[1])), dim=1).values.mean(1)
    shift = (math.log(EVIDENCE / (1 - EVIDENCE)) - highest).clamp(0, LARGEST_SHIFT)
    return (logits + shift[:, None, None]).sigmoid()


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
    if recipe.optimiser.channels_last:
        network.to(memory_format=torch.channels_last)
    return network.eval().requires_grad_(False)
