"""DICOM secondary capture: the preview as a picture, for viewers that show neither SEG nor SR."""

from __future__ import annotations

import numpy as np
from highdicom.sc import SCImage
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from cxrseg.hospital.identity import NOTICE, common_arguments
from cxrseg.inference.picture import caption_of
from cxrseg.inference.prediction import Prediction
from cxrseg.io.orientation import patient_orientation
from cxrseg.io.radiograph import Radiograph
from cxrseg.plots.overlay import preview, resized_mask, resized_pixels

__all__ = ["make_capture"]

_LONGEST = 1024
"""The picture's radiograph is reduced to this longest side in pixels: 4 MB uncompressed, and its text stays legible."""


def make_capture(header: Dataset, radiograph: Radiograph, prediction: Prediction, content: str) -> SCImage:
    """Make an RGB secondary capture of the preview: outlines, measures, warnings and 'Research use only'.

    Args:
        header: of the source image, see `cxrseg.hospital.source.read_header`.
        radiograph: the pixels that were segmented.
        prediction: what was found on them.
        content: the hash of what the object says, see `cxrseg.hospital.identity.fingerprint`.
    """
    longest = max(radiograph.shape)
    scale = min(1.0, _LONGEST / longest)
    height, width = (max(1, round(side * scale)) for side in radiograph.shape)
    masks = {name: resized_mask(prediction.mask(name), (height, width)) for name in prediction.probabilities}
    picture = preview(
        resized_pixels(radiograph.pixels, (height, width)),
        masks.get("infection"),
        masks.get("lungs"),
        caption_of(prediction),
    )
    made = SCImage.from_ref_dataset(
        header,
        pixel_array=np.ascontiguousarray(picture),
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        patient_orientation=("L", "F"),
        transfer_syntax_uid=ExplicitVRLittleEndian,
        **common_arguments(header, "dicom_sc", prediction.model, content),
    )
    stated = header.get("PatientOrientation") or ()
    if len(stated) != 2 or patient_orientation("\\".join(stated)) is None:
        made.PatientOrientation = []  # what the source does not say, the picture does not claim
    made.BodyPartExamined = "CHEST"  # or else PS3.3 C.7.3.1 wants a laterality
    made.ConversionType = "WSD"
    made.BurnedInAnnotation = "NO"  # the text on the picture names no patient
    made.ImageComments = made.DerivationDescription = NOTICE
    made.SourceImageSequence = [_reference(header)]
    return made


def _reference(header: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = header.SOPClassUID, header.SOPInstanceUID
    return item
