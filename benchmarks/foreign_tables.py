"""For foreign_use.py: endings of image files, and CSV files as Excel and others save them again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from cxrseg.data.exclusions import read_exclusions
from cxrseg.data.layout import list_dataset
from cxrseg.errors import CxrsegError
from cxrseg.inference.input_files import find_inputs
from cxrseg.io.csv_file import read_csv, read_csv_rows
from foreign_dicom import dicom
from foreign_images import FILM, jpeg, png
from foreign_trials import NO, REFUSED, WARNED, YES, Result, Trial, write_film, write_mask

_ENDINGS = {
    "DICOM": (".ima", ".dic", ".dc3", ".acr", ".001", ".dcm30", ".DCM", ".img", "", ".dcm_", ".IMG.2", ".bak"),
    "PNG": (".PNG", ".Png", "", ".1", ".png ", ".png_", ".tmp"),
    "JPEG": (".JPG", ".JPE", ".pjpeg", ".pjp", ".jpg_large", ".jpg~", ".exif"),
}


def _found(kind: str, ending: str, folder: Path) -> Result:
    """The file is among the images, or counted among what was left out."""
    (folder / "in").mkdir()
    png(FILM)(folder / "in/other.png")
    path = folder / f"in/film{ending}"
    if kind == "DICOM":
        path.write_bytes(dicom())
    else:
        (png if kind == "PNG" else jpeg)(FILM)(path)
    inputs, others = find_inputs(folder / "in", folder / "out")
    names = [one.path.name for one in inputs]
    came = (
        f"{', '.join(names)}; left out: {', '.join(f'{count} {what}' for what, count in others.items()) or 'nothing'}"
    )
    return came, YES if path.name in names else WARNED if others else NO


def endings() -> Iterator[Trial]:
    """Endings that neither the issue nor the tests name."""
    for kind, each in _ENDINGS.items():
        for ending in each:
            yield Trial("endings", f"{kind} as film{ending}", "used", partial(_found, kind, ending))


ROWS = [["image", "mask", "split", "category"], ["a.png", "a_m.png", "val", "Łódź"], ["b.png", "b_m.png", "train", "x"]]


def _joined(separator: str, ending: str = "\r\n", quote: str = "", extra: str = "") -> str:
    return "".join(separator.join(f"{quote}{cell}{quote}" for cell in row) + extra + ending for row in ROWS)


_SAVED: dict[str, bytes] = {
    "tabs, UTF-16 with mark ('Unicode text')": _joined("\t").encode("utf-16"),
    "carriage returns alone ('Macintosh')": _joined(";", "\r").encode(),
    "sep=, and carriage returns alone": ("sep=,\r" + _joined(",", "\r")).encode(),
    "sep= with a tab": ("sep=\t\r\n" + _joined("\t")).encode(),
    "sep=; and a blank line": ("sep=;\r\n\r\n" + _joined(";")).encode(),
    "blank lines before the header": ("\r\n\r\n" + _joined(";")).encode(),
    "empty columns behind": _joined(";", extra=";;;").encode(),
    "each cell quoted, with mark": _joined(",", quote='"').encode("utf-8-sig"),
    "each line quoted as one cell": "".join(f'"{",".join(row)}"\r\n' for row in ROWS).encode(),
    "mark inside the quotes": ("\ufeff" + _joined(",", quote='"')).encode(),
    "spaces around cells": _joined(" ; ").encode(),
    "spaces that do not break": _joined(";").replace("mask", "mask\u00a0").encode(),
    "an end mark of DOS": _joined(";").encode() + b"\x1a",
    "capitals in the header": _joined(";").replace("image;mask;split", "Image;Mask;SPLIT").encode(),
    "cp1250 (Excel in Poland)": _joined(";").encode("cp1250"),
    "UTF-16 without a mark": _joined(";").encode("utf-16-le"),
    "two marks": b"\xef\xbb\xbf" + _joined(";").encode("utf-8-sig"),
    "nul bytes behind": _joined(";").encode() + bytes(12),
    "a comma in the category, semicolons": _joined(";").replace("Łódź", "Łódź, PL").encode(),
    "empty lines of separators at the end": (_joined(";") + ";;;\r\n;;;\r\n").encode(),
}


def _dataset(content: bytes, folder: Path) -> Result:
    """A table of pairs: two, the first of val and of the category Łódź."""
    for seed, name in enumerate("ab"):
        write_film(folder / f"{name}.png", seed)
        write_mask(folder / f"{name}_m.png", seed)
    path = folder / "pairs.csv"
    path.write_bytes(content)
    try:
        dataset, faults = list_dataset(path)
    except CxrsegError as error:
        return f"refused: {error}", REFUSED
    came = f"{dataset.describe()}; {faults[:1]}"
    first = dataset.samples[0] if dataset.samples else None
    good = len(dataset.samples) == 2 and not faults and first is not None and first.split == "val"
    good = good and str(first.category).startswith("Łódź")
    return came, YES if good else REFUSED if faults else NO


def _exclusions(content: str, folder: Path) -> Result:
    path = folder / "exclusions.csv"
    path.write_bytes(content.encode())
    names = read_exclusions(path)
    return str(names), YES if names == ["Val/a", "Val/b"] else NO


def _same(read: Callable[[Path], object], expected: object, content: bytes, folder: Path) -> Result:
    path = folder / "table.csv"
    path.write_bytes(content)
    try:
        found = read(path)
    except CxrsegError as error:
        return f"refused: {error}", REFUSED
    return str(found), YES if found == expected else NO


def _stripped(path: Path) -> list[dict[str, str]]:
    return [{name: cell.strip() for name, cell in row.items()} for row in read_csv_rows(path)]


def tables() -> Iterator[Trial]:
    """CSV files that neither the issue nor the tests name."""
    kind = "CSV files"
    for name, content in _SAVED.items():
        yield Trial(kind, f"pairs: {name}", "both pairs", partial(_dataset, content))
    for name, content in [
        ("a name a line", "Val/a\nVal/b\n"),
        ("quoted, with a column of reasons", '"name";"reason"\r\n"Val/a";"copy, near"\r\n"Val/b";""\r\n'),
        ("capitals", "Name,Reason\nVal/a,x\nVal/b,y\n"),
        ("sep=; and carriage returns alone", "sep=;\rname;reason\rVal/a;x\rVal/b;y\r"),
        ("comments and spaces", "# why\n\n Val/a \n\nVal/b\n"),
    ]:
        yield Trial(kind, f"exclusions: {name}", "both names", partial(_exclusions, content))
    rows = [{"file": "a", "day": "1.5"}, {"file": "b", "day": "2"}]
    for name, content in [
        ("decimal commas", "file;day\r\na;1,5\r\nb;2\r\n"),
        ("decimal commas with tabs", "file\tday\r\na\t1,5\r\nb\t2\r\n"),
        ("spaces around", "file ; day\r\n a ; 1,5 \r\nb;2\r\n"),
    ]:
        yield Trial(kind, f"numbers: {name}", "1.5 and 2", partial(_same, _stripped, rows, content.encode()))
    cut = 'a,b\n1,"2'
    yield Trial(kind, "an open quote", "refused", partial(_same, read_csv, None, cut.encode()))
