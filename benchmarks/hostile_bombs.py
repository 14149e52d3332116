"""For hostile_files.py: files of few bytes that unpack to many, or say that they do."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator

import imagecodecs
import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image

from hostile_dicom import (
    COLUMNS,
    DEFLATED,
    PIXELS,
    ROWS,
    SYNTAX,
    SYNTAX_TAG,
    as_file,
    compressed,
    dicom_elements,
    short,
)

_SAID = ((15_800, 15_800), (7_000, 7_000), (65_535, 65_535), (1, 65_535), (2**31 - 1, 2**31 - 1), (2**16, 2**16))


def bombs(film: npt.NDArray[np.uint8], *, large: bool = True) -> Iterator[tuple[str, bytes]]:
    """All of them, with their suffixes; without `large` only those that no reader should begin to unpack."""
    yield from _said(film)
    yield from _inflating(30_000_000)
    if not large:
        return
    yield from _inflating(3_000_000_000)
    yield from _unpacking(film)


def png_of(values: npt.NDArray[np.uint8 | np.uint16]) -> bytes:
    """(H, W) or (H, W, 3) as a PNG, row by row."""
    packer = zlib.compressobj(1)
    kind = values.dtype.newbyteorder(">")
    packed = b"".join(packer.compress(b"\0" + row.astype(kind).tobytes()) for row in values) + packer.flush()
    return _png(values.shape[1], values.shape[0], packed, 8 * values.itemsize, 2 if values.ndim == 3 else 0)


def _png(width: int, height: int, packed: bytes, bits: int = 8, colour: int = 0) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in ((b"IHDR", header), (b"IDAT", packed), (b"IEND", b""))
    )


def _enlarged(film: npt.NDArray[np.uint8], side: int) -> npt.NDArray[np.uint8]:
    """The film on side x side pixels: large squares, which pack well."""
    places = np.arange(side) * len(film) // side
    return film[places[:, None], places]


def _saved(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _said(film: npt.NDArray[np.uint8]) -> Iterator[tuple[str, bytes]]:
    """Headers that say many pixels, and few bytes behind them."""
    few = zlib.compress(bytes(4096))
    gray = Image.fromarray(film)
    tiffs = (_saved(gray, "TIFF"), _saved(gray, "TIFF", compression="tiff_deflate"))
    elements = dicom_elements(film.astype(np.uint16) * 16)
    stream = imagecodecs.jpeg2k_encode(film, level=0, codecformat="j2k")
    for width, height in _SAID:
        yield from (
            (".png", _png(width, height, few, bits, colour)) for bits, colour in ((8, 0), (16, 0), (16, 6), (1, 3))
        )
        for tiff in tiffs:
            yield ".tif", _patched_tiff(tiff, width, height)
        bitmap, jpeg = bytearray(_saved(gray, "BMP")), bytearray(_saved(gray, "JPEG"))
        struct.pack_into("<ii", bitmap, 18, width & 0x7FFFFFFF, height & 0x7FFFFFFF)
        yield ".bmp", bytes(bitmap)
        rows, columns = min(height, 65_535), min(width, 65_535)
        struct.pack_into(">HH", jpeg, jpeg.index(b"\xff\xc0") + 5, rows, columns)
        yield ".jpg", bytes(jpeg)
        large = elements | {ROWS: short(rows), COLUMNS: short(columns)}
        yield ".dcm", as_file(large)
        yield ".dcm", as_file(compressed(large, f"{SYNTAX}.4.50", bytes(jpeg)))
        yield (
            ".dcm",
            as_file(compressed(large, f"{SYNTAX}.4.90", stream[:8] + struct.pack(">II", columns, rows) + stream[16:])),
        )
        rle = struct.pack("<16I", 2, 64, 68, *[0] * 13) + b"\x81\0" * 4
        yield ".dcm", as_file(compressed(large, f"{SYNTAX}.5", rle))


def _patched_tiff(tiff: bytes, width: int, height: int) -> bytes:
    """The file with another ImageWidth (256), ImageLength (257) and RowsPerStrip (278)."""
    with tifffile.TiffFile(io.BytesIO(tiff)) as opened:
        places = {code: opened.pages[0].tags[code].offset for code in (256, 257, 278)}
    changed = bytearray(tiff)
    for code, place in places.items():
        struct.pack_into("<HHII", changed, place, code, 4, 1, width if code == 256 else height)
    return bytes(changed)


def _inflating(size: int) -> Iterator[tuple[str, bytes]]:
    """Images of few pixels with `size` bytes behind them once they are inflated."""
    packer = zlib.compressobj(9, wbits=-15)
    packed = b"".join(packer.compress(bytes(10**6)) for _ in range(size // 10**6)) + packer.flush()
    zipped = b"\x78\xda" + packed + struct.pack(">I", _adler(size))
    yield ".png", _png(64, 64, zipped)
    yield ".png", _png(64, 64, zipped, 16, 2)
    elements = dicom_elements(np.zeros((8, 8), np.uint16)) | {SYNTAX_TAG: (b"UI", DEFLATED.encode())}
    head = as_file({tag: each for tag, each in elements.items() if tag != PIXELS})
    start = 132 + 12 + struct.unpack_from("<I", head, 140)[0]
    attributes = zlib.decompress(head[start:], -15)
    for vr in (b"OW", b"UN"):
        group = b"\xe0\x7f\x10\x00" if vr == b"OW" else b"\x09\x00\x10\x10"
        opening = (
            attributes + group + vr + b"\0\0" + struct.pack("<I", size & ~1)
            if vr == b"OW"
            else (group + vr + b"\0\0" + struct.pack("<I", size & ~1))
        )
        packer = zlib.compressobj(9, wbits=-15)
        body = packer.compress(opening) + packer.flush(zlib.Z_FULL_FLUSH)
        yield ".dcm", head[:start] + body + packed
    file = io.BytesIO()
    tifffile.imwrite(file, np.zeros((64, 64), np.uint16), compression="zlib", rowsperstrip=64)
    yield ".tif", _with_strip(file.getvalue(), zipped)


def _adler(size: int) -> int:
    """The check sum of so many bytes of zero."""
    return (size % 65521) << 16 | 1


def _with_strip(tiff: bytes, strip: bytes) -> bytes:
    """The file with another strip at its end."""
    with tifffile.TiffFile(io.BytesIO(tiff)) as opened:
        tags = opened.pages[0].tags
        offset, count = tags[273].offset, tags[279].offset
    changed = bytearray(tiff + strip)
    struct.pack_into("<HHII", changed, offset, 273, 4, 1, len(tiff))
    struct.pack_into("<HHII", changed, count, 279, 4, 1, len(strip))
    return bytes(changed)


def _unpacking(film: npt.NDArray[np.uint8]) -> Iterator[tuple[str, bytes]]:
    """Whole images that are as large as they say: the largest that `predict`, `serve` and `node` read, and Pillow."""
    for side in (15_800, 7_000, 4_400):
        deep = _enlarged(film, side).astype(np.uint16) * np.uint16(16)
        elements = dicom_elements(deep)
        yield ".dcm", as_file(elements | {SYNTAX_TAG: (b"UI", DEFLATED.encode())})
        yield ".dcm", as_file(compressed(elements, f"{SYNTAX}.5", _rle(deep)))
        if side < 15_800:
            stream = imagecodecs.jpeg2k_encode(deep, level=0, codecformat="j2k")
            yield ".dcm", as_file(compressed(elements, f"{SYNTAX}.4.90", stream))
        file = io.BytesIO()
        tifffile.imwrite(file, deep, compression="zlib", rowsperstrip=side)
        yield ".tif", file.getvalue()
    for side in (13_300, 7_000):
        values = _enlarged(film, side)
        yield ".png", png_of(values)
        yield ".jpg", _saved(Image.fromarray(values), "JPEG")
    values = _enlarged(film, 9_100)
    yield ".png", png_of(np.stack([values, values, values[::-1]], -1).astype(np.uint16) * np.uint16(257))
    yield ".webp", _saved(Image.fromarray(_enlarged(film, 16_383)[:, :4_000]), "WEBP")


def _rle(values: npt.NDArray[np.uint16]) -> bytes:
    """The frame as DICOM's RLE (PS3.5 G): high bytes, then low ones."""
    parts = [imagecodecs.packbits_encode(part) for part in ((values >> 8).astype(np.uint8), values.astype(np.uint8))]
    parts = [bytes(part) + bytes(len(part) % 2) for part in parts]
    return struct.pack("<16I", 2, 64, 64 + len(parts[0]), *[0] * 13) + b"".join(parts)
