"""The figures of a finished run: curves by epoch, and validation images with their masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from cxrseg.plots.cases import Case, draw_overlays, draw_pairs, draw_triplets
from cxrseg.plots.curves import History, draw_dice, draw_loss, draw_rmse
from cxrseg.training.batches import Pixels

__all__ = ["choose_cases", "draw_figures"]

_SHOWN = 4
"""Validation images in the figures."""


def draw_figures(folder: Path, history: History, best_epoch: int, network: torch.nn.Module, val: Pixels) -> None:
    """Draw loss, RMSE and Dice by epoch, and some validation images with truth and prediction.

    Args:
        folder: where the figures go, as PNG and SVG.
        history: a row of figures for each epoch.
        best_epoch: the epoch whose weights were kept.
        network: with these weights, on the CPU, in evaluation mode.
        val: the validation images.
    """
    draw_loss(history, folder / "loss", best_epoch)
    draw_rmse(history, folder / "rmse", best_epoch)
    draw_dice(history, folder / "dice", best_epoch)
    cases = choose_cases(network, val)
    if cases:
        draw_pairs(cases, folder / "pairs")
        draw_triplets(cases, folder / "triplets")
        draw_overlays(cases, folder / "overlays")


def choose_cases(network: torch.nn.Module, val: Pixels) -> list[Case]:
    """Up to four validation images whose mask of the first target is not empty, from small to large masks."""
    areas = (val.masks[:, 0].sum((1, 2)) * val.present[:, 0]).numpy()
    chosen = np.argsort(areas, kind="stable")[np.count_nonzero(areas == 0) :]
    if not len(chosen):
        return []
    if len(chosen) > _SHOWN + 1:
        # The smallest and the largest mask are the least typical; a few steps in between show more.
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
