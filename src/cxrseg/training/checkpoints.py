"""Checkpoints: written atomically, read, and loaded into a network."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, BinaryIO

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from cxrseg.errors import TrainingError
from cxrseg.io.write import write_atomic
from cxrseg.run_folder import RunFolder

__all__ = ["AtomicCheckpoints", "choice", "load_weights", "read_checkpoint"]


class AtomicCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint under another name and renames it: the last good one survives a kill and a full disk."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Save `checkpoint` to `path`.

        Raises:
            DiskFullError: the disk is full; the checkpoint that was there is unchanged.
        """
        write_atomic(Path(path), lambda file: _save(checkpoint, file))


class _Writer:
    """Keeps the error of a failed write; torch.save replaces it by one of its own format."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self._file.flush()


def _save(checkpoint: dict[str, Any], file: BinaryIO) -> None:
    writer = _Writer(file)
    try:
        torch.save(checkpoint, writer)  # type: ignore[arg-type]  # it needs no more than these two methods
    except RuntimeError:
        if writer.error is not None:
            raise writer.error from None
        raise


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read all of a checkpoint.

    Raises:
        TrainingError: it is missing or damaged.
    """
    try:
        stored: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        stored["state_dict"].items()
    except FileNotFoundError:
        raise TrainingError(f"expected a run folder or a checkpoint (.ckpt) at {path}, found none") from None
    except Exception as error:  # torch.load raises nearly anything, and advises to load such files all the same
        raise TrainingError(
            f"{path} is not a checkpoint of cxrseg, or is damaged; expected tensors and numbers only, since other "
            f"contents could run a program. Use a file that 'cxrseg train' wrote"
        ) from error
    return stored


def load_weights(network: torch.nn.Module, *sources: Path) -> None:
    """Load the weights of a run folder's best checkpoint, or of a checkpoint, into a network.

    Of several, the mean is taken (a model soup: Wortsman et al. 2022, arXiv:2203.05482). The mean of batch-norm
    statistics does not fit the mean of the weights: use `optimiser.batch_norm_recalibration`, or train an epoch, before
    you evaluate it.

    Raises:
        TrainingError: a checkpoint is missing, damaged, or of another network.
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
            f"such as {faults[0]}); use the recipe that it was trained with"
        )
    return weights


def choice(dice: float | None, loss: float | None) -> float:
    """What chooses the best epoch and stops early; the epoch with the highest one is the best.

    It is the val Dice. As long as that is 0, or no val image has a mask to compare, it is the val loss times -1, so
    that epochs that find nothing yet still differ.

    Args:
        dice: the val Dice in [0, 1], None where there is none.
        loss: the val loss, None where it is not a number.
    """
    if dice:
        return dice
    return -math.inf if loss is None or math.isnan(loss) else -loss
