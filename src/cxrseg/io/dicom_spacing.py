"""The distance of pixels in a DICOM file, and where it stands."""

from __future__ import annotations

import math

from cxrseg.io.dicom_tags import Tags

__all__ = ["spacing"]

# A chest radiograph has pixels of 0.1 to 0.2 mm, one shrunk to 224 pixels 2 mm; the rest are placeholders.
_SPACING_MM = (0.01, 5.0)
_MAGNIFICATION = (1.0, 3.0)

_Pair = tuple[float, float]


def spacing(tags: Tags) -> tuple[_Pair | None, str]:
    """The distance of pixel centres, (row, column) in mm, and where it was found, in words.

    Pixel Spacing (PS3.3 10.7.1.3) comes first: where it was calibrated, or differs from Imager Pixel Spacing,
    it is a distance in the patient. Otherwise Imager Pixel Spacing holds at the detector, and is divided by
    the Estimated Radiographic Magnification Factor where the file gives one. A scanned film has Nominal Scanned
    Pixel Spacing, which holds on the film, as that at the detector does.
    """
    patient, detector = _pair(tags, "PixelSpacing"), _pair(tags, "ImagerPixelSpacing")
    film = _pair(tags, "NominalScannedPixelSpacing")
    calibration = tags.text("PixelSpacingCalibrationType")
    if patient and (calibration or (detector and not _same(patient, detector))):
        return patient, f"spacing from Pixel Spacing ({calibration or 'calibrated, it does not say how'})"
    found = patient or detector or film
    if not found:
        stated = any(tags.stated(word) for word in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"))
        if not stated:
            return None, "spacing unknown"
        low, high = _SPACING_MM
        tags.warn(
            f"the distance of pixels in the file was not used: expected two numbers of {low:g} to {high:g} mm; lengths "
            "are not known in mm"
        )
        return None, "spacing unusable (zero, negative, implausible or malformed)"
    if patient:
        name = "Pixel Spacing (not calibrated)"
    else:
        name = "Imager Pixel Spacing (at the detector)" if detector else "Nominal Scanned Pixel Spacing (on the film)"
    factor = tags.numbers("EstimatedRadiographicMagnificationFactor")
    # Pixel Spacing alone may have been corrected already: only what is known to be the detector's is divided.
    if (detector or film) and len(factor) == 1 and _MAGNIFICATION[0] < factor[0] <= _MAGNIFICATION[1]:
        row, column = found
        step = f"spacing from {name}, divided by magnification {factor[0]:g}"
        return (row / factor[0], column / factor[0]), step
    return found, f"spacing from {name}"


def _pair(tags: Tags, keyword: str) -> _Pair | None:
    values = tags.numbers(keyword)
    low, high = _SPACING_MM
    if len(values) != 2 or not all(low <= value <= high for value in values):
        return None
    return values[0], values[1]


def _same(one: _Pair, other: _Pair) -> bool:
    return all(math.isclose(a, b, rel_tol=1e-3) for a, b in zip(one, other, strict=True))
