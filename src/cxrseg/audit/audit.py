"""The data audit: counts, unreadable files, faults in masks, copies within and across splits, shortcuts."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cxrseg.audit.mask_faults import Fault, mask_faults
from cxrseg.data.exclusions import Exclusion
from cxrseg.data.sample import SPLITS, ArrayItem, Dataset, Sample
from cxrseg.errors import ImageError, MissingExtraError
from cxrseg.io.decode import decode_raster
from cxrseg.io.raster import to_radiograph
from cxrseg.io.settings import ReadSettings

try:
    from cxrseg.audit.near_duplicates import Pair, Picture, choose_exclusions, copy_groups, find_pairs
    from cxrseg.audit.registration import resized, warp_onto
    from cxrseg.audit.shortcuts import Shortcut, measure_shortcuts, views_of
except ModuleNotFoundError as error:
    raise MissingExtraError(f"the data audit needs the package {error.name}: pip install 'cxrseg[audit]'") from error

__all__ = ["PUBLISHED", "Audit", "Count", "audit_dataset"]

PUBLISHED = {
    "train": {"COVID-19": 1864, "Non-COVID": 932, "Normal": 932},
    "val": {"COVID-19": 466, "Non-COVID": 233, "Normal": 233},
    "test": {"COVID-19": 583, "Non-COVID": 292, "Normal": 291},
}
"""Images of COVID-QU-Ex's infection segmentation data, as published (Tahir et al. 2021)."""

_INFECTION_DATA = "COVID-QU-Ex infection segmentation data"
_SIDE = 128
_THREADS = 4

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Count:
    """How many images there are of a split and category.

    Attributes:
        split, category: the category is None where the dataset has none.
        images: the number of images here.
        published: the number of published images, or None where it is not known.
    """

    split: str
    category: str | None
    images: int
    published: int | None

    @property
    def remark(self) -> str:
        """The comparison of the two numbers, in words."""
        if self.published is None:
            return ""
        if self.images == self.published:
            return "as published"
        if not self.images:
            return "not here"
        difference = self.images - self.published
        return f"{abs(difference)} {'more' if difference > 0 else 'fewer'} than published"


@dataclass(frozen=True, eq=False)
class Audit:
    """The result of an audit.

    Attributes:
        root, layout: of the dataset.
        counts: images by split and category.
        misfits: files without a partner, or of a wrong size, one line each.
        unreadable: name of a sample to the reason why its image cannot be read.
        forms: size and kind of the images, in words, to their number.
        faults: of masks.
        pairs: copies and similar pairs.
        agreement: names of the two images of a pair of copies to the Dice of their infection masks after registration:
            how well the annotation agrees with itself. Pairs without infection are left out.
        shortcuts: how well the category can be predicted without looking at the lungs.
        unused: image files that are there and belong to no sample, see `Dataset.unused`.
    """

    root: Path
    layout: str
    counts: tuple[Count, ...]
    misfits: tuple[str, ...]
    unreadable: dict[str, str]
    forms: dict[str, int]
    faults: tuple[Fault, ...]
    pairs: tuple[Pair, ...]
    agreement: dict[tuple[str, str], float]
    shortcuts: tuple[Shortcut, ...]
    unused: tuple[str, ...] = ()

    @property
    def leaks(self) -> tuple[Pair, ...]:
        """Pairs of copies in two different splits."""
        return tuple(pair for pair in self.pairs if pair.is_leak)

    @cached_property
    def exclusions(self) -> list[Exclusion]:
        """The images to leave out, so that one of each group of copies is kept."""
        return choose_exclusions(self.pairs)

    def pair_counts(self) -> dict[tuple[str, str], int]:
        """(kind, splits) to the number of pairs, such as ('near', 'train-val')."""
        return dict(Counter((pair.kind, pair.splits) for pair in self.pairs))

    def fault_counts(self) -> dict[tuple[str, str], int]:
        """(target, kind) to the number of masks."""
        return dict(Counter((fault.target, fault.kind) for fault in self.faults))

    def to_json(self) -> dict[str, Any]:
        """All results as JSON values."""
        return {
            "dataset": {"root": str(self.root), "layout": self.layout},
            "counts": [{**asdict(count), "remark": count.remark} for count in self.counts],
            "misfits": list(self.misfits),
            "unused": list(self.unused),
            "unreadable": self.unreadable,
            "forms": self.forms,
            "mask_faults": [asdict(fault) for fault in self.faults],
            "pairs": [self._pair(pair) for pair in self.pairs],
            "pair_counts": [
                {"kind": kind, "splits": splits, "pairs": count} for (kind, splits), count in self.pair_counts().items()
            ],
            "copy_groups": [[sample.name for sample in group] for group in copy_groups(self.pairs)],
            "exclusions": [asdict(exclusion) for exclusion in self.exclusions],
            "shortcuts": [asdict(shortcut) for shortcut in self.shortcuts],
        }

    def _pair(self, pair: Pair) -> dict[str, Any]:
        dice = self.agreement.get((pair.first.name, pair.second.name))
        return {
            "first": pair.first.name,
            "second": pair.second.name,
            "kind": pair.kind,
            "similarity": round(pair.similarity, 4),
            "change": pair.change,
            "splits": [pair.first.split, pair.second.split],
            "categories": [pair.first.category, pair.second.category],
            "leak": pair.is_leak,
            "infection_dice": None if dice is None else round(dice, 4),
        }


