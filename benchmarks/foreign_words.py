"""For foreign_use.py: words and numbers in DICOM files that devices of other countries and other programs write."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import redirect_stderr
from functools import partial
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from cxrseg.errors import CxrsegError
from cxrseg.inference.input_check import check_radiograph
from cxrseg.io.read import read_radiograph
from foreign_dicom import dicom, element, inserted, numbered, windowed
from foreign_images import FILM
from foreign_trials import NO, REFUSED, WARNED, YES, Result, Trial

CHEST, DOUBT, OTHER = "chest", "chest with a warning", "refused"

_PARTS = {
    CHEST: (
        *(
            "RIPPEN",
            "LUNGE",
            "LUNGEN",
            "THORAXAUFNAHME",
            "HJERTE OG LUNGER",
            "LUNGOR",
            "BRÖSTKORG",
            "KEUHKOT",
            "HRUDNIK",
        ),
        *("PLICE", "PULMONES", "TÓRAX PA", "TORACE AP", "CAGE THORACIQUE", "COSTILLAS", "COSTELAS", "CÔTES", "RIBCAGE"),
        *(
            "PLAMANI",
            "THORAKS",
            "AKCİĞER",
            "胸部",
            "грудная клетка",
            "CHEST_PORT",
            "CHEST-PA",
            "PCXR",
            "CXR2V",
            "STERNAL",
        ),
    ),
    CHEST + ", nothing said": (
        "NOT APPLICABLE",
        "UNSPECIFIED PART",
        "KEINE ANGABE",
        "NON SPECIFIE",
        "?",
        "XX",
        "...",
        "1",
    ),
    DOUBT: ("CHEST/ABDOMEN", "NECK CHEST", "BABYGRAM", "SHOULDER AND CHEST", "ESOPHAGUS", "THORAXABDOMEN"),
    OTHER: (
        *(
            "TSPINE",
            "LSSPINE",
            "C-SPINE",
            "KNIEGELENK",
            "HUFTGELENK",
            "HÜFTE LINKS",
            "ABDOMENKUB",
            "PELVISHIP",
            "RODILLAS",
        ),
        *("GENOUX", "MANOS", "MÃO", "SCHÄDEL", "CHEVILLE G", "HANDS", "KNEES", "LOWER LEG", "UPPER ARM", "SHOULDERS"),
        *("BWS", "LWS", "HWS", "FOOT_LEFT", "LUMBAR", "SACROILIAC JOINT", "PARANASAL SINUSES", "FEMURS", "ZÄHNE"),
    ),
}
_VIEWS = {
    CHEST: (
        "PA",
        "AP ERECT",
        "AP SUPINE",
        "LORDOTIC",
        "APICAL",
        "SITTING",
        "BEDSIDE",
        "POSTERO-ANTERIOR",
        "PAE",
        "PA INSP",
    ),
    DOUBT: (
        *(
            "DECUBITO LATERAL IZQUIERDO",
            "DECUBITO LATERALE",
            "LAT DECUB",
            "LLDECUB",
            "LATERAL DECUB",
            "SEITENLAGE LINKS",
        ),
        *("DÉCUBITUS LATÉRAL", "RLDEC", "LLDEC", "ZIJLIGGING", "DECUBITUS LAT"),
    ),
    OTHER: (
        *(
            "LEFT LATERAL",
            "CROSS TABLE LAT",
            "LLAT",
            "RLAT",
            "LATERALL",
            "SEITL",
            "L LAT",
            "LAT ERECT",
            "XTABLE LATERAL",
        ),
        *("DE PROFIL", "PROFIL GAUCHE", "LATERALES", "LATERAIS", "YAN", "SIVU", "SIDA", "BOCNI", "LAT-LAT"),
    ),
}


def _verdict(content: bytes, right: str, folder: Path) -> Result:
    path = folder / "film.dcm"
    path.write_bytes(content)
    verdict = check_radiograph(read_radiograph(path))
    came = f"refused: {verdict.reason}" if verdict.reason else "; ".join(verdict.warnings) or "chest"
    if right == OTHER:
        return came, YES if verdict.reason else WARNED if verdict.warnings else NO
    if verdict.reason:
        return came, NO
    return (
        came,
        WARNED if verdict.warnings and right != DOUBT else NO if right == DOUBT and not verdict.warnings else YES,
    )


def words() -> Iterator[Trial]:
    """Words of BodyPartExamined and ViewPosition that neither the issue nor the tests name."""
    film = dicom(WindowCenter=2048, WindowWidth=4096, SpecificCharacterSet="ISO_IR 192")
    for keyword, tag, known in (("BodyPartExamined", 0x0015, _PARTS), ("ViewPosition", 0x5101, _VIEWS)):
        for right, each in known.items():
            for word in each:
                content = inserted(film, element(0x18, tag, b"CS", word.encode()))
                yield Trial(f"words: {keyword}", word, right, partial(_verdict, content, right))


def _spacing(content: bytes, expected: float | None, folder: Path) -> Result:
    """Right is the spacing of the rows in mm, or a warning where the number cannot be understood."""
    path = folder / "film.dcm"
    path.write_bytes(content)
    film = read_radiograph(path)
    found = film.spacing_mm[0] if film.spacing_mm else None
    came = f"{found} mm; {'; '.join(film.warnings)}"
    if found is None or expected is None:
        return came, WARNED if film.warnings and found is None else YES if found is expected else NO
    return came, YES if abs(found - expected) < 1e-3 else WARNED if "not used" in came else NO


def _values(content: bytes, folder: Path) -> Result:
    """Right are the values of the 8-bit film."""
    path = folder / "film.dcm"
    path.write_bytes(content)
    try:
        film = read_radiograph(path)
    except CxrsegError as error:
        return f"refused: {error}", REFUSED
    off = float(np.abs(film.pixels[8:] - FILM[8:] / 255).mean())
    said = "; ".join(film.warnings)
    return f"off by {off:.3f}; {said}", YES if off < 0.01 else WARNED if film.warnings else NO


def numbers() -> Iterator[Trial]:
    """Decimal commas, and other ways of writing numbers, in every number that changes a result."""
    kind = "decimal commas"
    tags = {"PixelSpacing": 0x0030, "NominalScannedPixelSpacing": 0x2010}
    cases = [
        ("PixelSpacing 0,143\\0,143", "PixelSpacing", b"0,143\\0,143", 0.143),
        ("PixelSpacing 1,43E-1\\1,43E-1", "PixelSpacing", b"1,43E-1\\1,43E-1", 0.143),
        ("PixelSpacing ,143\\,143", "PixelSpacing", b",143\\,143", 0.143),
        ("PixelSpacing 0.143,0.143", "PixelSpacing", b"0.143,0.143", 0.143),
        ("PixelSpacing 0,143;0,143", "PixelSpacing", b"0,143;0,143", 0.143),
        ("PixelSpacing 0.143 0.143", "PixelSpacing", b"0.143 0.143", 0.143),
        ("PixelSpacing 0.143 mm\\0.143 mm", "PixelSpacing", b"0.143 mm\\0.143 mm", 0.143),
        ("PixelSpacing 1,430\\1,430", "PixelSpacing", b"1,430\\1,430", 1.43),
        ("PixelSpacing 0.143 alone", "PixelSpacing", b"0.143", 0.143),
        ("PixelSpacing 143\\143 (micrometres)", "PixelSpacing", b"143\\143", 0.143),
        ("NominalScannedPixelSpacing 0,2\\0,2", "NominalScannedPixelSpacing", b"0,2\\0,2", 0.2),
    ]
    for name, keyword, value, expected in cases:
        group = 0x28 if keyword == "PixelSpacing" else 0x18
        content = inserted(dicom(), element(group, tags[keyword], b"DS", value))
        yield Trial(kind, name, f"{expected} mm", partial(_spacing, content, expected))
    detector = element(0x18, 0x1164, b"DS", b"0,15\\0,15")
    for factor, expected in ((b"1,25", 0.12), (b"1,250", 0.12), (b"1.25x", 0.15)):
        magnified = element(0x18, 0x1114, b"DS", factor) + detector
        name = f"ImagerPixelSpacing 0,15 by magnification {factor.decode()}"
        yield Trial(kind, name, f"{expected} mm", partial(_spacing, inserted(dicom(), magnified), expected))
    yield from _windows(kind)


def _windows(kind: str) -> Iterator[Trial]:
    values = windowed()
    right = "the 8-bit film"
    for name, centre, width in [
        ("window 1520,50 / 2041,00", b"1520,50", b"2041,00"),
        ("window +1520,5 / +2041", b"+1520,5", b"+2041"),
        ("window ' 1520,5 '", b" 1520,5 ", b" 2041 "),
        ("window 1.520,5 / 2.041,0", b"1.520,5", b"2.041,0"),
        ("window 1 520,5 / 2 041", b"1 520,5", b"2 041"),
        ("window 15205e-1 / 2041e0", b"15205e-1", b"2041e0"),
        ("window 1520,5, / 2041,", b"1520,5,", b"2041,"),
        ("window 1520'5 / 2041", b"1520'5", b"2041"),
    ]:
        content = numbered(centre, width, values=values)
        yield Trial(kind, name, right, partial(_values, content))
    for name, slope, intercept in [
        ("0,5 and -250,0", b"0,5", b"-250,0"),
        ("5,0E-01 and -2,5E2", b"5,0E-01", b"-2,5E2"),
    ]:
        rescale = element(0x28, 0x1052, b"DS", intercept) + element(0x28, 0x1053, b"DS", slope)
        content = numbered(b"510,5", b"1021", rescale, values)
        yield Trial(kind, f"rescale by {name}", right, partial(_values, content))
    yield Trial(kind, "window in a functional group", right, partial(_values, _grouped(values)))


def _grouped(values: np.ndarray) -> bytes:
    """The window with commas in a shared functional group; pydicom writes them where it does not check."""

    def change(data: Dataset) -> None:
        from pydicom import config

        before = config.settings.reading_validation_mode
        voi, shared = Dataset(), Dataset()
        config.settings.reading_validation_mode = config.IGNORE
        try:
            voi.add_new(0x00281050, "LO", "1520,5")
            voi.add_new(0x00281051, "LO", "2041,0")
        finally:
            config.settings.reading_validation_mode = before
        shared.FrameVOILUTSequence = Sequence([voi])
        data.SharedFunctionalGroupsSequence = Sequence([shared])

    with redirect_stderr(io.StringIO()):
        return (
            dicom(values, change=change)
            .replace(b"\x28\x00\x50\x10LO", b"\x28\x00\x50\x10DS")
            .replace(b"\x28\x00\x51\x10LO", b"\x28\x00\x51\x10DS")
        )
