"""One way in for every kind of file: DICOM or raster image, told apart by content."""

from __future__ import annotations

from pathlib import Path, PurePath

from cxrseg.io.orientation import UPRIGHT, Orientation
from cxrseg.io.radiograph import Radiograph
from cxrseg.io.raster import RASTER_SUFFIXES, read_raster
from cxrseg.io.raster import read_size as read_raster_size
from cxrseg.io.settings import MAX_PIXELS, ReadSettings
from cxrseg.loading import LOADING

__all__ = [
    "DICOM_SUFFIXES",
    "IMAGE_SUFFIXES",
    "is_dicom",
    "is_image",
    "is_image_start",
    "read_orientation",
    "read_radiograph",
    "read_size",
]

DICOM_SUFFIXES = (".dcm", ".dicom")
"""File name endings (lower case) under which a DICOM file without preamble is looked for."""

IMAGE_SUFFIXES = (*RASTER_SUFFIXES, *DICOM_SUFFIXES)
"""File name endings (lower case) of all images that can be read."""

_RASTER_STARTS = (b"\x89PNG", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"BM", b"RIFF")


def read_radiograph(
    path: Path | str,
    *,
    window: int = 0,
    value_range: tuple[float, float] | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Radiograph:
    """Read a chest X-ray from a DICOM file or a raster image, whatever its name says.

    Args:
        path: the file.
        window: which view of a DICOM file that offers several, from 0: VOI LUTs in order, then windows in order;
            raster images have none and take no notice.
        value_range: the stored values of black and of white, such as (0, 4095); for DICOM, values after the modality
            LUT. It replaces the file's window. None takes what the file says, or an estimate, which `steps` tells.
        max_pixels: larger images are refused; those of more than 50 megapixels are reduced while they are read.

    Returns:
        The radiograph, upright as EXIF or DICOM's Patient Orientation tell. What is doubtful is in its `warnings`.

    Raises:
        UnreadableImageError: the file is missing, damaged, or not an image.
        ImageError: it is of a kind that cannot be used.
    """
    path = Path(path)
    settings = ReadSettings(window, value_range, max_pixels)
    if not is_dicom(path):
        return read_raster(path, settings)
    with LOADING:
        from cxrseg.io.dicom import read_dicom  # here, since importing pydicom takes longer than reading a PNG

    return read_dicom(path, settings)


def read_size(path: Path | str) -> tuple[int, int]:
    """Read only the header of an image of any kind.

    Returns:
        (height, width) of the pixels on which masks lie: the file's own, after EXIF's orientation.

    Raises:
        UnreadableImageError: the file is missing, broken or not an image.
    """
    if not is_dicom(path):
        return read_raster_size(path)
    with LOADING:
        from cxrseg.io.dicom import read_dicom_geometry

    return read_dicom_geometry(path)[0]


def read_orientation(path: Path | str) -> Orientation:
    """What `read_radiograph` does to the pixels on which masks lie, to make them upright.

    Raises:
        UnreadableImageError: as for `read_size`.
    """
    if not is_dicom(path):
        return UPRIGHT
    with LOADING:
        from cxrseg.io.dicom import read_dicom_geometry

    return read_dicom_geometry(path)[1]


def is_dicom(path: Path | str) -> bool:
    """True where a file has the mark 'DICM' after its preamble, or is named .dcm or .dicom and is not a raster image.

    A file that cannot be opened is not DICOM.
    """
    path = Path(path)
    start = _start(path)
    if start[128:132] == b"DICM":
        return True
    return bool(start) and path.suffix.lower() in DICOM_SUFFIXES and not start.startswith(_RASTER_STARTS)


def is_image(path: Path | str) -> bool:
    """True where a file is an image by its ending, or DICOM by its content, or an image without an ending.

    An ending that is not a word, as of a name such as '1.2.840.113619', counts as none.
    """
    path = Path(path)
    return path.suffix.lower() in IMAGE_SUFFIXES or is_image_start(path.name, _start(path))


def is_image_start(name: str, start: bytes) -> bool:
    """As `is_image`, for a file of this name whose content begins with `start`, 132 bytes where it has so many."""
    suffix = PurePath(name).suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        return True
    if start[128:132] == b"DICM":
        return True
    if any(letter.isalpha() for letter in suffix):
        return False
    # Two letters are too few to tell a bitmap from a text.
    return start.startswith(tuple(mark for mark in _RASTER_STARTS if len(mark) > 2)) or _is_bitmap(start)


def _start(path: Path) -> bytes:
    try:
        if not path.is_file():  # opening a pipe would wait for ever
            return b""
        with path.open("rb") as file:
            return file.read(132)
    except (OSError, ValueError):
        return b""


def _is_bitmap(start: bytes) -> bool:
    return start.startswith(b"BM") and start[6:10] == bytes(4) and len(start) > 26
