"""For hostile_files.py: the corpus, made from a seed."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image

from cxrseg.phantom.generate import make_phantom
from hostile_bombs import bombs, png_of
from hostile_dicom import as_file, dicom_elements, dicom_seeds
from hostile_lies import lying

SIDE = 160


@dataclass(frozen=True)
class Hostile:
    """A file of the corpus: its kind, its name in bytes, and what is in it."""

    kind: str
    name: bytes
    content: bytes


KINDS = ("bit flips", "truncations", "lies in DICOM headers", "bombs", "odd encodings", "absurd sizes", "names")
_SHARES = (0.30, 0.20, 0.25, 0.0, 0.10, 0.05, 0.10)


def corpus(count: int, seed: int = 0, *, large: bool = True) -> Iterator[Hostile]:
    """About `count` files; the bombs are always all of them, without `large` those of few pixels only."""
    film = make_phantom(2, "COVID-19", SIDE).image
    deep = np.rint(film * (4095 / 255)).astype(np.uint16)
    elements = dicom_seeds(deep)
    seeds = [*raster_seeds(film, deep), *((".dcm", as_file(each)) for each in elements)]
    makers: dict[str, Callable[[Random], tuple[str, bytes]]] = {
        "bit flips": lambda random: _flipped(*random.choice(seeds), random),
        "truncations": lambda random: _cut(*random.choice(seeds), random),
        "lies in DICOM headers": lambda random: (".dcm", lying(elements, random)),
        "odd encodings": lambda random: _odd(film, deep, random),
        "absurd sizes": _absurd,
    }
    for kind, share in zip(KINDS, _SHARES, strict=True):
        for number in range(max(2, round(share * count)) if kind in makers else 0):
            suffix, content = makers[kind](Random(f"{seed} {kind} {number}"))
            yield Hostile(kind, f"{kind.replace(' ', '-')}-{number:04}{suffix}".encode(), content)
    for number, (suffix, content) in enumerate(bombs(film, large=large)):
        yield Hostile("bombs", f"bomb-{number:04}{suffix}".encode(), content)
    for number in range(max(len(_NAMES), round(_SHARES[-1] * count))):
        suffix, content = seeds[number % len(seeds)]
        if suffix == ".dcm" and number % 2:
            bad = TEXT_NAMES[number % len(TEXT_NAMES)]
            content = as_file(dicom_elements(deep, 10**6 + number, instance=bad, study=bad, patient=bad))
        yield Hostile("names", _name(number, suffix), content)


def sound_film() -> bytes:
    """A DICOM file that every interface answers."""
    film = make_phantom(2, "COVID-19", SIDE).image
    return as_file(dicom_elements(np.rint(film * (4095 / 255)).astype(np.uint16), 10**7))


def raster_seeds(film: npt.NDArray[np.uint8], deep: npt.NDArray[np.uint16]) -> list[tuple[str, bytes]]:
    """A small valid file of each raster kind, with its suffix."""
    gray, wide = Image.fromarray(film), Image.fromarray(deep * np.uint16(16))
    made = [(gray, "PNG"), (wide, "PNG"), (gray.convert("RGBA"), "PNG"), (gray.convert("P"), "PNG"), (gray, "JPEG")]
    made += [(gray, "TIFF"), (wide, "TIFF"), (gray, "BMP"), (gray, "WEBP")]
    seeds = [(f".{kind.lower()}", _saved(image, kind)) for image, kind in made]
    seeds.append((".png", png_of(np.stack([deep * np.uint16(16)] * 3, -1))))
    file = io.BytesIO()
    tifffile.imwrite(file, deep, compression="zlib", predictor=True, tile=(64, 64))
    return [*seeds, (".tif", file.getvalue()), (".jpg", _saved(gray, "JPEG", progressive=True))]


def _saved(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _flipped(suffix: str, content: bytes, random: Random) -> tuple[str, bytes]:
    changed = bytearray(content)
    end = random.choice((len(changed), min(len(changed), 1024)))  # half of them in the header
    for _ in range(random.choice((1, 2, 8, 64))):
        changed[random.randrange(end)] ^= 1 << random.randrange(8)
    return suffix, bytes(changed)


def _cut(suffix: str, content: bytes, random: Random) -> tuple[str, bytes]:
    place = random.choice(
        (random.randrange(len(content)), random.randrange(300), len(content) - random.randrange(1, 9))
    )
    rest = len(content) - place
    tail = random.choice((b"", b"", bytes(rest), random.randbytes(rest), content[:rest]))
    return suffix, content[:place] + tail


def _odd(film: npt.NDArray[np.uint8], deep: npt.NDArray[np.uint16], random: Random) -> tuple[str, bytes]:
    gray = Image.fromarray(film)
    makers: tuple[Callable[[], tuple[str, bytes]], ...] = (
        lambda: (".jpg", _saved(gray.convert("CMYK"), "JPEG")),
        lambda: (".jpg", _saved(gray, "JPEG", progressive=True, exif=b"Exif\0\0" + random.randbytes(200))),
        lambda: (".png", _saved(gray.convert("1"), "PNG", pnginfo=None)),
        lambda: (".png", _chunked(_saved(gray, "PNG"), random)),
        lambda: (".png", _saved(gray, "PNG", save_all=True, append_images=[gray.rotate(9)])),
        lambda: (".tif", _saved(gray, "TIFF", save_all=True, append_images=[gray] * 3)),
        lambda: (".tif", _tiff(deep, random)),
        lambda: (".webp", _saved(gray.convert("RGB"), "WEBP", lossless=True, exif=random.randbytes(90))),
        lambda: (random.choice((".png", ".jpg", ".dcm")), _saved(gray, random.choice(("GIF", "PPM", "PDF")))),
        lambda: (random.choice((".png", ".dcm", ".tif")), random.randbytes(random.choice((0, 1, 3, 131, 4096)))),
        lambda: (".png", "<svg xmlns='http://www.w3.org/2000/svg'/>".encode(random.choice(("utf-16", "utf-8-sig")))),
        lambda: (random.choice((".tif", ".dcm")), _saved(gray, random.choice(("PNG", "JPEG", "BMP")))),
        lambda: (".bmp", _bitmap(film, random)),
        lambda: (".dcm", as_file(dicom_elements(deep))[132:]),
    )
    return random.choice(makers)()


def _chunked(png: bytes, random: Random) -> bytes:
    """A PNG with a chunk that Pillow reads: texts and profiles that are damaged or inflate to 30 MB."""
    packed = zlib.compress(bytes(random.choice((10, 30_000_000))), 9)
    kind, content = random.choice(
        (
            (b"zTXt", b"Comment\0\0" + packed),
            (b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + packed),
            (b"iCCP", b"icc\0\0" + packed),
            (b"eXIf", random.randbytes(100)),
            (b"tRNS", random.randbytes(2)),
            (b"acTL", struct.pack(">II", 0xFFFFFFFF, 0)),
            (b"pHYs", random.randbytes(9)),
        )
    )
    chunk = struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    return png[:33] + chunk + png[33:]


def _tiff(deep: npt.NDArray[np.uint16], random: Random) -> bytes:
    kind = random.choice(("<f2", ">f4", "<f8", ">i2", "<i4", ">u4", "<u8", "<c8"))
    values = deep.astype(np.float32)
    values[0, 0] = random.choice((0, np.nan, np.inf, -1e30))
    file = io.BytesIO()
    with np.errstate(all="ignore"):
        tifffile.imwrite(
            file, values.astype(kind), byteorder=kind[0], bigtiff=random.random() < 0.5, photometric="minisblack"
        )
    return file.getvalue()


def _bitmap(film: npt.NDArray[np.uint8], random: Random) -> bytes:
    """A bitmap whose header states other bits, another compression or another place of its pixels."""
    content = bytearray(_saved(Image.fromarray(film), "BMP"))
    place, values = random.choice(
        ((28, (1, 2, 4, 16, 32, 99)), (30, (1, 2, 3, 4, 9)), (10, (0, 54, 0xFFFF)), (22, (0, 0xFF60)))
    )
    struct.pack_into("<H", content, place, random.choice(values))
    return bytes(content)


def _absurd(random: Random) -> tuple[str, bytes]:
    shape = random.choice(
        ((1, 1), (1, 9), (9, 1), (2, 2), (1, 65535), (65535, 1), (3, 30000), (30000, 3), (7, 7), (600, 2))
    )
    values = np.frombuffer(random.randbytes(2 * shape[0] * shape[1]), np.uint16).reshape(shape) & np.uint16(4095)
    image = Image.fromarray((values >> 4).astype(np.uint8))
    kinds = (
        "PNG",
        "TIFF",
        "BMP",
        "DICOM",
        *(("JPEG",) if max(shape) < 65500 else ()),
        *(("WEBP",) if max(shape) < 16383 else ()),
    )
    kind = random.choice(kinds)
    if kind == "DICOM":
        return ".dcm", as_file(dicom_elements(values))
    return f".{kind.lower()}", _saved(image, kind)


_NAMES = (
    b"with space",
    b"  two  spaces ",
    b"new\nline",
    b"return\rname",
    b"tab\tname",
    b"x..",
    b"x..\\..\\outside",
    b"%2e%2e%2foutside",
    b"bytes\xff\xfe\x80",
    b"latin\xe9",
    "łódź 出力 🩻".encode(),
    "e\u0301 and \u00e9".encode(),
    "\u202egnp.exe".encode(),
    b"x" * 250,
    "\u00e9".encode() * 124,
    b"-o",
    b"--help",
    b"=1+1",
    b"CON",
    b"nul.png",
    b"a:b",
    b"quote\"'`$(touch outside)",
    b"<b onclick=alert(1)>",
    b"\x1b[2Jescape",
    b"statistics.csv",
    b"manifest.json",
    b"a_infection.png",
    b"~",
    b"*?[a]",
    b"{}%s%n",
)


TEXT_NAMES = (
    *_NAMES,
    b"..",
    b"../../../outside",
    b"/tmp/outside",
    b"C:\\outside",
    b"nul\0byte.png",
    b"y" * 5000,
    b"\xf0\x9f",
    b"",
    b".",
    b"a/b/../../../c.png",
    b'a"; filename="b.png',
)
"""Names where no file system limits them: of uploads, and in DICOM attributes."""


def _name(number: int, suffix: str) -> bytes:
    """A name that a file system takes: at most 255 bytes, each another."""
    end = (b"" if number < len(_NAMES) else b" %d" % number) + suffix.encode()
    return _NAMES[number % len(_NAMES)][: 255 - len(end)] + end
