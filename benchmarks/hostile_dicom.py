"""For hostile_files.py: DICOM files built element by element, so that they can lie."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping

import imagecodecs
import numpy as np
import numpy.typing as npt
from pydicom.encaps import encapsulate
from pydicom.pixels.encoders import RLELosslessEncoder

Tag = tuple[int, int]
Elements = dict[Tag, tuple[bytes, bytes]]
"""Tag to value representation and value, as they are written."""

ROOT, CR = "1.2.826.0.1.3680043.8.498", "1.2.840.10008.5.1.4.1.1.1"
SYNTAX = "1.2.840.10008.1.2"
IMPLICIT, EXPLICIT, DEFLATED = SYNTAX, f"{SYNTAX}.1", f"{SYNTAX}.1.99"
_LONG_FORM = (b"OB", b"OD", b"OF", b"OL", b"OW", b"SQ", b"UC", b"UN", b"UT")
PIXELS, SYNTAX_TAG, INSTANCE = (0x7FE0, 0x10), (0x02, 0x10), (0x08, 0x18)
ROWS, COLUMNS = (0x28, 0x10), (0x28, 0x11)


def dicom_elements(values: npt.NDArray[np.uint16], number: int = 1, **more: bytes) -> Elements:
    """A CR image of 12 bits; `more` are values of text, by the names of `_TEXTS`."""
    uid = f"{ROOT}.7.{number}".encode()
    rows, columns = values.shape
    made: Elements = {
        SYNTAX_TAG: (b"UI", EXPLICIT.encode()),
        (0x02, 0x02): (b"UI", CR.encode()),
        (0x02, 0x03): (b"UI", uid),
        (0x08, 0x05): (b"CS", b"ISO_IR 100"),
        (0x08, 0x16): (b"UI", CR.encode()),
        INSTANCE: (b"UI", uid),
        (0x08, 0x20): (b"DA", b"20200401"),
        (0x08, 0x60): (b"CS", b"CR"),
        (0x10, 0x10): (b"PN", b"M\xfcller^Anna"),
        (0x10, 0x20): (b"LO", b"P1"),
        (0x18, 0x15): (b"CS", b"CHEST"),
        (0x18, 0x1164): (b"DS", b"0.2\\0.2"),
        (0x18, 0x5101): (b"CS", b"PA"),
        (0x20, 0x0D): (b"UI", uid + b".1"),
        (0x20, 0x0E): (b"UI", uid + b".2"),
        (0x20, 0x20): (b"CS", b"L\\F"),
        (0x28, 0x02): short(1),
        (0x28, 0x04): (b"CS", b"MONOCHROME2"),
        ROWS: short(rows),
        COLUMNS: short(columns),
        (0x28, 0x100): short(16),
        (0x28, 0x101): short(12),
        (0x28, 0x102): short(11),
        (0x28, 0x103): short(0),
        PIXELS: (b"OW", values.astype("<u2").tobytes()),
    }
    return made | {_TEXTS[name]: (made[_TEXTS[name]][0], value) for name, value in more.items()}


_TEXTS: Mapping[str, Tag] = {"instance": INSTANCE, "study": (0x20, 0x0D), "patient": (0x10, 0x20)}


def short(*values: int) -> tuple[bytes, bytes]:
    """An element of whole numbers of 16 bits."""
    return b"US", struct.pack(f"<{len(values)}H", *values)


def compressed(elements: Elements, syntax: str, frame: bytes, count: int = 1) -> Elements:
    """The image with another transfer syntax, and `count` frames."""
    more: Elements = {} if count == 1 else {(0x28, 0x08): (b"IS", str(count).encode())}
    return elements | more | {SYNTAX_TAG: (b"UI", syntax.encode()), PIXELS: (b"OB", encapsulate([frame] * count))}


def as_file(elements: Elements, stated: Mapping[Tag, int] | None = None) -> bytes:
    """The file, as its transfer syntax says; `stated` are lengths that elements claim in place of their own."""
    stated = stated or {}
    syntax = elements.get(SYNTAX_TAG, (b"", b""))[1].decode("latin-1")
    meta = b"".join(element(tag, *elements[tag], stated) for tag in sorted(elements) if tag[0] == 2)
    implicit = syntax == IMPLICIT
    data = b"".join(element(tag, *elements[tag], stated, implicit) for tag in sorted(elements) if tag[0] != 2)
    if syntax == DEFLATED:
        packer = zlib.compressobj(9, wbits=-15)
        data = packer.compress(data) + packer.flush()
    return bytes(128) + b"DICM" + element((2, 0), b"UL", struct.pack("<I", len(meta)), stated) + meta + data


def element(tag: Tag, vr: bytes, value: bytes, stated: Mapping[Tag, int], implicit: bool = False) -> bytes:
    """An element, whose stated length may be another than its own."""
    value += (b"\0" if vr in (b"UI", b"OB", b"UN") else b" ") * (len(value) % 2)
    encapsulated = tag == PIXELS and vr == b"OB" and value.startswith(b"\xfe\xff\x00\xe0")
    length = stated.get(tag, 0xFFFFFFFF if encapsulated else len(value))
    if encapsulated:
        value += b"\xfe\xff\xdd\xe0\0\0\0\0"
    if implicit:
        return struct.pack("<HHI", *tag, length) + value
    if vr in _LONG_FORM:
        return struct.pack("<HH2sHI", *tag, vr, 0, length) + value
    return struct.pack("<HH2sH", *tag, vr, length & 0xFFFF) + value


def dicom_seeds(values: npt.NDArray[np.uint16]) -> list[Elements]:
    """The image in each of the transfer syntaxes that are met, in several frames, and with white as zero."""
    plain = dicom_elements(values)
    eight = (values >> 4).astype(np.uint8)
    rle = RLELosslessEncoder.encode(
        values,
        rows=values.shape[0],
        columns=values.shape[1],
        samples_per_pixel=1,
        bits_allocated=16,
        bits_stored=12,
        pixel_representation=0,
        photometric_interpretation="MONOCHROME2",
        number_of_frames=1,
        encoding_plugin="pydicom",
    )
    lossless = imagecodecs.jpeg8_encode(values, lossless=True, bitspersample=12, predictor=1)
    bytes_of_8 = {(0x28, 0x100): short(8), (0x28, 0x101): short(8), (0x28, 0x102): short(7)}
    return [
        plain,
        plain | {SYNTAX_TAG: (b"UI", IMPLICIT.encode())},
        plain | {SYNTAX_TAG: (b"UI", DEFLATED.encode())},
        plain | {(0x28, 0x04): (b"CS", b"MONOCHROME1")},
        plain | {(0x28, 0x08): (b"IS", b"3"), PIXELS: (b"OW", 3 * plain[PIXELS][1])},
        compressed(plain, f"{SYNTAX}.5", rle),
        compressed(plain | bytes_of_8, f"{SYNTAX}.4.50", imagecodecs.jpeg8_encode(eight, level=90)),
        compressed(plain, f"{SYNTAX}.4.70", lossless),
        compressed(plain, f"{SYNTAX}.4.80", bytes(imagecodecs.jpegls_encode(values))),
        compressed(plain, f"{SYNTAX}.4.90", imagecodecs.jpeg2k_encode(values, level=0, codecformat="j2k")),
        compressed(plain, f"{SYNTAX}.4.90", imagecodecs.jpeg2k_encode(values, level=0, codecformat="j2k"), 2),
        compressed(plain, f"{SYNTAX}.4.201", imagecodecs.htj2k_encode(values)),
    ]
