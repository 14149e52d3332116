"""JPEG streams beyond what Pillow reads, such as 12 bits and lossless; in files of their own and in DICOM."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from cxrseg.errors import UnreadableImageError
from cxrseg.io.codecs import codec

__all__ = ["JpegHeader", "check_length", "decode_jpeg", "jpeg_header"]

# Frame headers (ITU-T T.81 table B.1): baseline, extended, progressive, lossless, their arithmetic kin, and JPEG-LS
_LOSSLESS, _JPEG_LS = 0xC3, 0xF7
_FRAME_MARKERS = (0xC0, 0xC1, 0xC2, 0xC3, 0xC9, 0xCA, 0xCB, 0xF7)


@dataclass(frozen=True)
class JpegHeader:
    """What the frame header of a JPEG or JPEG-LS stream says.

    Attributes:
        rows, columns: the size in pixels.
        samples: values a pixel.
        precision: bits a value.
        marker: the second byte of the frame marker, which tells the process.
    """

    rows: int
    columns: int
    samples: int
    precision: int
    marker: int

    @property
    def lossy(self) -> bool:
        """Whether the process is based on the DCT."""
        return self.marker not in (_LOSSLESS, 0xCB, _JPEG_LS)

    @property
    def is_jpeg_ls(self) -> bool:
        """Whether this is JPEG-LS, another standard with the same markers."""
        return self.marker == _JPEG_LS

    @property
    def needs_own_decoder(self) -> bool:
        """Whether Pillow cannot decode it."""
        return self.precision > 8 or not self.lossy


def jpeg_header(stream: bytes) -> JpegHeader:
    """Walk the markers of a JPEG or JPEG-LS stream to its frame header (ITU-T T.81 B.2.2).

    Raises:
        UnreadableImageError: there is none; the message goes on after the file's name.
    """
    place = 2
    while place + 4 <= len(stream) and stream[place] == 0xFF:
        marker, length = stream[place + 1], int.from_bytes(stream[place + 2 : place + 4], "big")
        if marker == 0xFF:  # fill byte
            place += 1
            continue
        if marker in _FRAME_MARKERS and place + 10 <= len(stream):
            precision, rows, columns, samples = struct.unpack_from(">BHHB", stream, place + 4)
            return JpegHeader(rows, columns, samples, precision, marker)
        place += 2 + length
    raise UnreadableImageError("is damaged: its JPEG stream has no readable frame header; export it again")


def check_length(header: JpegHeader, stream: bytes) -> None:
    """Refuse a stream that is too short for its pixels, whose decoding would fill most of a large image with gray.

    A sample of a lossless stream, and a block of 8 x 8 samples of a sequential one, take a bit or more.

    Raises:
        UnreadableImageError: it is; the message goes on after the file's name.
    """
    at_most = {0xC0: 64, 0xC1: 64, _LOSSLESS: 1}.get(header.marker)
    if at_most is not None and header.rows * header.columns > at_most * 8 * len(stream):
        raise UnreadableImageError(
            f"is cut short: its JPEG stream is too short for {header.columns}x{header.rows} pixels; copy it again"
        )


def decode_jpeg(stream: bytes) -> npt.NDArray[Any]:
    """Decode a whole JPEG file of more than 8 bits, or a lossless one.

    Returns:
        (H, W) or (H, W, 3), uint8 or uint16.

    Raises:
        UnreadableImageError: it is cut short; the message goes on after the file's name.
        Exception: what the decoder raises.
    """
    stream = stream.rstrip(b"\0\xff")
    if not stream.endswith(b"\xff\xd9"):  # a codec fills what is missing with gray; only the end marker tells
        raise UnreadableImageError("is cut short: its JPEG stream has no end marker; copy it again")
    return codec("jpeg8_decode")(stream)
