"""Opening a DICOM file within bounds: pydicom inflates a deflated data set whatever it inflates to."""

from __future__ import annotations

import zlib
from io import BytesIO
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import FileDataset

from cxrseg.errors import ImageError, UnreadableImageError

__all__ = ["HEADER_BYTES", "PREAMBLE", "explicit", "read_dicom_header"]

HEADER_BYTES = 4 * 2**20
"""What stands before the pixels of a radiograph is smaller than this."""

PREAMBLE = bytes(128) + b"DICM"

_DEFLATED = b"1.2.840.10008.1.2.1.99"
_EXPLICIT = b"\x02\x00\x10\x00UI\x14\x001.2.840.10008.1.2.1\x00"  # (0002,0010) Transfer Syntax UID, 20 bytes
_LONG_FORM = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
_PART = 2**20  # bytes that are inflated at once


def read_dicom_header(path: Path | str) -> FileDataset:
    """Read a DICOM file up to its pixels, with or without the preamble of PS3.10.

    Raises:
        UnreadableImageError: it is deflated, and its file header is damaged; the message goes on after the file's name.
        Exception: what pydicom raises.
    """
    with Path(path).open("rb") as file:
        start = file.read(HEADER_BYTES)
    start = start if start[128:132] == b"DICM" else PREAMBLE + start
    place = _deflated_from(start)
    if place is None:
        return dcmread(path, force=True, stop_before_pixels=True)
    return dcmread(BytesIO(_inflated_header(start, place)), force=True, stop_before_pixels=True)


def explicit(content: bytes, most: int) -> bytes:
    """Inflate a deflated data set (PS3.5 A.5) within bounds; others stay as they are.

    It may be as long as its pixels and `HEADER_BYTES`, so that a small image cannot hide much behind it.

    Args:
        content: a file with its preamble.
        most: bytes of the largest image, whatever it says of itself.

    Raises:
        UnreadableImageError: its file header is damaged, or it is cut short.
        ImageError: it inflates to more. Messages go on after the file's name.
    """
    place = _deflated_from(content)
    if place is None:
        return content
    header = dcmread(BytesIO(_inflated_header(content, place)), force=True, stop_before_pixels=True)
    most = min(most, _stated_bytes(header) + HEADER_BYTES)
    inflater, inflated = zlib.decompressobj(-zlib.MAX_WBITS), BytesIO()
    inflated.write(PREAMBLE + _EXPLICIT)
    waiting = content[place:]
    while not inflater.eof:
        part = inflater.decompress(waiting, _PART)
        waiting = inflater.unconsumed_tail
        inflated.write(part)
        if inflated.tell() > most + len(PREAMBLE + _EXPLICIT):
            raise ImageError(f"inflates to more than the {most / 2**20:.1f} MiB of its pixels; export it again")
        if not part and not waiting:
            break
    if not inflater.eof:
        raise UnreadableImageError("is cut short: its deflated content has no end; copy it again")
    return inflated.getvalue()


def _stated_bytes(header: FileDataset) -> int:
    """Bytes of the pixels, as the header states them; what is malformed counts as none."""
    values = [header.get(keyword) for keyword in ("Rows", "Columns", "BitsAllocated")]
    rows, columns, bits = (value if isinstance(value, int) else 0 for value in values)
    samples = header.get("SamplesPerPixel")
    return rows * columns * bits * (samples if isinstance(samples, int) else 1) // 8


def _inflated_header(content: bytes, place: int) -> bytes:
    """The beginning of a deflated data set, inflated."""
    return PREAMBLE + _EXPLICIT + zlib.decompressobj(-zlib.MAX_WBITS).decompress(content[place:], HEADER_BYTES)


def _deflated_from(content: bytes) -> int | None:
    """Where the deflated data set of a file begins, None where it is not deflated."""
    place, syntax = 132, None
    while content[place : place + 2] == b"\x02\x00" and place + 12 <= len(content):
        long = content[place + 4 : place + 6] in _LONG_FORM
        start = place + (12 if long else 8)
        length = int.from_bytes(content[start - (4 if long else 2) : start], "little")
        if content[place + 2 : place + 4] == b"\x10\x00":
            syntax = content[start : start + length].strip(b"\0 ")
        place = start + length
    if syntax == _DEFLATED:
        return place
    if _DEFLATED in (content if syntax is None else content[132:place]):
        raise UnreadableImageError("has a damaged file header; export it again")
    return None
