"""Who made an object and what it is called: equipment, algorithm and UIDs, the same for every kind of object."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from highdicom import AlgorithmIdentificationSequence
from highdicom.sr import AlgorithmIdentification
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from cxrseg._version import __version__
from cxrseg.inference.prediction import ModelMark, Prediction
from cxrseg.io.write import RESULT_MARK

__all__ = [
    "NOTICE",
    "common_arguments",
    "derived_uid",
    "fingerprint",
    "report_algorithm",
    "segment_algorithm",
]

NOTICE = "Research use only. Not for diagnosis."
"""Written into every object."""

_SERIES = {
    "dicom_seg": (9001, "cxrseg segmentation, research use only"),
    "dicom_sr": (9002, "cxrseg measurements, research use only"),
    "dicom_sc": (9003, "cxrseg preview, research use only"),
}
"""Kind of object to number and description of its series. Viewers list series by number, and high ones come last."""


def derived_uid(*parts: str) -> str:
    """A UID that depends on `parts` alone (PS3.5 B.2, from a UUID of version 5): the same input gives the same UID."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, json.dumps(parts)).int}"


def fingerprint(prediction: Prediction, masks: Mapping[str, npt.NDArray[np.bool_]]) -> str:
    """A hash of all that an object says, in hexadecimal: masks, measures, warnings, model, threshold, version.

    Args:
        prediction: what was found.
        masks: what the objects show, (H, W) bool each.
    """
    severity = prediction.severity.as_row() if prediction.severity is not None else None
    said = [__version__, prediction.model.sha256, dict(prediction.thresholds), severity, prediction.warnings]
    total = hashlib.sha256(json.dumps(said).encode())
    for name, mask in masks.items():
        total.update(f"{name} {mask.shape}".encode() + np.packbits(mask).tobytes())
    return total.hexdigest()


def common_arguments(header: Dataset, kind: str, mark: ModelMark, content: str) -> dict[str, Any]:
    """What every highdicom constructor takes: series, instance and equipment.

    Args:
        header: of the source image, see `cxrseg.hospital.source.read_header`.
        kind: 'dicom_seg', 'dicom_sr' or 'dicom_sc'.
        mark: which weights.
        content: the hash of what the object says, see `fingerprint`.
    """
    number, description = _SERIES[kind]
    return {
        "series_instance_uid": derived_uid("series", kind, header.SeriesInstanceUID, mark.sha256, __version__),
        "series_number": number,
        "series_description": description,
        "sop_instance_uid": derived_uid("instance", kind, header.SOPInstanceUID, content),
        "instance_number": max(1, int(header.get("InstanceNumber") or 1)),
        "manufacturer": RESULT_MARK,
        "manufacturer_model_name": "cxrseg",
        "software_versions": __version__,
        "device_serial_number": _short(mark.sha256),
    }


def segment_algorithm(prediction: Prediction) -> AlgorithmIdentificationSequence:
    """Name, version, model file and thresholds, for a segment."""
    return AlgorithmIdentificationSequence(
        name=prediction.model.name[:64],
        family=codes.DCM.ArtificialIntelligence,
        version=__version__,
        source="cxrseg",
        parameters=_parameters(prediction),
    )


def report_algorithm(prediction: Prediction) -> AlgorithmIdentification:
    """The same, for a group of measurements."""
    return AlgorithmIdentification(
        name=prediction.model.name[:64],
        version=__version__,
        parameters=[f"{name}={value}" for name, value in _parameters(prediction).items()],
    )


def _parameters(prediction: Prediction) -> dict[str, str]:
    thresholds = {f"threshold_{channel}": f"{value:g}" for channel, value in prediction.thresholds.items()}
    return {"model_sha256": prediction.model.sha256, **thresholds}


def _short(sha256: str) -> str:
    """At most 64 characters, as an LO value must be; several models' sums, joined by '+', are hashed once more."""
    return sha256 if len(sha256) <= 64 else hashlib.sha256(sha256.encode()).hexdigest()
