"""For foreign_use.py: folders of images in which results of cxrseg lie already. They must not be segmented again."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np

from cxrseg.errors import CxrsegError
from cxrseg.inference.input_check import check_radiograph
from cxrseg.inference.input_files import find_inputs
from cxrseg.io.read import read_radiograph
from foreign_dicom import dicom
from foreign_images import FILM
from foreign_training import phantoms
from foreign_trials import NO, REFUSED, YES, Result, Trial, command, write_film

OBJECTS = ("--output-type", "png", "dicom_seg", "dicom_sr", "dicom_sc")
UIDS = {"StudyInstanceUID": "1.2.3.1", "SeriesInstanceUID": "1.2.3.2", "SOPInstanceUID": "1.2.3.3"}


@cache
def run_of_two() -> Path:
    """A folder with films/ (two DICOM films, one without an ending) and found/, what `cxrseg predict` made of them."""
    root = Path(tempfile.mkdtemp())
    (root / "films").mkdir()
    for name in ("p1", "p2.dcm"):
        content = dicom(FILM.astype(np.uint16) * 16, WindowCenter=2048, WindowWidth=4096, **UIDS)
        (root / "films" / name).write_bytes(content)
    done = command("predict", root / "films", "-o", root / "found", "-p", "--page", "--save-probabilities", *OBJECTS)
    if done.code:
        raise RuntimeError(f"the films were not segmented: {done.out}{done.err}")
    return root


def trial(name: str, make: Callable[[Path, Path], Path], expected: tuple[str, ...] = ("p1", "p2.dcm")) -> Trial:
    """`make` gets the run of two and an empty folder, and returns the input; `expected` are the films in it.

    A result is left out ('yes'), or refused as one ('refused').
    """

    def run(folder: Path) -> Result:
        source = make(run_of_two(), folder / "in")
        try:
            inputs, others = find_inputs(source, folder / "out")
        except CxrsegError as error:
            return f"refused: {error}", YES if not expected else REFUSED
        found: dict[str, str] = {}
        for one in inputs:
            try:
                with one.file() as path:
                    check = check_radiograph(read_radiograph(path))
                found[Path(one.name).name] = check.reason
            except CxrsegError as error:
                found[Path(one.name).name] = str(error)
        films = tuple(sorted(name for name, reason in found.items() if not reason))
        refused = sorted(reason for reason in found.values() if reason)
        left = ", ".join(f"{count} {kind}" for kind, count in others.items()) or "nothing"
        came = f"{', '.join(films)[:80] or 'no film'}; left out {left}; {len(refused)} refused: {refused[:1]}"
        return came, NO if films != expected else REFUSED if refused else YES

    return Trial("earlier outputs", name, ", ".join(expected) or "nothing", run)


def _copied(root: Path, folder: Path, place: str = "found", *without: str) -> Path:
    """The films with the results beside or below them, some files of the results left out."""
    shutil.copytree(root / "films", folder)
    shutil.copytree(root / "found", folder / place, ignore=shutil.ignore_patterns(*without), dirs_exist_ok=True)
    return folder


def _zip(root: Path, folder: Path, place: str = "found/") -> Path:
    folder.mkdir()
    with zipfile.ZipFile(folder / "all.zip", "w") as archive:
        for source, below in ((root / "films", ""), (root / "found", place)):
            for file in sorted(source.iterdir()):
                if not file.name.startswith("."):
                    archive.write(file, below + file.name)
    return folder / "all.zip"


def _below_a_run(root: Path, folder: Path) -> Path:
    """The input is a sub-folder of an output folder."""
    for place in ("a", "b"):
        shutil.copytree(root / "films", folder.parent / "films" / place)
    command("predict", folder.parent / "films", "-o", folder, "-p")
    return folder / "a"


def _linked(root: Path, folder: Path) -> Path:
    shutil.copytree(root / "films", folder)
    (folder / "results").symlink_to(root / "found", target_is_directory=True)
    return folder


def _own_previews(root: Path, folder: Path) -> Path:
    """Files of the user that are named like results, beside results."""
    _copied(root, folder)
    write_film(folder / "found/p9_preview.png", 1)
    return folder


def _sorted_out(root: Path, folder: Path) -> Path:
    """Previews that the user moved to a folder of their own."""
    shutil.copytree(root / "films", folder)
    (folder / "look").mkdir()
    for file in (root / "found").glob("*_preview.png"):
        shutil.copy(file, folder / "look")
    return folder


def _renamed(root: Path, folder: Path) -> Path:
    shutil.copytree(root / "films", folder)
    shutil.copy(root / "found/p1_preview.png", folder / "p1 (marked).png")
    return folder


def _archive_of_objects(root: Path, folder: Path) -> Path:
    """DICOM objects of ours, as an archive gives them back: named by numbers."""
    shutil.copytree(root / "films", folder)
    for number, kind in enumerate(("seg", "sr", "sc")):
        shutil.copy(root / f"found/p2_{kind}.dcm", folder / f"IM{number}")
    return folder


def _trained(root: Path, folder: Path) -> Path:
    """A training run, an audit and an evaluation, each with its figures."""
    shutil.copytree(root / "films", folder)
    small = ("-s", "optimiser.epochs=1", "-s", "data.size=[32,32]", "-s", "network.features=4")
    command("data", "check", phantoms(), "-o", folder / "audit")
    command("train", "baseline-unet", "--dataset", phantoms(), "-o", folder / "run", *small)
    command("evaluate", folder / "run", "--dataset", phantoms(), "-o", folder / "evaluation", "--split", "val")
    if not (folder / "run/figures/dice.png").exists() or not (folder / "evaluation/summary.json").exists():
        raise RuntimeError("no training run, or no evaluation")
    return folder


def outputs() -> Iterator[Trial]:
    """More than ten places of results that neither the issue nor the tests name."""
    yield trial("two levels below", lambda root, folder: _copied(root, folder, "old/2020/found"))
    yield trial("among the films themselves", lambda root, folder: _copied(root, folder, "."))
    yield trial("without the journal", lambda root, folder: _copied(root, folder, "found", ".journal.jsonl"))
    gone = (".journal.jsonl", "statistics.json")
    yield trial("only manifest.json and statistics.csv", lambda root, folder: _copied(root, folder, "found", *gone))
    alone = (*gone, "manifest.json")
    yield trial("only statistics.csv", lambda root, folder: _copied(root, folder, "found", *alone))
    yield trial("only the pictures", lambda root, folder: _copied(root, folder, "found", *alone, "*.csv", "*.html"))
    yield trial("previews moved to a folder", _sorted_out)
    yield trial("a preview renamed, beside its film", _renamed)
    yield trial("in a zip archive", _zip)
    yield trial("in a zip archive, among the films", lambda root, folder: _zip(root, folder, ""))
    yield trial("the folder of results alone", lambda root, folder: shutil.copytree(root / "found", folder), ())
    yield trial("a sub-folder of a folder of results", _below_a_run, ())
    yield trial("a link to a folder of results", _linked)
    yield trial("a user's p9_preview.png beside them", _own_previews, ("p1", "p2.dcm", "p9_preview.png"))
    yield trial("SEG, SR and SC without endings", _archive_of_objects)
    yield trial("a training run, an audit and an evaluation", _trained)
