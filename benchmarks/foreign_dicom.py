"""For foreign_files.py: the phantom as DICOM files of many kinds."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from io import BytesIO

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence

from foreign_images import FILM, Case, deep, raw, with_marker, with_pixels

DX = "1.2.840.10008.5.1.4.1.1.1.1"


def dicom(values: np.ndarray = None, change: Callable[[Dataset], None] | None = None, **attributes: object) -> bytes:
    """A DX image of 12 bits; `attributes` are set last, None takes one away."""
    values = deep(12) if values is None else values
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    data.SOPClassUID, data.SOPInstanceUID, data.Modality = DX, "1.2.3", "DX"
    data.Rows, data.Columns = values.shape[:2]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
    if values.dtype.kind == "f":
        data.FloatPixelData = values.astype("<f4").tobytes()
        for word in ("BitsStored", "HighBit", "PixelRepresentation"):
            del data[word]
        data.BitsAllocated = 32
    else:
        data.PixelData = values.astype("<u2").tobytes()
        data["PixelData"].VR = "OW"
    for keyword, value in attributes.items():
        if value is None:
            delattr(data, keyword)
        else:
            setattr(data, keyword, value)
    if change:
        change(data)
    buffer = BytesIO()
    data.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def element(group: int, number: int, vr: bytes, value: bytes) -> bytes:
    """An element in explicit little endian, whatever its value."""
    value += b" " * (len(value) % 2)
    return struct.pack("<HH", group, number) + vr + struct.pack("<H", len(value)) + value


def numbered(centre: bytes, width: bytes, more: bytes = b"", values: np.ndarray | None = None) -> bytes:
    """A file whose window is written as these bytes."""
    content = dicom(values)
    place = content.index(struct.pack("<HH", 0x28, 0x103) + b"US")
    place += 10  # behind Pixel Representation
    window = element(0x28, 0x1050, b"DS", centre) + element(0x28, 0x1051, b"DS", width) + more
    return content[:place] + window + content[place:]


def inserted(content: bytes, elements: bytes) -> bytes:
    """The file with more elements, which stand before those of a higher tag and are in order themselves."""
    tag = struct.unpack("<HH", elements[:4])
    place = 132 + 12 + struct.unpack("<I", content[140:144])[0]
    while struct.unpack("<HH", content[place : place + 4]) < tag:
        long = content[place + 4 : place + 6] in (b"OB", b"OW", b"OF", b"SQ", b"UN", b"UT")
        start = place + (12 if long else 8)
        place = start + int.from_bytes(content[start - (4 if long else 2) : start], "little")
    return content[:place] + elements + content[place:]


def windowed() -> npt.NDArray[np.uint16]:
    """The film as 8-bit gray, times 8, plus 500: right only through the window 1519.5 / 2041."""
    values = FILM.astype(np.uint16) * 8 + 500
    values[0, :64], values[1, :64] = 4095, 0  # without the window, these decide
    return values


def numbers() -> Iterator[Case]:
    """Ways of writing the numbers of that window."""
    kind = "DICOM numbers"
    values = windowed()
    for name, centre, width in [
        ("as it should be", b"1520.5", b"2041"),
        ("decimal comma in the centre", b"1520,5", b"2041"),
        ("decimal comma in both", b"1520,5", b"2041,0"),
        ("comma and exponent", b"1,5205E+03", b"2041"),
        ("comma, three digits behind", b"1520,500", b"2041,000"),
        ("thousands comma", b"1,520", b"2,041"),
        ("thousands comma and point", b"1,520.5", b"2,041.0"),
        ("two windows with commas", b"1520,5\\900,5", b"2041\\300"),
        ("second window malformed", b"1520.5\\x", b"2041\\300"),
        ("unit behind", b"1520.5 HU", b"2041"),
        ("two points", b"1.520.5", b"2041"),
        ("NaN", b"NaN", b"2041"),
        ("infinite", b"1e999", b"2041"),
        ("a word", b"AUTO", b"AUTO"),
        ("nul behind", b"1520.5\0", b"2041\0"),
        ("plus sign", b"+1520.5", b"+2041"),
        ("unicode minus", "\u22125".encode(), b"2041"),
        ("width missing", b"1520.5", b""),
        ("three centres, two widths", b"1520.5\\1\\2", b"2041\\2"),
        ("width negative", b"1520.5", b"-2041"),
        ("slash between", b"1520.5/900", b"2041/300"),
    ]:
        yield kind, name, ".dcm", raw(numbered(centre, width, values=values))
    slope = element(0x28, 0x1052, b"DS", b"-500,0") + element(0x28, 0x1053, b"DS", b"1,0")
    yield kind, "rescale with commas", ".dcm", raw(numbered(b"1020.5", b"2041", slope, values))
    slope = element(0x28, 0x1052, b"DS", b"-500") + element(0x28, 0x1053, b"DS", b"one")
    yield kind, "slope a word", ".dcm", raw(numbered(b"1020.5", b"2041", slope, values))


def dicoms() -> Iterator[Case]:
    yield from orientations()
    yield from kinds()
    yield from words()


def orientations() -> Iterator[Case]:
    kind = "DICOM orientation"
    for name, stored, tag in [
        ("L\\F", FILM, ["L", "F"]),
        ("R\\F, mirrored", FILM[:, ::-1], ["R", "F"]),
        ("L\\H, upside down", FILM[::-1], ["L", "H"]),
        ("R\\H, by 180 degrees", FILM[::-1, ::-1], ["R", "H"]),
        ("F\\L, transposed", FILM.T, ["F", "L"]),
        ("F\\R, a quarter turn", np.rot90(FILM), ["F", "R"]),
        ("H\\L, a quarter turn", np.rot90(FILM, -1), ["H", "L"]),
        ("H\\R, anti-transposed", FILM[::-1, ::-1].T, ["H", "R"]),
        ("RP\\FA, oblique", FILM[:, ::-1], ["RP", "FA"]),
        ("l\\h, small letters", FILM[::-1], ["l", "h"]),
        ("A\\F, a lateral view's", FILM, ["A", "F"]),
        ("L, one value", FILM, ["L"]),
        ("empty", FILM, []),
        ("LEFT\\FOOT", FILM, ["LEFT", "FOOT"]),
    ]:
        values = np.ascontiguousarray(stored).astype(np.uint16) * 16
        window = {"WindowCenter": 2048, "WindowWidth": 4096}
        yield kind, name, ".dcm", raw(dicom(values, PatientOrientation=tag, **window))


def kinds() -> Iterator[Case]:
    kind = "DICOM kinds"
    film = (deep(16) / 65535).astype(np.float32)
    yield kind, "float pixel data, 0 to 1", ".dcm", raw(dicom(film))
    yield kind, "float pixel data, -1000 to 3000", ".dcm", raw(dicom(film * 4000 - 1000))
    yield (
        kind,
        "12 bits, no window, marker of 65535",
        ".dcm",
        raw(dicom(with_marker(deep(12), 65535), BitsStored=16, HighBit=15)),
    )
    yield (
        kind,
        "12 bits, no window, hot pixel",
        ".dcm",
        raw(dicom(with_pixels(deep(12), 65535, 1), BitsStored=16, HighBit=15)),
    )
    yield kind, "12 bits stated, values of 16", ".dcm", raw(dicom(deep(16)))
    yield kind, "FOR PROCESSING", ".dcm", raw(dicom(PresentationIntentType="FOR PROCESSING"))
    yield kind, "no Photometric Interpretation", ".dcm", raw(dicom(PhotometricInterpretation=None))
    yield kind, "no Pixel Representation", ".dcm", raw(dicom(PixelRepresentation=None))
    yield kind, "window in a functional group", ".dcm", raw(dicom(deep(12) // 2 + 1000, change=grouped))
    yield kind, "child of 6 years", ".dcm", raw(dicom(PatientAge="006Y", WindowCenter=2048, WindowWidth=4096))
    yield (
        kind,
        "child by birth date",
        ".dcm",
        raw(dicom(PatientBirthDate="20150101", StudyDate="20200601", WindowCenter=2048, WindowWidth=4096)),
    )


def words() -> Iterator[Case]:
    for part in ("UNKNOWN", "TORACE", "BRUST", "POITRINE", "PECHO", "KLATKA PIERSIOWA", "HAND", "XYZ"):
        yield (
            "DICOM words",
            f"BodyPartExamined {part}",
            ".dcm",
            raw(dicom(BodyPartExamined=part, WindowCenter=2048, WindowWidth=4096)),
        )
    for view in ("LLD", "RLD", "AP", "LL", "LATERAL"):
        yield (
            "DICOM words",
            f"ViewPosition {view}",
            ".dcm",
            raw(dicom(ViewPosition=view, WindowCenter=2048, WindowWidth=4096)),
        )


def grouped(data: Dataset) -> None:
    voi, shared = Dataset(), Dataset()
    voi.WindowCenter, voi.WindowWidth = 2024, 2048
    shared.FrameVOILUTSequence = Sequence([voi])
    data.SharedFunctionalGroupsSequence = Sequence([shared])
