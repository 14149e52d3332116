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

import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.pixels import get_decoder

from cxrseg.errors import ImageError
from cxrseg.io.dicom_tags import integer, text
from cxrseg.io.raster import MAX_PIXELS

__all__ = ["TRANSFER_SYNTAXES", "Layout", "decode", "layout_of"]

_UNCOMPRESSED = {
    "1.2.840.10008.1.2": "implicit little endian",
    "1.2.840.10008.1.2.1": "little endian",
    "1.2.840.10008.1.2.2": "big endian",
}
_RLE = "1.2.840.10008.1.2.5"
_COMPRESSED = {
    "1.2.840.10008.1.2.4.50": "JPEG baseline",
    "1.2.840.10008.1.2.4.51": "JPEG extended",
    "1.2.840.10008.1.2.4.57": "JPEG lossless",
    "1.2.840.10008.1.2.4.70": "JPEG lossless",
    "1.2.840.10008.1.2.4.80": "JPEG-LS",
    "1.2.840.10008.1.2.4.81": "JPEG-LS near-lossless",
    "1.2.840.10008.1.2.4.90": "JPEG 2000 lossless",
    "1.2.840.10008.1.2.4.91": "JPEG 2000",
    "1.2.840.10008.1.2.4.201": "HTJ2K lossless",
    "1.2.840.10008.1.2.4.202": "HTJ2K lossless",
    "1.2.840.10008.1.2.4.203": "HTJ2K",
    _RLE: "RLE",
}
TRANSFER_SYNTAXES = (*_UNCOMPRESSED, *_COMPRESSED)
"""UIDs of all transfer syntaxes that can be read."""

_GRAY = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR")
_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")

# Frame headers: baseline, extended, progressive (not allowed, but met), lossless, JPEG-LS
_LOSSLESS_MARKER = 0xC3
_FRAME_MARKERS = (0xC0, 0xC1, 0xC2, 0xC3, 0xF7)
_J2K_START = b"\xff\x4f\xff\x51"
_MAX_TILES = 4096


@dataclass(frozen=True)
class Layout:
    """How the pixels are stored (PS3.3 C.7.6.3), checked.

    Attributes:
        rows: height in pixels.
        columns: width in pixels.
        samples: 1 or 3 values a pixel.
        photometric: Photometric Interpretation.
        allocated: bits a value takes up, 1, 8, 16 or 32.
        stored: bits of it that count.
        high_bit: place of the highest bit that counts; stored - 1 in all but old files.
        signed: two's complement.
        planar: 1 where colours are stored one after another.
        syntax: the transfer syntax UID.
    """

    rows: int
    columns: int
    samples: int
    photometric: str
    allocated: int
    stored: int
    high_bit: int
    signed: bool
    planar: int
    syntax: str

    @property
    def big_endian(self) -> bool:
        """Whether 16-bit words in the data set have their high byte first."""
        return self.syntax == "1.2.840.10008.1.2.2"

    @property
    def syntax_name(self) -> str:
        """The transfer syntax in words."""
        return _UNCOMPRESSED.get(self.syntax) or _COMPRESSED[self.syntax]


@dataclass(frozen=True)
class _Header:
    rows: int
    columns: int
    samples: int
    precision: int
    signed: bool = False
    lossy: bool = False


def layout_of(data: Dataset, syntax: str) -> Layout:
    """Read and check the layout of the pixels.

    Args:
        data: the data set.
        syntax: its transfer syntax UID.

    Raises:
        ImageError: it is contradictory, empty, too large, of several frames or of a kind that cannot be read.
    """
    if syntax not in _UNCOMPRESSED and syntax not in _COMPRESSED:
        raise ImageError("has a transfer syntax that cannot be read; convert it to Explicit VR Little Endian")
    frames = integer(data, "NumberOfFrames")
    if frames is not None and frames > 1:
        raise ImageError(f"holds {frames} frames, expected one radiograph; save the frame alone")
    rows, columns = integer(data, "Rows") or 0, integer(data, "Columns") or 0
    if rows < 1 or columns < 1:
        raise ImageError(f"has no pixels ({columns}x{rows})")
    if rows * columns > MAX_PIXELS:
        raise ImageError(f"has {columns}x{rows} pixels, more than {MAX_PIXELS:,}; make it smaller")
    photometric, samples = _colour_model(data)
    allocated, stored, high_bit = _bits(data)
    signed = integer(data, "PixelRepresentation") == 1
    planar = 1 if integer(data, "PlanarConfiguration") == 1 else 0
    return Layout(rows, columns, samples, photometric, allocated, stored, high_bit, signed, planar, syntax)


