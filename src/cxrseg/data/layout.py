"""Recognising the layout of a folder or file of images and masks."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import replace
from pathlib import Path

from cxrseg.data.csv_table import read_table
from cxrseg.data.folders import (
    INFECTION_DATA,
    INNER_FOLDERS,
    LUNG_DATA,
    find_pools,
    folder_role,
    is_qata,
    unused_files,
)
from cxrseg.data.groups import with_patients
from cxrseg.data.medsegbench import read_arrays
from cxrseg.data.pairs import (
    Pool,
    natural_key,
    pair,
    repeated_names,
    shown,
    visible_folders,
    wrong_sizes,
)
from cxrseg.data.sample import CATEGORIES, PHANTOM_LAYOUT, PHANTOM_MARK, SPLITS, Dataset, Reading, Sample
from cxrseg.data.splits import as_category, as_split
from cxrseg.errors import DatasetError
from cxrseg.io.read import IMAGE_SUFFIXES

__all__ = ["list_dataset", "open_dataset"]

_log = logging.getLogger(__name__)

_LAYOUTS = """
Known layouts:
  COVID-QU-Ex: {Train,Val,Test}/{COVID-19,Non-COVID,Normal}/{images,lung masks,infection masks}, at any level
  QaTa-COV19 v2: {Train Set,Test Set}/{Images,Ground-truths}, masks named mask_NAME.png
  MedSegBench: covidquex_128.npz, covidquex_256.npz, covidquex_512.npz
  CSV of pairs: the columns image and infection or lungs (and split, category, patient, name)
  COVID-19 Radiography Database: {COVID,Lung_Opacity,Normal,Viral Pneumonia}/{images,masks}; its masks are lungs
  your own folders: images/ beside masks/ (or infection/) or lungs/, also below train/, val/, test/, category or patient
  your own files: NAME.png beside NAME_mask.png, mask_NAME.png, NAME_infection.png or NAME_lungs.png"""

_RADIOGRAPHY = "COVID-19 Radiography Database"
_LEVELS = 6


def open_dataset(path: Path | str, reading: Reading | None = None) -> Dataset:
    """Recognise the layout of a folder or file of images and masks, check it and list its samples.

    Known layouts: COVID-QU-Ex as in its Kaggle archive (infection or lung segmentation data, from any level down to
    one split or category), QaTa-COV19 v2, MedSegBench's .npz files, a CSV file of pairs, and folders of your own. A
    mask belongs to the image with the same stem. Without a folder of a split, all images are 'train' (see `hold_out`).
    Samples are ordered by split, category and natural order of names; those of a CSV file as its rows.

    Args:
        path: the folder or file.
        reading: which values of images and masks mean what, where the files do not tell.

    Raises:
        DatasetError: it does not exist, no layout fits, or images and masks do not match (lists all faults).
    """
    dataset, faults = list_dataset(path, reading)
    if faults:
        raise DatasetError(
            f"{dataset.root}, read as {dataset.layout}, has {len(faults)} fault{'s' * (len(faults) > 1)}; expected "
            "each image once, with one mask of the same size for each kind of mask (in a CSV file of pairs, masks may "
            "be missing). Correct or remove:",
            faults,
        )
    _log.info("%s: %s, %s", dataset.root, dataset.layout, dataset.describe())
    return dataset


def list_dataset(path: Path | str, reading: Reading | None = None) -> tuple[Dataset, list[str]]:
    """List the samples of a folder or file as `open_dataset` does, also where it has faults.

    Args:
        path: the folder or file.
        reading: which values of images and masks mean what, where the files do not tell.

    Returns:
        The samples, and one line for each fault.

    Raises:
        DatasetError: it does not exist, or no layout fits.
    """
    root = Path(path)
    try:
        layout, samples, faults = _from_file(root) if root.is_file() else _from_folder(root)
        below = root.parent if root.is_file() else root
        faults += repeated_names(samples, below) + wrong_sizes(samples, below)
    except OSError as error:
        raise DatasetError(f"{error.filename or root} cannot be read: {error.strerror or error}") from error
    if reading is not None:
        samples = [replace(sample, reading=reading) for sample in samples]
    unused = () if root.is_file() else unused_files(root, samples)
    return Dataset(root, layout, tuple(with_patients(samples)), unused), faults


def _from_file(path: Path) -> tuple[str, list[Sample], list[str]]:
    match path.suffix.casefold():
        case ".npz":
            return "MedSegBench arrays", *read_arrays(path)
        case ".csv" | ".tsv":
            return "CSV of pairs", *read_table(path)
        case ".zip" | ".tar" | ".gz" | ".7z" | ".rar":
            raise DatasetError(f"{path} is an archive; unpack it and name the folder")
        case _:
            raise DatasetError(f"expected a folder, .npz or .csv of images and masks, got {path}.{_LAYOUTS}")


def _from_folder(root: Path) -> tuple[str, list[Sample], list[str]]:
    if not root.is_dir():
        raise DatasetError(f"expected images and masks at {root}, found no folder or file there")
    folder: Path | None = root
    for _ in range(_LEVELS):
        if folder is None:
            break
        if pools := find_pools(folder, *_named_by(folder)):
            return _paired(root, folder, pools)
        folder = _inner(folder)
    raise DatasetError(_nothing_fits(root))


def _named_by(folder: Path) -> tuple[str | None, str | None]:
    """Split and category of the names of a folder and the folder above it."""
    place = folder.resolve()
    if category := as_category(place.name):
        return as_split(place.parent.name), category
    return as_split(place.name), None


def _inner(folder: Path) -> Path | None:
    """The folder to continue in, where this one only contains another one."""
    children = visible_folders(folder)
    named = {child.name.casefold(): child for child in children}
    if INFECTION_DATA in named and LUNG_DATA in named:
        _log.info(
            "%s has infection and lung data: using the infection data; for the lung data name %s",
            folder,
            named[LUNG_DATA],
        )
    for name in INNER_FOLDERS:
        if name in named:
            return named[name]
    return children[0] if len(children) == 1 else None


def _paired(root: Path, folder: Path, pools: list[Pool]) -> tuple[str, list[Sample], list[str]]:
    layout, required = _layout(folder, pools)
    samples: list[Sample] = []
    faults: list[str] = []
    for pool in pools:
        found, wrong = pair(pool, required, root)
        samples += found
        faults += wrong
    if layout == _RADIOGRAPHY:  # its images have 299 pixels, and the masks 256
        samples = [replace(s, masks={"lungs": s.masks["infection"]}, fit_masks=True) for s in samples if s.masks]
    samples.sort(key=lambda s: (SPLITS.index(s.split), _category_key(s.category), natural_key(s.name)))
    return layout, samples, faults


def _category_key(category: str | None) -> tuple[int, str]:
    """Those of COVID-QU-Ex first, then others by name, then none."""
    if category in CATEGORIES:
        return CATEGORIES.index(category), ""
    return (len(CATEGORIES) + 1, "") if category is None else (len(CATEGORIES), category.casefold())


def _layout(folder: Path, pools: list[Pool]) -> tuple[str, tuple[str, ...]]:
    """The name of the layout, and the targets for which every image must have a mask."""
    around = {part.casefold() for part in folder.resolve().parts}
    has = {target for pool in pools for target in pool.masks}
    published = not around.isdisjoint({INFECTION_DATA, LUNG_DATA})
    if all(is_qata(visible_folders(pool.where)) for pool in pools):
        return "QaTa-COV19", ("infection",)
    if {"covid", "viral pneumonia"} <= {pool.where.name.casefold() for pool in pools} and has == {"infection"}:
        return _RADIOGRAPHY, ()
    if all(pool.category in CATEGORIES for pool in pools) and (published or "lungs" in has):
        if any((above / PHANTOM_MARK).is_file() for above in (folder, *folder.resolve().parents[:2])):
            return PHANTOM_LAYOUT, ("infection", "lungs")
        if "infection" in has or INFECTION_DATA in around:
            return "COVID-QU-Ex infection segmentation data", ("infection", "lungs")
        return "COVID-QU-Ex lung segmentation data", ("lungs",)
    a_patient = ", one a patient" if any(pool.patient for pool in pools) else ""
    return f"folders of images and masks{a_patient}", ()


def _nothing_fits(root: Path) -> str:
    """The message for a folder without a known layout: what it contains instead."""
    files = Counter(entry.suffix.casefold() or "without suffix" for entry in root.iterdir() if entry.is_file())
    folders = [child.name for child in visible_folders(root)]
    if not files and not folders:
        return f"{root} is an empty folder; expected images and masks.{_LAYOUTS}"
    found = [f"{count} {suffix}" for suffix, count in sorted(files.items())]
    if folders:
        found.append(f"folders {', '.join(folders[:20])}{', ...' if len(folders) > 20 else ''}")
    above = root.resolve().parent
    if any(suffix in IMAGE_SUFFIXES for suffix in files) and any(map(folder_role, visible_folders(above))):
        found.append(f"and masks may be beside it: name {shown(above, root)} instead")
    return f"{root} has no known layout of images and masks; it contains {', '.join(found)}.{_LAYOUTS}"
