"""DICOM files made by program."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels.encoders import RLELosslessEncoder

SYNTAX = "1.2.840.10008.1.2"
DX = "1.2.840.10008.5.1.4.1.1.1.1"
SECRET = "ROSSI^MARIA"

# An odd size, every row and column different, all of the values of 12 bits' lower half and more.
ROW, COLUMN = np.mgrid[:37, :50]
PIXELS = ((ROW * 100 + COLUMN * 7 + ROW * COLUMN % 5) % 4096).astype(np.uint16)
PIXELS[0, 0], PIXELS[-1, -1] = 0, 4095  # fills its bits, so that dividing by 4095 and stretching are the same


def make(
    pixels: np.ndarray = PIXELS,
    *,
    bits: int = 12,
    syntax: str = ".1",
    frame: bytes | None = None,
    **attributes: Any,
) -> Dataset:
    """A DX image that names a patient; `attributes` are set last, None takes one away."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = SYNTAX + syntax
    data.SOPClassUID, data.SOPInstanceUID, data.Modality = DX, "1.2.3", "DX"
    data.PatientName, data.PatientID = SECRET, SECRET
    data.Rows, data.Columns = pixels.shape[:2]
    data.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
    data.PhotometricInterpretation = "MONOCHROME2" if pixels.ndim == 2 else "RGB"
    if pixels.ndim == 3:
        data.PlanarConfiguration = 0
    data.BitsAllocated, data.BitsStored, data.HighBit = 8 * pixels.itemsize, bits, bits - 1
    data.PixelRepresentation = int(pixels.dtype.kind == "i")
    if frame is None:
        data.PixelData = pixels.astype(pixels.dtype.newbyteorder(">" if syntax == ".2" else "<")).tobytes()
        data["PixelData"].VR = "OW"
    else:
        data.PixelData = encapsulate([frame])
        data["PixelData"].VR = "OB"
        data["PixelData"].is_undefined_length = True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of what is wrong on purpose
        for keyword, value in attributes.items():
            if value is None:
                delattr(data, keyword)
            else:
                setattr(data, keyword, value)
    for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit"):
        if keyword in data:
            data[keyword].VR = "SS" if data.PixelRepresentation else "US"
    return data


def as_bytes(data: Dataset) -> bytes:
    buffer = BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as above
        data.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def saved(folder: Path, data: Dataset | bytes, name: str = "image.dcm") -> Path:
    path = folder / name
    path.write_bytes(data if isinstance(data, bytes) else as_bytes(data))
    return path


def rle(pixels: np.ndarray) -> bytes:
    return RLELosslessEncoder.encode(
        pixels,
        rows=pixels.shape[0],
        columns=pixels.shape[1],
        samples_per_pixel=1,
        bits_allocated=16,
        bits_stored=12,
        pixel_representation=0,
        photometric_interpretation="MONOCHROME2",
        number_of_frames=1,
        encoding_plugin="pydicom",
    )


def j2k(pixels: np.ndarray) -> bytes:
    return imagecodecs.jpeg2k_encode(pixels, level=0, codecformat="j2k", reversible=True, bitspersample=12)


def jpeg_lossless(pixels: np.ndarray) -> bytes:
    return imagecodecs.jpeg8_encode(pixels, lossless=True, bitspersample=12, predictor=1)


LOSSLESS: dict[str, tuple[str, Callable[[np.ndarray], bytes]]] = {
    "JPEG lossless SV1": (".4.70", jpeg_lossless),
    "JPEG lossless": (
        ".4.57",
        lambda pixels: imagecodecs.jpeg8_encode(pixels, lossless=True, bitspersample=12, predictor=4),
    ),
    "JPEG-LS": (".4.80", lambda pixels: bytes(imagecodecs.jpegls_encode(pixels))),
    "JPEG 2000": (".4.90", j2k),
    "JPEG 2000 in a JP2 file": (
        ".4.90",
        lambda pixels: imagecodecs.jpeg2k_encode(pixels, level=0, codecformat="jp2", reversible=True),
    ),
    "HTJ2K lossless": (".4.201", imagecodecs.htj2k_encode),
    "HTJ2K lossless RPCL": (".4.202", imagecodecs.htj2k_encode),
    "HTJ2K": (".4.203", imagecodecs.htj2k_encode),
    "RLE": (".5", rle),
}
UNCOMPRESSED = {"implicit": "", "little endian": ".1", "big endian": ".2", "deflated": ".1.99"}
