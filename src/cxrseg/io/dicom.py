"""DICOM radiographs (CR, DX, secondary capture) to `Radiograph`: modality LUT, VOI LUT, polarity last."""

from __future__ import annotations

import zlib
from io import BytesIO
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import FileDataset
from pydicom.uid import UID

from cxrseg.errors import ImageError
from cxrseg.io.dicom_frame import decode, layout_of
from cxrseg.io.dicom_tags import public_tags, spacing, text
from cxrseg.io.dicom_values import to_unit_interval
from cxrseg.io.quiet import quiet
from cxrseg.io.radiograph import Radiograph

__all__ = ["DICOM_SUFFIXES", "read_dicom"]

DICOM_SUFFIXES = (".dcm", ".dicom")
"""File name endings (lower case) under which a DICOM file without preamble is looked for."""

MAX_BYTES = 512 * 2**20
"""Largest file, and largest inflated data set, that is read: 512 MiB, enough for 100 megapixels in colour."""

_DEFLATED = b"1.2.840.10008.1.2.1.99"
_EXPLICIT = b"\x02\x00\x10\x00UI\x14\x001.2.840.10008.1.2.1\x00"  # (0002,0010) Transfer Syntax UID, 20 bytes
_PREAMBLE = bytes(128) + b"DICM"
_LONG_FORM = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")

_MODALITIES = ("", "CR", "DR", "DX", "OT", "RG", "SC", "XR")
_OTHERS = "BMD CT DOC ECG ES IO IVUS KO MG MR NM OCT OP PR PT PX REG RF RTDOSE RTIMAGE RTPLAN RTSTRUCT SEG SM SR"
_OTHER_MODALITIES = (*_OTHERS.split(), "US", "XA", "XC")
_STORAGE = "1.2.840.10008.5.1.4.1.1."
_SOP_CLASSES = ("", *(_STORAGE + end for end in ("1", "1.1", "1.1.1", "7", "7.1", "7.2", "7.3", "7.4")))


def read_dicom(path: Path | str, window: int = 0) -> Radiograph:
    """Read a DICOM radiograph.

    In order (PS3.4 N.2): modality LUT or rescale, VOI LUT or window, polarity. Padding takes no part and
    becomes black. Colour becomes luma. Where the file offers no VOI, 8-bit values are divided by 255 and
    deeper ones scaled from the smallest to the largest. Every step is named in `steps`.

    Args:
        path: a file, with or without the preamble of PS3.10.
        window: which view where the file offers several, from 0: VOI LUTs in order, then windows in order.

    Returns:
        The radiograph; `spacing_mm` as `cxrseg.io.dicom_tags.spacing` finds it.

    Raises:
        ImageError: the file is missing, damaged, cut short, too large, no image, of another modality, or of
            several frames. The message quotes no value that could name a patient.
    """
    path = Path(path)
    try:
        with quiet():
            return _read(path, window)
    except ImageError as error:
        raise ImageError(f"{path} {error}") from None
    except Exception as error:
        # What pydicom and the decoders say may quote the file, so only the kind of error is passed on.
        reason = f"is no readable DICOM file, or is damaged ({type(error).__name__}); copy or export it anew"
        raise ImageError(f"{path} {reason}") from None


def _read(path: Path, window: int) -> Radiograph:
    data = dcmread(BytesIO(_explicit(_load(path))), force=True)
    _check_kind(data)
    layout = layout_of(data, _syntax(data))
    stored, photometric = decode(data, layout)
    if stored.min() == stored.max():  # also what OpenJPEG makes of some damaged streams
        raise ImageError("is blank or damaged: all of its pixels have the same value; export it anew")
    pixels, steps = to_unit_interval(stored, photometric, data, layout, window)
    distance, found = spacing(data)
    first = f"DICOM, {layout.syntax_name}, {layout.stored} bits{' signed' if layout.signed else ''}"
    return Radiograph(pixels, distance, str(path), (first, *steps, found), public_tags(data))


def _load(path: Path) -> bytes:
    if not path.exists():
        raise ImageError("does not exist; expected a DICOM file")
    if not path.is_file():  # reading a pipe would wait for ever
        raise ImageError("is no file; expected a DICOM file")
    if path.stat().st_size > MAX_BYTES:
        raise ImageError(f"is larger than {MAX_BYTES // 2**20} MiB; expected a single radiograph")
    content = path.read_bytes()
    return content if content[128:132] == b"DICM" else _PREAMBLE + content


def _explicit(content: bytes) -> bytes:
    """Inflate a deflated data set (PS3.5 A.5) within bounds, which pydicom does without any; others stay."""
    place, syntax = 132, None
    while content[place : place + 2] == b"\x02\x00" and place + 12 <= len(content):
        long = content[place + 4 : place + 6] in _LONG_FORM
        start = place + (12 if long else 8)
        length = int.from_bytes(content[start - (4 if long else 2) : start], "little")
        if content[place + 2 : place + 4] == b"\x10\x00":
            syntax = content[start : start + length].strip(b"\0 ")
        place = start + length
    if syntax is None and _DEFLATED in content:
        raise ImageError("has a damaged file header; export it anew")
    if syntax != _DEFLATED:
        return content
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    inflated = inflater.decompress(content[place:], MAX_BYTES + 1)
    if len(inflated) > MAX_BYTES:
        raise ImageError(f"inflates to more than {MAX_BYTES // 2**20} MiB; expected a single radiograph")
    if not inflater.eof:
        raise ImageError("is cut short: its deflated content has no end; copy it anew")
    return _PREAMBLE + _EXPLICIT + inflated


def _check_kind(data: FileDataset) -> None:
    """Refuse everything that is no projection radiograph, by SOP class and modality."""
    if len(data) == 0 or not any(word in data for word in ("SOPClassUID", "Modality", "Rows", "PixelData")):
        raise ImageError("is no DICOM file, or is damaged")
    stated = data.get("SOPClassUID") or data.file_meta.get("MediaStorageSOPClassUID") or ""
    sop_class, modality = str(stated).strip("\0 "), text(data, "Modality")
    if sop_class not in _SOP_CLASSES:
        name = UID(sop_class).name
        kind = "of an unknown kind" if name == sop_class else f"'{name}'"  # an unknown UID is not quoted
        raise ImageError(f"is {kind}, expected a CR, DX or secondary capture image")
    if modality not in _MODALITIES:
        kind = modality if modality in _OTHER_MODALITIES else "unknown"
        raise ImageError(f"is of modality {kind}, expected a radiograph (CR, DX, or a secondary capture of one)")
    if "PixelData" not in data:
        raise ImageError("holds no pixel data; it is no image, or was cut short")


def _syntax(data: FileDataset) -> str:
    """The transfer syntax; where the file does not say, the encoding that pydicom found its way with."""
    stated = data.file_meta.get("TransferSyntaxUID")
    if stated:
        return str(stated)
    if data["PixelData"].is_undefined_length:
        raise ImageError("does not say how its pixels are compressed; export it anew")
    implicit, little = data.original_encoding
    return "1.2.840.10008.1.2" if implicit else f"1.2.840.10008.1.2.{1 if little else 2}"
