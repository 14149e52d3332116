"""Matching files of images and masks, and checking their sizes."""

from __future__ import annotations

import logging
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from cxrseg.data.sample import TARGETS, ArrayItem, Sample
from cxrseg.errors import ImageError
from cxrseg.io.paths import visible_entries
from cxrseg.io.quiet import quiet
from cxrseg.io.read import IMAGE_SUFFIXES, is_image, read_size
from cxrseg.io.text import printable

__all__ = [
    "MASK_WORDS",
    "Pool",
    "in_order",
    "mask_of",
    "natural_key",
    "pair",
    "repeated_names",
    "shown",
    "visible_files",
    "visible_folders",
    "wrong_sizes",
]

_log = logging.getLogger(__name__)

MASK_WORDS = {"infection": "infection mask", "lungs": "lung mask"}
"""Target name to the name of its mask in messages."""

# Longest first, so that 'a_lung_mask' is the lung mask of 'a', not the infection mask of 'a_lung'.
_MASK_NAMES = (
    (re.compile(r"(?P<stem>.+)[_-]infection[_-]masks?", re.I | re.S), "infection"),
    (re.compile(r"(?P<stem>.+)[_-]lungs?[_-]masks?", re.I | re.S), "lungs"),
    (re.compile(r"(?P<stem>.+)[_-](infection|mask)", re.I | re.S), "infection"),
    (re.compile(r"(?P<stem>.+)[_-]lungs?", re.I | re.S), "lungs"),
    (re.compile(r"mask[_-](?P<stem>.+)", re.I | re.S), "infection"),
)

_THREADS = 16
_CHUNK = 64


@dataclass(frozen=True)
class Pool:
    """Images of one split and category, and the files that can be their masks.

    Attributes:
        where: their folder, for messages.
        split: 'train', 'val' or 'test'.
        category: one of `CATEGORIES`, a name of the user's own, or None.
        prefix: the beginning of the samples' names, such as 'Val/COVID-19/'.
        images: the image files.
        masks: target name ('infection', 'lungs') to the mask files of that kind.
        patient: the name of the patient's folder, or None.
        one: True where this is one image, and its masks are named by their kind alone, such as mask.png.
    """

    where: Path
    split: str
    category: str | None
    prefix: str
    images: Sequence[Path]
    masks: Mapping[str, Sequence[Path]]
    patient: str | None = None
    one: bool = False


