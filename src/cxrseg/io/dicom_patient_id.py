"""The patient's identifier in the header of a DICOM file."""

from __future__ import annotations

from pathlib import Path

from cxrseg.io.dicom_open import read_dicom_header
from cxrseg.io.dicom_tags import Tags, identifiers
from cxrseg.io.quiet import quiet

__all__ = ["read_patient_id"]


def read_patient_id(path: Path) -> str:
    """Patient ID (0010,0020) of a DICOM file, '' where it has none or cannot be read; no pixels are read."""
    try:
        with quiet():
            data = read_dicom_header(path)
            return identifiers(Tags(data)).get("patient_id", "")
    except Exception:  # pydicom raises nearly anything on a damaged file; reading its pixels reports the fault
        return ""