def _colour_model(data: Dataset) -> tuple[str, int]:
    samples = integer(data, "SamplesPerPixel") or 1
    photometric = text(data, "PhotometricInterpretation") or ("MONOCHROME2" if samples == 1 else "RGB")
    if photometric not in (_GRAY if samples == 1 else _COLOUR if samples == 3 else ()):
        expected = ", ".join(_GRAY + _COLOUR)
        raise ImageError(f"has {samples} samples a pixel of an unfitting colour model; expected {expected}")
    return photometric, samples


def _bits(data: Dataset) -> tuple[int, int, int]:
    allocated = integer(data, "BitsAllocated") or 0
    stored = integer(data, "BitsStored") or allocated
    high_bit = integer(data, "HighBit")
    high_bit = stored - 1 if high_bit is None else high_bit
    if allocated not in (1, 8, 16, 32) or not 1 <= stored <= high_bit + 1 <= allocated:
        stated = f"{stored} bits stored of {allocated} allocated, high bit {high_bit}"
        raise ImageError(f"says {stated}, which cannot be; export it anew")
    return allocated, stored, high_bit


def decode(data: Dataset, layout: Layout) -> tuple[npt.NDArray[Any], str]:
    """Decode the pixels to the values that were stored.

    Returns:
        The values, (H, W) or (H, W, 3) of an integer type, bits and sign understood; and their Photometric
        Interpretation, which for lossy JPEG, YBR_ICT and YBR_RCT has become 'RGB' in decoding.

    Raises:
        ImageError: the pixels are missing, cut short, damaged or do not fit their description.
    """
    pixels = data.get("PixelData")
    if not isinstance(pixels, bytes) or not pixels:
        raise ImageError("holds no pixel data; it is no image, or was cut short")
    if layout.syntax in _UNCOMPRESSED or layout.syntax == _RLE:
        values = _decode_plain(data, pixels, layout)
        values = _signed(values, layout, layout.high_bit + 1 - layout.stored, layout.stored)
        return values, layout.photometric
    values, header = _decode_frame(get_frame(pixels, 0, number_of_frames=1), layout)
    if not (header.signed and layout.signed):
        values = _signed(values, layout, 0, min(layout.stored, header.precision))
    became_rgb = layout.samples == 3 and (header.lossy or layout.photometric in ("YBR_ICT", "YBR_RCT"))
    return values, "RGB" if became_rgb else layout.photometric


