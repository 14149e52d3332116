"""One way in for every kind of file: DICOM or raster image, told apart by content."""

from __future__ import annotations

from pathlib import Path

from cxrseg.io.radiograph import Radiograph
from cxrseg.io.raster import read_raster

__all__ = ["is_dicom", "read_radiograph"]

_RASTER_STARTS = (b"\x89PNG", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"BM", b"RIFF")


def read_radiograph(path: Path | str, window: int = 0) -> Radiograph:
    """Read a chest X-ray from a DICOM file or a raster image, whatever its name says.

    Args:
        path: the file.
        window: which view of a DICOM file that offers several, see `cxrseg.io.dicom.read_dicom`; raster
            images have none and take no notice.

    Raises:
        ImageError: the file is missing, damaged, no image, or of a kind that cannot be used.
    """
    path = Path(path)
    if not is_dicom(path):
        return read_raster(path)
    from cxrseg.io.dicom import read_dicom  # here, since importing pydicom takes longer than reading a PNG

    return read_dicom(path, window)


def is_dicom(path: Path | str) -> bool:
    """True where a file has the mark 'DICM' after its preamble, or is named .dcm or .dicom and is no raster.

    A file that cannot be opened is not DICOM.
    """
    path = Path(path)
    try:
        if not path.is_file():  # opening a pipe would wait for ever
            return False
        with path.open("rb") as file:
            start = file.read(132)
    except (OSError, ValueError):
        return False
    if start[128:] == b"DICM":
        return True
    return path.suffix.lower() in (".dcm", ".dicom") and not start.startswith(_RASTER_STARTS)
