"""DICOM SR: the measures as a report by template TID 1500 (PS3.16)."""

from __future__ import annotations

from typing import Any

from highdicom.seg import Segmentation
from highdicom.sr import (
    ComprehensiveSR,
    DeviceObserverIdentifyingAttributes,
    FindingSite,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    QualitativeEvaluation,
    ReferencedSegmentationFrame,
    RelationshipTypeValues,
    SourceImageForMeasurementGroup,
    SourceImageForSegmentation,
    TextContentItem,
    TrackingIdentifier,
)
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from cxrseg._version import __version__
from cxrseg.hospital.identity import NOTICE, common_arguments, derived_uid, report_algorithm
from cxrseg.inference.prediction import Prediction
from cxrseg.metrics.severity import Severity

__all__ = ["INFECTED_FRACTION", "make_report"]

_PRIVATE = "99CXRSEG"

INFECTED_FRACTION = Code("INFECT_FRACTION", _PRIVATE, "Infected fraction of the projected lung area")
_EXTENT_SCORE = Code("EXTENT_SCORE", _PRIVATE, "Extent score, 0 to 8 (Wong et al. 2020)")
_EXPECTED_DICE = Code("SOFT_DICE", _PRIVATE, "Expected Dice, estimated by the model (arXiv:2402.10665)")
_GRADE = Code("EXTENT_GRADE", _PRIVATE, "Grade of the extent score")
_OPACITY = Code("112033", "DCM", "Abnormal opacity")
_CHEST_XRAY = Code("399208008", "SCT", "Plain chest X-ray")
_LUNG = Code("39607008", "SCT", "Lung")
_SIDES = {
    "left": Code("7771000", "SCT", "Left"),
    "right": Code("24028007", "SCT", "Right"),
}
_ZONES = {
    "upper": Code("281392002", "SCT", "Upper zone of lung"),
    "middle": Code("281393007", "SCT", "Middle zone of lung"),
    "lower": Code("281394001", "SCT", "Lower zone of lung"),
}
_NO_UNIT = Code("1", "UCUM", "no units")
_PERCENT = Code("%", "UCUM", "Percent")
_SQUARE_MM = Code("mm2", "UCUM", "mm2")


def make_report(
    header: Dataset, prediction: Prediction, content: str, segmentation: Segmentation | None = None
) -> ComprehensiveSR:
    """Make a measurement report (TID 1500): both lungs, each lung, each zone; then notice and warnings as comments.

    What is not known (a lung that was not found, an area without spacing) has no entry.

    Args:
        header: of the source image, see `cxrseg.hospital.source.read_header`.
        prediction: the measures, warnings, model and thresholds.
        content: the hash of what the object says, see `cxrseg.hospital.identity.fingerprint`.
        segmentation: made of the same prediction: the group of both lungs then refers to its infection segment.
    """
    groups = [_whole(header, prediction, segmentation)]
    if prediction.severity is not None:
        groups += _parts(header, prediction.severity)
    device = DeviceObserverIdentifyingAttributes(
        uid=derived_uid("device", "cxrseg"), name="cxrseg", manufacturer_name="cxrseg", model_name=__version__[:64]
    )
    context = ObservationContext(
        observer_device_context=ObserverContext(observer_type=codes.DCM.Device, observer_identifying_attributes=device)
    )
    report = MeasurementReport(
        observation_context=context,
        procedure_reported=_CHEST_XRAY,
        imaging_measurements=groups,
        title=codes.DCM.ImagingMeasurementReport,
    )
    report[0].ContentSequence.extend(_comments(prediction))
    made = ComprehensiveSR(
        evidence=[header] if segmentation is None else [header, segmentation],
        content=report[0],
        is_complete=True,
        is_final=False,
        **common_arguments(header, "dicom_sr", prediction.model, content),
    )
    scheme = Dataset()
    scheme.CodingSchemeDesignator, scheme.CodingSchemeName = _PRIVATE, "Codes of the research software cxrseg"
    scheme.CodingSchemeResponsibleOrganization = "cxrseg"
    made.CodingSchemeIdentificationSequence = [scheme]
    return made


