"""Lightning callbacks of a run: history, checkpoints, EMA, early stopping, progress bar."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import (
    Callback,
    EarlyStopping,
    EMAWeightAveraging,
    ModelCheckpoint,
    TQDMProgressBar,
)

from cxrseg.errors import TrainingError
from cxrseg.io.write import write_csv
from cxrseg.training.lightning_module import Learner
from cxrseg.training.recipe import Recipe

__all__ = ["History", "Patience", "StopOnSigterm", "callbacks_for", "history_columns"]


def history_columns(targets: tuple[str, ...], classification_head: bool = False) -> list[str]:
    """Columns of history.csv; further targets follow the first, with their name, then the classification head's
    accuracy."""
    columns = ["epoch", "seconds", "learning_rate", "train_loss", "val_loss"]
    for index, target in enumerate(targets):
        part = "" if index == 0 else f"{target}_"
        columns += [f"{split}_{part}{figure}" for figure in ("rmse", "dice", "iou") for split in ("train", "val")]
    return columns + (["train_accuracy", "val_accuracy"] if classification_head else [])


class History(Callback):
    """A row of figures for each epoch: to history.csv, to TensorBoard, and to a callback.

    Args:
        path: history.csv; the whole file is written again after each epoch.
        on_epoch: called with each row.
    """

    def __init__(self, path: Path, on_epoch: Callable[[dict[str, float | None]], None] | None = None) -> None:
        self.path = path
        self.rows: list[dict[str, float | None]] = []
        self.on_epoch = on_epoch
        self.began = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the epoch's clock."""
        self.began = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add this epoch's row. Validation has run by now."""
        assert isinstance(pl_module, Learner)
        row: dict[str, float | None] = {
            "epoch": trainer.current_epoch + 1,
            "seconds": round(time.perf_counter() - self.began, 2),
            "learning_rate": trainer.optimizers[0].param_groups[0]["lr"],
        }
        for split, scores in pl_module.scores.items():
            figures = scores.figures()
            row[f"{split}_loss"] = _number(figures["loss"][0])
            for figure in ("rmse", "dice", "iou"):
                for index, target in enumerate(pl_module.recipe.data.targets):
                    part = "" if index == 0 else f"{target}_"
                    row[f"{split}_{part}{figure}"] = _number(figures[figure][index])
            if pl_module.recipe.network.classification_head:
                row[f"{split}_accuracy"] = _number(figures["accuracy"][0])
        if row["train_loss"] is None or math.isinf(row["train_loss"]):
            raise TrainingError(
                f"the loss became nan or infinite in epoch {trainer.current_epoch + 1}; use a smaller "
                "optimiser.learning_rate, or set optimiser.clip_norm to 1. The checkpoints of earlier epochs are kept"
            )
        self.rows.append(row)
        if not trainer.is_global_zero:
            return
        recipe = pl_module.recipe
        write_csv(self.path, history_columns(recipe.data.targets, recipe.network.classification_head), self.rows)
        if trainer.logger is not None:
            known = {key: value for key, value in row.items() if value is not None}
            trainer.logger.log_metrics(known, step=trainer.current_epoch + 1)
        if self.on_epoch is not None:
            self.on_epoch(row)

    def state_dict(self) -> dict[str, Any]:
        """The rows so far; they are saved in the checkpoint, so that a resumed run continues from them."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the rows from a checkpoint."""
        self.rows = list(state_dict["rows"])


class Patience(EarlyStopping):
    """Early stopping that stays stopped: a run that stopped early does not train again when it is resumed."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop before the first epoch where the patience was exhausted already."""
        if self.wait_count >= self.patience:
            trainer.should_stop = True


class StopOnSigterm(Callback):
    """SIGTERM stops the run as Ctrl-C does.

    Lightning's own handler ends the process without an error, so with the exit code 0. In a run of several processes it
    also sends a message to the others, in the middle of whatever they exchange.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Replace Lightning's handler, which is set by now; Lightning restores the earlier one at the end."""
        if threading.current_thread() is threading.main_thread():  # no other thread may set handlers
            signal.signal(signal.SIGTERM, signal.default_int_handler)


class _Bar(TQDMProgressBar):
    """Counts epochs from 1, as the rows of the history do."""

    def on_train_epoch_start(self, trainer: Trainer, *_: Any) -> None:
        super().on_train_epoch_start(trainer)
        self.train_progress_bar.set_description(f"epoch {trainer.current_epoch + 1}")


def callbacks_for(recipe: Recipe, folder: Path, history: History, progress: bool) -> list[Callback]:
    """Every callback of a run.

    The order matters: history is first, so that a checkpoint holds the row of its own epoch; 'last' is at the end, so
    that it holds the state of all other callbacks after this epoch.

    Args:
        recipe: what is trained.
        folder: where checkpoints are written.
        history: collects the rows.
        progress: show a progress bar.
    """
    optimiser = recipe.optimiser
    best: dict[str, Any] = {"monitor": "val_choice", "mode": "max"}
    found: list[Callback] = [history, StopOnSigterm()]
    if progress:
        found.append(_Bar(leave=False))
    if optimiser.ema_decay is not None:
        found.append(EMAWeightAveraging(decay=optimiser.ema_decay))
    if optimiser.patience is not None:
        found.append(Patience(**best, patience=optimiser.patience, verbose=False))
    always: dict[str, Any] = {"dirpath": folder, "enable_version_counter": False, "save_on_train_epoch_end": True}
    found.append(ModelCheckpoint(filename="best", save_top_k=1, **best, **always))
    found.append(ModelCheckpoint(filename="last", save_top_k=1, **always))
    return found


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 6)
