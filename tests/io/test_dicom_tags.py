"""Malformed numbers, orientation, spacing, functional groups, age and identifiers of DICOM files."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from cxrseg.errors import ImageError, UnreadableImageError
from cxrseg.io.dicom import read_dicom
from cxrseg.io.settings import ReadSettings
from made_dicom import PIXELS, SECRET, as_bytes, make, saved

SHOWN = np.clip((PIXELS - 2000.0) / 1001 + 0.5, 0, 1)  # by centre 2000.5 and width 1002
DX_GROUPS = "SharedFunctionalGroupsSequence"


def element(number: int, value: bytes, vr: bytes = b"DS") -> bytes:
    value += b" " * (len(value) % 2)
    return struct.pack("<HH", 0x28, number) + vr + struct.pack("<H", len(value)) + value


def with_numbers(folder: Path, *elements: bytes) -> Path:
    """A file with elements of group 0028 as these bytes, behind Pixel Representation."""
    content = as_bytes(make())
    place = content.index(struct.pack("<HH", 0x28, 0x103) + b"US") + 10
    return saved(folder, content[:place] + b"".join(elements) + content[place:])


def windowed(folder: Path, centre: bytes, width: bytes) -> Path:
    return with_numbers(folder, element(0x1050, centre), element(0x1051, width))


@pytest.mark.parametrize(
    ("centre", "width", "said"),
    [
        (b"2000.5", b"1002", ""),
        (b"2000.5\0", b"+1002", ""),
        (b"2.0005E3", b"1002.", ""),
        (b"2000,5", b"1002", "Window Center of the file has a decimal comma; 2000,5 was read as 2000.5"),
        (b"2000,500", b"1002,000", "1002,000 was read as 1002"),
        (b"2,0005E+03", b"1002", "2,0005E+03 was read as 2000.5"),
        (b"2000,5\\9,5", b"1002\\30", "9,5 was read as 9.5"),
        (b"2000.5\\x", b"1002\\30", "Window Center of the file is not a finite number"),
        (b"2000.5\\1\\2", b"1002\\2", "3 centres and 2 widths"),
    ],
)
def test_numbers_that_can_be_understood(tmp_path: Path, centre: bytes, width: bytes, said: str) -> None:
    found = read_dicom(windowed(tmp_path, centre, width))
    np.testing.assert_allclose(found.pixels, SHOWN, atol=1e-5)
    assert any(said in warning for warning in found.warnings) if said else not found.warnings


@pytest.mark.parametrize(
    ("centre", "width"),
    [
        (b"2,000", b"1,002"),  # 2 or 2000?
        (b"2,000.5", b"1002"),
        (b"2.000.5", b"1002"),
        (b"2000.5 HU", b"1002"),
        (b"NaN", b"1002"),
        (b"1e999", b"1002"),
        (b"AUTO", b"AUTO"),
        (b"2000/900", b"1002/30"),
        (b"\xe2\x88\x922000", b"1002"),
        (b"2000.5", b""),
        (b"2000.5", b"-1002"),
    ],
)
def test_a_window_that_cannot_be_understood_is_a_warning(tmp_path: Path, centre: bytes, width: bytes) -> None:
    found = read_dicom(windowed(tmp_path, centre, width))
    np.testing.assert_allclose(found.pixels, PIXELS / 4095, atol=1e-5)
    assert any("was not used" in warning for warning in found.warnings)


def test_what_is_quoted_of_a_number_cannot_be_a_name(tmp_path: Path) -> None:
    found = read_dicom(windowed(tmp_path, SECRET.encode(), b"1002"))
    assert found.warnings
    assert SECRET not in repr(found)
    assert repr(found).startswith("Radiograph(") and f"{found.shape[0]} x {found.shape[1]} pixels" in repr(found)
    assert len(repr(found)) < 200 + len(found.source)  # no pixels


def test_rescale_with_a_comma_or_a_word(tmp_path: Path) -> None:
    window = element(0x1050, b"1500.5") + element(0x1051, b"1002")
    path = with_numbers(tmp_path, window, element(0x1052, b"-500,0"), element(0x1053, b"1,0"))
    np.testing.assert_allclose(read_dicom(path).pixels, SHOWN, atol=1e-5)
    path = with_numbers(tmp_path, window, element(0x1052, b"-500"), element(0x1053, b"one"))
    assert any("Rescale Slope" in warning for warning in read_dicom(path).warnings)


@pytest.mark.parametrize("number", [0x02, 0x10, 0x101, 0x102, 0x103])
def test_numbers_that_decide_the_layout_are_not_guessed(tmp_path: Path, number: int) -> None:
    content = as_bytes(make())
    place = content.index(struct.pack("<HH", 0x28, number) + b"US")
    with pytest.raises(ImageError, match="not a whole number"):
        read_dicom(saved(tmp_path, content[: place + 4] + b"LO\2\0ab" + content[place + 10 :]))


def test_polarity_and_sign_that_are_not_stated_are_warnings(tmp_path: Path) -> None:
    for keyword, words in [
        ("PhotometricInterpretation", "MONOCHROME2 was assumed"),
        ("PixelRepresentation", "unsigned"),
    ]:
        found = read_dicom(saved(tmp_path, make(**{keyword: None})))
        assert any(words in warning for warning in found.warnings)
    with pytest.raises(ImageError, match="Pixel Representation of 2"):
        read_dicom(saved(tmp_path, make(PixelRepresentation=2)))


def test_values_beyond_the_stated_bits_are_a_warning(tmp_path: Path) -> None:
    beyond = make(PIXELS * 16)
    assert any("need more than the 12 bits" in warning for warning in read_dicom(saved(tmp_path, beyond)).warnings)
    beyond.add_new(0x60000102, "US", 12)  # an overlay is kept there
    assert not read_dicom(saved(tmp_path, beyond)).warnings


# Orientation


@pytest.mark.parametrize(
    ("orientation", "stored"),
    [
        (["L", "F"], lambda film: film),
        (["R", "F"], lambda film: film[:, ::-1]),
        (["L", "H"], lambda film: film[::-1]),
        (["F", "R"], np.rot90),
        (["H", "R"], lambda film: film[::-1, ::-1].T),
    ],
)
def test_the_film_is_put_upright(tmp_path: Path, orientation: list[str], stored: Any) -> None:
    data = make(np.ascontiguousarray(stored(PIXELS)), PatientOrientation=orientation, ImagerPixelSpacing=[0.2, 0.1])
    found = read_dicom(saved(tmp_path, data))
    np.testing.assert_allclose(found.pixels, PIXELS / 4095, atol=1e-5)
    np.testing.assert_array_equal(found.to_file(PIXELS), stored(PIXELS))
    turned = orientation[0] in "FH"
    assert found.spacing_mm == ((0.1, 0.2) if turned else (0.2, 0.1))
    assert found.file_shape == stored(PIXELS).shape
    assert bool(found.warnings) == (orientation != ["L", "F"])
    assert any("by Patient Orientation" in step for step in found.steps)


@pytest.mark.parametrize("orientation", [["A", "F"], ["L"], ["LEFT", "FOOT"], ["L", "R"]])
def test_an_orientation_of_no_frontal_view_is_a_warning(tmp_path: Path, orientation: list[str]) -> None:
    found = read_dicom(saved(tmp_path, make(PatientOrientation=orientation)))
    np.testing.assert_allclose(found.pixels, PIXELS / 4095, atol=1e-5)
    assert any("Patient Orientation" in warning for warning in found.warnings)


# Where enhanced objects and scanners keep things


def grouped(**macros: dict[str, Any]) -> Dataset:
    group = Dataset()
    for name, attributes in macros.items():
        macro = Dataset()
        for keyword, value in attributes.items():
            setattr(macro, keyword, value)
        setattr(group, name, Sequence([macro]))
    return group


@pytest.mark.parametrize("group", [DX_GROUPS, "PerFrameFunctionalGroupsSequence"])
def test_functional_groups(tmp_path: Path, group: str) -> None:
    macros = grouped(
        FrameVOILUTSequence={"WindowCenter": 1500.5, "WindowWidth": 1002},
        PixelMeasuresSequence={"PixelSpacing": [0.2, 0.1]},
        PixelValueTransformationSequence={"RescaleSlope": 1, "RescaleIntercept": -500},
    )
    found = read_dicom(saved(tmp_path, make(**{group: Sequence([macros])})))
    np.testing.assert_allclose(found.pixels, SHOWN, atol=1e-5)
    assert found.spacing_mm == (0.2, 0.1)


def test_the_spacing_of_a_scanned_film(tmp_path: Path) -> None:
    found = read_dicom(saved(tmp_path, make(NominalScannedPixelSpacing=[0.2, 0.1])))
    assert found.spacing_mm == (0.2, 0.1)
    assert "on the film" in found.steps[-1]
    found = read_dicom(saved(tmp_path, make(NominalScannedPixelSpacing=[0.2, 0.1], ImagerPixelSpacing=[0.3, 0.3])))
    assert found.spacing_mm == (0.3, 0.3)


@pytest.mark.parametrize(
    ("keyword", "kind", "bits"), [("FloatPixelData", "<f4", 32), ("DoubleFloatPixelData", "<f8", 64)]
)
def test_floating_point_pixels(tmp_path: Path, keyword: str, kind: str, bits: int) -> None:
    values = (PIXELS / 4095).astype(kind)
    gone = dict.fromkeys(("PixelData", "BitsStored", "HighBit", "PixelRepresentation"))
    data = make(BitsAllocated=bits, **gone, **{keyword: values.tobytes()})
    found = read_dicom(saved(tmp_path, data))
    np.testing.assert_allclose(found.pixels, PIXELS / 4095, atol=1e-5)
    setattr(data, keyword, values.tobytes()[:-8])
    with pytest.raises(UnreadableImageError, match="cut short"):
        read_dicom(saved(tmp_path, data))
    setattr(data, keyword, (values * np.nan).tobytes())
    with pytest.raises(ImageError, match="not finite"):
        read_dicom(saved(tmp_path, data))


def test_a_stated_range_replaces_the_window(tmp_path: Path) -> None:
    data = make(WindowCenter=100, WindowWidth=10, RescaleSlope=2, RescaleIntercept=0)
    found = read_dicom(saved(tmp_path, data), ReadSettings(value_range=(0, 8190)))
    np.testing.assert_allclose(found.pixels, PIXELS / 4095, atol=1e-5)
    assert "value range 0 to 8190, as stated" in found.steps


# The patient


@pytest.mark.parametrize(
    ("attributes", "child"),
    [
        ({"PatientAge": "006Y"}, "6 years"),
        ({"PatientAge": "14Y"}, "14 years"),
        ({"PatientAge": "006M"}, "6 months"),
        ({"PatientAge": "003W"}, "1 months"),
        ({"PatientAge": "010D"}, "0 months"),
        ({"PatientAge": "015Y"}, ""),
        ({"PatientAge": "200M"}, ""),
        ({"PatientAge": "old"}, ""),
        ({"PatientBirthDate": "20150101", "StudyDate": "20200601"}, "5 years"),
        ({"PatientBirthDate": "19500101", "StudyDate": "20200601"}, ""),
        ({"PatientBirthDate": "20300101", "StudyDate": "20200601"}, ""),
        ({}, ""),
    ],
)
def test_children_are_a_warning(tmp_path: Path, attributes: dict[str, str], child: str) -> None:
    said = [warning for warning in read_dicom(saved(tmp_path, make(**attributes))).warnings if "child" in warning]
    assert bool(said) == bool(child)
    assert all(child in warning for warning in said)


def test_raw_detector_values_are_a_warning(tmp_path: Path) -> None:
    found = read_dicom(saved(tmp_path, make(PresentationIntentType="FOR PROCESSING")))
    assert any("FOR PROCESSING" in warning for warning in found.warnings)


def test_identifiers_are_carried_and_not_shown(tmp_path: Path) -> None:
    data = make(StudyDate="20200601", StudyInstanceUID="1.2.4", SeriesInstanceUID="1.2.5")
    found = read_dicom(saved(tmp_path, data))
    assert found.identifiers == {
        "patient_id": SECRET,
        "study_date": "20200601",
        "study_uid": "1.2.4",
        "series_uid": "1.2.5",
        "sop_uid": "1.2.3",
    }
    assert SECRET not in repr(found)
    assert repr(found).startswith("Radiograph(") and f"{found.shape[0]} x {found.shape[1]} pixels" in repr(found)
    assert len(repr(found)) < 200 + len(found.source)  # no pixels


# What is broken, and what is only unsuitable


def test_broken_files_differ_from_unsuitable_ones(tmp_path: Path) -> None:
    whole = as_bytes(make())
    for content in (b"", whole[:500], whole[:-400]):
        with pytest.raises(UnreadableImageError):
            read_dicom(saved(tmp_path, content))
    for data in (make(Modality="MR"), make(NumberOfFrames=3)):
        with pytest.raises(ImageError) as caught:
            read_dicom(saved(tmp_path, data))
        assert not isinstance(caught.value, UnreadableImageError)


@pytest.mark.parametrize("spacing", [b"0.143", b"143\\143", b"0\\0", b"0.143,0.143"])
def test_a_spacing_that_cannot_be_used_is_a_warning(tmp_path: Path, spacing: bytes) -> None:
    found = read_dicom(with_numbers(tmp_path, b"", element(0x30, spacing)))
    assert found.spacing_mm is None
    assert any("not known in mm" in warning for warning in found.warnings)


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_a_code_with_accents(tmp_path: Path, encoding: str) -> None:
    content = as_bytes(make())
    place = content.index(struct.pack("<HH", 0x28, 2))
    part = "TÓRAX PA".encode(encoding)
    part += b" " * (len(part) % 2)
    tag = struct.pack("<HH", 0x18, 0x15) + b"CS" + struct.pack("<H", len(part)) + part
    assert read_dicom(saved(tmp_path, content[:place] + tag + content[place:])).tags["body_part"] == "TORAX PA"
