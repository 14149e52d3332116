"""Train a recipe on a dataset: set up, fit, export."""

from __future__ import annotations

import logging
import os
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from cxrseg.data.sample import Dataset
from cxrseg.errors import OutOfMemoryError, TrainingError
from cxrseg.learn.batches import Pixels, load_pixels, select_samples
from cxrseg.learn.callbacks import AtomicCheckpoints, History, callbacks_for
from cxrseg.learn.export import export_model
from cxrseg.learn.learner import Learner
from cxrseg.learn.memory import check_memory
from cxrseg.learn.networks import build_network
from cxrseg.learn.recipe import Recipe
from cxrseg.learn.run import RunFolder
from cxrseg.show.cases import Case, draw_overlays, draw_pairs, draw_triplets
from cxrseg.show.curves import draw_dice, draw_loss, draw_rmse

__all__ = ["Run", "train"]

log = logging.getLogger(__name__)

_PRECISIONS: dict[str, Literal["32-true", "bf16-mixed", "16-mixed"]] = {
    "float32": "32-true",
    "bfloat16": "bf16-mixed",
    "float16": "16-mixed",
}
_SHOWN = 4
"""Validation images in the figures."""


@dataclass(frozen=True)
class Run:
    """What a training run came to.

    Attributes:
        folder: where everything lies.
        history: one row of figures for each epoch, as in history.csv.
        best: the row of the epoch whose weights the model file holds.
        interrupted: True where Ctrl-C ended it before its last epoch.
    """

    folder: RunFolder
    history: list[dict[str, float | None]]
    best: dict[str, float | None]
    interrupted: bool


def train(
    recipe: Recipe,
    dataset: Dataset,
    out: Path | str,
    *,
    resume: bool = False,
    start_from: Path | str | None = None,
    device: str = "auto",
    processes: int = 1,
    progress: bool = False,
    on_epoch: Callable[[dict[str, float | None]], None] | None = None,
) -> Run:
    """Train, and leave a run folder with checkpoints, history, figures and a model file.

    Args:
        recipe: what to do.
        dataset: images with splits 'train' and 'val'.
        out: the run folder; must be new, unless `resume`.
        resume: go on after the last complete epoch. On one CPU the result is the same, bit for bit, as without a
            break.
        start_from: a run folder or checkpoint whose weights to begin with.
        device: 'auto', 'cpu', 'gpu', or 'gpu:N'.
        processes: processes on this machine (GPUs, or CPU processes); more machines through torchrun.
        progress: show a progress bar.
        on_epoch: called with each row of the history.

    Raises:
        DatasetError: a split is missing, or files cannot be read.
        TrainingError: the folder holds another run, the loss is no number any more, or the weights do not fit.
        OutOfMemoryError: the batch does not fit into memory.
        DiskFullError: no room left for a checkpoint; the last good one stands.
    """
    samples = {split: select_samples(dataset, recipe.data, split) for split in ("train", "val")}
    used = Dataset(dataset.root, dataset.layout, (*samples["train"], *samples["val"]))
    folder = RunFolder(Path(out))
    if getattr(rank_zero_only, "rank", 0) == 0:  # the other processes of a run find the folder made
        folder.begin(recipe, used, resume)
    pixels = {split: load_pixels(chosen, recipe.data) for split, chosen in samples.items()}
    torch.manual_seed(recipe.seed)
    learner = Learner(recipe, pixels["train"], pixels["val"])
    if start_from is not None:
        load_weights(learner.network, Path(start_from))
    history = History(folder.history, on_epoch)
    trainer = _trainer(recipe, folder, history, device, processes, progress)
    if trainer.is_global_zero:
        folder.write_manifest(recipe, used, str(trainer.strategy.root_device), ended=None)
    if trainer.strategy.root_device.type == "cpu":
        check_memory(learner.network, recipe, trainer.world_size)
    with _quiet(), _memory_errors(recipe):
        interrupted = _fit(trainer, learner, folder.last if resume and folder.last.exists() else None)
    if not history.rows:
        raise TrainingError(f"stopped before the first epoch was over; {folder.root} holds nothing to use yet")
    best = max(history.rows, key=lambda row: row["val_dice"] or 0.0)
    if trainer.is_global_zero:
        _finish(folder, recipe, used, pixels["val"], history.rows, best)
        ended = "interrupted" if interrupted else "complete"
        folder.write_manifest(recipe, used, str(trainer.strategy.root_device), ended=ended, best=best)
    return Run(folder, history.rows, best, interrupted)


