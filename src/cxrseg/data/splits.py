"""Split and category from the names of folders and cells, and holding out training images."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import replace

from cxrseg.data.groups import independent_groups, with_exact_copies
from cxrseg.data.sample import SPLITS, Dataset, Sample
from cxrseg.errors import DatasetError, RecipeError

__all__ = ["as_category", "as_split", "hold_out", "in_folds", "with_splits"]

_log = logging.getLogger(__name__)

_SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "dev": "val",
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
    The fraction is taken of each category, rounded, and at least one image of a category with two. Images of one
    patient, and copies of one exposure, stay together: where the dataset names patients (`Sample.patient`), where an
    audit found copies (`cxrseg.data.groups.with_copies`), and where files are equal. A group counts for the category of
    most of its images, and is taken where this brings the category closer to the fraction.

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
    training = with_exact_copies([s for s in dataset.samples if s.split == "train"])
    held = _chosen(training, fraction, seed)
    if not held:
        raise DatasetError(
            f"expected at least two training images of a category, of two patients and not copies of each other, to "
            f"hold out some for {split}, got {dataset.describe()} in {dataset.root}"
        )
    _log.info("%s: held out %d training images for %s (seed %d)", dataset.root, len(held), split, seed)
    samples = tuple(replace(s, split=split) if s.name in held else s for s in dataset.samples)
    return replace(dataset, samples=samples)


def in_folds(dataset: Dataset, count: int, seed: int = 0) -> list[Dataset]:
    """Divide the images of 'train' and 'val' for cross-validation: each is 'val' in one of the datasets.

    The folds of a category differ by as little as whole groups allow: images of one patient, and copies of one
    exposure, stay together. The choice is the same on every machine.

    Args:
        dataset: the dataset; its images of 'test' stay out of all folds.
        count: number of folds, at least 2.
        seed: another seed divides differently.

    Returns:
        One dataset a fold, of the images of 'train' and 'val'.

    Raises:
        RecipeError: fewer than two folds.
        DatasetError: too few images, patients or groups of copies.
    """
    if count < 2:
        raise RecipeError(f"expected at least 2 folds, got {count}")
    samples = with_exact_copies([sample for sample in dataset.samples if sample.split != "test"])
    sizes = [0] * count
    fold_of: dict[str, int] = {}
    for units in _units(samples, seed).values():
        within = [0] * count
        for names in sorted(units, key=len, reverse=True):  # stable: groups of one size stay in their order
            fold = min(range(count), key=lambda each: (within[each], sizes[each], each))
            within[fold] += len(names)
            sizes[fold] += len(names)
            fold_of.update(dict.fromkeys(names, fold))
    if not all(sizes):
        raise DatasetError(
            f"expected images of at least {count} patients or groups of copies for {count} folds, got "
            f"{dataset.describe()} in {dataset.root}; use fewer folds"
        )
    return [
        replace(
            dataset,
            samples=tuple(replace(s, split="val" if fold_of[s.name] == fold else "train") for s in samples),
        )
        for fold in range(count)
    ]


def with_splits(dataset: Dataset, split_of: Mapping[str, str]) -> Dataset:
    """A dataset whose images are in the splits in which a training run used them, so that none that it learned from is
    evaluated as 'val'.

    Args:
        dataset: any dataset; one that does not have all images of the run is not changed.
        split_of: name to split of the images of the run; others stay in theirs.
    """
    if not split_of.keys() <= {sample.name for sample in dataset.samples}:
        return dataset
    samples = tuple(replace(s, split=split_of.get(s.name, s.split)) for s in dataset.samples)
    return replace(dataset, samples=samples)


def _units(samples: list[Sample], seed: int) -> dict[str | None, list[list[str]]]:
    """Category to the groups of names that stay together, in the order in which they are chosen."""
    groups = independent_groups(samples) or range(len(samples))
    members: dict[int, list[Sample]] = defaultdict(list)
    for group, sample in zip(groups, samples, strict=True):
        members[group].append(sample)
    units: dict[str | None, list[tuple[bytes, list[str]]]] = defaultdict(list)
    for group_members in members.values():
        counts = Counter(sample.category for sample in group_members)
        category = max(counts, key=lambda name: (counts[name], name or ""))
        names = [sample.name for sample in group_members]
        units[category].append((min(_rank(seed, name) for name in names), names))
    return {category: [names for _, names in sorted(of)] for category, of in units.items()}


def _rank(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}\0{name}".encode()).digest()


def _chosen(samples: list[Sample], fraction: float, seed: int) -> set[str]:
    """Names of about the fraction of each category, in whole groups; at least one group, and not all of them."""
    held: set[str] = set()
    for units in _units(samples, seed).values():
        if len(units) < 2:
            continue
        wanted = max(round(fraction * sum(map(len, units))), 1)
        count = 0
        for unit in units[:-1]:
            if abs(count + len(unit) - wanted) < abs(count - wanted):
                held.update(unit)
                count += len(unit)
        if not count:  # all are larger than twice the fraction
            held.update(sorted(units, key=len)[0])
    return held
