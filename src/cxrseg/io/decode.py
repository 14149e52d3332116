"""PNG, JPEG, TIFF, BMP and WebP files to the values that are stored in them, before anything is made of these."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, TiffImagePlugin, UnidentifiedImageError, WebPImagePlugin

from cxrseg.errors import ImageError, UnreadableImageError
from cxrseg.io.codecs import codec
from cxrseg.io.jpeg import check_length, decode_jpeg, jpeg_header
from cxrseg.io.orientation import exif_orientation
from cxrseg.io.quiet import quiet
from cxrseg.io.settings import MAX_PIXELS, reduction
from cxrseg.io.system_faults import system_fault
from cxrseg.io.write import RESULT_MARK
from cxrseg.loading import LOADING

__all__ = ["Decoded", "channels_of", "decode_raster", "read_size"]

# Pillow's readers, which it would import at the first file of a kind: in a thread, perhaps, while another one forks.
Image.preinit()
_FORMATS = ("BMP", "JPEG", "PNG", TiffImagePlugin.TiffImageFile.format, WebPImagePlugin.WebPImageFile.format)
_DEEP_MODES = ("I", "I;16", "I;16B", "I;16L", "I;16N", "F")
_ALPHA_MODES = ("LA", "La", "PA", "RGBA", "RGBa")
_ORIENTATION = 274  # TIFF and EXIF tag
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PNG_START, _JPEG_START = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"

_OTHER_KINDS = (
    (0, b"GIF8", "GIF"),
    (0, b"%PDF", "PDF"),
    (0, b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"\0\0\0\x0cJXL ", "JPEG XL"),
    (0, b"II\xbc\x01", "JPEG XR"),
    (4, b"ftypavif", "AVIF"),
    (4, b"ftyp", "HEIC or video"),
    (0, b"8BPS", "Photoshop"),
    (0, b"v/1\x01", "OpenEXR"),
    (0, b"P5", "PGM"),
    (0, b"P6", "PPM"),
    (0, b"P2", "PGM"),
    (0, b"NRRD", "NRRD"),
    (0, b"ObjectType", "MetaImage"),
    (344, b"n+1\0", "NIfTI"),
    (344, b"ni1\0", "NIfTI"),
    (0, b"\x89HDF", "HDF5"),
    (0, b"\x93NUMPY", "NumPy"),
    (0, b"\x1f\x8b", "gzip"),
    (0, b"PK\x03\x04", "zip"),
    (0, b"7z\xbc\xaf", "7-Zip"),
    (0, b"<svg", "SVG"),
    (0, b"<?xml", "XML"),
    (0, b"<!DOCTYPE", "HTML"),
    (0, b"<html", "HTML"),
)


@dataclass(frozen=True)
class Decoded:
    """The stored values of an image, upright as EXIF says.

    Attributes:
        values: (H, W) gray, or (H, W, C): C is 2 (gray, alpha), 3 (RGB) or 4 (RGB, alpha). 8-bit files are uint8,
            deeper ones have the type that is stored, finite where it is floating.
        bits: how many bits are used, where the file says so; else None.
        white_is_zero: whether the smallest value is white.
        entries: (H, W) uint8, the palette's entries, of an image with a palette.
        lossy: whether neighbouring values may have been mixed by JPEG or WebP.
        steps: what is done, in words; for colour, that it becomes gray in the end.
        is_result: whether cxrseg wrote it: a mask, a map or a picture.
    """

    values: npt.NDArray[Any]
    bits: int | None = None
    white_is_zero: bool = False
    entries: npt.NDArray[np.uint8] | None = None
    lossy: bool = False
    steps: list[str] = field(default_factory=list)
    is_result: bool = False


def decode_raster(path: Path, max_pixels: int = MAX_PIXELS) -> Decoded:
    """Decode an image file.

    Args:
        path: a BMP, JPEG, PNG, TIFF or WebP file.
        max_pixels: larger images are refused before they are decoded.

    Raises:
        UnreadableImageError: the file is missing, broken, or not an image.
        ImageError: it is of a kind that is not supported, of several pages, empty or too large.
    """
    with _reasons(path):
        start = _start(path)
        decoded = None
        if start.startswith(_TIFF_STARTS):
            decoded = _decode_tiff(path, max_pixels)
        elif start.startswith(_JPEG_START):
            decoded = _decode_deep_jpeg(path, max_pixels)
        elif start.startswith(_PNG_START) and start[24:25] == b"\x10" and start[25:26] in b"\x02\x04\x06":
            decoded = _decode_deep_png(path, start, max_pixels)
        decoded = decoded or _decode_with_pillow(path, max_pixels)
        if decoded.values.dtype.kind == "f" and not np.isfinite(decoded.values).all():
            raise ImageError("holds values that are not finite; export it again")
        return decoded


def read_size(path: Path | str) -> tuple[int, int]:
    """Read only the header of a raster image.

    Returns:
        (height, width) in pixels, after the EXIF orientation.

    Raises:
        UnreadableImageError: the file is missing or not an image.
    """
    path = Path(path)
    with _reasons(path):
        start = _start(path)
        if start.startswith(_TIFF_STARTS):
            with LOADING:
                from cxrseg.io.tiff import tiff_layout

            layout = tiff_layout(path)
            return layout.height, layout.width
        if start.startswith(_JPEG_START):
            header = jpeg_header(path.read_bytes())
            if header.needs_own_decoder:
                return header.rows, header.columns
        with path.open("rb") as file, Image.open(file, formats=_FORMATS) as image:
            width, height = image.size
            return (width, height) if _orientation(image, header_only=True) in (5, 6, 7, 8) else (height, width)


@contextmanager
def _reasons(path: Path) -> Iterator[None]:
    """Whatever is raised comes out as an ImageError that names the file."""
    try:
        # Quiet: our own limit refuses large images with a reason, and odd metadata does not matter here.
        with quiet():
            yield
    except UnreadableImageError as error:
        raise UnreadableImageError(f"{path} {error}") from None
    except ImageError as error:
        raise ImageError(f"{path} {error}") from None
    except UnidentifiedImageError:
        names = ", ".join(_FORMATS)
        raise UnreadableImageError(f"{path} is none of {names}, or its header is broken; export it again") from None
    except Image.DecompressionBombError:
        most = 2 * (Image.MAX_IMAGE_PIXELS or MAX_PIXELS)
        raise ImageError(f"{path} has more than {most:,} pixels; make it smaller") from None
    except Exception as error:  # the decoders raise nearly anything on a damaged file
        damaged = f"is damaged or cut short ({error or type(error).__name__}); export or download it again"
        raise UnreadableImageError(f"{path} {system_fault(error) or damaged}") from error


def _start(path: Path) -> bytes:
    """The first bytes of a file, once it is clear that it can be read."""
    if not path.is_file():  # reading a pipe would wait for ever
        raise UnreadableImageError(f"{'is not a file' if path.exists() else 'does not exist'}; expected an image")
    with path.open("rb") as file:
        start = file.read(512)
    for place, mark, name in _OTHER_KINDS:
        if start[place:].startswith(mark):
            raise ImageError(f"is a {name} file, which is not supported; save it as PNG, TIFF or DICOM")
    return start


def _decode_tiff(path: Path, max_pixels: int) -> Decoded | None:
    with LOADING:
        from cxrseg.io.tiff import decode_tiff, tiff_layout  # here, since few files need it

    layout = tiff_layout(path)
    if layout.pages > 1:
        raise ImageError(f"holds {layout.pages} pages; save the radiograph alone")
    reduction(layout.height, layout.width, max_pixels)
    if layout.plain:
        return None
    found = decode_tiff(path)
    return Decoded(found.values, found.bits, found.white_is_zero, steps=list(found.steps))


def _decode_deep_jpeg(path: Path, max_pixels: int) -> Decoded | None:
    content = path.read_bytes()
    header = jpeg_header(content)
    reduction(header.rows, header.columns, max_pixels)
    check_length(header, content)
    if not header.needs_own_decoder:
        return None
    if header.is_jpeg_ls:
        raise ImageError("is a JPEG-LS file, which is not supported; save it as PNG, TIFF or DICOM")
    values = decode_jpeg(content)
    bits = header.precision if 8 < header.precision < 16 else None
    exif = Image.Exif()
    if (place := content.find(b"Exif\0\0", 0, 65536)) >= 0:
        with suppress(Exception):  # damaged metadata does not spoil the pixels
            exif.load(content[place:])
    values, steps = _turned(values, int(exif.get(_ORIENTATION, 1)))
    if values.ndim == 3:
        steps.append("RGB to grayscale")
    return Decoded(values, bits, lossy=header.lossy, steps=steps)


def _decode_deep_png(path: Path, start: bytes, max_pixels: int) -> Decoded:
    """16-bit colour and gray with alpha, of which Pillow keeps only the upper 8 bits."""
    width, height = int.from_bytes(start[16:20], "big"), int.from_bytes(start[20:24], "big")
    reduction(height, width, max_pixels)
    channels = {2: 3, 4: 2, 6: 4}[start[25]]
    if height * width * channels > max_pixels:  # of 2 bytes each, and they are only decoded all at once
        raise ImageError(f"has {width}x{height} pixels of {channels} values of 16 bits, too many; save it as gray")
    _check_sums(path)
    values = codec("png_decode")(path.read_bytes())
    with path.open("rb") as file, Image.open(file, formats=("PNG",)) as image:
        _check_pages(image)
        values, steps = _turned(values, _orientation(image))
    return Decoded(values, steps=[*steps, "16-bit colour or transparency to grayscale"])


def _decode_with_pillow(path: Path, max_pixels: int) -> Decoded:
    # An open file, not its name: given a name, Pillow 13 maps a plain TIFF into memory and garbles a turned one.
    with path.open("rb") as file, Image.open(file, formats=_FORMATS) as image:
        reduction(image.height, image.width, max_pixels)
        _check_pages(image)
        if image.format == "PNG":
            _check_sums(path)
        orientation = _orientation(image)
        image.load()
        turned = orientation in range(2, 9)
        # Pillow turns a TIFF while loading it; a second time would undo or spoil that.
        upright = ImageOps.exif_transpose(image) if turned and image.format != "TIFF" else image
        steps = ["EXIF orientation applied"] if turned else []
        entries = np.asarray(upright) if upright.mode in ("P", "PA") else None
        lossy = image.format in ("JPEG", "MPO", "WEBP")
        mark = image.info.get("Software" if image.format == "PNG" else "comment")
        is_result = mark in (RESULT_MARK, RESULT_MARK.encode())
        return Decoded(channels_of(upright, steps), entries=entries, lossy=lossy, steps=steps, is_result=is_result)


def channels_of(image: Image.Image, steps: list[str]) -> npt.NDArray[Any]:
    """The values of an image of any mode of Pillow, as `Decoded` has them."""
    if image.mode in _DEEP_MODES or image.mode == "L":
        return np.asarray(image)
    steps.append(f"{image.mode} to grayscale")
    transparent = image.mode in _ALPHA_MODES or "transparency" in image.info
    if image.mode == "1" and not transparent:
        return np.asarray(image.convert("L"))
    if image.mode in ("1", "L", "LA", "La") and transparent:
        return np.asarray(image.convert("LA"))
    # Only RGB leads from everywhere to gray: a palette holds colours, and Lab knows no other way.
    return np.asarray(image.convert("RGBA" if transparent else "RGB"))


def _check_pages(image: Image.Image) -> None:
    """Refuse several pictures; those after the first of a phone's JPEG are depth maps and the like."""
    pages = getattr(image, "n_frames", 1)
    if pages > 1 and image.format != "MPO":
        raise ImageError(f"holds {pages} pages; save the radiograph alone")


def _check_sums(path: Path) -> None:
    """Compare the check sums of a PNG, since Pillow reads some damaged ones as black and says nothing.

    Raises:
        Exception: what Pillow raises where they do not fit, or the end is missing.
    """
    with Image.open(path, formats=("PNG",)) as image:
        image.verify()


def _orientation(image: Image.Image, header_only: bool = False) -> int:
    """EXIF orientation, 1 where there is none or it cannot be read."""
    try:
        # A PNG's own getexif() decodes all pixels, in search of a tag behind them.
        exif = Image.Image.getexif(image) if header_only else image.getexif()
        return int(exif.get(_ORIENTATION, 1))
    except Exception:  # damaged metadata does not spoil the pixels
        return 1


def _turned(values: npt.NDArray[Any], orientation: int) -> tuple[npt.NDArray[Any], list[str]]:
    if orientation not in range(2, 9):
        return values, []
    return np.ascontiguousarray(exif_orientation(orientation).apply(values)), ["EXIF orientation applied"]
