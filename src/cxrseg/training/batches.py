"""From samples to batches: all images are kept in memory as uint8, so that training never waits for a disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cxrseg.data.sample import CATEGORIES, Dataset, Sample
from cxrseg.errors import CxrsegError, DatasetError
from cxrseg.preprocessing import content_box, mask_to_input, to_input
from cxrseg.training.recipe import DataRecipe

__all__ = ["Batch", "Batches", "Pixels", "SoftTargets", "epoch_seed", "load_pixels", "select_samples", "shuffled"]


class SoftTargets(NamedTuple):
    """What trained networks say of images, see `cxrseg.training.distillation`.

    maps: (N, C, H, W), probabilities of each target: uint8, times 255, in memory, and float32 once they are augmented.
    categories: (N, 3) float32, probabilities of `cxrseg.data.sample.CATEGORIES`, or None where none of the networks has
    a classification head.
    """

    maps: Tensor
    categories: Tensor | None

    def to(self, device: torch.device) -> SoftTargets:
        """The same in the memory of `device`."""
        return SoftTargets(self.maps.to(device), None if self.categories is None else self.categories.to(device))

    def batch(self, places: Tensor) -> SoftTargets:
        """Those of some images."""
        return SoftTargets(self.maps[places], None if self.categories is None else self.categories[places])


class Batch(NamedTuple):
    """One step's tensors.

    images: (N, 1, H, W) uint8. masks: (N, C, H, W) uint8, 0 or 1. present: (N, C) bool, False where an image lacks
    that kind of mask, or only fills the last batch. categories: (N) int64, index in `cxrseg.data.sample.CATEGORIES`,
    -1 where unknown. real: (N) bool, False where an image only fills the last batch. soft_targets: of other networks,
    or None.
    """

    images: Tensor
    masks: Tensor
    present: Tensor
    categories: Tensor
    real: Tensor
    soft_targets: SoftTargets | None = None


@dataclass(frozen=True, eq=False)
class Pixels:
    """Every image of a split, ready for the network, in memory.

    Attributes:
        names: (N) sample names.
        images: (N, 1, H, W) uint8; pixels in [0, 1] times 255, which is exact for 8-bit images of the right size.
        masks: (N, C, H, W) uint8, 0 or 1, in the recipe's order of targets.
        present: (N, C) bool.
        categories: (N) int64, index in `cxrseg.data.sample.CATEGORIES`, -1 where unknown.
        soft_targets: what other networks say of the images, or None.
    """

    names: tuple[str, ...]
    images: Tensor
    masks: Tensor
    present: Tensor
    categories: Tensor
    soft_targets: SoftTargets | None = None

    def __len__(self) -> int:
        return len(self.names)

    def to(self, device: torch.device) -> Pixels:
        """The same images in the memory of `device`."""
        return Pixels(
            self.names,
            self.images.to(device),
            self.masks.to(device),
            self.present.to(device),
            self.categories.to(device),
            None if self.soft_targets is None else self.soft_targets.to(device),
        )

    def batch(self, indices: Tensor) -> Batch:
        """Gather some images; an index of -1 gives image 0 with nothing present."""
        real, places = indices >= 0, indices.clamp(min=0)
        return Batch(
            self.images[places],
            self.masks[places],
            self.present[places] & real[:, None],
            self.categories[places].where(real, -1),
            real,
            None if self.soft_targets is None else self.soft_targets.batch(places),
        )


def select_samples(dataset: Dataset, recipe: DataRecipe, split: str) -> tuple[Sample, ...]:
    """The samples of a split that a recipe trains on.

    Raises:
        DatasetError: the split is missing, or has none of them.
    """
    if split == "val" and not any(sample.split == "val" for sample in dataset.samples):
        raise DatasetError(
            f"{dataset.root} has no split 'val' for validation; hold out a fraction of its training images "
            "(cxrseg.data.splits.hold_out)"
        )
    others = {sample.category for sample in dataset.samples} - set(CATEGORIES)
    chosen = dataset.select(split, {*recipe.categories, *others})
    unused = recipe.non_covid == "out" or (recipe.non_covid == "lungs" and "lungs" not in recipe.targets)
    kept = tuple(sample for sample in chosen.samples if not (unused and sample.infection_is_by_definition))
    if not kept:
        raise DatasetError(
            f"{dataset.root} has only Non-COVID images in split {split!r}, and the recipe leaves them out; set "
            "data.non_covid=background, or add to data.categories"
        )
    return kept


def load_pixels(samples: Sequence[Sample], recipe: DataRecipe, *, complete: bool = True) -> Pixels:
    """Read and resize images and masks.

    Args:
        samples: the images.
        recipe: size, targets, and the use of Non-COVID images.
        complete: whether each target needs a mask; not where a run keeps what it knows of the others.

    Raises:
        DatasetError: files cannot be read (all of them are listed), or no image has a mask of a target.
    """
    faults: list[str] = []

    def read(sample: Sample) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], list[bool]] | None:
        try:
            return _read(sample, recipe)
        except CxrsegError as error:
            faults.append(str(error))
            return None

    # Decoding releases the interpreter's lock, so threads are fast enough and no data is copied between processes.
    with ThreadPoolExecutor() as pool:
        items = [item for item in pool.map(read, samples) if item is not None]
    if faults:
        raise DatasetError(f"{len(faults)} of {len(samples)} images cannot be used:", sorted(faults))
    present = np.array([item[2] for item in items])
    for index, target in enumerate(recipe.targets):
        if complete and not present[:, index].any():
            raise DatasetError(
                f"none of the {len(samples)} images has a mask of {target}, which is in the recipe's data.targets; "
                "remove it there, or use another dataset"
            )
    return Pixels(
        tuple(sample.name for sample in samples),
        torch.from_numpy(np.stack([item[0] for item in items])),
        torch.from_numpy(np.stack([item[1] for item in items])),
        torch.from_numpy(present),
        torch.tensor([CATEGORIES.index(s.category) if s.category in CATEGORIES else -1 for s in samples]),
    )


def _read(sample: Sample, recipe: DataRecipe) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], list[bool]]:
    pixels = sample.read_image().pixels
    box = content_box(pixels)
    image = np.rint(to_input(pixels[box], recipe.size) * 255).astype(np.uint8)[None]
    masks = np.zeros((len(recipe.targets), *recipe.size), np.uint8)
    present = []
    for index, target in enumerate(recipe.targets):
        mask = _mask(sample, target, recipe)
        present.append(mask is not None)
        if mask is not None:
            masks[index] = mask_to_input(mask[box], recipe.size)
    return image, masks, present


def _mask(sample: Sample, target: str, recipe: DataRecipe) -> npt.NDArray[np.bool_] | None:
    """The mask of a target to train on, or None."""
    if target == "lungs" or (target == "opacity" and "opacity" in sample.masks):
        return sample.read_mask(target)
    if sample.infection_is_by_definition and recipe.non_covid == "lungs":
        return None
    mask = sample.read_mask("infection")
    if target == "infection" or mask is None or not mask.any():
        return mask
    lungs = sample.read_mask("lungs")
    if lungs is not None and (mask & lungs).sum() > recipe.opacity_limit * lungs.sum():
        return None
    return mask


class Batches:
    """The batches of an epoch. They depend on seed and epoch only, not on other random numbers.

    Args:
        pixels: the images, in the memory of the training device.
        batch_size: images in a step, over all processes together.
        order: the order of the images in this epoch, (N) int64; see `shuffled`.
        rank: of this process.
        processes: number of processes; all get the same number of batches.
        drop_last: leave out the last batch where it is not full (unless it is the only one).
    """

    def __init__(
        self,
        pixels: Pixels,
        batch_size: int,
        order: Tensor | None = None,
        *,
        rank: int = 0,
        processes: int = 1,
        drop_last: bool = False,
    ) -> None:
        self.pixels = pixels
        self.rank = rank
        self.processes = processes
        order = torch.arange(len(pixels)) if order is None else order
        chunks = list(torch.split(order, batch_size))
        if drop_last and len(chunks) > 1 and len(chunks[-1]) < batch_size:
            chunks.pop()
        self.chunks = chunks

    def __len__(self) -> int:
        return len(self.chunks)

    def __iter__(self) -> Iterator[Batch]:
        for chunk in self.chunks:
            missing = -len(chunk) % self.processes
            padded = torch.cat([chunk, torch.full((missing,), -1)])
            yield self.pixels.batch(padded[self.rank :: self.processes].to(self.pixels.images.device))


def epoch_seed(seed: int, epoch: int, rank: int = 0) -> int:
    """A seed for each (run, epoch, process), so that a resumed run draws the same numbers as an uninterrupted one."""
    return (seed * 1_000_003 + epoch * 1_009 + rank) % 2**63


def shuffled(count: int, seed: int, epoch: int) -> Tensor:
    """A permutation of `count` images, (count) int64, that depends only on seed and epoch."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(epoch_seed(seed, epoch)))
