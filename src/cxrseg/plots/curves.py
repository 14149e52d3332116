"""Training by epoch: the reports' curves of loss, RMSE and Dice, as PNG and SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cxrseg.plots.figure import COLUMN_MM, PAGE_MM, new_figure, print_style, save_figure
from cxrseg.plots.style import BLUE, VERMILLION, hex_colour

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["History", "draw_dice", "draw_loss", "draw_rmse", "plot_metric"]

History = Sequence[Mapping[str, float | None]]
"""A row for each epoch: 'epoch', and 'train_' and 'val_' before 'loss', 'rmse', 'dice' and 'iou'."""


def draw_loss(history: History, path: Path, best_epoch: int | None = None) -> list[Path]:
    """Draw the loss of training and validation by epoch.

    Args:
        history: a row for each epoch with 'epoch', 'train_loss' and 'val_loss'; None and nan leave a gap.
        path: of the figure, without suffix.
        best_epoch: the epoch to mark; by default the one with the best validation value.

    Returns:
        the files written, PNG and SVG.

    Raises:
        DiskFullError: no room was left.
    """
    return _draw_curves(history, {"loss": "loss"}, path, best_epoch)


def draw_rmse(history: History, path: Path, best_epoch: int | None = None) -> list[Path]:
    """Draw the RMSE of the probabilities by epoch ('train_rmse', 'val_rmse'); see `draw_loss`."""
    return _draw_curves(history, {"rmse": "RMSE of the probability (0 to 1)"}, path, best_epoch)


def draw_dice(history: History, path: Path, best_epoch: int | None = None) -> list[Path]:
    """Draw Dice and IoU by epoch in two panels ('train_dice', 'val_dice', and so on); see `draw_loss`."""
    return _draw_curves(history, {"dice": "Dice (0 to 1)", "iou": "IoU (0 to 1)"}, path, best_epoch)


def _draw_curves(history: History, panels: Mapping[str, str], path: Path, best_epoch: int | None) -> list[Path]:
    """One panel with train and val for each metric that the history has; the first one is always drawn."""
    shown = [name for name in panels if any(_points(history, f"{part}_{name}") for part in ("train", "val"))]
    shown = shown or list(panels)[:1]
    with print_style():
        figure = new_figure(PAGE_MM if len(shown) > 1 else COLUMN_MM, 62)
        for axes, name in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
            plot_metric(axes, history, name, best_epoch)
            axes.set_ylabel(panels[name])
            if name in ("dice", "iou"):
                axes.set_ylim(0, 1)
        return save_figure(figure, path)


def plot_metric(axes: Axes, history: History, name: str, best_epoch: int | None = None) -> None:
    """Plot one metric of training and validation by epoch into a panel; see `draw_loss`."""
    from matplotlib.ticker import MaxNLocator

    lines = (("train", "training", BLUE, "--", "o"), ("val", "validation", VERMILLION, "-", "s"))
    for part, label, colour, dashes, marker in lines:
        values = [_number(row.get(f"{part}_{name}")) for row in history]
        epochs = [_number(row["epoch"]) for row in history]
        if all(math.isnan(value) for value in values):
            continue
        every = marker if len(values) <= 30 else ""
        axes.plot(epochs, values, dashes, color=hex_colour(colour), marker=every, label=label)
    _mark_best(axes, _points(history, f"val_{name}"), best_epoch, highest=name in ("dice", "iou"))
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(axis="y")
    axes.set_axisbelow(True)
    if axes.lines:
        # Above the panel, where it hides no curve.
        axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3, columnspacing=0.9, handletextpad=0.4)
    else:
        axes.set(xticks=[], yticks=[])
        axes.text(0.5, 0.5, "no values recorded", transform=axes.transAxes, ha="center", va="center")


def _mark_best(axes: Axes, points: dict[int, float], epoch: int | None, highest: bool) -> None:
    if epoch is None and points:
        epoch = (max if highest else min)(points, key=lambda each: points[each])
    if epoch is None or epoch not in points:
        return
    label = f"best {points[epoch]:.3g} (epoch {epoch})"
    axes.axvline(epoch, color="0.6", linewidth=0.6, linestyle=":")
    axes.plot([epoch], [points[epoch]], "*", color="black", markersize=7, label=label, zorder=5)


def _points(history: History, key: str) -> dict[int, float]:
    """Epoch to value, where there is one."""
    values = {int(row["epoch"] or 0): _number(row.get(key)) for row in history}
    return {epoch: value for epoch, value in values.items() if not math.isnan(value)}


def _number(value: float | None) -> float:
    return float(value) if value is not None and math.isfinite(value) else math.nan