def audit_dataset(
    dataset: Dataset, misfits: Sequence[str] = (), *, on_image: Callable[[int, int], None] | None = None
) -> Audit:
    """Audit a dataset.

    Args:
        dataset: all of its splits.
        misfits: the faults that `cxrseg.data.layout.list_dataset` returned; they become part of the result.
        on_image: called with (images that were read, all images).

    Raises:
        MissingExtraError: OpenCV or scikit-learn is not installed.
    """
    with ThreadPoolExecutor(_THREADS) as threads:
        seen = []
        for one in threads.map(_look, dataset.samples):
            seen.append(one)
            if on_image is not None:
                on_image(len(seen), len(dataset.samples))
    readable = [one for one in seen if one.picture is not None]
    _log.info("%s: read %d of %d images", dataset.root, len(readable), len(seen))
    pairs = find_pairs([one.picture for one in readable if one.picture is not None])
    return Audit(
        root=dataset.root,
        layout=dataset.layout,
        counts=tuple(_counts(dataset)),
        misfits=tuple(misfits),
        unreadable={one.sample.name: one.error for one in seen if one.error},
        forms=dict(Counter(one.form for one in readable).most_common()),
        faults=tuple(fault for one in seen for fault in one.faults),
        pairs=tuple(pairs),
        agreement=_agreement(pairs),
        shortcuts=tuple(_shortcuts(readable, pairs)),
        unused=dataset.unused,
    )


@dataclass(frozen=True, eq=False)
class _Look:
    """What the audit keeps of one image."""

    sample: Sample
    picture: Picture | None = None
    form: str = ""
    error: str = ""
    views: dict[str, npt.NDArray[np.float32]] | None = None
    faults: tuple[Fault, ...] = ()


def _look(sample: Sample) -> _Look:
    try:
        radiograph = sample.read_image()
    except ImageError as error:
        return _Look(sample, error=str(error))
    pixels = radiograph.pixels
    height, width = radiograph.shape
    gray = np.rint(resized(pixels, _SIDE) * 255).astype(np.uint8)
    # Of all values, not of the 8 bits of `gray`: images that differ in their lowest bits are not exact copies.
    digest = hashlib.sha256(np.array(pixels.shape).tobytes() + pixels.tobytes()).digest()
    return _Look(
        sample,
        picture=Picture(sample, gray, digest),
        form=", ".join([f"{width}x{height}", *(radiograph.steps or ("8-bit gray",))]),
        views=views_of(pixels),
        faults=(
            *(Fault(sample.name, "image", "value range", detail=warning) for warning in radiograph.warnings),
            *_faults(sample, pixels),
        ),
    )


def _faults(sample: Sample, pixels: npt.NDArray[np.float32]) -> list[Fault]:
    masks: dict[str, npt.NDArray[np.bool_]] = {}
    values: dict[str, npt.NDArray[np.float32]] = {}
    faults = []
    for target, stored in sample.masks.items():
        try:
            mask = sample.read_mask(target)
            raw = stored.pixels.astype(np.float32) if isinstance(stored, ArrayItem) else _stored_values(stored)
        except ImageError as error:
            faults.append(Fault(sample.name, target, "unreadable", detail=str(error)))
            continue
        if mask is not None and mask.shape == pixels.shape:  # the others are in the misfits
            masks[target], values[target] = mask, raw
    return faults + mask_faults(sample.name, sample.category, pixels, masks, values)


def _stored_values(mask: Path) -> npt.NDArray[np.float32]:
    """The gray values of a mask file, (H, W) in [0, 1]; a mask may well be a result of cxrseg."""
    return to_radiograph(decode_raster(mask), str(mask), ReadSettings()).pixels


def _counts(dataset: Dataset) -> list[Count]:
    found = Counter((sample.split, sample.category) for sample in dataset.samples)
    published: dict[tuple[str, str | None], int] = {}
    if dataset.layout == _INFECTION_DATA:
        published = {(split, category): n for split, of in PUBLISHED.items() for category, n in of.items()}
    keys = sorted({*found, *published}, key=lambda key: (SPLITS.index(key[0]), key[1] or ""))
    return [
        Count(split, category, found[split, category], published.get((split, category))) for split, category in keys
    ]


def _agreement(pairs: Sequence[Pair]) -> dict[tuple[str, str], float]:
    agreement: dict[tuple[str, str], float] = {}
    for pair in pairs:
        if not pair.is_copy:
            continue
        try:
            one, other = pair.first.read_mask("infection"), pair.second.read_mask("infection")
        except ImageError:  # it is in the faults
            continue
        if one is None or other is None or not (one.any() or other.any()):
            continue
        warped, covered = warp_onto(other[:, ::-1] if pair.mirrored else other, pair.warp, one.shape)
        both = np.count_nonzero(one & warped)
        total = np.count_nonzero(one & covered) + np.count_nonzero(warped)
        if total:
            agreement[pair.first.name, pair.second.name] = float(2 * both / total)
    return agreement


def _shortcuts(readable: Sequence[_Look], pairs: Sequence[Pair]) -> list[Shortcut]:
    known = [one for one in readable if one.sample.category is not None and one.views is not None]
    group = {sample.name: number for number, of in enumerate(copy_groups(pairs), 1) for sample in of}
    return measure_shortcuts(
        [one.views for one in known if one.views is not None],
        [str(one.sample.category) for one in known],
        [group.get(one.sample.name, -place) for place, one in enumerate(known)],
    )
