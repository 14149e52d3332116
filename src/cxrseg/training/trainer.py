"""The Lightning Trainer of a run: device, precision, processes."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from cxrseg.errors import TrainingError
from cxrseg.training.callbacks import AtomicCheckpoints
from cxrseg.training.recipe import Recipe

__all__ = ["make_trainer", "quiet"]

_PRECISIONS: dict[str, Literal["32-true", "bf16-mixed", "16-mixed"]] = {
    "float32": "32-true",
    "bfloat16": "bf16-mixed",
    "float16": "16-mixed",
}


def make_trainer(
    recipe: Recipe,
    root: Path,
    callbacks: Sequence[Callback],
    *,
    device: str = "auto",
    processes: int = 1,
    progress: bool = False,
) -> Trainer:
    """Make the Trainer of a run.

    Args:
        recipe: precision, epochs and clipping are taken from it.
        root: the run folder.
        callbacks: what happens beside the steps.
        device: 'auto', 'cpu', 'gpu', or 'gpu:N'.
        processes: processes on this machine; under torchrun, its environment decides.
        progress: show a progress bar.

    Raises:
        TrainingError: there is no such device, or it cannot do the recipe's precision.
    """
    accelerator, devices = _devices(device, processes)
    if recipe.optimiser.precision == "float16" and accelerator == "cpu":
        raise TrainingError("optimiser.precision=float16 needs a GPU; take bfloat16 or float32 on the CPU")
    nodes = int(os.environ.get("WORLD_SIZE", "1")) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    # Deterministic mode would fill every fresh buffer with nan: a quarter of a CPU step, and no help to anyone.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    with quiet():
        return Trainer(
            accelerator=accelerator,
            devices=devices,
            num_nodes=nodes if "TORCHELASTIC_RUN_ID" in os.environ else 1,
            strategy=_strategy(recipe, devices),
            precision=_PRECISIONS[recipe.optimiser.precision],
            max_epochs=recipe.optimiser.epochs,
            gradient_clip_val=recipe.optimiser.clip_norm,
            # Some GPU kernels have no deterministic form; there a warning must do.
            deterministic=True if accelerator == "cpu" else "warn",
            sync_batchnorm=accelerator == "gpu",
            reload_dataloaders_every_n_epochs=1,
            num_sanity_val_steps=0,
            log_every_n_steps=10,
            logger=TensorBoardLogger(root, name="tensorboard", version=""),
            callbacks=list(callbacks),
            plugins=[AtomicCheckpoints()],
            enable_progress_bar=progress,
            enable_model_summary=False,
        )


def _devices(device: str, processes: int) -> tuple[str, int | list[int]]:
    """Lightning's accelerator and devices for what the user named."""
    kind, _, number = device.partition(":")
    if kind not in ("auto", "cpu", "gpu") or (number and (kind != "gpu" or not number.isdigit())):
        raise TrainingError(f"no device {device!r}; expected 'auto', 'cpu', 'gpu' or 'gpu:N'")
    has_gpu = torch.cuda.is_available()
    if kind == "gpu" and not has_gpu:
        raise TrainingError("no GPU that torch can use was found; take -d cpu, or install a torch build for it")
    count = int(os.environ.get("LOCAL_WORLD_SIZE", processes))
    return ("gpu" if has_gpu and kind != "cpu" else "cpu"), [int(number)] if number else count


def _strategy(recipe: Recipe, devices: int | list[int]) -> str:
    if devices == 1 or isinstance(devices, list):
        return "auto"
    # Some pairs of decoder and encoder have weights that no output depends on; plain DDP would wait for them.
    return "ddp" if recipe.network.encoder is None else "ddp_find_unused_parameters_true"


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Lightning's hints to itself; they speak of its own interface, which our user does not see."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
