"""What a DICOM data set says beside its pixels, read with tolerance and without what names a patient."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from pydicom.dataset import Dataset

__all__ = ["integer", "item", "numbers", "public_tags", "spacing", "text"]

_TEXT_TAGS = {
    "anatomic_region": ("AnatomicRegionSequence", "CodeMeaning"),
    "body_part": ("BodyPartExamined",),
    "image_laterality": ("ImageLaterality",),
    "laterality": ("Laterality",),
    "modality": ("Modality",),
    "patient_orientation": ("PatientOrientation",),
    "patient_position": ("PatientPosition",),
    "photometric_interpretation": ("PhotometricInterpretation",),
    "presentation_intent": ("PresentationIntentType",),
    "view": ("ViewCodeSequence", "CodeMeaning"),
    "view_position": ("ViewPosition",),
}

# Codes and code meanings; anything longer or stranger is not what the attribute is for, and is dropped.
_HARMLESS = re.compile(r"[A-Za-z0-9 _/\\().-]{1,64}")

# A chest radiograph has pixels of 0.1 to 0.2 mm, one shrunk to 224 pixels 2 mm; the rest are placeholders.
_SPACING_MM = (0.01, 5.0)
_MAGNIFICATION = (1.0, 3.0)


def text(data: Dataset, keyword: str) -> str:
    """A short text attribute in capitals, '' where it is absent, malformed or more than a code."""
    try:
        value = data.get(keyword)
        parts = [value] if isinstance(value, str) else list(value) if isinstance(value, Iterable) else []
        joined = "\\".join(str(part).strip() for part in parts)
    except Exception:  # pydicom converts values when they are asked for, and raises nearly anything
        return ""
    return joined.upper() if _HARMLESS.fullmatch(joined) else ""


def numbers(data: Dataset, keyword: str) -> tuple[float, ...]:
    """A numeric attribute's values, () where it is absent, malformed or not finite."""
    try:
        value = data.get(keyword)
        several = isinstance(value, Iterable) and not isinstance(value, str | bytes)
        values = tuple(float(part) for part in (value if several else [value]))
    except Exception:  # as above
        return ()
    return values if all(math.isfinite(value) for value in values) else ()


def integer(data: Dataset, keyword: str) -> int | None:
    """A single whole number, None where it is absent or malformed."""
    values = numbers(data, keyword)
    return int(values[0]) if len(values) == 1 and values[0].is_integer() else None


def item(data: Dataset, keyword: str, index: int = 0) -> Dataset | None:
    """One item of a sequence attribute, None where there is none."""
    try:
        found = data.get(keyword)[index]
    except Exception:  # as above
        return None
    return found if isinstance(found, Dataset) else None


def public_tags(data: Dataset) -> dict[str, str]:
    """The attributes that tell whether this is a frontal chest radiograph; absent ones have no entry.

    Keys: 'anatomic_region', 'body_part', 'image_laterality', 'laterality', 'modality', 'patient_orientation',
    'patient_position', 'photometric_interpretation', 'presentation_intent', 'view', 'view_position'. Values
    are codes and code meanings in capitals, at most 64 plain characters; free text, names and identifiers are
    never read.
    """
    tags = {}
    for key, (*sequences, keyword) in _TEXT_TAGS.items():
        holder: Dataset | None = data
        for sequence in sequences:
            holder = item(holder, sequence) if holder is not None else None
        value = text(holder, keyword) if holder is not None else ""
        if value:
            tags[key] = value
    return tags


def spacing(data: Dataset) -> tuple[tuple[float, float] | None, str]:
    """The distance of pixel centres, (row, column) in mm, and where it was found, in words.

    Pixel Spacing (PS3.3 10.7.1.3) comes first: where it was calibrated, or differs from Imager Pixel Spacing,
    it is a distance in the patient. Otherwise Imager Pixel Spacing holds at the detector, and is divided by
    the Estimated Radiographic Magnification Factor where the file gives one.
    """
    patient = _pair(data, "PixelSpacing")
    detector = _pair(data, "ImagerPixelSpacing")
    calibration = text(data, "PixelSpacingCalibrationType")
    if patient and (calibration or (detector and not _same(patient, detector))):
        return patient, f"spacing from Pixel Spacing ({calibration or 'calibrated, it does not say how'})"
    found = patient or detector
    if not found:
        stated = bool(numbers(data, "PixelSpacing") or numbers(data, "ImagerPixelSpacing"))
        return (
            None,
            "spacing unusable (zero, negative, implausible or malformed)" if stated else "spacing unknown",
        )
    name = "Pixel Spacing (not calibrated)" if patient else "Imager Pixel Spacing (at the detector)"
    factor = numbers(data, "EstimatedRadiographicMagnificationFactor")
    # Pixel Spacing alone may have been corrected already: only what is known to be the detector's is divided.
    if detector and len(factor) == 1 and _MAGNIFICATION[0] < factor[0] <= _MAGNIFICATION[1]:
        row, column = found
        return (
            row / factor[0],
            column / factor[0],
        ), f"spacing from {name}, divided by magnification {factor[0]:g}"
    return found, f"spacing from {name}"


def _pair(data: Dataset, keyword: str) -> tuple[float, float] | None:
    values = numbers(data, keyword)
    low, high = _SPACING_MM
    if len(values) != 2 or not all(low <= value <= high for value in values):
        return None
    return values[0], values[1]


def _same(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return all(math.isclose(a, b, rel_tol=1e-3) for a, b in zip(one, other, strict=True))
