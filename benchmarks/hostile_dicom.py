"""For hostile_files.py: DICOM files built element by element, so that they can lie."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from random import Random

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
    meta = b"".join(_element(tag, *elements[tag], stated) for tag in sorted(elements) if tag[0] == 2)
    implicit = syntax == IMPLICIT
    data = b"".join(_element(tag, *elements[tag], stated, implicit) for tag in sorted(elements) if tag[0] != 2)
    if syntax == DEFLATED:
        packer = zlib.compressobj(9, wbits=-15)
        data = packer.compress(data) + packer.flush()
    return bytes(128) + b"DICM" + _element((2, 0), b"UL", struct.pack("<I", len(meta)), stated) + meta + data


def _element(tag: Tag, vr: bytes, value: bytes, stated: Mapping[Tag, int], implicit: bool = False) -> bytes:
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


_NUMBERS = (0, 1, 2, 7, 8, 9, 15, 16, 17, 32, 33, 64, 255, 256, 32767, 32768, 65534, 65535)
_NUMBER_TAGS = [(0x28, each) for each in (0x02, 0x06, 0x10, 0x11, 0x100, 0x101, 0x102, 0x103, 0x120, 0x121)]
_DECIMALS = (
    b"nan",
    b"inf",
    b"-inf",
    b"1e400",
    b"0",
    b"-1",
    b"",
    b" ",
    b"1,5",
    b"9" * 400,
    b"1\\2\\3",
    b"\\",
    b"1e-320",
)
_DECIMAL_TAGS = {
    (0x18, 0x1164): b"\\",
    (0x28, 0x30): b"\\",
    (0x28, 0x34): b"\\",
    (0x28, 0x1050): b"",
    (0x28, 0x1051): b"",
    (0x28, 0x1052): b"",
    (0x28, 0x1053): b"",
}
_FRAMES = (b"0", b"-1", b"2", b"999999999", b"1e9", b"nan", b"x", b"", b"1\\1", b"4294967297")
_CHARACTERS = (b"ISO_IR 192", b"ISO 2022 IR 87", b"\\ISO 2022 IR 149", b"GB18030", b"utf_8", b"../..", b"\xff\xfe", b"")
_UIDS = (
    b"",
    b"../../../../tmp/outside",
    b"1.2\n3",
    b"1." * 150,
    b"\xff\xfe\x00.1",
    b"/etc/passwd",
    b"1.2.3\0\0x",
    b" ",
)
_TEXT = (
    b"<script>alert(1)</script>",
    b"\x1b]0;x\x07\x1b[2J",
    b"A" * 60000,
    b"\0\r\n\0",
    b"=cmd|' /C calc'!A0",
    b"\xe2\x80\xae",
)
_TEXT_TAGS = [
    (0x08, 0x60),
    (0x08, 0x20),
    (0x08, 0x70),
    (0x08, 0x68),
    (0x10, 0x10),
    (0x10, 0x20),
    (0x10, 0x1010),
    (0x18, 0x15),
    (0x18, 0x5101),
    (0x20, 0x20),
    (0x20, 0x62),
    (0x28, 0x04),
    (0x2050, 0x20),
]
_UID_TAGS = [(0x02, 0x02), (0x02, 0x03), (0x08, 0x16), INSTANCE, (0x20, 0x0D), (0x20, 0x0E)]
_SYNTAXES = (
    "",
    ".1",
    ".2",
    ".1.99",
    ".5",
    ".4.50",
    ".4.57",
    ".4.70",
    ".4.80",
    ".4.90",
    ".4.100",
    ".4.201",
    "x",
    ".9" * 30,
)
_LENGTHS = (0, 1, 2, 0x7FFF, 0xFFFE, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF)


def lying(seeds: list[Elements], random: Random) -> bytes:
    """An image of which one to three things in the header are not true."""
    made, stated = dict(random.choice(seeds)), dict[Tag, int]()
    for _ in range(random.choice((1, 1, 2, 3))):
        _LIES[random.randrange(len(_LIES))](made, stated, random)
    return as_file(made, stated)


def _number(made: Elements, _: dict[Tag, int], random: Random) -> None:
    values = [random.choice(_NUMBERS) for _ in range(random.choice((1, 1, 1, 1, 2, 3)))]
    vr, value = short(*values)
    made[random.choice(_NUMBER_TAGS)] = (
        random.choice((vr, vr, vr, b"SS", b"IS")),
        value[: random.choice((9, 9, 9, 1, 0))],
    )


def _decimal(made: Elements, _: dict[Tag, int], random: Random) -> None:
    tag = random.choice(list(_DECIMAL_TAGS))
    separator = _DECIMAL_TAGS[tag]
    value = random.choice(_DECIMALS) + separator + random.choice(_DECIMALS) if separator else random.choice(_DECIMALS)
    made[tag] = b"DS", value
    if tag == (0x28, 0x1050):
        made[0x28, 0x1051] = b"DS", random.choice((b"100", b"4096", *_DECIMALS))


def _uid(made: Elements, _: dict[Tag, int], random: Random) -> None:
    tag = random.choice(_UID_TAGS)
    if random.random() < 0.3:
        made.pop(tag, None)
    else:
        made[tag] = b"UI", random.choice(_UIDS)


def _text(made: Elements, _: dict[Tag, int], random: Random) -> None:
    made[random.choice(_TEXT_TAGS)] = random.choice((b"LO", b"PN", b"CS", b"UT")), random.choice(_TEXT)


def _characters(made: Elements, _: dict[Tag, int], random: Random) -> None:
    made[0x08, 0x05] = b"CS", random.choice(_CHARACTERS)
    made[0x10, 0x10] = b"PN", random.randbytes(random.randrange(60))


def _syntax(made: Elements, _: dict[Tag, int], random: Random) -> None:
    if random.random() < 0.15:
        made.pop(SYNTAX_TAG, None)
    else:
        made[SYNTAX_TAG] = b"UI", (SYNTAX + random.choice(_SYNTAXES)).encode()


def _frames(made: Elements, _: dict[Tag, int], random: Random) -> None:
    made[0x28, 0x08] = b"IS", random.choice(_FRAMES)


def _length(made: Elements, stated: dict[Tag, int], random: Random) -> None:
    stated[random.choice([*made, PIXELS, PIXELS, (2, 0)])] = random.choice(_LENGTHS)


def _missing(made: Elements, _: dict[Tag, int], random: Random) -> None:
    made.pop(random.choice([tag for tag in made if tag != SYNTAX_TAG]), None)


def _sequence(made: Elements, _: dict[Tag, int], random: Random) -> None:
    start = b"\xfe\xff\x00\xe0\xff\xff\xff\xff\x40\x00\x30\xa7SQ\0\0\xff\xff\xff\xff"
    made[random.choice([(0x08, 0x1140), (0x40, 0xA730)])] = b"SQ", start * random.choice((1, 30, 3000))


def _table(made: Elements, _: dict[Tag, int], random: Random) -> None:
    """A lookup table whose descriptor does not fit its entries, or a palette that lacks some."""
    descriptor = [random.choice(_NUMBERS) for _ in range(random.choice((3, 3, 3, 2)))]
    if random.random() < 0.3:
        made[0x28, 0x04] = b"CS", b"PALETTE COLOR"
        for colour in range(random.choice((3, 2))):
            made[0x28, 0x1101 + colour] = short(*descriptor)
            made[0x28, 0x1201 + colour] = b"OW", random.randbytes(2 * random.choice((0, 1, 256, 65536)))
        return
    inner = _element((0x28, 0x3002), *short(*descriptor), {})
    inner += _element((0x28, 0x3006), b"OW", random.randbytes(2 * random.choice((0, 1, 256, 4096))), {})
    item = b"\xfe\xff\x00\xe0" + struct.pack("<I", len(inner)) + inner
    made[random.choice([(0x28, 0x3000), (0x28, 0x3010)])] = b"SQ", item


_LIES = (
    _number,
    _number,
    _number,
    _decimal,
    _decimal,
    _uid,
    _text,
    _characters,
    _syntax,
    _frames,
    _length,
    _length,
    _missing,
    _sequence,
    _table,
)
