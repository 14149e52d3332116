"""Follow-up of a folder: films in, tables and pictures out."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cxrseg._version import __version__
from cxrseg.hospital.follow_up.course import follow
from cxrseg.hospital.follow_up.films import Film, read_films
from cxrseg.hospital.follow_up.picture import draw_course
from cxrseg.hospital.follow_up.repeatability import NOISE
from cxrseg.hospital.follow_up.tables import course_json, write_tables
from cxrseg.inference.segmenter import Segmenter

__all__ = ["FollowUp", "follow_folder"]

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_.-]+")


@dataclass(frozen=True)
class FollowUp:
    """The result of a follow-up.

    Attributes:
        courses: a patient each, as in follow_up.json.
        pictures: patient to PNG.
        faults: one line for each image that could not be placed.
    """

    courses: Sequence[dict[str, Any]]
    pictures: dict[str, Path]
    faults: Sequence[str]


def follow_folder(
    source: Path,
    out: Path,
    segmenter: Segmenter,
    *,
    table: Path | None = None,
    identities: bool = False,
    on_film: Callable[[Film, str], None] | None = None,
) -> FollowUp:
    """Measure the films of a folder, patient by patient, and write tables and pictures.

    Args:
        source: the folder.
        out: where follow_up.csv, follow_up.json and a picture for each patient go.
        segmenter: measures the films.
        table: a CSV of patients and dates; see `cxrseg.hospital.follow_up.films.read_films`.
        identities: write patients' identifiers, file names and dates.
        on_film: called after each film with '' or the reason why it is not used.

    Raises:
        DatasetError: the table cannot be used.
        ImageError: there is no image in `source`.
        DiskFullError: the disk is full.
    """
    films, faults = read_films(source, table, out)
    courses: list[dict[str, Any]] = []
    pictures: dict[str, Path] = {}
    for course in follow(films, segmenter, on_film):
        courses.append(course_json(course, identities))
        name = courses[-1]["patient"]
        if course.films:
            pictures[name] = out / f"patient_{len(courses):03d}_{_NOT_IN_NAMES.sub('_', name)[:40]}.png"
            draw_course(course, name, pictures[name])
    mark = segmenter.mark
    about = {
        "note": "Research use only. Not for diagnosis.",
        "cxrseg": __version__,
        "model": asdict(mark),
        "noise": {kind: asdict(noise) for kind, noise in NOISE.items()},
        "not_placed": len(faults),
    }
    write_tables(out, courses, about)
    return FollowUp(courses, pictures, faults)