def _comments(prediction: Prediction) -> list[TextContentItem]:
    """TID 1500 is extensible, and has no place of its own for a text on the report as a whole."""
    texts = [NOTICE, *(f"Warning: {warning}" for warning in prediction.warnings)]
    return [
        TextContentItem(name=codes.DCM.Comment, value=text, relationship_type=RelationshipTypeValues.CONTAINS)
        for text in texts
    ]


def _whole(
    header: Dataset, prediction: Prediction, segmentation: Segmentation | None
) -> MeasurementsAndQualitativeEvaluations | PlanarROIMeasurementsAndQualitativeEvaluations:
    """What is said of both lungs together."""
    severity = prediction.severity
    measurements: list[Measurement] = []
    evaluations: list[QualitativeEvaluation] = []
    if severity is not None:
        measurements += _fraction(severity.infected_fraction)
        if severity.infected_area_mm2 is not None:
            measurements.append(Measurement(codes.SCT.Area, round(severity.infected_area_mm2, 2), _SQUARE_MM))
        if severity.extent_score is not None:
            measurements.append(Measurement(_EXTENT_SCORE, severity.extent_score, _NO_UNIT))
        if severity.grade is not None:
            value = Code(severity.grade.upper(), _PRIVATE, severity.grade.capitalize())
            evaluations.append(QualitativeEvaluation(_GRADE, value))
    if prediction.expected_dice is not None:
        measurements.append(Measurement(_EXPECTED_DICE, round(prediction.expected_dice, 4), _NO_UNIT))
    arguments: dict[str, Any] = {
        "tracking_identifier": TrackingIdentifier(derived_uid("group", "lungs", header.SOPInstanceUID), "Both lungs"),
        "finding_type": _OPACITY,
        "finding_sites": [FindingSite(_LUNG)],
        "algorithm_id": report_algorithm(prediction),
        "measurements": measurements,
        "qualitative_evaluations": evaluations,
    }
    if segmentation is None or "infection" not in prediction.probabilities:
        return MeasurementsAndQualitativeEvaluations(source_images=[_image(header)], **arguments)
    number = next(s.SegmentNumber for s in segmentation.SegmentSequence if s.TrackingID == "cxrseg infection")
    region = ReferencedSegmentationFrame(
        sop_class_uid=segmentation.SOPClassUID,
        sop_instance_uid=segmentation.SOPInstanceUID,
        segment_number=number,
        frame_number=number,  # one frame for each segment, in order
        source_image=SourceImageForSegmentation(header.SOPClassUID, header.SOPInstanceUID),
    )
    # A reference names the segment or the frame, not both (PS3.3 table 10-3); highdicom writes both.
    del region[0].ReferencedSOPSequence[0].ReferencedFrameNumber
    return PlanarROIMeasurementsAndQualitativeEvaluations(referenced_segment=region, **arguments)


def _parts(header: Dataset, severity: Severity) -> list[MeasurementsAndQualitativeEvaluations]:
    """A group for each lung and each zone whose fraction is known; the first group has named the algorithm."""
    row = severity.as_row()
    groups: list[MeasurementsAndQualitativeEvaluations] = []
    for side, laterality in _SIDES.items():
        for zone in (None, *_ZONES):
            name = f"{side}_{zone}" if zone else side
            measurements = _fraction(row[f"infected_fraction_{name}"])
            if not measurements:
                continue
            site = FindingSite(_ZONES[zone] if zone else _LUNG, laterality=laterality)
            label = f"{side} lung, {zone} zone" if zone else f"{side} lung"
            groups.append(
                MeasurementsAndQualitativeEvaluations(
                    tracking_identifier=TrackingIdentifier(
                        derived_uid("group", name, header.SOPInstanceUID), label.capitalize()
                    ),
                    finding_type=_OPACITY,
                    finding_sites=[site],
                    measurements=measurements,
                    source_images=[_image(header)],
                )
            )
    return groups


def _fraction(value: float | None) -> list[Measurement]:
    return [] if value is None else [Measurement(INFECTED_FRACTION, round(100 * value, 4), _PERCENT)]


def _image(header: Dataset) -> SourceImageForMeasurementGroup:
    return SourceImageForMeasurementGroup(header.SOPClassUID, header.SOPInstanceUID)
