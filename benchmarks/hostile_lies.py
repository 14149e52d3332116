"""For hostile_files.py: DICOM files whose headers say what is not true."""

from __future__ import annotations

import struct
from random import Random

from hostile_dicom import INSTANCE, PIXELS, SYNTAX, SYNTAX_TAG, Elements, Tag, as_file, element, short

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
    inner = element((0x28, 0x3002), *short(*descriptor), {})
    inner += element((0x28, 0x3006), b"OW", random.randbytes(2 * random.choice((0, 1, 256, 4096))), {})
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