def natural_key(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """Sort key that puts 'a2' before 'a10', for any case, platform and encoding of accents."""
    name = unicodedata.normalize("NFC", name)
    parts = re.findall(r"[0-9]+|[^0-9]+", name.casefold())
    return [(0, int(part), "") if part[0] in "0123456789" else (1, 0, part) for part in parts], name


def visible_folders(folder: Path) -> list[Path]:
    """The folders in a folder, without hidden ones and '__MACOSX', in natural order."""
    return in_order(folder, visible_entries(folder)[1])


def visible_files(folder: Path) -> list[Path]:
    """The image files in a folder in natural order; other files are skipped, with a message in the log."""
    others: Counter[str] = Counter()
    images = []
    for entry in in_order(folder, visible_entries(folder)[0]):
        if is_image(entry):
            images.append(entry)
        else:
            others[entry.suffix.casefold() or "without suffix"] += 1
    if images and others:
        kinds = ", ".join(f"{count} {suffix}" for suffix, count in others.items())
        _log.warning("%s: skipped files other than %s: %s", folder, ", ".join(IMAGE_SUFFIXES), kinds)
    return images


def mask_of(stem: str) -> tuple[str, str] | None:
    """The image's stem and the target of a mask's stem, or None where it is not the name of a mask.

    'a_mask', 'mask_a' and 'a_infection' are the infection mask of 'a', 'a_lungs' its lung mask.
    """
    for pattern, target in _MASK_NAMES:
        if found := pattern.fullmatch(stem):
            return found["stem"], target
    return None


def pair(pool: Pool, required: Collection[str], root: Path) -> tuple[list[Sample], list[str]]:
    """Match masks to images by their stems.

    Args:
        pool: the files.
        required: targets that must exist, besides those of `pool.masks`.
        root: messages show paths relative to it.

    Returns:
        The samples, and one line for each image without a mask, mask without an image, and duplicate name.
    """
    where = shown(pool.where, root)
    images, faults = _by_stem(pool.images, (), root)
    if not images:
        faults.append(f"{where}: expected images, found none")
    missing = [target for target in required if target not in pool.masks] if pool.masks else ["infection"]
    faults += [f"{where}: expected a folder of {MASK_WORDS[target]}s, found none" for target in missing]
    masks: dict[str, dict[str, Path]] = {}
    for target in (target for target in TARGETS if target in pool.masks):
        word = MASK_WORDS[target]
        masks[target], repeated = _by_stem(pool.masks[target], images, root)
        if pool.one and len(masks[target]) == 1:
            masks[target] = dict(zip(images, masks[target].values(), strict=True))
        faults += repeated
        faults += [
            f"{shown(path, root)}: {word} without an image"
            for stem, path in masks[target].items()
            if stem not in images
        ]
        faults += [
            f"{shown(path, root)}: image without its {word}"
            for stem, path in images.items()
            if stem not in masks[target]
        ]
    samples = [
        Sample(
            name=printable(f"{pool.prefix}{stem}"),
            split=pool.split,
            category=pool.category,
            image=path,
            masks={target: found[stem] for target, found in masks.items() if stem in found},
            patient=pool.patient,
        )
        for stem, path in images.items()
    ]
    return samples, faults


def repeated_names(samples: Iterable[Sample], root: Path) -> list[str]:
    """One line for each name of several samples."""
    places: dict[str, list[str]] = defaultdict(list)
    for sample in samples:
        places[sample.name].append(_place(sample.image, root))
    return [
        f"{name}: {len(found)} images have this name ({', '.join(found)})"
        for name, found in places.items()
        if len(found) > 1
    ]


def wrong_sizes(samples: Sequence[Sample], root: Path) -> list[str]:
    """One line for each mask whose size differs from its image's, and for each file that cannot be opened.

    Only headers are read, in several threads.
    """
    files = dict.fromkeys(p for s in samples for p in (s.image, *s.masks.values()) if isinstance(p, Path))
    sizes = _read_sizes(list(files))
    faults = [size for size in sizes.values() if isinstance(size, str)]
    for sample in samples:
        if sample.fit_masks:
            continue
        expected = _size(sample.image, sizes)
        for target, mask in sample.masks.items():
            size = _size(mask, sizes)
            if expected and size and size != expected:
                faults.append(
                    f"{_place(mask, root)}: {MASK_WORDS[target]} of {size[1]}x{size[0]} (width x height), "
                    f"but its image {_place(sample.image, root)} has {expected[1]}x{expected[0]}"
                )
    return faults


def shown(path: Path, root: Path) -> str:
    """A path for messages: relative to the root where it is below it."""
    inside = path.is_relative_to(root) and path != root
    return path.relative_to(root).as_posix() if inside else str(path)


def in_order(folder: Path, names: list[str]) -> list[Path]:
    """The paths of entries of a folder, in natural order of their names."""
    return [folder / name for name in sorted(names, key=natural_key)]


def _by_stem(files: Iterable[Path], known: Collection[str], root: Path) -> tuple[dict[str, Path], list[str]]:
    """Files by the stem of their image, and a line for each stem of two files."""
    found: dict[str, Path] = {}
    faults = []
    for path in files:
        # macOS decomposes accents (NFD) and other systems do not; both encodings are one name.
        # A DICOM file without a suffix may be named after a UID, which contains dots.
        stem = path.stem if path.suffix.casefold() in IMAGE_SUFFIXES else path.name
        stem = unicodedata.normalize("NFC", stem)
        if known and stem not in known and (named := mask_of(stem)):
            stem = named[0]
        first = found.setdefault(stem, path)
        if first != path:
            faults.append(f"{shown(path, root)}: has the same name as {shown(first, root)}; remove one of them")
    return found, faults


def _read_sizes(files: list[Path]) -> dict[Path, tuple[int, int] | str]:
    def sizes(chunk: list[Path]) -> list[tuple[int, int] | str]:
        return [_size_or_reason(path) for path in chunk]

    chunks = [files[start : start + _CHUNK] for start in range(0, len(files), _CHUNK)]
    # `read_size` uses `quiet` itself; around all of them it is entered only once.
    with quiet(), ThreadPoolExecutor(_THREADS) as threads:
        found = [size for chunk in threads.map(sizes, chunks) for size in chunk]
    return dict(zip(files, found, strict=True))


def _size_or_reason(path: Path) -> tuple[int, int] | str:
    try:
        return read_size(path)
    except ImageError as error:
        return str(error)


def _size(stored: Path | ArrayItem, sizes: Mapping[Path, tuple[int, int] | str]) -> tuple[int, int] | None:
    size = sizes[stored] if isinstance(stored, Path) else (stored.pixels.shape[0], stored.pixels.shape[1])
    return None if isinstance(size, str) else size


def _place(stored: Path | ArrayItem, root: Path) -> str:
    if isinstance(stored, Path):
        return shown(stored, root)
    return f"{stored.file.name}[{stored.key}][{stored.index}]"
