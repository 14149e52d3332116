"""The stored values of a DICOM image: transfer syntaxes, bit layout and sign, before any display transform.

Decoders: imagecodecs (BSD-3; libjpeg-turbo, CharLS, OpenJPEG) for the JPEG families, pydicom's own Python for
RLE and uncompressed data. Tried on up to 1,500 damaged streams each, GDCM aborted the process on one in twelve JPEG
streams (on JPEG-LS and JPEG 2000 too) and does not read 12-bit JPEG Extended; pylibjpeg-libjpeg ended the
process on one and is GPL; OpenJPH ran for minutes on an HTJ2K stream that OpenJPEG refuses. The decoders
chosen did none of that, once the size in a stream's header is compared with the data set's beforehand.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.encaps import get_frame
from pydicom.pixels import get_decoder

from cxrseg.errors import ImageError, UnreadableImageError
from cxrseg.io.codecs import codec
from cxrseg.io.dicom_layout import FLOATS, RLE, UNCOMPRESSED, Layout
from cxrseg.io.dicom_tags import Tags
from cxrseg.io.jpeg import check_length, jpeg_header

__all__ = ["decode"]

_J2K_START = b"\xff\x4f\xff\x51"
_MAX_TILES = 4096


@dataclass(frozen=True)
class _Header:
    rows: int
    columns: int
    samples: int
    precision: int
    signed: bool = False
    lossy: bool = False


def decode(tags: Tags, layout: Layout) -> tuple[npt.NDArray[Any], str]:
    """Decode the pixels to the values that were stored.

    Returns:
        The values, (H, W) or (H, W, 3) of an integer type with bits and sign understood, or (H, W) of a floating
        one; and their Photometric Interpretation, which for lossy JPEG, YBR_ICT and YBR_RCT has become 'RGB' in
        decoding.

    Raises:
        ImageError: the pixels are missing, cut short, damaged or do not fit their description.
    """
    pixels = tags.raw(layout.keyword)
    if not pixels:
        raise UnreadableImageError("holds no pixel data; it is not an image, or was cut short")
    if layout.keyword in FLOATS:
        return _decode_floats(pixels, layout), layout.photometric
    if layout.syntax in UNCOMPRESSED or layout.syntax == RLE:
        values = _decode_plain(tags, pixels, layout)
        shift, bits = layout.high_bit + 1 - layout.stored, layout.stored
        became_rgb = False
    else:
        values, header = _decode_frame(get_frame(pixels, 0, number_of_frames=1), layout)
        if header.signed and layout.signed:
            return values, layout.photometric
        shift, bits = 0, min(layout.stored, header.precision)
        became_rgb = layout.samples == 3 and (header.lossy or layout.photometric in ("YBR_ICT", "YBR_RCT"))
    _warn_of_high_bits(tags, values, shift + bits, layout)
    return _signed(values, layout, shift, bits), "RGB" if became_rgb else layout.photometric


def _warn_of_high_bits(tags: Tags, values: npt.NDArray[Any], bits: int, layout: Layout) -> None:
    """Say so where bits above those that count are set; old files keep overlays there (PS3.5 8.1.2)."""
    if layout.signed or bits >= 8 * values.dtype.itemsize or values.dtype.kind != "u":
        return  # signed values are often filled up with their sign
    native = values.astype(values.dtype.newbyteorder("="), copy=False)
    above = float(np.count_nonzero(native >> native.dtype.type(bits)) / native.size)
    overlays = any(0x6000 <= element.group <= 0x60FF for element in tags.data.keys())  # noqa: SIM118
    if above and not overlays:
        tags.warn(
            f"{above:.1%} of the values need more than the {layout.stored} bits that the file states; they were cut"
        )


def _decode_floats(pixels: bytes, layout: Layout) -> npt.NDArray[Any]:
    kind = np.dtype((">" if layout.big_endian else "<") + FLOATS[layout.keyword][1])
    expected = layout.rows * layout.columns * kind.itemsize
    if len(pixels) < expected:
        raise UnreadableImageError(
            f"is cut short: expected {expected:,} bytes of pixels, got {len(pixels):,}; copy it again"
        )
    values = np.frombuffer(pixels[:expected], kind).reshape(layout.rows, layout.columns)
    if not np.isfinite(values).all():
        raise ImageError("holds values that are not finite; export it again")
    return values.astype(kind.newbyteorder("="))


def _decode_plain(tags: Tags, pixels: bytes, layout: Layout) -> npt.NDArray[Any]:
    expected = -(-layout.rows * layout.columns * layout.samples * layout.allocated // 8)
    if layout.photometric == "YBR_FULL_422" and layout.syntax != RLE:
        expected = expected // 3 * 2
    if layout.syntax in UNCOMPRESSED and len(pixels) < expected:
        raise UnreadableImageError(
            f"is cut short: expected {expected:,} bytes of pixels, got {len(pixels):,}; copy it again"
        )
    options: dict[str, Any] = {
        "raw": True,
        "correct_unused_bits": False,  # wrong where the high bit is not the highest stored; `_signed` does it
        "decoding_plugin": "pydicom" if layout.syntax == RLE else "",
        "rows": layout.rows,
        "columns": layout.columns,
        "samples_per_pixel": layout.samples,
        "photometric_interpretation": layout.photometric,
        "bits_allocated": layout.allocated,
        "bits_stored": layout.stored,
        "pixel_representation": 0,
        "planar_configuration": layout.planar,
        "number_of_frames": 1,
        "allow_excess_frames": False,  # or else all that are there come, whatever their number
        "pixel_keyword": "PixelData",
        "pixel_vr": tags.data["PixelData"].VR,
    }
    if layout.syntax in UNCOMPRESSED and len(pixels) >= 2 * expected > 2:
        tags.warn("the file holds more pixels than one image has; the first were taken")
    values, _ = get_decoder(layout.syntax).as_array(pixels, **options)
    return values


def _decode_frame(frame: bytes, layout: Layout) -> tuple[npt.NDArray[Any], _Header]:
    # A codec fills what is missing with gray or black; only the end marker tells a whole stream from a cut
    # one.
    frame = frame.rstrip(b"\0\xff")
    if not frame.endswith(b"\xff\xd9"):
        raise UnreadableImageError("is cut short: its compressed pixels have no end marker; copy it again")
    in_2000 = "2000" in layout.syntax_name or "HTJ2K" in layout.syntax_name
    if in_2000:
        frame = frame[max(frame.find(_J2K_START), 0) :]  # some writers wrap the stream in a JP2 file
    header = _j2k_header(frame) if in_2000 else _jpeg_header(frame)
    if (header.rows, header.columns, header.samples) != (layout.rows, layout.columns, layout.samples):
        raise UnreadableImageError(
            f"says {layout.columns}x{layout.rows}x{layout.samples}, but its compressed pixels are "
            f"{header.columns}x{header.rows}x{header.samples}; export it again"
        )
    if in_2000:
        values = codec("jpeg2k_decode")(frame)
    elif "JPEG-LS" in layout.syntax_name:
        values = codec("jpegls_decode")(frame)
    else:
        # Without a JFIF or (whole) Adobe mark, libjpeg takes three components for YCbCr, whatever the file says.
        unmarked = b"JFIF" not in frame[:64] and b"\xff\xee\x00\x0eAdobe" not in frame[:4096]
        as_stored = layout.samples == 3 and (not header.lossy or (layout.photometric == "RGB" and unmarked))
        space = "RGB" if as_stored else None
        values = codec("jpeg8_decode")(frame, colorspace=space, outcolorspace=space)
    shape = (layout.rows, layout.columns) + ((3,) if layout.samples == 3 else ())
    if values.shape != shape or values.dtype.kind not in "iu":
        raise UnreadableImageError("has compressed pixels that do not fit their own header; export it again")
    return values, header


def _jpeg_header(frame: bytes) -> _Header:
    found = jpeg_header(frame)
    check_length(found, frame)
    return _Header(found.rows, found.columns, found.samples, found.precision, lossy=found.lossy)


def _j2k_header(frame: bytes) -> _Header:
    """Read the SIZ marker segment of a JPEG 2000 code stream (ITU-T T.800 A.5.1)."""
    if not frame.startswith(_J2K_START) or len(frame) < 45:
        raise UnreadableImageError("is damaged: its JPEG 2000 stream has no readable header; export it again")
    x1, y1, x0, y0, tile_x, tile_y, tile_x0, tile_y0, samples = struct.unpack_from(">8IH", frame, 8)
    depth = frame[42]
    tiles = -(-(x1 - tile_x0) // max(tile_x, 1)) * -(-(y1 - tile_y0) // max(tile_y, 1))
    if tiles > _MAX_TILES:
        raise UnreadableImageError(f"is damaged: its JPEG 2000 stream has {tiles:,} tiles; export it again")
    return _Header(y1 - y0, x1 - x0, samples, (depth & 0x7F) + 1, signed=bool(depth & 0x80))


def _signed(values: npt.NDArray[Any], layout: Layout, shift: int, bits: int) -> npt.NDArray[Any]:
    """Keep `bits` bits from `shift` on, and give them their sign; what lies above or below is not part of a pixel."""
    size = values.dtype.itemsize
    room = 8 * size - bits
    native = values.astype(values.dtype.newbyteorder("="), copy=False).view(f"u{size}")
    if not room:
        return native.view(f"i{size}") if layout.signed else native
    kept = native << (room - shift)
    signed = kept.view(f"i{size}") if layout.signed else kept
    signed >>= room
    return signed
