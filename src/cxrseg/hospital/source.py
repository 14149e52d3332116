"""What a derived DICOM object needs of its source image: patient, study, series and instance, without the pixels."""

from __future__ import annotations

from collections.abc import MutableSequence
from pathlib import Path
from typing import Any

from highdicom import SpecificCharacterSetValues
from pydicom import config
from pydicom.datadict import dictionary_VM, dictionary_VR
from pydicom.dataset import Dataset
from pydicom.valuerep import validate_value

from cxrseg.errors import ImageError
from cxrseg.io.dicom_open import read_dicom_header
from cxrseg.io.quiet import quiet

__all__ = ["read_header"]

_REQUIRED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
_SIZE = ("Rows", "Columns")
_PATIENT_AND_STUDY = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName"),
)
"""Type 2: must be in every object, and may be empty."""

_COPIED = (
    *("SpecificCharacterSet", "IssuerOfPatientID", "StudyDescription", "PatientAge", "PatientSize", "PatientWeight"),
    *("Modality", "SeriesDate", "SeriesTime", "SeriesNumber", "InstanceNumber", "Laterality", "BodyPartExamined"),
    *("ViewPosition", "PatientOrientation", "AcquisitionDate", "AcquisitionTime", "ContentDate", "ContentTime"),
    *("Manufacturer", "PixelSpacing", "ImagerPixelSpacing"),
)
"""Copied where present and well formed."""


def read_header(path: Path) -> Dataset:
    """Read what identifies a DICOM image, cleaned so that a strict writer accepts it.

    A malformed value (a date of '2020-13-01', say) is left out, since an object that repeats it is not valid.
    Nothing is made up: what the file lacks stays empty.

    Args:
        path: a DICOM file that `cxrseg.io.read.read_radiograph` reads.

    Returns:
        A data set without pixels. It has the study's, series' and instance's UIDs, the size in pixels, every type 2
        attribute of patient and study (perhaps empty), and a few others where the file has them.

    Raises:
        ImageError: the file cannot be read, or lacks a UID that an object must refer to.
    """
    with quiet():
        try:
            header = _cleaned(read_dicom_header(path))
        except ImageError as error:
            raise ImageError(f"{path} {error}") from None
        except Exception as error:  # pydicom raises nearly anything, and its messages may quote the file
            raise ImageError(
                f"{path} has a header that cannot be read ({type(error).__name__}); export it again"
            ) from None
    return header


def _cleaned(full: Dataset) -> Dataset:
    header = Dataset()
    if charset := full.get("SpecificCharacterSet"):
        header.SpecificCharacterSet = charset if _is_known(charset) else "ISO_IR 192"  # UTF-8 holds all text
    for keyword in (*_REQUIRED, *_SIZE):
        value = _valid(full, keyword)
        if value is None:
            raise ImageError(
                f"has no usable {keyword}, which a DICOM object made from it must refer to; "
                f"export the file again, or ask for PNG output only"
            )
        setattr(header, keyword, value)
    for keyword in _PATIENT_AND_STUDY:
        value = _valid(full, keyword)
        setattr(header, keyword, "" if value is None else value)
    for keyword in _COPIED[1:]:
        value = _valid(full, keyword)
        if value is not None:
            setattr(header, keyword, value)
    return header


def _is_known(charset: Any) -> bool:
    """Whether highdicom writes objects in this character set; it refuses many that pydicom reads, and all with code
    extensions (ISO 2022) whose first one is the default, as Japanese files have them."""
    return charset in [each.value for each in SpecificCharacterSetValues if not each.value.startswith("ISO 2022")]


def _valid(full: Dataset, keyword: str) -> Any:
    """An attribute's value, None where it is absent, empty or not as PS3.5 6.2 wants its kind."""
    try:
        value = full.get(keyword)
        if value is None or value == "":
            return None
        if isinstance(value, MutableSequence) and dictionary_VM(keyword) == "1":
            return None
        vr = dictionary_VR(keyword)
        for part in value if isinstance(value, MutableSequence) else [value]:
            validate_value(vr, str(part) if vr in ("DS", "IS", "PN") else part, config.RAISE)
        if keyword == "PatientSex" and value not in ("F", "M", "O"):
            return None
    except Exception:  # pydicom converts values when they are asked for, and raises nearly anything
        return None
    return value
