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
from cxrseg.training.checkpoints import AtomicCheckpoints
from cxrseg.training.recipe import Recipe

__all__ = ["hide_lightning_hints", "make_trainer"]

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
        callbacks: see `callbacks_for`.
        device: 'auto', 'cpu', 'gpu', or 'gpu:N'.
        processes: processes on this machine; torchrun's environment variables come first.
        progress: show a progress bar.

    Raises:
        TrainingError: there is no such device, or it does not support the recipe's precision.
    """
    accelerator, devices = _devices(device, processes)
    if recipe.optimiser.precision == "float16" and accelerator == "cpu":
        raise TrainingError("optimiser.precision=float16 needs a GPU; use bfloat16 or float32 on the CPU")
    nodes = int(os.environ.get("WORLD_SIZE", "1")) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    # Deterministic mode would fill every new buffer with nan, which takes a quarter of a CPU step and is not needed.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    with hide_lightning_hints():
        return Trainer(
            accelerator=accelerator,
            devices=devices,
            num_nodes=nodes if "TORCHELASTIC_RUN_ID" in os.environ else 1,
            strategy=_strategy(recipe, devices),
            precision=_PRECISIONS[recipe.optimiser.precision],
            max_epochs=recipe.optimiser.epochs,
            gradient_clip_val=recipe.optimiser.clip_norm,
            # Some GPU kernels have no deterministic version; then PyTorch only warns.
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
        raise TrainingError(f"expected the device auto, cpu, gpu or gpu:N, got {device!r}")
    has_gpu = torch.cuda.is_available()
    if kind == "gpu" and not has_gpu:
        raise TrainingError("torch finds no GPU that it can use; use -d cpu, or install a torch build for your GPU")
    count = int(os.environ.get("LOCAL_WORLD_SIZE", processes))
    return ("gpu" if has_gpu and kind != "cpu" else "cpu"), [int(number)] if number else count


def _strategy(recipe: Recipe, devices: int | list[int]) -> str:
    if devices == 1 or isinstance(devices, list):
        return "auto"
    # In some pairs of decoder and encoder, no output depends on some of the weights; plain DDP would wait for them.
    return "ddp" if recipe.network.encoder is None else "ddp_find_unused_parameters_true"


@contextmanager
def hide_lightning_hints() -> Iterator[None]:
    """Hide Lightning's hints: they are about its own Python interface, which our users do not see."""
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
