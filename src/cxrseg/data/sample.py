"""A dataset and its samples: images with their masks."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from cxrseg.errors import DatasetError
from cxrseg.io.decode import Decoded
from cxrseg.io.masks import MaskValues, mask_of, read_mask
from cxrseg.io.radiograph import Radiograph
from cxrseg.io.read import read_orientation, read_radiograph, read_size

__all__ = [
    "CATEGORIES",
    "PHANTOM_LAYOUT",
    "PHANTOM_MARK",
    "SPLITS",
    "TARGETS",
    "ArrayItem",
    "Dataset",
    "Reading",
    "Sample",
]

_Value = TypeVar("_Value", bound=np.generic)

CATEGORIES = ("COVID-19", "Non-COVID", "Normal")
"""The categories of COVID-QU-Ex, with its names."""

SPLITS = ("train", "val", "test")
"""The splits, as commands name them."""

TARGETS = ("infection", "lungs")
"""The kinds of mask, as recipes name them."""


_SHOWN = 6

PHANTOM_LAYOUT = "phantom"
"""`Dataset.layout` of synthetic images; model files that were trained on them record it."""

PHANTOM_MARK = "phantom.txt"
"""File beside the splits that marks the images as synthetic: figures on them say nothing about patients."""


@dataclass(frozen=True)
class ArrayItem:
    """One image inside an array of an .npz file.

    Attributes:
        file: the .npz file.
        key: the array's name, such as 'train_images'; its shape is (N, H, W) or (N, H, W, C).
        index: which of the N.
        pixels: the (H, W) uint8 or bool values themselves.
    """

    file: Path
    key: str
    index: int
    pixels: npt.NDArray[np.generic] = field(repr=False, compare=False)


@dataclass(frozen=True)
class Reading:
    """How the files of a dataset are read, where the files do not tell.

    Attributes:
        value_range: the stored values of black and of white in the images; None: the files say, or it is estimated.
        mask_values: target ('infection', 'lungs') to the values of its masks that are marked; targets without an entry
            follow the rules of `cxrseg.io.masks.read_mask`.
    """

    value_range: tuple[float, float] | None = None
    mask_values: Mapping[str, MaskValues] = field(default_factory=dict)

    def __str__(self) -> str:
        """Both settings in words, '' where neither is made."""
        masks = [f"{target} {values}" for target, values in sorted(self.mask_values.items())]
        return ", ".join([*(["{:g}:{:g}".format(*self.value_range)] if self.value_range else []), *masks])


@dataclass(frozen=True)
class Sample:
    """One radiograph with its masks.

    Attributes:
        name: unique in its dataset, such as 'Val/COVID-19/covid_1'.
        split: 'train', 'val' or 'test'.
        category: 'COVID-19', 'Non-COVID', 'Normal', a name of the dataset's own, or None where it does not say.
        image: the file, or the array.
        masks: target name ('infection', 'lungs') to the file or array of the mask; missing kinds have no entry.
        reading: how they are read.
        patient: an identifier, or None where the dataset does not name the patient.
        fit_masks: True where masks are known to have another size than the image; they are resized to it.
        copies: the name of one image of the group of copies of one exposure to which this image belongs, or None.
    """

    name: str
    split: str
    category: str | None
    image: Path | ArrayItem
    masks: Mapping[str, Path | ArrayItem]
    reading: Reading = Reading()
    patient: str | None = None
    copies: str | None = None
    fit_masks: bool = False

    def read_image(self) -> Radiograph:
        """Read the radiograph.

        Raises:
            ImageError: the file cannot be read.
        """
        if isinstance(self.image, Path):
            return read_radiograph(self.image, value_range=self.reading.value_range)
        source = f"{self.image.file}[{self.image.key}][{self.image.index}]"
        return Radiograph(self.image.pixels.astype(np.float32) / np.float32(255), source=source)

    def read_mask(self, target: str) -> npt.NDArray[np.bool_] | None:
        """Read one mask, (H, W) bool on the radiograph's pixels, or None where this image has no mask of that kind.

        Raises:
            ImageError: the file cannot be read.
        """
        stored = self.masks.get(target)
        if stored is None:
            return None
        marked = self.reading.mask_values.get(target)
        if isinstance(stored, Path):
            mask = read_mask(stored, marked)
            return self.to_upright(self._fitted(mask) if self.fit_masks else mask)
        return mask_of(Decoded(stored.pixels), f"{stored.file}[{stored.key}][{stored.index}]", marked)

    def _fitted(self, mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """The mask at the size of the image, each pixel that of the nearest one."""
        if not isinstance(self.image, Path):
            return mask
        rows, columns = (
            ((np.arange(size) + 0.5) * own / size).astype(int)
            for size, own in zip(read_size(self.image), mask.shape, strict=True)
        )
        return mask[np.ix_(rows, columns)]

    def to_upright(self, mask: npt.NDArray[_Value]) -> npt.NDArray[_Value]:
        """Bring a mask or map that lies on the pixels of the image's file onto those of the radiograph."""
        return read_orientation(self.image).apply(mask) if isinstance(self.image, Path) else mask

    @property
    def infection_is_by_definition(self) -> bool:
        """True where an empty infection mask means 'not COVID-19', not 'no visible opacity'.

        Non-COVID images of COVID-QU-Ex are other pneumonias: they show opacities, and their infection masks are
        empty by the definition of the dataset.
        """
        return self.category == "Non-COVID"


