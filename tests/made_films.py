"""Radiographs as DICOM files, made by program: the kinds that hospitals send."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

CR = "1.2.840.10008.5.1.4.1.1.1"
DX = "1.2.840.10008.5.1.4.1.1.1.1"
SC = "1.2.840.10008.5.1.4.1.1.7"
ROOT = "1.2.826.0.1.3680043.8.498"  # pydicom's own, for examples and tests


def make_film(path: Path, pixels: npt.NDArray[np.float32], *, bits: int = 12, **attributes: Any) -> Path:
    """Write (H, W) pixels in [0, 1], bright is dense, as a CR image; `attributes` are set last, None takes one away.

    The instance's UID follows from the file's name, the study's from `PatientID`, so that equal calls make equal files.
    """
    patient = str(attributes.get("PatientID", "P1"))
    number = int.from_bytes(path.name.encode()[:12].rjust(12, b"\0"), "big")
    study = f"{ROOT}.{int.from_bytes(patient.encode()[:8].rjust(8, b'0'), 'big')}"
    data = Dataset()
    data.SpecificCharacterSet = "ISO_IR 100"
    data.SOPClassUID, data.SOPInstanceUID = CR, f"{ROOT}.1.{number}"
    data.StudyInstanceUID, data.SeriesInstanceUID = study, f"{study}.1"
    data.PatientName, data.PatientID, data.PatientBirthDate, data.PatientSex = "Müller^Anna", patient, "19500101", "F"
    data.StudyDate, data.StudyTime, data.StudyID, data.AccessionNumber = "20200401", "101500", "1", "A1"
    data.AcquisitionDate, data.AcquisitionTime = "20200401", "101530"
    data.ReferringPhysicianName = ""
    data.Modality, data.BodyPartExamined, data.ViewPosition = "CR", "CHEST", "PA"
    data.SeriesNumber, data.InstanceNumber, data.Manufacturer = 1, 1, "maker"
    data.PatientOrientation = ["L", "F"]
    data.PixelSpacing = data.ImagerPixelSpacing = [1.5, 1.4]
    data.Rows, data.Columns = pixels.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    stored = np.rint(pixels * (2**bits - 1)).astype(np.uint8 if bits <= 8 else np.uint16)
    for keyword, value in attributes.items():
        if value is None:
            delattr(data, keyword)
        else:
            setattr(data, keyword, value)
    if data.PhotometricInterpretation == "MONOCHROME1":
        stored = (2**bits - 1 - stored).astype(stored.dtype)
    data.BitsAllocated, data.BitsStored, data.HighBit = 8 * stored.itemsize, bits, bits - 1
    data.PixelRepresentation = 0
    data.PixelData = stored.tobytes()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)
    return path
