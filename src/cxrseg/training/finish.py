"""The end of a run: checkpoint to model file, and the figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from cxrseg.data.sample import Dataset
from cxrseg.errors import TrainingError
from cxrseg.plots.cases import Case, draw_overlays, draw_pairs, draw_triplets
from cxrseg.plots.curves import draw_dice, draw_loss, draw_rmse
from cxrseg.training.batches import Pixels
from cxrseg.training.export import export_model
from cxrseg.training.networks import build_network
from cxrseg.training.recipe import Recipe
from cxrseg.training.run import RunFolder

__all__ = ["finish", "load_weights", "read_checkpoint"]

_SHOWN = 4
"""Validation images in the figures."""


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read all of a checkpoint.

    Raises:
        TrainingError: there is none, or it is damaged.
    """
    try:
        stored: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        stored["state_dict"].items()
    except FileNotFoundError:
        raise TrainingError(f"expected a run folder or a checkpoint (.ckpt) at {path}, found none") from None
    except Exception as error:  # torch.load raises nearly anything on a damaged file
        raise TrainingError(f"{path} is no checkpoint of cxrseg, or is damaged ({error})") from error
    return stored


def load_weights(network: torch.nn.Module, *sources: Path) -> None:
    """Load the weights of a run folder's best checkpoint, or of a checkpoint, into a network.

    Of several, the mean (a soup: Wortsman et al. 2022, arXiv:2203.05482); the statistics of its norms are not those
    that it would have measured, so it wants `optimiser.batch_norm_recalibration` or an epoch before it is used.

    Raises:
        TrainingError: there is no such checkpoint, it is damaged, or it is of another network.
    """
    found = [_weights_for(network, RunFolder(source).best if source.is_dir() else source) for source in sources]
    network.load_state_dict(
        {
            key: torch.stack([weights[key] for weights in found]).mean(0) if first.is_floating_point() else first
            for key, first in found[0].items()
        }
    )


def _weights_for(network: torch.nn.Module, path: Path) -> dict[str, torch.Tensor]:
    """The weights in a checkpoint, which must fit the network."""
    stored = read_checkpoint(path)["state_dict"]
    weights = {key.removeprefix("network."): value for key, value in stored.items() if key.startswith("network.")}
    ours = network.state_dict()
    faults = [
        f"{key}: {tuple(weights[key].shape) if key in weights else 'missing'} instead of {tuple(value.shape)}"
        for key, value in ours.items()
        if key not in weights or weights[key].shape != value.shape
    ]
    faults += [f"{key}: not in this network" for key in weights if key not in ours]
    if faults:
        raise TrainingError(
            f"{path} is a checkpoint of another network ({len(faults)} of {len(ours)} tensors differ, "
            f"such as {faults[0]}); train with the recipe that it was made with"
        )
    return weights


def finish(
    folder: RunFolder,
    recipe: Recipe,
    dataset: Dataset,
    val: Pixels,
    history: list[dict[str, float | None]],
    best: dict[str, float | None],
) -> None:
    """Export the best weights and draw the reports' figures.

    Args:
        folder: the run folder, with a best checkpoint.
        recipe: what was trained.
        dataset: what it was trained on.
        val: the validation images, some of which are drawn.
        history: a row of figures for each epoch.
        best: the row of the best checkpoint.
    """
    network = build_network(recipe.network.model_copy(update={"pretrained": False}), recipe.data.targets).eval()
    load_weights(network, folder.best)
    figures = {"val": {key.removeprefix("val_"): value for key, value in best.items() if key.startswith("val_")}}
    export_model(folder.model, network, recipe, dataset, figures)
    epoch = int(best["epoch"] or 0)
    draw_loss(history, folder.figures / "loss", epoch)
    draw_rmse(history, folder.figures / "rmse", epoch)
    draw_dice(history, folder.figures / "dice", epoch)
    cases = _cases(network, val)
    if cases:
        draw_pairs(cases, folder.figures / "pairs")
        draw_triplets(cases, folder.figures / "triplets")
        draw_overlays(cases, folder.figures / "overlays")


def _cases(network: torch.nn.Module, val: Pixels) -> list[Case]:
    """A few validation images with the first target's mask in them, from small to large."""
    areas = (val.masks[:, 0].sum((1, 2)) * val.present[:, 0]).numpy()
    chosen = np.argsort(areas, kind="stable")[np.count_nonzero(areas == 0) :]
    if not len(chosen):
        return []
    if len(chosen) > _SHOWN + 1:
        # The ends of the range are the oddest images; a few steps in between show more.
        chosen = chosen[np.linspace(0, len(chosen) - 1, _SHOWN + 2).round().astype(int)[1:-1]]
    chosen = chosen[-_SHOWN:]
    batch = val.batch(torch.from_numpy(chosen))
    with torch.no_grad():
        probabilities = network(batch.images.float() / 255).maps.sigmoid().numpy()
    return [
        Case(
            title=val.names[index],
            pixels=batch.images[row, 0].numpy().astype(np.float32) / np.float32(255),
            truth=batch.masks[row, 0].numpy().astype(bool),
            prediction=probabilities[row, 0] >= 0.5,
        )
        for row, index in enumerate(chosen)
    ]
