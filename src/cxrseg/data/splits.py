"""Split and category from the names of folders and cells, and holding out training images."""

from __future__ import annotations

import hashlib
import logging
from collections import defaultdict
from dataclasses import replace

from cxrseg.data.sample import SPLITS, Dataset, Sample
from cxrseg.errors import DatasetError, RecipeError

__all__ = ["as_category", "as_split", "hold_out"]

_log = logging.getLogger(__name__)

_SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
_CATEGORY_WORDS = {
    "covid": "COVID-19",
    "covid19": "COVID-19",
    "noncovid": "Non-COVID",
    "noncovid19": "Non-COVID",
    "normal": "Normal",
}


def as_split(name: str) -> str | None:
    """The split of a folder's or cell's name, such as 'train' for 'Train Set', or None."""
    return _SPLIT_WORDS.get(name.casefold().strip().removesuffix("set").rstrip(" _-"))


def as_category(name: str) -> str | None:
    """The category of a folder's or cell's name, such as 'COVID-19' for 'covid19', or None."""
    return _CATEGORY_WORDS.get("".join(letter for letter in name.casefold() if letter.isalnum()))


def hold_out(dataset: Dataset, split: str, fraction: float, seed: int = 0) -> Dataset:
    """Move a fraction of the training images into a split that the dataset does not have.

    The choice is the same on every machine: within their category, images are ranked by the SHA-256 of seed and name.
    The fraction is taken of each category, rounded, and at least one image of a category with two. Patients are not
    known: two images of one patient may get into different splits.

    Args:
        dataset: the dataset; it is not changed.
        split: 'val' or 'test'.
        fraction: of the training images, between 0 and 1.
        seed: another seed chooses other images.

    Raises:
        RecipeError: `split` or `fraction` is out of range.
        DatasetError: the dataset has that split already, or too few training images.
    """
    if split not in SPLITS[1:]:
        raise RecipeError(f"expected to hold out 'val' or 'test', got {split!r}")
    if not 0 < fraction < 1:
        raise RecipeError(f"expected to hold out a fraction between 0 and 1, got {fraction:g}")
    if any(sample.split == split for sample in dataset.samples):
        raise DatasetError(
            f"{dataset.root} already has images of split {split} ({dataset.describe()}); leave out --val-fraction, or "
            f"remove these images"
        )
    held = _lowest_ranked([s for s in dataset.samples if s.split == "train"], fraction, seed)
    if not held:
        raise DatasetError(
            f"expected at least two training images of a category to hold out some for {split}, got "
            f"{dataset.describe()} in {dataset.root}"
        )
    _log.info("%s: held out %d training images for %s (seed %d)", dataset.root, len(held), split, seed)
    samples = tuple(replace(s, split=split) if s.name in held else s for s in dataset.samples)
    return Dataset(dataset.root, dataset.layout, samples)


def _lowest_ranked(samples: list[Sample], fraction: float, seed: int) -> set[str]:
    """Names of the fraction of each category whose hash is lowest."""
    names: dict[str | None, list[str]] = defaultdict(list)
    for sample in samples:
        names[sample.category].append(sample.name)
    held: set[str] = set()
    for group in names.values():
        group.sort(key=lambda name: hashlib.sha256(f"{seed}\0{name}".encode()).digest())
        if len(group) > 1:
            held.update(group[: min(max(round(fraction * len(group)), 1), len(group) - 1)])
    return held
