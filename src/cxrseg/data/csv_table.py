"""A CSV file that lists pairs of images and masks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from cxrseg.data.sample import SPLITS, Sample
from cxrseg.data.splits import as_category, as_split
from cxrseg.errors import DatasetError
from cxrseg.io.csv_file import read_csv

__all__ = ["read_table"]

_MASK_COLUMNS = {"infection": "infection", "mask": "infection", "opacity": "opacity", "lungs": "lungs"}
_COLUMNS = {"image", *_MASK_COLUMNS.values(), "split", "category", "patient", "name"}
_EXPECTED = (
    "expected the columns image (required), infection or lungs or both (mask is infection), "
    "and optionally split, category, patient, name"
)


def read_table(path: Path) -> tuple[list[Sample], list[str]]:
    """Read a CSV file of pairs in UTF-8, separated by commas, semicolons or tabs.

    Columns: image (required); infection (or mask), opacity and lungs, of which each row needs at least one; split,
    'train' where empty; category, also one of your own; patient; name, the image's path without its suffix where empty.
    Paths are
    relative to the folder of the CSV file.

    Args:
        path: the CSV file.

    Returns:
        The samples in the order of the rows, and one line for each fault; the image files are not opened.

    Raises:
        DatasetError: the file is not such a table.
    """
    rows = read_csv(path)
    columns = _columns(path, rows[0] if rows else [])
    samples, faults = [], []
    for number, row in enumerate(rows[1:], start=2):
        if not any(cell.strip() for cell in row):
            continue
        cells = {column: row[place].strip() for column, place in columns.items() if place < len(row)}
        if problems := _problems(cells):
            faults += [f"{path.name}, row {number}: {problem}" for problem in problems]
        else:
            samples.append(_sample(cells, path.parent))
    if not samples and not faults:
        raise DatasetError(f"{path} has a header but no rows; {_EXPECTED}")
    return samples, faults


def _columns(path: Path, header: list[str]) -> dict[str, int]:
    """Column name to its index; 'mask' becomes 'infection'."""
    columns: dict[str, int] = {}
    for place, cell in enumerate(header):
        name = cell.strip().casefold()
        name = _MASK_COLUMNS.get(name, name)
        if name in columns and name in _COLUMNS:
            raise DatasetError(f"{path} has two columns for {name}; {_EXPECTED}")
        columns[name] = place
    if "image" not in columns or not columns.keys() & set(_MASK_COLUMNS.values()):
        found = ", ".join(header) or "nothing"
        raise DatasetError(f"{path}: {_EXPECTED}; the first line has: {found}")
    return columns


def _problems(cells: Mapping[str, str]) -> list[str]:
    problems = []
    if not cells.get("image"):
        problems.append("the cell image is empty")
    if not (cells.get("infection") or cells.get("opacity") or cells.get("lungs")):
        problems.append("no mask is named (infection, opacity, lungs)")
    split = cells.get("split")
    if split and not as_split(split):
        problems.append(f"expected the split {', '.join(SPLITS)}, got {split!r}")
    return problems


def _sample(cells: Mapping[str, str], folder: Path) -> Sample:
    # Tables written on Windows have backslashes; forward slashes work everywhere.
    paths = {kind: cells.get(kind, "").replace("\\", "/") for kind in ("image", "infection", "opacity", "lungs")}
    image = PurePosixPath(paths["image"])
    return Sample(
        name=cells.get("name") or str(image.parent / image.stem),
        split=as_split(cells.get("split", "")) or "train",
        category=as_category(cells.get("category", "")) or cells.get("category") or None,
        patient=cells.get("patient") or None,
        image=folder / paths["image"],
        masks={target: folder / paths[target] for target in ("infection", "opacity", "lungs") if paths[target]},
    )
