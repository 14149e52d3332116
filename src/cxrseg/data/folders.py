"""Finding the images and masks in a tree of folders, and what in it was not used."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median

from cxrseg.data.pairs import Pool, mask_of, natural_key, shown, visible_files, visible_folders
from cxrseg.data.sample import Sample
from cxrseg.data.splits import as_category, as_split
from cxrseg.io.paths import visible_entries
from cxrseg.io.read import IMAGE_SUFFIXES, is_image

__all__ = ["INFECTION_DATA", "INNER_FOLDERS", "LUNG_DATA", "find_pools", "folder_role", "is_qata", "unused_files"]

_IMAGE_FOLDERS = frozenset({"image", "images"})
_MASK_FOLDERS = {
    "ground truth": "infection",
    "ground truths": "infection",
    "infection": "infection",
    "infection mask": "infection",
    "infection masks": "infection",
    "mask": "infection",
    "masks": "infection",
    "lung": "lungs",
    "lung mask": "lungs",
    "lung masks": "lungs",
    "lungs": "lungs",
}
INFECTION_DATA = "infection segmentation data"
LUNG_DATA = "lung segmentation data"
INNER_FOLDERS = (INFECTION_DATA, LUNG_DATA, "qata-cov19-v2")
"""Folders of published datasets that hold the whole layout once more."""

_DEPTH = 2
"""Levels of folders whose names say nothing, such as one of a hospital and one of a patient below it."""

_FEW = 10
"""Images in a folder of one patient at most; of more, it is a category of the user's own."""

_OTHER_IMAGES = "nii.gz nii mha mhd nrrd npy npz h5 hdf5 mat gif jp2 j2k jxl heic avif pgm ppm exr psd svs"
_ARCHIVES = "zip tar.gz tar tgz 7z rar"
_NOT_READ = tuple(f".{ending}" for ending in f"{_OTHER_IMAGES} {_ARCHIVES}".split())
"""Endings of images, and of archives of them, that are not read in a folder."""


def folder_role(folder: Path) -> str | None:
    """'images', the target of the masks in a folder, or None, by the folder's name."""
    return _role_of(folder.name)


def is_qata(folders: Iterable[Path]) -> bool:
    """True where one of the folders is the mask folder of QaTa-COV19."""
    return any(child.name.casefold() == "ground-truths" for child in folders)


def find_pools(folder: Path, split: str | None, category: str | None, depth: int = _DEPTH) -> list[Pool]:
    """The images and masks in a folder and below it.

    Folders of splits and of known categories are entered. Where there are neither splits nor images, others are too:
    as one folder a patient, where there are several with few images each, else as categories of these names.

    Args:
        folder: where to begin.
        split, category: what the names of the folders above say.
        depth: how many levels of folders of other names are entered.
    """
    folders = visible_folders(folder)
    pools: list[Pool] = []
    if any(folder_role(child) for child in folders):
        pools += _in_folders(folder, folders, split, category)
    elif pool := _side_by_side(folder, split, category):
        pools.append(pool)
    has_own = bool(pools)
    splits = False
    for child in folders:
        if inner := as_split(child.name):
            splits = True
            pools += find_pools(child, inner, category, depth)
        elif kind := as_category(child.name):
            pools += find_pools(child, split, kind, depth)
    if not (splits or has_own) and depth:
        pools += _in_others(folders, split, category, depth, alone=not pools)
    return pools


def _in_others(folders: list[Path], split: str | None, category: str | None, depth: int, *, alone: bool) -> list[Pool]:
    """The pools in folders whose names are no known word: one folder a patient, or categories of the user's own."""
    if any(child.name.casefold() in INNER_FOLDERS for child in folders):
        return []
    # An output folder of cxrseg has a manifest.
    others = [child for child in folders if not _is_known(child) and not (child / "manifest.json").exists()]
    found: dict[Path, list[Pool]] = {}
    for child in others:
        pools = find_pools(child, split, category, depth - 1)
        if any(pool.images and pool.masks for pool in pools):  # else it is counted as not used
            found[child] = pools
    if alone and len(found) == 1 and len(folders) == 1:
        return []  # the caller goes on there
    counts = [sum(len(pool.images) for pool in pools) for pools in found.values()]
    numbered = all(any(letter.isdigit() for letter in child.name) for child in found)
    if len(found) > 2 and median(counts) <= (_FEW if numbered else 2):
        return [
            replace(pool, patient=child.name, prefix=f"{pool.prefix}{child.name}/")
            for child, pools in found.items()
            for pool in pools
        ]
    if alone and len(found) == 1:
        return next(iter(found.values()))
    return [pool for child in found for pool in find_pools(child, split, category or child.name, depth - 1)]


def _is_known(folder: Path) -> bool:
    return bool(folder_role(folder) or as_split(folder.name) or as_category(folder.name))


def _role_of(name: str) -> str | None:
    name = name.casefold().replace("_", " ").replace("-", " ")
    return "images" if name in _IMAGE_FOLDERS else _MASK_FOLDERS.get(name)


