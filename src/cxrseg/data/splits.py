"""Split and category from the names of folders and cells, and holding out training images."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter, defaultdict
from dataclasses import replace

from cxrseg.data.groups import independent_groups, with_exact_copies
from cxrseg.data.sample import SPLITS, Dataset, Sample
from cxrseg.errors import DatasetError, RecipeError

__all__ = ["as_category", "as_split", "hold_out"]

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
