"""TIFF files of every sample format: what Pillow does not read, or reads wrongly, is decoded by tifffile."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

from cxrseg.errors import ImageError, UnreadableImageError
from cxrseg.io.orientation import exif_orientation
from cxrseg.loading import LOADING

__all__ = ["TiffImage", "TiffLayout", "decode_tiff", "tiff_layout"]

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK = 0, 1, 2, 3, 5
_MODELS = {
    _WHITE_IS_ZERO: "gray",
    _BLACK_IS_ZERO: "gray",
    _RGB: "RGB",
    _PALETTE: "palette",
    4: "transparency mask",
    _CMYK: "CMYK",
    6: "YCbCr",
    8: "CIE Lab",
    9: "ICC Lab",
    10: "ITU Lab",
    32803: "colour filter array of a camera",
    34892: "linear raw of a camera",
}
_UNSIGNED, _SIGNED, _FLOAT = 1, 2, 3
_MOST_PAGES = 4096
_TAG_ORIENTATION, _TAG_MAX_SAMPLE, _TAG_PHOTOMETRIC = 274, 281, 262


@dataclass(frozen=True)
class TiffLayout:
    """What the header of a TIFF file says of its picture.

    Attributes:
        height, width: in pixels, after the orientation.
        plain: whether Pillow reads it rightly: unsigned values of 1 to 8 bits that lie pixel by pixel.
        pages: how many pictures there are, thumbnails left out.
    """

    height: int
    width: int
    plain: bool
    pages: int


@dataclass(frozen=True)
class TiffImage:
    """The decoded picture of a TIFF file.

    Attributes:
        values: (H, W) or (H, W, C), of the type that is stored; C is 2 (gray, alpha), 3 (RGB) or 4 (RGB, alpha).
        bits: how many bits each value has, where the file says fewer than its type has; else None.
        white_is_zero: whether the smallest value is white.
        steps: what was done, in words.
    """

    values: npt.NDArray[Any]
    bits: int | None
    white_is_zero: bool
    steps: tuple[str, ...]


def tiff_layout(path: Path) -> TiffLayout:
    """Read only the header.

    Raises:
        Exception: what tifffile raises; the file is broken.
    """
    with path.open("rb") as file, tifffile.TiffFile(file) as tiff:
        pages = _pictures(tiff)
        page = pages[0]
        turned = exif_orientation(_orientation(page)).transpose
        height, width = (page.imagewidth, page.imagelength) if turned else (page.imagelength, page.imagewidth)
        plain = (
            page.bitspersample in (1, 2, 4, 8)
            and page.sampleformat == _UNSIGNED
            and (page.planarconfig == 1 or page.samplesperpixel == 1)
            and not tiff.is_bigtiff
            and page is tiff.pages[0]
        )
        return TiffLayout(int(height), int(width), bool(plain), len(pages))


def decode_tiff(path: Path) -> TiffImage:
    """Decode the picture of a TIFF file.

    Raises:
        ImageError: its sample format or colour model is not supported (the message names it), or it is cut short; the
            message goes on after the file's name.
        Exception: what tifffile and the decoders raise; the file is broken.
    """
    content = path.read_bytes()
    with tifffile.TiffFile(BytesIO(content)) as tiff:
        page = _pictures(tiff)[0]
        _check_whole(page, len(content))
        kind = _kind(page)
        photometric = _photometric(page)
        try:
            with LOADING:
                page.decode  # noqa: B018  # imports the decoder of its compression
            values = page.asarray()
        except (ImportError, NotImplementedError, ValueError) as error:
            if "not supported" in str(error) or isinstance(error, ImportError | NotImplementedError):
                raise ImageError(f"is a TIFF of {kind}, which is not supported; {_REMEDY}") from None
            raise
        values, steps = _channels_last(values, page, kind, photometric)
        orientation = _orientation(page)
        maximum = page.tags.get(_TAG_MAX_SAMPLE)
    if values.dtype.kind not in "uif":
        raise ImageError(f"is a TIFF of {kind}, which is not supported; {_REMEDY}")
    if orientation in range(2, 9):
        values = exif_orientation(orientation).apply(values)
        steps.append("EXIF orientation applied")
    if values.ndim == 3:
        steps.append(f"{kind} to grayscale")
    bits = page.bitspersample if page.sampleformat == _UNSIGNED else None
    if bits is not None and bits == 8 * values.dtype.itemsize:
        bits = _stated_bits(maximum.value if maximum is not None else None, values)
    return TiffImage(np.ascontiguousarray(values), bits, photometric == _WHITE_IS_ZERO, tuple(steps))


_REMEDY = "save it as unsigned 16-bit gray (PNG or TIFF)"


def _pictures(tiff: Any) -> list[Any]:
    """The pages that are pictures of their own: no thumbnails (NewSubfileType bit 0) and no masks (bit 2)."""
    pages = [page.aspage() if hasattr(page, "aspage") else page for page in _pages(tiff)]
    if not pages:
        raise UnreadableImageError("is damaged: it has no page; export it again")
    full = [page for page in pages if not page.subfiletype & 0b101] or pages[:1]
    images = (tiff.imagej_metadata or {}).get("images", 1) if tiff.is_imagej else 1
    return full * int(images) if len(full) == 1 else full


def _pages(tiff: Any) -> Iterator[Any]:
    """All pages; tifffile follows a page that names itself, or an earlier one, as the next one for ever."""
    places: set[int] = set()
    for page in tiff.pages:
        if page.offset in places or len(places) >= _MOST_PAGES:
            raise UnreadableImageError("is damaged: its list of pages has no end; export it again")
        places.add(page.offset)
        yield page


def _orientation(page: tifffile.TiffPage) -> int:
    tag = page.tags.get(_TAG_ORIENTATION)
    return int(tag.value) if tag is not None and isinstance(tag.value, int) else 1


def _photometric(page: tifffile.TiffPage) -> int:
    # Pages without the tag are met; black is zero in nearly all of them.
    if _TAG_PHOTOMETRIC not in page.tags:
        return _RGB if page.samplesperpixel >= 3 else _BLACK_IS_ZERO
    return int(page.photometric)


def _kind(page: tifffile.TiffPage) -> str:
    """The sample format in words, such as 'float16 gray'."""
    names = {_UNSIGNED: "uint", _SIGNED: "int", _FLOAT: "float", 5: "complex int", 6: "complex"}
    photometric = _photometric(page)
    model = _MODELS.get(photometric, f"colour model {photometric}")
    return f"{names.get(page.sampleformat, 'unknown')}{page.bitspersample} {model}"


def _check_whole(page: tifffile.TiffPage, size: int) -> None:
    """tifffile fills missing parts with zeros and says nothing."""
    ends = [start + count for start, count in zip(page.dataoffsets, page.databytecounts, strict=False)]
    missing = not ends or any(count == 0 for count in page.databytecounts)
    if missing or max(ends) > size or len(page.dataoffsets) != len(page.databytecounts):
        raise UnreadableImageError("is cut short or damaged: parts of its picture are missing; copy or export it again")


def _channels_last(
    values: npt.NDArray[Any], page: tifffile.TiffPage, kind: str, photometric: int
) -> tuple[npt.NDArray[Any], list[str]]:
    samples = page.samplesperpixel
    values = values.reshape((samples, *values.shape[-2:])) if page.planarconfig == 2 and samples > 1 else values
    if page.planarconfig == 2 and samples > 1:
        values = np.moveaxis(values, 0, -1)
    values = values.reshape((page.imagelength, page.imagewidth, samples)) if samples > 1 else values
    values = values.reshape((page.imagelength, page.imagewidth)) if samples == 1 else values
    if photometric == _PALETTE and samples == 1:
        colours = np.asarray(page.colormap)
        return np.moveaxis(colours[:, values], 0, -1), ["palette looked up"]
    if photometric == _CMYK and samples == 4 and values.dtype.kind == "u":
        top = float(np.iinfo(values.dtype).max)
        inks = values.astype(np.float64) / top
        rgb = (1 - inks[..., :3]) * (1 - inks[..., 3:])
        return np.rint(rgb * top).astype(values.dtype), ["CMYK to RGB"]
    known = {_WHITE_IS_ZERO: (1, 2), _BLACK_IS_ZERO: (1, 2), _RGB: (3, 4), 4: (1,)}
    if samples not in known.get(photometric, ()):
        extra = f" with {samples} samples a pixel" if samples > 1 else ""
        raise ImageError(f"is a TIFF of {kind}{extra}, which is not supported; {_REMEDY}")
    return values, []


def _stated_bits(maximum: Any, values: npt.NDArray[Any]) -> int | None:
    """The depth that MaxSampleValue tells, where it is that of a detector and the values keep to it."""
    largest = maximum if isinstance(maximum, int) else max(maximum) if isinstance(maximum, tuple) and maximum else 0
    bits = int(largest).bit_length()
    fits = largest == 2**bits - 1 and 8 < bits < 16
    return bits if fits and np.quantile(values[::8, ::8], 0.999) <= largest else None
