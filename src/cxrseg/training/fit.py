"""Train a recipe on a dataset: set up, fit, export, draw."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_only

from cxrseg.data.sample import Dataset, Sample
from cxrseg.errors import OutOfMemoryError
from cxrseg.model_file import shipped_model
from cxrseg.run_folder import RunFolder
from cxrseg.training.batches import Batches, Pixels, load_pixels, select_samples, shuffled
from cxrseg.training.callbacks import History, callbacks_for
from cxrseg.training.checkpoints import choice, load_weights, read_checkpoint
from cxrseg.training.distillation import Distillation
from cxrseg.training.export import export_model
from cxrseg.training.figures import draw_figures
from cxrseg.training.initial_weights import load_model_files
from cxrseg.training.lightning_module import Learner
from cxrseg.training.manifest import RunClaim, check_run_folder, write_manifest, write_recipe
from cxrseg.training.memory import check_memory, check_network
from cxrseg.training.networks import build_network
from cxrseg.training.recipe import Recipe
from cxrseg.training.trainer import hide_lightning_hints, make_trainer

__all__ = ["Run", "train"]


_BATCH_NORM_IMAGES = 256
"""Number of training images for the batch-norm statistics where the initial weights are those of a model file."""


@dataclass(frozen=True)
class Run:
    """The result of a training run.

    Attributes:
        folder: paths of the files that it wrote.
        history: one row of figures for each epoch, as in history.csv.
        best: the row of the epoch whose weights the model file holds.
        interrupted: True where Ctrl-C or SIGTERM ended it before its last epoch.
        is_main: False in the other processes of a run of several processes.
        best_by: which figure chose the best epoch: 'val Dice', or 'val loss' where there is no Dice, or it is 0 in all.
    """

    folder: RunFolder
    history: list[dict[str, float | None]]
    best: dict[str, float | None]
    interrupted: bool
    is_main: bool = True
    best_by: str = "val Dice"

    @property
    def ended(self) -> str:
        """How it ended, as the manifest says it: 'complete' or 'interrupted'."""
        return "interrupted" if self.interrupted else "complete"


def train(
    recipe: Recipe,
    dataset: Dataset,
    out: Path | str,
    *,
    resume: bool = False,
    init_from: Sequence[Path | str] = (),
    distill_from: Sequence[Path | str] = (),
    device: str = "auto",
    processes: int = 1,
    progress: bool = False,
    on_epoch: Callable[[dict[str, float | None]], None] | None = None,
) -> Run:
    """Train, and write a run folder with checkpoints, history, figures and a model file.

    Args:
        recipe: all settings.
        dataset: images with the splits 'train' and 'val'.
        out: the run folder; must be new or empty, unless `resume`.
        resume: continue after the last complete epoch; on one CPU the result is bit for bit that of a run that was
            not interrupted.
        init_from: run folders, checkpoints or model files with the initial weights; of several, the mean. Where one of
            them is a model file, run folders count with theirs.
        distill_from: run folders of models to learn from as well; see `LossRecipe.distillation_weight`.
        device: 'auto', 'cpu', 'gpu', or 'gpu:N'.
        processes: processes on this machine (GPUs, or CPU processes); use torchrun for several machines.
        progress: show a progress bar.
        on_epoch: called with each row of the history.

    Raises:
        DatasetError: a split is missing, or files cannot be read.
        TrainingError: the folder holds another run, or another process trains there; the loss becomes nan or infinite;
            or weights do not fit.
        OutOfMemoryError: the batch does not fit into memory.
        DiskFullError: the disk is full; the last complete checkpoint is unchanged.
        KeyboardInterrupt: Ctrl-C or SIGTERM ended it before its first epoch was complete.
    """
    samples = {split: select_samples(dataset, recipe.data, split) for split in ("train", "val")}
    used = replace(dataset, samples=(*samples["train"], *samples["val"]))
    folder, distillation = RunFolder(Path(out)), Distillation([Path(run) for run in distill_from], recipe)
    with RunClaim(folder, partial(check_run_folder, folder, recipe, used, resume, distillation.marks)) as claim:
        if getattr(rank_zero_only, "rank", 0) == 0:  # for the other processes the folder exists already
            claim.check()
        learner = _learner(recipe, samples, init_from, distillation)
        history = History(folder.history, on_epoch)
        callbacks = callbacks_for(recipe, folder.checkpoints, history, progress)
        trainer = make_trainer(recipe, folder.root, callbacks, device=device, processes=processes, progress=progress)
        _check_fits(trainer, learner)
        if trainer.is_global_zero:
            claim.take()  # not earlier: a run that cannot start must not leave a folder that blocks the next attempt
        return _carry_out(trainer, learner, history, folder, used, distillation.marks, resume=resume)


def _carry_out(
    trainer: Trainer,
    learner: Learner,
    history: History,
    folder: RunFolder,
    used: Dataset,
    marks: Sequence[Mapping[str, str]],
    *,
    resume: bool,
) -> Run:
    """Train the network that is set up, and write what the folder holds of it."""
    recipe = learner.recipe
    about = partial(write_manifest, folder, recipe, used, str(trainer.strategy.root_device), distilled_from=marks)
    if trainer.is_global_zero:
        write_recipe(folder, recipe, used)
        about(ended=None)
    checkpoint = _last_of(folder, history) if resume else None
    with hide_lightning_hints(), _memory_errors(recipe):
        interrupted = _fit(trainer, learner, checkpoint)
    run = _run_of(folder, history, interrupted, trainer.is_global_zero)
    if run.is_main:
        _finish(run, recipe, used, learner.pixels["val"])
        about(ended=run.ended, best=run.best, best_by=run.best_by)
    return run


def _run_of(folder: RunFolder, history: History, interrupted: bool, is_main: bool) -> Run:
    """What came of a run whose epochs are over."""
    best = _best(history, folder)
    best_by = "val Dice" if best["val_dice"] else "val loss"
    return Run(folder, history.rows, best, interrupted, is_main, best_by)


def _check_fits(trainer: Trainer, learner: Learner) -> None:
    """Raise an error where the network does not take a batch, or the memory does not hold one."""
    recipe = learner.recipe
    check_network(learner.network, recipe, min(recipe.optimiser.batch_size, len(learner.pixels["train"])))
    if trainer.strategy.root_device.type == "cpu":
        check_memory(learner.network, recipe, trainer.world_size)


def _learner(
    recipe: Recipe,
    samples: Mapping[str, Sequence[Sample]],
    init_from: Sequence[Path | str],
    distillation: Distillation,
) -> Learner:
    """The network with its initial weights, its data and its loss."""
    complete = not recipe.loss.retention_weight
    pixels = {split: load_pixels(chosen, recipe.data, complete=complete) for split, chosen in samples.items()}
    torch.manual_seed(recipe.seed)
    learner = Learner(recipe, pixels["train"], pixels["val"], distillation)
    sources = [Path(source) for source in init_from]
    if not sources and recipe.init_from == "shipped":
        sources = [shipped_model()]
    if any(source.suffix == ".onnx" for source in sources):
        files = [RunFolder(source).model if source.is_dir() else source for source in sources]
        chosen = shuffled(len(pixels["train"]), recipe.seed, 0)[:_BATCH_NORM_IMAGES]
        batches = Batches(pixels["train"], recipe.optimiser.batch_size, chosen)
        load_model_files(learner.network, files, (batch.images.float() / 255 for batch in batches))
    elif sources:
        load_weights(learner.network, *sources)
    learner.remember()
    return learner


def _best(history: History, folder: RunFolder) -> dict[str, float | None]:
    """The row of the epoch whose weights are kept, see `cxrseg.training.checkpoints.choice`."""
    if not history.rows:
        raise KeyboardInterrupt(
            f"stopped before the first epoch was complete; {folder.root} does not hold a model yet; continue with "
            "--resume"
        )
    return max(history.rows, key=lambda row: choice(row["val_dice"], row["val_loss"]))


def _last_of(folder: RunFolder, history: History) -> Path | None:
    """The checkpoint to continue from, or None where there is none yet; the history gets its rows."""
    if not folder.last.exists():
        return None
    # Read here, since Lightning's error for a damaged file is not helpful, and it may be stopped before it reads.
    stored = read_checkpoint(folder.last)
    history.load_state_dict(stored.get("callbacks", {}).get("History", {"rows": []}))
    return folder.last


def _fit(trainer: Trainer, learner: Learner, checkpoint: Path | None) -> bool:
    """Run; True where Ctrl-C or SIGTERM ended it."""
    try:
        trainer.fit(learner, ckpt_path=checkpoint, weights_only=True)
    except SystemExit as error:
        if not isinstance(error.__context__, KeyboardInterrupt):
            raise
        # Lightning has stopped cleanly, and now wants to exit before the best weights are exported.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        # It has killed the processes that it started; a thread of its own would soon kill this one for that.
        getattr(trainer.strategy.launcher, "procs", []).clear()
        return True
    return False


def _finish(run: Run, recipe: Recipe, dataset: Dataset, val: Pixels) -> None:
    """Export the best weights as the model file, and draw the figures."""
    network = build_network(recipe.network.model_copy(update={"pretrained": False}), recipe.data.targets).eval()
    load_weights(network, run.folder.best)
    figures = {"val": {key.removeprefix("val_"): value for key, value in run.best.items() if key.startswith("val_")}}
    export_model(run.folder.model, network, recipe, dataset, figures)
    draw_figures(run.folder.figures, run.history, int(run.best["epoch"] or 0), network, val)


@contextmanager
def _memory_errors(recipe: Recipe) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        text = str(error)
        if not isinstance(error, torch.OutOfMemoryError | MemoryError) and "allocate memory" not in text:
            raise
        raise OutOfMemoryError(
            f"a batch of {recipe.optimiser.batch_size} images of {recipe.data.size[0]}x{recipe.data.size[1]} does not "
            "fit into memory; use a smaller optimiser.batch_size or network.features"
        ) from error
