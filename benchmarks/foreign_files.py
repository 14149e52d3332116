"""Files as other programs write them: what `cxrseg predict` makes of each, beside what is right.

    python benchmarks/foreign_files.py -o FOLDER

Makes one phantom in many ways of storing it, reads each file, segments it by the shipped weights and prints a row: what
was expected (the infected fraction of the 8-bit PNG), what came, and the reader's warnings. Right is a fraction within
0.03 of the expected one, or a refusal, or a warning that says what is unclear.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from cxrseg import Segmenter
from cxrseg.errors import ImageError
from cxrseg.io.masks import read_mask
from cxrseg.io.read import read_radiograph
from foreign_dicom import dicoms, numbers
from foreign_images import FILM, colours, jpegs, png, ranges, tiffs
from foreign_masks import MARKED, coloured_masks, masks, smoothed_masks


def main() -> None:
    """Make, read, segment, print."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("-o", type=Path, default=None, help="keep the files here")
    arguments.add_argument("-m", type=Path, default=None, help="a model file instead of the shipped weights")
    arguments.add_argument("-k", default="", help="only kinds with this in their name")
    chosen = arguments.parse_args()
    folder = chosen.o or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    segmenter = Segmenter(chosen.m)
    path = folder / "reference.png"
    png(FILM)(path)
    right = _result(segmenter, path)[0]
    print(f"right: {right}; masks: Dice with the phantom's own of at least 0.9")
    print("| kind | file | came | right | warnings |\n|---|---|---|---|---|")
    for make in (ranges, colours, tiffs, jpegs, numbers, dicoms, masks, coloured_masks, smoothed_masks):
        for number, (kind, name, ending, write) in enumerate(make()):
            if chosen.k not in kind:
                continue
            path = folder / f"{make.__name__}-{number}{ending}"
            try:
                write(path)
            except Exception as error:
                print(f"| {kind} | {name} | could not be made: {error} | | |", flush=True)
                continue
            if kind == "masks":
                came = _overlap(path, np.zeros_like(MARKED) if name == "empty" else MARKED)
                good = "refused" if "Error" in came else "yes" if float(came) >= 0.9 else "NO"
                print(f"| {kind} | {name} | {came} | {good} | |", flush=True)
                continue
            came, notes = _result(segmenter, path)
            good = "refused" if isinstance(came, str) else "yes" if abs(came - float(right)) <= 0.03 else "NO"
            good = "no, but warned" if good == "NO" and notes else good
            shown = came if isinstance(came, str) else f"{came:.3f}"
            print(f"| {kind} | {name} | {shown} | {good} | {notes} |", flush=True)


def _result(segmenter: Segmenter, path: Path) -> tuple[float | str, str]:
    try:
        radiograph = read_radiograph(path)
    except ImageError as error:
        return f"{type(error).__name__}: {str(error).replace(str(path), 'FILE')[:110]}", ""
    found = segmenter.segment(radiograph)
    notes = "; ".join(getattr(radiograph, "warnings", ()))
    if found.status == "refused":
        return f"refused: {found.reason[:80]}", notes
    assert found.severity is not None
    return round(float(getattr(found.severity, "infected_fraction", None) or 0), 3), notes[:160]


def _overlap(path: Path, expected: np.ndarray) -> str:
    try:
        mask = read_mask(path)
    except ImageError as error:
        return f"{type(error).__name__}: {str(error).replace(str(path), 'FILE')[:150]}"
    total = mask.sum() + expected.sum()
    return f"{2 * (mask & expected).sum() / total if total else 1.0:.3f}"


if __name__ == "__main__":
    main()
