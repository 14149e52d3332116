"""How the pixels of a DICOM image are stored (PS3.3 C.7.6.3): read from its attributes, and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cxrseg.errors import ImageError
from cxrseg.io.dicom_tags import Tags
from cxrseg.io.settings import reduction

__all__ = ["FLOATS", "RLE", "TRANSFER_SYNTAXES", "UNCOMPRESSED", "Layout", "layout_of"]

UNCOMPRESSED: Mapping[str, str] = {
    "1.2.840.10008.1.2": "implicit little endian",
    "1.2.840.10008.1.2.1": "little endian",
    "1.2.840.10008.1.2.2": "big endian",
}
RLE = "1.2.840.10008.1.2.5"
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
    RLE: "RLE",
}
TRANSFER_SYNTAXES = (*UNCOMPRESSED, *_COMPRESSED)
"""UIDs of all transfer syntaxes that can be read."""

_GRAY = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR")
_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")

FLOATS: Mapping[str, tuple[int, str]] = {"FloatPixelData": (32, "f4"), "DoubleFloatPixelData": (64, "f8")}


@dataclass(frozen=True)
class Layout:
    """How the pixels are stored (PS3.3 C.7.6.3), checked.

    Attributes:
        rows: height in pixels.
        columns: width in pixels.
        samples: 1 or 3 values a pixel.
        photometric: Photometric Interpretation.
        allocated: bits a value takes up, 1, 8, 16 or 32; 32 or 64 where it is floating.
        stored: bits of it that count.
        high_bit: place of the highest bit that counts; stored - 1 in all but old files.
        signed: two's complement.
        planar: 1 where colours are stored one after another.
        syntax: the transfer syntax UID.
        keyword: the attribute that holds the pixels: 'PixelData', 'FloatPixelData' or 'DoubleFloatPixelData'.
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
    keyword: str = "PixelData"

    @property
    def big_endian(self) -> bool:
        """Whether 16-bit words in the data set have their high byte first."""
        return self.syntax == "1.2.840.10008.1.2.2"

    @property
    def syntax_name(self) -> str:
        """The transfer syntax in words."""
        return UNCOMPRESSED.get(self.syntax) or _COMPRESSED[self.syntax]


def layout_of(tags: Tags, syntax: str, max_pixels: int) -> Layout:
    """Read and check the layout of the pixels.

    Args:
        tags: the data set.
        syntax: its transfer syntax UID.
        max_pixels: larger images are refused.

    Raises:
        ImageError: it is contradictory, empty, too large, of several frames or of a kind that cannot be read.
    """
    if syntax not in UNCOMPRESSED and syntax not in _COMPRESSED:
        raise ImageError("has a transfer syntax that cannot be read; convert it to Explicit VR Little Endian")
    frames = tags.count("NumberOfFrames")
    if frames is not None and frames > 1:
        raise ImageError(f"holds {frames} frames, expected one radiograph; save the frame alone")
    rows, columns = tags.count("Rows") or 0, tags.count("Columns") or 0
    reduction(rows, columns, max_pixels)
    photometric, samples = _colour_model(tags)
    keyword = next((word for word in FLOATS if word in tags and "PixelData" not in tags), "PixelData")
    if keyword in FLOATS:
        if syntax not in UNCOMPRESSED or samples != 1:
            raise ImageError("holds floating-point pixels that are compressed or in colour, which cannot be read")
        bits = FLOATS[keyword][0]
        return Layout(rows, columns, 1, photometric, bits, bits, bits - 1, True, 0, syntax, keyword)
    allocated, stored, high_bit = _bits(tags)
    signed = tags.count("PixelRepresentation")
    if signed is None:
        tags.warn("the file does not say whether its values are signed; they were taken as unsigned")
    elif signed not in (0, 1):
        raise ImageError(f"has a Pixel Representation of {signed}, expected 0 or 1; export it again")
    planar = 1 if tags.count("PlanarConfiguration") == 1 else 0
    return Layout(rows, columns, samples, photometric, allocated, stored, high_bit, signed == 1, planar, syntax)


def _colour_model(tags: Tags) -> tuple[str, int]:
    samples = tags.count("SamplesPerPixel") or 1
    photometric = tags.text("PhotometricInterpretation")
    if not photometric:
        photometric = "MONOCHROME2" if samples == 1 else "RGB"
        tags.warn(f"the file does not say what its values mean (Photometric Interpretation); {photometric} was assumed")
    if photometric not in (_GRAY if samples == 1 else _COLOUR if samples == 3 else ()):
        expected = ", ".join(_GRAY + _COLOUR)
        raise ImageError(f"has {samples} samples a pixel of an unfitting colour model; expected {expected}")
    return photometric, samples


def _bits(tags: Tags) -> tuple[int, int, int]:
    allocated = tags.count("BitsAllocated") or 0
    stored = tags.count("BitsStored") or allocated
    high_bit = tags.count("HighBit")
    high_bit = stored - 1 if high_bit is None else high_bit
    if allocated not in (1, 8, 16, 32) or not 1 <= stored <= high_bit + 1 <= allocated:
        stated = f"{stored} bits stored of {allocated} allocated, high bit {high_bit}"
        raise ImageError(f"says {stated}, which cannot be; export it again")
    return allocated, stored, high_bit