def load_weights(network: torch.nn.Module, source: Path) -> None:
    """Load the weights of a run folder's best checkpoint, or of a checkpoint, into a network.

    Raises:
        TrainingError: there is no such checkpoint, it is damaged, or it is of another network.
    """
    path = RunFolder(source).best if source.is_dir() else source
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    except FileNotFoundError:
        raise TrainingError(f"expected a run folder or a checkpoint (.ckpt) at {source}, found none") from None
    except Exception as error:  # torch.load raises nearly anything on a damaged file
        raise TrainingError(f"{path} is no checkpoint of cxrseg, or is damaged ({error})") from error
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
    network.load_state_dict(weights)


def _trainer(
    recipe: Recipe, folder: RunFolder, history: History, device: str, processes: int, progress: bool
) -> Trainer:
    accelerator, devices = _devices(device, processes)
    if recipe.optimiser.precision == "float16" and accelerator == "cpu":
        raise TrainingError("optimiser.precision=float16 needs a GPU; take bfloat16 or float32 on the CPU")
    nodes = int(os.environ.get("WORLD_SIZE", "1")) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    # Deterministic mode would fill every fresh buffer with nan: a quarter of a CPU step, and no help to anyone.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    with _quiet():
        return Trainer(
            accelerator=accelerator,
            devices=devices,
            num_nodes=nodes if "TORCHELASTIC_RUN_ID" in os.environ else 1,
            strategy="ddp" if devices != 1 and not isinstance(devices, list) else "auto",
            precision=_PRECISIONS[recipe.optimiser.precision],
            max_epochs=recipe.optimiser.epochs,
            gradient_clip_val=recipe.optimiser.clip_norm,
            # Some GPU kernels have no deterministic form; there a warning must do.
            deterministic=True if accelerator == "cpu" else "warn",
            sync_batchnorm=accelerator == "gpu",
            reload_dataloaders_every_n_epochs=1,
            num_sanity_val_steps=0,
            log_every_n_steps=10,
            logger=TensorBoardLogger(folder.root, name="tensorboard", version=""),
            callbacks=callbacks_for(recipe, folder.checkpoints, history, progress),
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


def _fit(trainer: Trainer, learner: Learner, checkpoint: Path | None) -> bool:
    """Run; True where Ctrl-C ended it."""
    try:
        trainer.fit(learner, ckpt_path=checkpoint, weights_only=True)
    except SystemExit:
        # Lightning has ended in order on Ctrl-C, and would leave without what we have.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        return True
    return False


@contextmanager
def _memory_errors(recipe: Recipe) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        text = str(error)
        if not isinstance(error, torch.OutOfMemoryError | MemoryError) and "allocate memory" not in text:
            raise
        raise OutOfMemoryError(
            f"a batch of {recipe.optimiser.batch} images of {recipe.data.size[0]}x{recipe.data.size[1]} does not fit "
            "into memory; set optimiser.batch or network.features lower"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
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


def _finish(
    folder: RunFolder,
    recipe: Recipe,
    dataset: Dataset,
    val: Pixels,
    history: list[dict[str, float | None]],
    best: dict[str, float | None],
) -> None:
    """Export the best weights and draw the figures."""
    network = build_network(recipe.network.model_copy(update={"pretrained": False}), len(recipe.data.targets)).eval()
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
    marked = np.argsort(areas, kind="stable")[np.count_nonzero(areas == 0) :]
    if not len(marked):
        return []
    # The ends of the range are the oddest images; a few steps in between show more.
    chosen = marked[np.linspace(0, len(marked) - 1, min(_SHOWN + 2, len(marked))).round().astype(int)][-_SHOWN - 1 : -1]
    batch = val.batch(torch.from_numpy(chosen))
    with torch.no_grad():
        probabilities = network(batch.images.float() / 255).sigmoid().numpy()
    return [
        Case(
            title=val.names[index],
            pixels=batch.images[row, 0].numpy().astype(np.float32) / np.float32(255),
            truth=batch.masks[row, 0].numpy().astype(bool),
            prediction=probabilities[row, 0] >= 0.5,
        )
        for row, index in enumerate(chosen)
    ]
