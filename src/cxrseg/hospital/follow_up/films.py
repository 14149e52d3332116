"""Which films there are, of whom, and from when: from DICOM tags, or from a CSV."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from pydicom.dataset import Dataset

from cxrseg.errors import DatasetError
from cxrseg.inference.input_files import find_inputs
from cxrseg.inference.input_sources import Input
from cxrseg.io.csv_file import read_csv_rows
from cxrseg.io.dicom_open import read_dicom_header
from cxrseg.io.quiet import quiet
from cxrseg.io.read import is_dicom

__all__ = ["Film", "read_films"]

_TIMES = ("Acquisition", "Content", "Series", "Study")
"""DICOM dates that may be a film's, the nearest to the exposure first."""

_FORMS = {8: "%Y%m%d", 10: "%Y%m%d%H", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}

_EPOCH = datetime(1970, 1, 1)


@dataclass(frozen=True)
class Film:
    """One film of a patient.

    Attributes:
        path: the file.
        name: its path below the input folder.
        patient: the patient's identifier, as the file or the CSV has it.
        day: when it was made, in days from a start that is the same for all films of a patient.
        date: when it was made, ISO 8601; '' where the CSV gives days only.
    """

    path: Path
    name: str
    patient: str
    day: float
    date: str


def read_films(source: Path, table: Path | None, out: Path) -> tuple[list[Film], list[str]]:
    """Find the films of a folder.

    Args:
        source: a folder of images.
        table: a CSV with the columns file (relative to `source`), patient, and date (ISO 8601) or day (a number); None
            takes patient and time from DICOM tags.
        out: the output folder, which is not searched.

    Returns:
        The films, by patient and time; and a line for each image that cannot be placed.

    Raises:
        DatasetError: the table is not as above, or names a file that does not exist.
        ImageError: there is no image in the folder.
    """
    if table is not None:
        films, faults = _from_table(source, table), []
    else:
        found = [_from_tags(item) for item in find_inputs(source, out)[0]]
        films = [film for film in found if isinstance(film, Film)]
        faults = [fault for fault in found if isinstance(fault, str)]
    return sorted(films, key=lambda film: (film.patient, film.day, film.name)), faults


def _from_tags(item: Input) -> Film | str:
    """The film, or why it cannot be placed."""
    if not is_dicom(item.path):
        return f"{item.name}: not a DICOM file; name its patient and date in a CSV (--csv)"
    with quiet():
        try:
            data = read_dicom_header(item.path)
            patient = str(data.get("PatientID") or "").strip()
            when = _time(data)
        except Exception as error:  # pydicom raises nearly anything
            return f"{item.name}: its header cannot be read ({type(error).__name__})"
    if not patient or when is None:
        return f"{item.name}: has no {'date' if patient else 'Patient ID'}"
    issuer = str(data.get("IssuerOfPatientID") or "").strip()
    return Film(item.path, item.name, f"{issuer}|{patient}" if issuer else patient, _days(when), when.isoformat())


def _time(data: Dataset) -> datetime | None:
    """The time of the exposure, or what comes nearest to it; without the time of day where that is missing."""
    for name in _TIMES:
        date, time = str(data.get(f"{name}Date") or ""), str(data.get(f"{name}Time") or "").partition(".")[0]
        for text in (date + time, date):
            # By length: strptime takes 20201112 for 1 January, 01:02, where the form has hours and minutes.
            if len(date) == 8 and len(text) in _FORMS:
                try:
                    return datetime.strptime(text, _FORMS[len(text)])
                except ValueError:
                    continue
    return None


def _from_table(source: Path, table: Path) -> list[Film]:
    rows = read_csv_rows(table)
    columns = set(rows[0]) if rows else set()
    if not {"file", "patient"} <= columns or not columns & {"date", "day"}:
        got = ", ".join(sorted(map(str, columns))) or "none"
        raise DatasetError(f"{table}: expected the columns file, patient, and date or day, got {got}")
    films, faults = [], []
    for number, row in enumerate(rows, start=2):
        film = _from_row(source, row)
        if isinstance(film, Film):
            films.append(film)
        else:
            faults.append(f"line {number}: {film}")
    if faults:
        raise DatasetError(f"{table} has rows that cannot be used:", faults)
    return films


def _from_row(source: Path, row: Mapping[str, str | None]) -> Film | str:
    """The film of a row, or what is wrong with it."""
    name, patient = (row.get("file") or "").strip(), (row.get("patient") or "").strip()
    if not name or not patient:
        return "expected a file and a patient"
    if not (source / name).is_file():
        return f"there is no file {source / name}"
    date, day = (row.get("date") or "").strip(), (row.get("day") or "").strip()
    try:
        if date:
            when = datetime.fromisoformat(date).replace(tzinfo=None)
            return Film(source / name, name, patient, _days(when), date)
        return Film(source / name, name, patient, float(day), "")
    except ValueError:
        return f"expected a date such as 2020-04-01 or a day as a number, got {date or day!r}"


def _days(when: datetime) -> float:
    return (when - _EPOCH) / timedelta(days=1)
