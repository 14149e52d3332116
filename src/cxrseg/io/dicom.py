"""DICOM radiographs (CR, DX, secondary capture) to `Radiograph`: modality LUT, VOI LUT, polarity last."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
from pydicom import dcmread
from pydicom.dataset import FileDataset
from pydicom.uid import UID

from cxrseg.errors import ImageError, UnreadableImageError
from cxrseg.io.dicom_frame import decode
from cxrseg.io.dicom_layout import FLOATS, layout_of
from cxrseg.io.dicom_open import HEADER_BYTES, PREAMBLE, explicit, read_dicom_header
from cxrseg.io.dicom_patient import child_warning, orient
from cxrseg.io.dicom_spacing import spacing
from cxrseg.io.dicom_tags import Tags, identifiers, public_tags
from cxrseg.io.dicom_values import to_unit_interval
from cxrseg.io.orientation import Orientation
from cxrseg.io.quiet import quiet
from cxrseg.io.radiograph import Radiograph
from cxrseg.io.settings import ReadSettings, reduction
from cxrseg.io.system_faults import system_fault
from cxrseg.io.write import RESULT_MARK

__all__ = ["read_dicom", "read_dicom_geometry"]


_BYTES_A_PIXEL = 5  # files larger than this times the most pixels are not opened

_DIRECTORY = "1.2.840.10008.1.3.10"

_MODALITIES = ("", "CR", "DR", "DX", "OT", "RG", "SC", "XR")
_OTHERS = "BMD CT DOC ECG ES IO IVUS KO MG MR NM OCT OP PR PT PX REG RF RTDOSE RTIMAGE RTPLAN RTSTRUCT SEG SM SR"
_OTHER_MODALITIES = (*_OTHERS.split(), "US", "XA", "XC")
_STORAGE = "1.2.840.10008.5.1.4.1.1."
_SOP_CLASSES = ("", *(_STORAGE + end for end in ("1", "1.1", "1.1.1", "7", "7.1", "7.2", "7.3", "7.4")))


def read_dicom(path: Path | str, settings: ReadSettings | None = None) -> Radiograph:
    """Read a DICOM radiograph.

    In order (PS3.4 N.2): modality LUT or rescale, VOI LUT or window, polarity. Padding takes no part and
    becomes black. Colour becomes luma. Where the file offers no VOI, 8-bit values are divided by 255 and
    deeper ones scaled from the smallest to the largest, outliers left out. Last, the radiograph is put upright as
    Patient Orientation says. Every step is named in `steps`, what is doubtful in `warnings`.

    Args:
        path: a file, with or without the preamble of PS3.10.
        settings: how to read it: which window, or which values are black and white.

    Returns:
        The radiograph; `spacing_mm` as `cxrseg.io.dicom_spacing.spacing` finds it.

    Raises:
        UnreadableImageError: the file is missing, damaged, cut short, or not an image.
        ImageError: it is too large, of another modality, or of several frames. Messages quote no value that could
            name a patient.
    """
    path = Path(path)
    try:
        with quiet():
            return _read(path, settings or ReadSettings())
    except UnreadableImageError as error:
        raise UnreadableImageError(f"{path} {error}") from None
    except ImageError as error:
        raise ImageError(f"{path} {error}") from None
    except Exception as error:
        # What pydicom and the decoders say may quote the file, so only the kind of error is passed on.
        damaged = f"is not a readable DICOM file, or is damaged ({type(error).__name__}); copy or export it again"
        raise UnreadableImageError(f"{path} {system_fault(error) or damaged}") from None


def read_dicom_geometry(path: Path | str) -> tuple[tuple[int, int], Orientation]:
    """Read only the header: (height, width) of the file's own pixels, and what makes them upright.

    Raises:
        UnreadableImageError: the file is missing, damaged, or does not say how large it is.
    """
    try:
        with quiet():
            tags = Tags(read_dicom_header(path))
            rows, columns = tags.count("Rows"), tags.count("Columns")
            if rows and columns:
                return (rows, columns), orient(tags)[0]
    except Exception as error:  # as above
        damaged = f"is not a readable DICOM file, or is damaged ({type(error).__name__}); copy or export it again"
        raise UnreadableImageError(f"{path} {system_fault(error) or damaged}") from None
    raise UnreadableImageError(f"{path} does not say how large its image is; copy or export it again")


def _read(path: Path, settings: ReadSettings) -> Radiograph:
    most = _BYTES_A_PIXEL * settings.max_pixels + HEADER_BYTES
    data = dcmread(BytesIO(explicit(_load(path, most), most)), force=True)
    data.buffer = None  # all has been read from it; a large film would otherwise stay in memory twice
    _check_kind(data)
    tags = Tags(data)
    layout = layout_of(tags, _syntax(data), settings.max_pixels)
    stored, photometric = decode(tags, layout)
    del data[layout.keyword]  # from here on only the decoded pixels are needed
    if stored.min() == stored.max():  # also what OpenJPEG makes of some damaged streams
        raise ImageError("is blank or damaged: all of its pixels have the same value; export it again")
    pixels, steps = to_unit_interval(stored, photometric, tags, layout, settings)
    del stored
    _warn(tags)
    orientation, turned = orient(tags)
    factor = reduction(layout.rows, layout.columns, settings.max_pixels)
    reduced = [f"reduced by {factor} in each direction"] if factor > 1 else []
    distance, found = spacing(tags)
    if distance is not None:
        row, column = reversed(distance) if orientation.transpose else distance
        distance = row * factor, column * factor
    depth = "floating point" if layout.keyword in FLOATS else f"{layout.stored} bits{' signed' * layout.signed}"
    return Radiograph(
        np.ascontiguousarray(orientation.apply(pixels)),
        distance,
        str(path),
        (f"DICOM, {layout.syntax_name}, {depth}", *steps, *([turned] if turned else []), *reduced, found),
        public_tags(tags),
        warnings=tuple(tags.warnings),
        identifiers=identifiers(tags),
        orientation=orientation,
        reduced_by=factor,
        stored_shape=(layout.rows, layout.columns),
    )


def _warn(tags: Tags) -> None:
    """Note what the file says of itself that makes a result doubtful."""
    if tags.text("PresentationIntentType") == "FOR PROCESSING":
        tags.warn(
            "the file holds raw detector values (FOR PROCESSING); use the FOR PRESENTATION image where there is one"
        )
    if child := child_warning(tags):
        tags.warn(child)


def _load(path: Path, most: int) -> bytes:
    if not path.exists():
        raise UnreadableImageError("does not exist; expected a DICOM file")
    if not path.is_file():  # reading a pipe would wait for ever
        raise UnreadableImageError("is not a file; expected a DICOM file")
    if path.stat().st_size > most:
        raise ImageError(f"is larger than {most // 2**20} MiB; expected a single radiograph")
    content = path.read_bytes()
    return content if content[128:132] == b"DICM" else PREAMBLE + content


def _check_kind(data: FileDataset) -> None:
    """Refuse everything that is not a projection radiograph, by SOP class and modality."""
    if str(data.file_meta.get("MediaStorageSOPClassUID", "")).strip("\0 ") == _DIRECTORY:
        raise ImageError("is a DICOMDIR, a list of other files; name these or their folder")
    if len(data) == 0 or not any(word in data for word in ("SOPClassUID", "Modality", "Rows", "PixelData")):
        raise UnreadableImageError("is not a DICOM file, or is damaged")
    stated = data.get("SOPClassUID") or data.file_meta.get("MediaStorageSOPClassUID") or ""
    sop_class, modality = str(stated).strip("\0 "), Tags(data).text("Modality")
    if sop_class not in _SOP_CLASSES:
        name = UID(sop_class).name
        kind = "of an unknown kind" if name == sop_class else f"'{name}'"  # an unknown UID is not quoted
        raise ImageError(f"is {kind}, expected a CR, DX or secondary capture image")
    if modality not in _MODALITIES:
        kind = modality if modality in _OTHER_MODALITIES else "unknown"
        raise ImageError(f"is of modality {kind}, expected a radiograph (CR, DX, or a secondary capture of one)")
    if Tags(data).text("Manufacturer") == RESULT_MARK.upper():
        raise ImageError("was written by cxrseg (a picture of results); name the radiograph instead")
    if "PixelData" not in data and not any(word in data for word in FLOATS):
        raise UnreadableImageError("holds no pixel data; it is not an image, or was cut short")


def _syntax(data: FileDataset) -> str:
    """The transfer syntax; where the file does not say, the encoding that pydicom found its way with."""
    stated = data.file_meta.get("TransferSyntaxUID")
    if stated:
        return str(stated)
    if "PixelData" in data and data["PixelData"].is_undefined_length:
        raise UnreadableImageError("does not say how its pixels are compressed; export it again")
    implicit, little = data.original_encoding
    return "1.2.840.10008.1.2" if implicit else f"1.2.840.10008.1.2.{1 if little else 2}"