@dataclass(frozen=True)
class Dataset:
    """The samples of a folder or file of images and masks.

    Attributes:
        root: the folder or file that the user named.
        layout: its recognised layout, such as 'COVID-QU-Ex infection segmentation data'.
        samples: all samples, in a fixed order.
        unused: what image files the folder holds beside those of the samples, such as '24 in dev', '1 .zip in more'.
    """

    root: Path
    layout: str
    samples: tuple[Sample, ...]
    unused: tuple[str, ...] = ()

    @property
    def unused_line(self) -> str:
        """What was found and not used, in one line; '' where all was used."""
        more = [f"and more in {len(self.unused) - _SHOWN} folders"] if len(self.unused) > _SHOWN else []
        return f"image files not used: {', '.join([*self.unused[:_SHOWN], *more])}" if self.unused else ""

    def select(self, split: str | None = None, categories: Collection[str | None] | None = None) -> Dataset:
        """Keep the samples of one split and of some categories.

        Args:
            split: 'train', 'val', 'test', or None for all.
            categories: names of categories, or None for all.

        Raises:
            DatasetError: no sample is left; the message says what the dataset has.
        """
        kept = tuple(
            sample
            for sample in self.samples
            if split in (None, sample.split) and (categories is None or sample.category in categories)
        )
        if not kept:
            wanted = (
                f"split {split or 'any'}, categories {', '.join(filter(None, categories)) if categories else 'any'}"
            )
            raise DatasetError(
                f"{self.root} ({self.layout}) has no images of {wanted}; it has: {self.describe()}; choose "
                "another split or other categories"
            )
        return replace(self, samples=kept)

    def describe(self) -> str:
        """The number of images by split and category, in one line."""
        counts: dict[str, int] = {}
        for sample in self.samples:
            key = f"{sample.split} {sample.category}" if sample.category else sample.split
            counts[key] = counts.get(key, 0) + 1
        return ", ".join(f"{key} {count}" for key, count in counts.items())

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the names and contents of all images and masks, independent of their folder."""
        digest = hashlib.sha256()
        if reading := "; ".join(dict.fromkeys(str(sample.reading) for sample in self.samples)):
            digest.update(reading.encode())
        for sample in self.samples:
            digest.update(f"{sample.name}\0{sample.split}\0{sample.category}\0".encode())
            for kind, stored in (("image", sample.image), *sorted(sample.masks.items())):
                digest.update(f"{kind}\0".encode())
                data = stored.read_bytes() if isinstance(stored, Path) else stored.pixels.tobytes()
                digest.update(hashlib.sha256(data).digest())
        return digest.hexdigest()
