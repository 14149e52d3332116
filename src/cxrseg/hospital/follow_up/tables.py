"""Courses to rows, CSV and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cxrseg.hospital.follow_up.course import Course
from cxrseg.hospital.follow_up.films import Film
from cxrseg.hospital.follow_up.repeatability import MEASURES
from cxrseg.io.patient_key import hashed
from cxrseg.io.write import write_csv, write_json

__all__ = ["COLUMNS", "course_json", "write_tables"]

_DIGITS = 4
_CHANGES = ("since_last", "since_first")

COLUMNS = (
    *("patient", "film", "file", "date", "day", "status", "reason", "warnings"),
    *MEASURES,
    *("grade", "infected_fraction_margin", "saturated"),
    *(f"{change}_{what}" for change in _CHANGES for what in ("difference", "band", "verdict")),
)
"""Columns of follow_up.csv. `film` counts a patient's usable films from 1. `day` is 0 on the first of them. `file` and
`date` are empty unless identities are asked for. `infected_fraction_margin` is the noise of one film. `saturated` is
'top' or 'bottom' where a further change that exceeds the noise cannot be seen."""


def course_json(course: Course, identities: bool) -> dict[str, Any]:
    """A course, ready for JSON.

    Args:
        course: of one patient.
        identities: write the patient's identifier, the files' names and dates; else a key and days.

    Returns:
        'patient', 'films' (a row of `COLUMNS` each, without 'patient') and 'changes': measure to one entry for each
        film after the first, with 'since_last' and 'since_first'.
    """
    numbers = range(len(course.films))
    first = course.films[0].film.day if course.films else 0.0
    return {
        "patient": course.patient if identities else hashed(course.patient),
        "films": [_row(course, number, first, identities) for number in numbers]
        + [
            {"film": None, **_where(film, first, identities), "status": "refused", "reason": reason, "warnings": []}
            for film, reason in course.refused
        ],
        "changes": {
            measure: [
                {
                    "film": number + 1,
                    "since_last": _rounded(course.change(measure, number, number - 1)),
                    "since_first": _rounded(course.change(measure, number, 0)),
                }
                for number in numbers[1:]
            ]
            for measure in MEASURES
        },
    }


def write_tables(out: Path, courses: Sequence[dict[str, Any]], about: dict[str, Any]) -> None:
    """Write follow_up.csv and follow_up.json.

    Args:
        out: the folder.
        courses: of all patients, see `course_json`.
        about: what else the JSON says: model, noise, settings.
    """
    rows = []
    for course in courses:
        for film in course["films"]:
            row = {"patient": course["patient"], **film, "warnings": "; ".join(film["warnings"])}
            for change in _CHANGES:
                row |= {f"{change}_{what}": value for what, value in row.pop(change, {}).items()}
            rows.append(row)
    write_csv(out / "follow_up.csv", COLUMNS, rows)
    write_json(out / "follow_up.json", {**about, "patients": courses})


def _row(course: Course, number: int, first: float, identities: bool) -> dict[str, Any]:
    measured = course.films[number]
    severity = measured.prediction.severity
    assert severity is not None  # a film without is not in the course
    changes = {
        name: _rounded(course.change("infected_fraction", number, since))
        for name, since in (("since_last", number - 1), ("since_first", 0))
        if number > 0
    }
    return {
        "film": number + 1,
        **_where(measured.film, first, identities),
        "status": "ok",
        "reason": "",
        "warnings": list(measured.prediction.warnings),
        **{measure: _round(measured.value(measure)) for measure in MEASURES},
        "grade": severity.grade,
        "infected_fraction_margin": _round(measured.margin("infected_fraction")),
        "saturated": measured.saturation("infected_fraction"),
        **changes,
    }


def _where(film: Film, first: float, identities: bool) -> dict[str, Any]:
    return {
        "file": film.name if identities else None,
        "date": film.date if identities else None,
        "day": round(film.day - first, 2),
    }


def _rounded(change: dict[str, Any]) -> dict[str, Any]:
    return {name: _round(value) if isinstance(value, float) else value for name, value in change.items()}


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, _DIGITS)