def _in_folders(folder: Path, folders: list[Path], split: str | None, category: str | None) -> Iterator[Pool]:
    """A pool of images/ and masks/, and one of each folder that is in both, such as images/train and masks/train."""
    files: dict[tuple[str, ...], dict[str, list[Path]]] = defaultdict(dict)
    for child in folders:
        if kind := folder_role(child):
            for parts, found in _below(child):
                files[parts].setdefault(kind, []).extend(found)
    top = files.pop((), {})
    kinds = {kind for of in (top, *files.values()) for kind in of}
    if is_qata(folders):
        category = "COVID-19"
    if "images" not in kinds:
        top["images"] = visible_files(folder)
    if any(top.values()) or not files:
        yield _pool(folder, split, category, top.pop("images", []), top)
    for parts, of in files.items():
        images = of.pop("images", [])
        if images and of:
            own_split, own_category, rest = split, category, []
            for part in parts:
                if word := as_split(part):
                    own_split = word
                elif kind := as_category(part):
                    own_category = kind
                else:
                    rest.append(part)
            pool = _pool(folder, own_split, own_category, images, of)
            yield replace(pool, prefix=pool.prefix + "".join(f"{part}/" for part in rest))


def _below(folder: Path, parts: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], list[Path]]]:
    """The image files of a folder, and of each folder below it that has some, with the way there."""
    files = visible_files(folder)
    if files or not parts:
        yield parts, files
    for child in visible_folders(folder):
        yield from _below(child, (*parts, child.name))


def _side_by_side(folder: Path, split: str | None, category: str | None) -> Pool | None:
    images: list[Path] = []
    masks: dict[str, list[Path]] = {}
    bare: dict[str, list[Path]] = {}
    for file in visible_files(folder):
        named = mask_of(file.stem)
        kind = _role_of(file.stem)
        if kind not in (None, "images"):
            bare.setdefault(str(kind), []).append(file)
        else:
            (masks.setdefault(named[1], []) if named else images).append(file)
    if bare and not masks and len(images) == 1:
        return replace(_pool(folder, split, category, images, bare), one=True)
    images += [file for files in bare.values() for file in files]
    images.sort(key=lambda file: natural_key(file.name))
    return _pool(folder, split, category, images, masks) if masks else None


def _pool(
    folder: Path, split: str | None, category: str | None, images: list[Path], masks: dict[str, list[Path]]
) -> Pool:
    prefix = "".join(f"{part}/" for part in (split and split.capitalize(), category) if part)
    return Pool(folder, split or "train", category, prefix, images, masks)


def unused_files(root: Path, samples: Iterable[Sample]) -> tuple[str, ...]:
    """What a folder holds beside the files of the samples: '24 in dev', '2 .jp2 in holdout', the largest number first.

    Images that can be read are counted in folders without any file of a sample; one without a partner beside others is
    a fault. Images of kinds that cannot be read, and archives, are counted everywhere.
    """
    used: set[Path] = set()
    for sample in samples:
        used |= {file.parent for file in (sample.image, *sample.masks.values()) if isinstance(file, Path)}
    around = {above for folder in used for above in (folder, *folder.parents)}
    counts: Counter[tuple[Path, str]] = Counter()
    for place, files in _walk(root):
        kinds = [_kind_of(place, file, is_used=place in used) for file in files]
        if any(kind is not None for kind in kinds):  # only then: it takes long in deep folders
            outer = [place, *place.parents]
            highest = [one for one in outer if one not in around and one.is_relative_to(root)]
            counts.update((highest[-1] if highest else place, kind) for kind in kinds if kind is not None)
    return tuple(f"{count}{kind} in {shown(place, root)}" for (place, kind), count in counts.most_common())


def _walk(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """Each visible folder that can be read, with its visible files. Links are followed, and no folder comes twice.

    Without `os.walk`, which calls itself for each level, up to Python's limit.
    """
    seen: set[tuple[int, int]] = set()
    waiting = [str(root)]
    while waiting:
        name = waiting.pop()
        try:
            status = os.stat(name)  # noqa: PTH116 - a Path for each of 100,000 folders is slow
            files, folders = visible_entries(name)
        except OSError:
            continue
        if (status.st_dev, status.st_ino) not in seen:
            seen.add((status.st_dev, status.st_ino))
            waiting += [os.path.join(name, one) for one in sorted(folders, reverse=True)]  # noqa: PTH118
            yield Path(name), files


def _kind_of(place: Path, name: str, *, is_used: bool) -> str | None:
    """'' for an image that is not used, ' .jp2' for one that cannot be read, None for what is used or not an image."""
    lower = name.casefold()
    ending = next((one for one in _NOT_READ if lower.endswith(one)), None)
    if ending:
        return f" {ending}"
    if is_used:
        return None
    by_name = os.path.splitext(lower)[1] in IMAGE_SUFFIXES  # noqa: PTH122 - a Path for each of 100,000 files is slow
    return "" if by_name or is_image(place / name) else None
