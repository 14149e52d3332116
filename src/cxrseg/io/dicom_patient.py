"""What a DICOM file says of the patient that decides how its radiograph may be read: age, and how the patient lies."""

from __future__ import annotations

import re
from datetime import date

from cxrseg.io.dicom_tags import Tags
from cxrseg.io.orientation import UPRIGHT, Orientation, patient_orientation

__all__ = ["ADULT", "age", "child_warning", "orient"]

ADULT = 15.0
"""Younger patients' chests look different: hardly any is in the data that the shipped weights were trained on."""

_UNITS = {"D": 365.25, "W": 365.25 / 7, "M": 12.0, "Y": 1.0}


def age(tags: Tags) -> float | None:
    """The patient's age in years, None where the file does not tell.

    Patient's Age comes first, as '012Y', '006M', '003W' or '010D'; then the time from birth to the study.
    """
    try:
        stated = str(tags.data.get("PatientAge") or "").strip("\0 ").upper()
        found = re.fullmatch(r"(\d{1,3})\s*([DWMY]?)", stated)
        if found:
            return int(found[1]) / _UNITS[found[2] or "Y"]
        born = _date(str(tags.data.get("PatientBirthDate") or ""))
        taken = next(
            (
                day
                for word in ("AcquisitionDate", "ContentDate", "SeriesDate", "StudyDate")
                if (day := _date(str(tags.data.get(word) or "")))
            ),
            None,
        )
    except Exception:  # pydicom converts values when they are asked for, and raises nearly anything
        return None
    if born is None or taken is None or not 0 <= (taken - born).days < 130 * 366:
        return None
    return (taken - born).days / 365.25


def child_warning(tags: Tags) -> str:
    """The warning that belongs on the radiograph of a child, '' where there is none."""
    years = age(tags)
    if years is None or years >= ADULT:
        return ""
    shown = f"{years:.0f} years" if years >= 2 else f"{12 * years:.0f} months"
    return f"the patient is a child ({shown}): the weights were trained on adults and are not meant for children"


def orient(tags: Tags) -> tuple[Orientation, str]:
    """What makes the radiograph upright and unmirrored, by Patient Orientation, and the step, '' where nothing is said.

    Where something is done, it is a warning too. Text that does not describe a frontal view does nothing.
    """
    stated = tags.text("PatientOrientation")
    if not stated.strip("\\"):
        return UPRIGHT, ""
    found = patient_orientation(stated)
    if found is None:
        words = "Patient Orientation of the file does not describe a frontal view"
        tags.warn(f"{words}; it is not known whether the image is upright and unmirrored")
        return UPRIGHT, f"{words}: ignored"
    words = stated.replace("\\", " and ")
    if found == UPRIGHT:
        return found, f"upright by Patient Orientation ({words})"
    step = f"{found} by Patient Orientation ({words})"
    tags.warn(f"the image was {step}; mask files keep the order of the file's pixels")
    return found, step


def _date(text: str) -> date | None:
    found = re.fullmatch(r"(\d{4})[.-]?(\d{2})[.-]?(\d{2})", text.strip("\0 "))
    try:
        return date(int(found[1]), int(found[2]), int(found[3])) if found else None
    except ValueError:
        return None
