"""A prediction to the DICOM objects that go into the patient's study."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from cxrseg.errors import ImageError
from cxrseg.hospital.capture import make_capture
from cxrseg.hospital.identity import fingerprint
from cxrseg.hospital.measurements import make_report
from cxrseg.hospital.segmentation import make_segmentation
from cxrseg.hospital.source import read_header
from cxrseg.inference.options import DICOM_TYPES
from cxrseg.inference.prediction import Prediction
from cxrseg.io.quiet import quiet
from cxrseg.io.radiograph import Radiograph
from cxrseg.io.read import is_dicom
from cxrseg.io.write import write_atomic

__all__ = ["make_objects", "write_objects"]


def make_objects(
    path: Path,
    radiograph: Radiograph,
    prediction: Prediction,
    kinds: Sequence[str] = DICOM_TYPES,
    *,
    corrected: bool = False,
) -> dict[str, Dataset]:
    """Make DICOM objects that belong to the study of the source image.

    The same file, model and settings give the same UIDs, whenever and wherever they are made.

    Args:
        path: the DICOM file that the radiograph was read from.
        radiograph: what was read.
        prediction: what was found on it; not a refused one.
        kinds: which of `cxrseg.inference.options.DICOM_TYPES`.
        corrected: True where a person has changed the masks; then the SEG's segments are semi-automatic.

    Returns:
        Kind to object, in the order of `DICOM_TYPES`.

    Raises:
        ImageError: the prediction was refused, or the file lacks what an object must refer to.
    """
    if unknown := set(kinds) - set(DICOM_TYPES):
        raise ImageError(f"expected kinds among {', '.join(DICOM_TYPES)}, got {', '.join(sorted(unknown))}")
    if prediction.status == "refused":
        raise ImageError(f"{path} was refused and has no objects: {prediction.reason}")
    if not is_dicom(path):
        raise ImageError(
            f"{path} is not a DICOM file, so DICOM objects have no study to belong to; ask for the output type png only"
        )
    header = read_header(path)
    if (header.Rows, header.Columns) != radiograph.file_shape:
        raise ImageError(
            f"{path} states {header.Rows} rows and {header.Columns} columns, but {radiograph.file_shape} were read; "
            f"give the file that the radiograph comes from"
        )
    masks = _masks(radiograph, prediction)
    content = fingerprint(prediction, masks)
    made: dict[str, Dataset] = {}
    with quiet():
        segmentation = None
        if "dicom_seg" in kinds:
            segmentation = made["dicom_seg"] = make_segmentation(
                header, masks, prediction, content, corrected=corrected
            )
        if "dicom_sr" in kinds:
            made["dicom_sr"] = make_report(header, prediction, content, segmentation)
        if "dicom_sc" in kinds:
            made["dicom_sc"] = make_capture(header, radiograph, prediction, content)
    return made


def write_objects(
    out: Path, stem: str, path: Path, radiograph: Radiograph, prediction: Prediction, kinds: Sequence[str] = DICOM_TYPES
) -> list[Path]:
    """Make objects and write them as STEM_seg.dcm, STEM_sr.dcm and STEM_sc.dcm into the folder `out`.

    Arguments and errors as for `make_objects`; each file is written whole or not at all.
    """
    written = []
    for kind, made in make_objects(path, radiograph, prediction, kinds).items():
        target = out / f"{stem}_{kind.removeprefix('dicom_')}.dcm"
        write_atomic(target, partial(made.save_as, enforce_file_format=True))
        written.append(target)
    return written


def _masks(radiograph: Radiograph, prediction: Prediction) -> dict[str, npt.NDArray[np.bool_]]:
    """Name of a segment to its mask on the file's pixels; a lung that was not found has none."""
    masks: dict[str, npt.NDArray[np.bool_]] = {}
    if prediction.sides is not None:
        found = zip(("lung_left", "lung_right"), prediction.sides, strict=True)
        masks |= {name: lung.mask for name, lung in found if lung.mask.any()}
    if "infection" in prediction.probabilities:
        masks["infection"] = prediction.mask("infection")
    return {name: radiograph.to_file(mask) for name, mask in masks.items()}
