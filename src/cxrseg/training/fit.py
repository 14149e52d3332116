"""Train a recipe on a dataset: set up, fit, export."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_only

from cxrseg.data.sample import Dataset
from cxrseg.errors import OutOfMemoryError, TrainingError
from cxrseg.training.batches import Batches, Pixels, load_pixels, select_samples, shuffled
from cxrseg.training.callbacks import History, callbacks_for
from cxrseg.training.distillation import Distillation
from cxrseg.training.finish import finish, load_weights, read_checkpoint
from cxrseg.training.initial_weights import load_model_file
from cxrseg.training.lightning_module import Learner
from cxrseg.training.memory import check_memory
from cxrseg.training.recipe import Recipe
from cxrseg.training.run import RunFolder
from cxrseg.training.trainer import make_trainer, quiet

__all__ = ["Run", "train"]


_NORM_IMAGES = 256
"""Training images from which batch norms take their statistics where the first weights come from a model file."""


@dataclass(frozen=True)
class Run:
    """What a training run came to.

    Attributes:
        folder: where everything lies.
        history: one row of figures for each epoch, as in history.csv.
        best: the row of the epoch whose weights the model file holds.
        interrupted: True where Ctrl-C ended it before its last epoch.
        is_main: False in the helping processes of a run of several.
    """

    folder: RunFolder
    history: list[dict[str, float | None]]
    best: dict[str, float | None]
    interrupted: bool
    is_main: bool = True

    @property
    def ended(self) -> str:
        """How it ended, in the manifest's word: 'complete' or 'interrupted'."""
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
    """Train, and leave a run folder with checkpoints, history, figures and a model file.

    Args:
        recipe: what to do.
        dataset: images with splits 'train' and 'val'.
        out: the run folder; must be new, unless `resume`.
        resume: go on after the last complete epoch; on one CPU the result is that of an unbroken run, bit for bit.
        init_from: run folders or checkpoints whose weights to begin with, of several their mean; or one model file.
        distill_from: run folders to learn from as well; see `LossRecipe.distillation_weight`.
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
    distillation = Distillation([Path(teacher) for teacher in distill_from], recipe)
    if getattr(rank_zero_only, "rank", 0) == 0:  # the other processes of a run find the folder made
        folder.begin(recipe, used, resume, distillation.marks)
    pixels = {split: load_pixels(chosen, recipe.data) for split, chosen in samples.items()}
    learner = _learner(recipe, pixels, init_from, distillation)
    history = History(folder.history, on_epoch)
    callbacks = callbacks_for(recipe, folder.checkpoints, history, progress)
    trainer = make_trainer(recipe, folder.root, callbacks, device=device, processes=processes, progress=progress)
    place = str(trainer.strategy.root_device)
    if place == "cpu":
        check_memory(learner.network, recipe, trainer.world_size)
    checkpoint = _last_of(folder, history) if resume else None
    if trainer.is_global_zero:
        # Not before all is known to fit: a run that could not start leaves no folder that refuses the next try.
        folder.write_recipe(recipe)
        folder.write_manifest(recipe, used, place, ended=None, teachers=distillation.marks)
    with quiet(), _memory_errors(recipe):
        interrupted = _fit(trainer, learner, checkpoint)
    run = Run(folder, history.rows, _best(history, folder), interrupted, trainer.is_global_zero)
    if run.is_main:
        finish(folder, recipe, used, pixels["val"], run.history, run.best)
        folder.write_manifest(recipe, used, place, ended=run.ended, best=run.best, teachers=distillation.marks)
    return run


def _learner(
    recipe: Recipe, pixels: Mapping[str, Pixels], init_from: Sequence[Path | str], distillation: Distillation
) -> Learner:
    """The network with its first weights, and what it learns from."""
    torch.manual_seed(recipe.seed)
    learner = Learner(recipe, pixels["train"], pixels["val"], distillation)
    sources = [Path(source) for source in init_from]
    if len(sources) == 1 and sources[0].suffix == ".onnx":
        chosen = shuffled(len(pixels["train"]), recipe.seed, 0)[:_NORM_IMAGES]
        batches = Batches(pixels["train"], recipe.optimiser.batch_size, chosen)
        load_model_file(learner.network, sources[0], (batch.images.float() / 255 for batch in batches))
    elif sources:
        load_weights(learner.network, *sources)
    return learner


def _best(history: History, folder: RunFolder) -> dict[str, float | None]:
    """The row of the epoch with the best val Dice."""
    if not history.rows:
        raise TrainingError(f"stopped before the first epoch was over; {folder.root} holds nothing to use yet")
    return max(history.rows, key=lambda row: row["val_dice"] or 0.0)


def _last_of(folder: RunFolder, history: History) -> Path | None:
    """The checkpoint to go on from, None where the run ended before its first; the history takes up its rows."""
    if not folder.last.exists():
        return None
    # Read here, since Lightning's words on a damaged one would help no one, and it may be stopped before it reads.
    stored = read_checkpoint(folder.last)
    history.load_state_dict(stored.get("callbacks", {}).get("History", {"rows": []}))
    return folder.last


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
            f"a batch of {recipe.optimiser.batch_size} images of {recipe.data.size[0]}x{recipe.data.size[1]} does not "
            f"fit "
            "into memory; set optimiser.batch_size or network.features lower"
        ) from error