def _decode_plain(data: Dataset, pixels: bytes, layout: Layout) -> npt.NDArray[Any]:
    expected = -(-layout.rows * layout.columns * layout.samples * layout.allocated // 8)
    if layout.photometric == "YBR_FULL_422" and layout.syntax != _RLE:
        expected = expected // 3 * 2
    if layout.syntax in _UNCOMPRESSED and len(pixels) < expected:
        raise ImageError(f"is cut short: expected {expected:,} bytes of pixels, got {len(pixels):,}; copy it anew")
    options: dict[str, Any] = {
        "raw": True,
        "correct_unused_bits": False,  # wrong where the high bit is not the highest stored; `_signed` does it
        "decoding_plugin": "pydicom" if layout.syntax == _RLE else "",
        "rows": layout.rows,
        "columns": layout.columns,
        "samples_per_pixel": layout.samples,
        "photometric_interpretation": layout.photometric,
        "bits_allocated": layout.allocated,
        "bits_stored": layout.stored,
        "pixel_representation": 0,
        "planar_configuration": layout.planar,
        "number_of_frames": 1,
        "pixel_keyword": "PixelData",
        "pixel_vr": data["PixelData"].VR,
    }
    values, _ = get_decoder(layout.syntax).as_array(pixels, **options)
    return values


def _decode_frame(frame: bytes, layout: Layout) -> tuple[npt.NDArray[Any], _Header]:
    import imagecodecs  # here, since few files need it and it takes a tenth of a second

    # A codec fills what is missing with gray or black; only the end marker tells a whole stream from a cut
    # one.
    frame = frame.rstrip(b"\0\xff")
    if not frame.endswith(b"\xff\xd9"):
        raise ImageError("is cut short: its compressed pixels have no end marker; copy it anew")
    in_2000 = "2000" in layout.syntax_name or "HTJ2K" in layout.syntax_name
    if in_2000:
        frame = frame[max(frame.find(_J2K_START), 0) :]  # some writers wrap the stream in a JP2 file
    header = _j2k_header(frame) if in_2000 else _jpeg_header(frame)
    if (header.rows, header.columns, header.samples) != (layout.rows, layout.columns, layout.samples):
        raise ImageError(
            f"says {layout.columns}x{layout.rows}x{layout.samples}, but its compressed pixels are "
            f"{header.columns}x{header.rows}x{header.samples}; export it anew"
        )
    if in_2000:
        values = imagecodecs.jpeg2k_decode(frame)
    elif "JPEG-LS" in layout.syntax_name:
        values = imagecodecs.jpegls_decode(frame)
    else:
        # Without a JFIF or (whole) Adobe mark, libjpeg takes three components for YCbCr, whatever the file says.
        unmarked = b"JFIF" not in frame[:64] and b"\xff\xee\x00\x0eAdobe" not in frame[:4096]
        as_stored = layout.samples == 3 and (not header.lossy or (layout.photometric == "RGB" and unmarked))
        space = "RGB" if as_stored else None
        values = imagecodecs.jpeg8_decode(frame, colorspace=space, outcolorspace=space)
    shape = (layout.rows, layout.columns) + ((3,) if layout.samples == 3 else ())
    if values.shape != shape or values.dtype.kind not in "iu":
        raise ImageError("has compressed pixels that do not fit their own header; export it anew")
    return values, header


def _jpeg_header(frame: bytes) -> _Header:
    """Walk the markers of a JPEG or JPEG-LS stream to its frame header (ITU-T T.81 B.2.2)."""
    place = 2
    while place + 4 <= len(frame) and frame[place] == 0xFF:
        marker, length = frame[place + 1], int.from_bytes(frame[place + 2 : place + 4], "big")
        if marker == 0xFF:  # fill byte
            place += 1
            continue
        if marker in _FRAME_MARKERS and place + 10 <= len(frame):
            precision, rows, columns, samples = struct.unpack_from(">BHHB", frame, place + 4)
            lossy = marker not in (_LOSSLESS_MARKER, _FRAME_MARKERS[-1])
            return _Header(rows, columns, samples, precision, lossy=lossy)
        place += 2 + length
    raise ImageError("is damaged: its JPEG stream has no readable frame header; export it anew")


def _j2k_header(frame: bytes) -> _Header:
    """Read the SIZ marker segment of a JPEG 2000 code stream (ITU-T T.800 A.5.1)."""
    if not frame.startswith(_J2K_START) or len(frame) < 45:
        raise ImageError("is damaged: its JPEG 2000 stream has no readable header; export it anew")
    x1, y1, x0, y0, tile_x, tile_y, tile_x0, tile_y0, samples = struct.unpack_from(">8IH", frame, 8)
    depth = frame[42]
    tiles = -(-(x1 - tile_x0) // max(tile_x, 1)) * -(-(y1 - tile_y0) // max(tile_y, 1))
    if tiles > _MAX_TILES:
        raise ImageError(f"is damaged: its JPEG 2000 stream has {tiles:,} tiles; export it anew")
    return _Header(y1 - y0, x1 - x0, samples, (depth & 0x7F) + 1, signed=bool(depth & 0x80))


def _signed(values: npt.NDArray[Any], layout: Layout, shift: int, bits: int) -> npt.NDArray[Any]:
    """Keep `bits` bits from `shift` on, and give them their sign; what lies above or below is no pixel."""
    size = values.dtype.itemsize
    room = 8 * size - bits
    native = values.astype(values.dtype.newbyteorder("="), copy=False).view(f"u{size}")
    kept = (native << (room - shift)) if room else native
    return (kept.view(f"i{size}") if layout.signed else kept) >> room
