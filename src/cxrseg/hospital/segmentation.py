"""DICOM SEG: the masks as segments that refer to the source image (PS3.3 A.51)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from highdicom.color import CIELabColor
from highdicom.content import AlgorithmIdentificationSequence
from highdicom.seg import SegmentAlgorithmTypeValues, Segmentation, SegmentationTypeValues, SegmentDescription
from highdicom.sr import CodedConcept
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from cxrseg.hospital.identity import NOTICE, common_arguments, derived_uid, segment_algorithm
from cxrseg.inference.prediction import Prediction

__all__ = ["SEGMENTS", "make_segmentation"]

_Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class _Meaning:
    """What a segment is, in codes: category, type, side; and its colour as 8-bit RGB (Okabe and Ito's)."""

    label: str
    category: Code
    kind: Code
    side: Code | None
    rgb: tuple[int, int, int]


_BODY = Code("123037004", "SCT", "Anatomical Structure")
_ABNORMAL = Code("49755003", "SCT", "Morphologically Abnormal Structure")
_LUNG = Code("39607008", "SCT", "Lung")

SEGMENTS = {
    "lung_left": _Meaning("Left lung", _BODY, _LUNG, Code("7771000", "SCT", "Left"), (86, 180, 233)),
    "lung_right": _Meaning("Right lung", _BODY, _LUNG, Code("24028007", "SCT", "Right"), (0, 114, 178)),
    "infection": _Meaning(
        "Infection (opacity)", _ABNORMAL, Code("112033", "DCM", "Abnormal opacity"), None, (213, 94, 0)
    ),
}
"""Name of a mask to what its segment means. Left and right are the patient's. The radiograph shows an opacity; that an
infection is its cause is what the training masks say, not what the code claims."""


def make_segmentation(
    header: Dataset, masks: Mapping[str, _Mask], prediction: Prediction, content: str, *, corrected: bool = False
) -> Segmentation:
    """Make a binary SEG with one frame for each mask, an empty one too: looked for, and not found.

    A radiograph has no place in patient coordinates, so that the SEG has none: no frame of reference, no plane
    position, no slice thickness. Each frame refers to the source image, on whose pixels it lies one to one.

    Args:
        header: of the source image, see `cxrseg.hospital.source.read_header`.
        masks: names of `SEGMENTS` to (H, W) bool, on the pixels as they are stored in the source file.
        prediction: says which model and thresholds.
        content: the hash of what the object says, see `cxrseg.hospital.identity.fingerprint`.
        corrected: True where a person has changed the masks.
    """
    kind = SegmentAlgorithmTypeValues.SEMIAUTOMATIC if corrected else SegmentAlgorithmTypeValues.AUTOMATIC
    algorithm = segment_algorithm(prediction)
    made = Segmentation(
        source_images=[header],
        pixel_array=np.stack([mask.view(np.uint8) for mask in masks.values()], axis=-1)[np.newaxis],
        segmentation_type=SegmentationTypeValues.BINARY,
        segment_descriptions=[
            _describe(number, name, header, kind, algorithm) for number, name in enumerate(masks, start=1)
        ],
        omit_empty_frames=False,
        content_label="CXRSEG",
        content_description=NOTICE,
        **common_arguments(header, "dicom_seg", prediction.model, content),
    )
    # Spacing without slice thickness, which a radiograph has not, makes an item that highdicom itself refuses to
    # read. The macro may be left out where frames refer to their source (PS3.3 table A.51-2).
    made.SharedFunctionalGroupsSequence[0].pop("PixelMeasuresSequence", None)
    made.PatientOrientation = header.get("PatientOrientation") or ""
    for item, name in zip(made.SegmentSequence, masks, strict=True):
        if (side := SEGMENTS[name].side) is not None:
            item.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [CodedConcept(*side)]
    return made


def _describe(
    number: int,
    name: str,
    header: Dataset,
    kind: SegmentAlgorithmTypeValues,
    algorithm: AlgorithmIdentificationSequence,
) -> SegmentDescription:
    meaning = SEGMENTS[name]
    return SegmentDescription(
        segment_number=number,
        segment_label=meaning.label,
        segmented_property_category=meaning.category,
        segmented_property_type=meaning.kind,
        algorithm_type=kind,
        algorithm_identification=algorithm,
        tracking_uid=derived_uid("segment", name, header.SOPInstanceUID),
        tracking_id=f"cxrseg {name}",
        anatomic_regions=[_LUNG] if name == "infection" else None,
        display_color=CIELabColor.from_rgb(*meaning.rgb),
    )
