"""SEG, SR and SC of films made here: valid, of the same study, and what they say is what was found."""

from __future__ import annotations

import shutil
import subprocess
import warnings
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
import pytest

from cxrseg.errors import ImageError
from cxrseg.hospital.objects import make_objects, write_objects
from cxrseg.inference.prediction import ModelMark, Prediction
from cxrseg.io.read import read_radiograph
from cxrseg.metrics.lungs import split_lungs
from made_films import DX, SC, make_film
from made_models import chest

SHAPE = (96, 121)
PIXELS, INFECTION, LUNGS = chest(SHAPE)
LEFT, RIGHT = split_lungs(LUNGS)
REAL = Path(__file__).resolve().parents[3] / "shared" / "dicom" / "chest-ap.dcm"
NOTICE = "Research use only. Not for diagnosis."
WARNING = "the lungs reach the border of the image"

DX_ATTRIBUTES: dict[str, Any] = {"SOPClassUID": DX, "Modality": "DX", "PresentationIntentType": "FOR PRESENTATION"}
KINDS: dict[str, dict[str, Any]] = {
    "cr": {},
    "dx": DX_ATTRIBUTES,
    "dx without spacing": {**DX_ATTRIBUTES, "PixelSpacing": None, "ImagerPixelSpacing": None},
    "secondary capture": {"SOPClassUID": SC, "Modality": "OT", "ConversionType": "WSD"},
    "monochrome1": {"PhotometricInterpretation": "MONOCHROME1"},
    "16 bit": {"bits": 16},
    "8 bit": {"bits": 8},
    "mirrored": {"PatientOrientation": ["R", "F"]},
    "turned": {"PatientOrientation": ["F", "L"]},
    "a lateral's orientation": {"PatientOrientation": ["A", "F"]},
    "orientation unknown": {"PatientOrientation": None},
    "hardly a header": dict.fromkeys(
        (
            *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID"),
            *("AccessionNumber", "ReferringPhysicianName", "SeriesNumber", "InstanceNumber", "Manufacturer"),
            *("BodyPartExamined", "ViewPosition"),
        )
    ),
}


def prediction(**changes: Any) -> Prediction:
    values: dict[str, Any] = {
        "probabilities": {
            "infection": np.where(INFECTION, 0.9, 0.1).astype(np.float32),
            "lungs": np.where(LUNGS, 0.9, 0.1).astype(np.float32),
        },
        "thresholds": {"infection": 0.5, "lungs": 0.5},
        "warnings": (WARNING,),
        "spacing_mm": (1.5, 1.4),
        "model": ModelMark("hand", "0.1", "ab" * 32),
    }
    return Prediction(**{**values, **changes})


def objects_of(path: Path, found: Prediction | None = None, **options: Any) -> dict[str, Path]:
    written = write_objects(
        path.parent / "out", path.stem, path, read_radiograph(path), found or prediction(), **options
    )
    return {file.stem.rpartition("_")[2]: file for file in written}


def texts(report: pydicom.Dataset) -> list[str]:
    return [
        item.TextValue
        for item in report.ContentSequence
        if item.ValueType == "TEXT" and item.ConceptNameCodeSequence[0].CodeMeaning == "Comment"
    ]


@pytest.fixture(scope="module", params=KINDS)
def film(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film of each kind, with its objects beside it."""
    pixels = in_file(PIXELS, KINDS[request.param])
    path = make_film(tmp_path_factory.mktemp("kind") / "film.dcm", pixels, **KINDS[request.param])
    objects_of(path)
    return path


def in_file(values: Any, attributes: dict[str, Any]) -> Any:
    """Upright pixels or a mask as a film of this kind stores them."""
    stored = {("R", "F"): values[:, ::-1], ("F", "L"): values.T}
    return stored.get(tuple(attributes.get("PatientOrientation") or ()), values)


@pytest.mark.skipif(not shutil.which("dciodvfy"), reason="needs dciodvfy (Debian's dicom3tools)")
@pytest.mark.parametrize("kind", ["seg", "sr", "sc"])
def test_every_object_is_valid(film: Path, kind: str) -> None:
    file = film.parent / "out" / f"film_{kind}.dcm"
    checked = subprocess.run(["dciodvfy", "-new", str(file)], capture_output=True, text=True, check=False)
    said = (checked.stdout + checked.stderr).splitlines()
    assert [line for line in said if line.startswith("Error")] == []
    assert any(line in ("Segmentation", "ComprehensiveSR", "SCImage") for line in said)  # it knew the kind


def test_segments_lie_on_the_pixels_of_the_file(film: Path) -> None:
    made = highdicom.seg.segread(film.parent / "out" / "film_seg.dcm")
    source = pydicom.dcmread(film)
    frames = made.get_pixels_by_source_instance([source.SOPInstanceUID])[0]
    expected = {"Left lung": LEFT, "Right lung": RIGHT, "Infection (opacity)": INFECTION}
    found = {made.get_segment_description(n).segment_label: frames[..., n - 1] for n in made.segment_numbers}
    assert list(found) == list(expected)
    stated = {"PatientOrientation": source.get("PatientOrientation")}
    assert all(np.array_equal(found[label], in_file(mask, stated)) for label, mask in expected.items())


def test_the_picture_is_upright_and_says_so_where_the_film_does(film: Path) -> None:
    stated = tuple(pydicom.dcmread(film).get("PatientOrientation") or ())
    made = pydicom.dcmread(film.parent / "out" / "film_sc.dcm")
    known = stated in (("L", "F"), ("R", "F"), ("F", "L"))
    assert (made.PatientOrientation or []) == (["L", "F"] if known else [])
    picture = made.pixel_array[: made.Columns * SHAPE[0] // SHAPE[1]].astype(int)
    _, columns = np.nonzero(picture[..., 0] - picture[..., 2] > 80)  # vermillion
    assert columns.mean() > 0.6 * made.Columns  # the infection is in the patient's left lung, at the image's right


def test_our_picture_is_not_a_radiograph(film: Path) -> None:
    with pytest.raises(ImageError, match="was written by cxrseg"):
        read_radiograph(film.parent / "out" / "film_sc.dcm")


def test_segments_say_in_codes_what_they_are(tmp_path: Path) -> None:
    made = pydicom.dcmread(objects_of(make_film(tmp_path / "film.dcm", PIXELS))["seg"])
    assert made.ContentDescription == NOTICE
    codes = []
    for item in made.SegmentSequence:
        kind = item.SegmentedPropertyTypeCodeSequence[0]
        side = [one.CodeValue for one in kind.get("SegmentedPropertyTypeModifierCodeSequence", [])]
        codes.append((kind.CodingSchemeDesignator, kind.CodeValue, side))
        algorithm = item.SegmentationAlgorithmIdentificationSequence[0]
        assert algorithm.AlgorithmName == "hand"
        assert "ab" * 32 in algorithm.AlgorithmParameters
    assert codes == [("SCT", "39607008", ["7771000"]), ("SCT", "39607008", ["24028007"]), ("DCM", "112033", [])]


def test_objects_belong_to_the_patient_and_the_study(tmp_path: Path) -> None:
    film = make_film(tmp_path / "film.dcm", PIXELS)
    source = pydicom.dcmread(film)
    series = {source.SeriesInstanceUID}
    for file in objects_of(film).values():
        made = pydicom.dcmread(file)
        for keyword in ("PatientName", "PatientID", "StudyInstanceUID", "AccessionNumber", "StudyDate"):
            assert made[keyword].value == source[keyword].value
        assert source.SOPInstanceUID in str(made)  # it refers to the image
        series.add(made.SeriesInstanceUID)
    assert len(series) == 4


def test_the_report_has_every_measure_and_the_warnings(tmp_path: Path) -> None:
    report = pydicom.dcmread(objects_of(make_film(tmp_path / "film.dcm", PIXELS))["sr"])
    assert texts(report) == [NOTICE, f"Warning: {WARNING}"]
    groups = next(
        item for item in report.ContentSequence if item.ConceptNameCodeSequence[0].CodeMeaning == "Imaging Measurements"
    )
    measures: dict[str, dict[str, float]] = {}
    for group in groups.ContentSequence:
        label = group.ContentSequence[0].TextValue
        measures[label] = {
            item.ConceptNameCodeSequence[0].CodeValue: float(item.MeasuredValueSequence[0].NumericValue)
            for item in group.ContentSequence
            if item.ValueType == "NUM"
        }
    severity = prediction().severity
    assert severity is not None and severity.infected_fraction is not None
    assert len(measures) == 9
    assert measures["Both lungs"]["INFECT_FRACTION"] == pytest.approx(100 * severity.infected_fraction, abs=1e-3)
    assert measures["Both lungs"]["42798000"] == pytest.approx(np.count_nonzero(INFECTION & LUNGS) * 1.5 * 1.4)
    assert measures["Both lungs"]["EXTENT_SCORE"] == severity.extent_score
    assert measures["Right lung"] == {"INFECT_FRACTION": 0.0}
    assert measures["Left lung"]["INFECT_FRACTION"] > measures["Left lung, upper zone"]["INFECT_FRACTION"]


def test_the_report_names_the_segment_of_the_infection(tmp_path: Path) -> None:
    files = objects_of(make_film(tmp_path / "film.dcm", PIXELS))
    report, made = pydicom.dcmread(files["sr"]), pydicom.dcmread(files["seg"])
    numbers = [element.value for element in report.iterall() if element.keyword == "ReferencedSegmentNumber"]
    assert numbers == [3]
    assert made.SegmentSequence[2].SegmentLabel == "Infection (opacity)"
    assert made.SOPInstanceUID in str(report)


def test_what_is_not_known_is_not_said(tmp_path: Path) -> None:
    one_lung = np.where(LEFT, 0.9, 0.1).astype(np.float32)
    found = prediction(
        probabilities={"lungs": one_lung, "infection": prediction().probabilities["infection"]}, spacing_mm=None
    )
    files = objects_of(make_film(tmp_path / "film.dcm", PIXELS), found)
    report = str(pydicom.dcmread(files["sr"]))
    assert "42798000" not in report and "EXTENT_SCORE" not in report and "Right lung" not in report
    labels = [item.SegmentLabel for item in pydicom.dcmread(files["seg"]).SegmentSequence]
    assert labels == ["Left lung", "Infection (opacity)"]


def test_an_empty_infection_has_its_segment(tmp_path: Path) -> None:
    found = prediction(probabilities={**prediction().probabilities, "infection": np.zeros(SHAPE, np.float32)})
    made = highdicom.seg.segread(objects_of(make_film(tmp_path / "film.dcm", PIXELS), found)["seg"])
    assert made.number_of_frames == 3
    assert made.pixel_array[2].max() == 0 and made.pixel_array[0].max() == 1


def test_the_picture_is_in_colour_and_names_nobody(tmp_path: Path) -> None:
    made = pydicom.dcmread(objects_of(make_film(tmp_path / "film.dcm", PIXELS))["sc"])
    assert made.pixel_array.shape[2] == 3 and np.ptp(made.pixel_array, axis=2).max() > 100
    assert (made.BurnedInAnnotation, made.ImageComments) == ("NO", NOTICE)


def test_the_same_input_has_the_same_uids_and_another_result_has_others(tmp_path: Path) -> None:
    film = make_film(tmp_path / "film.dcm", PIXELS)

    def uids(found: Prediction) -> list[str]:
        return [made.SOPInstanceUID for made in make_objects(film, read_radiograph(film), found).values()]

    assert uids(prediction()) == uids(prediction())
    assert set(uids(prediction())) & set(uids(prediction(warnings=()))) == set()
    assert set(uids(prediction())) & set(uids(prediction(model=ModelMark("hand", "0.1", "cd" * 32)))) == set()


def test_only_what_was_asked_for_is_made(tmp_path: Path) -> None:
    film = make_film(tmp_path / "film.dcm", PIXELS)
    assert list(objects_of(film, kinds=["dicom_sr"])) == ["sr"]
    with pytest.raises(ImageError, match="expected kinds among dicom_seg, dicom_sr, dicom_sc, got dicom"):
        objects_of(film, kinds=["dicom"])


def test_a_malformed_date_is_left_out(tmp_path: Path) -> None:
    film = make_film(tmp_path / "film.dcm", PIXELS)
    film.write_bytes(film.read_bytes().replace(b"19500101", b"unknown ").replace(b"101500", b"10h15m"))
    made = pydicom.dcmread(objects_of(film)["seg"])
    assert (made.PatientBirthDate, made.StudyTime, made.StudyDate) == ("", "", "20200401")


@pytest.mark.parametrize(
    ("charset", "name"),
    [
        ("utf_8", "Anna"),
        (["", "utf_8"], "Anna"),
        ("ISO_IR 999", "Anna"),
        ("ISO 2022 IR 87", "Anna"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎"),
    ],
)
def test_text_in_a_character_set_that_objects_cannot_have_becomes_utf8(
    tmp_path: Path, charset: str | list[str], name: str
) -> None:
    film = make_film(tmp_path / "f.dcm", PIXELS, PatientName="Anna")
    data = pydicom.dcmread(film)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of what is wrong on purpose
        data.SpecificCharacterSet, data.PatientName = charset, name
        data.save_as(film)
    for path in write_objects(tmp_path, "f", film, read_radiograph(film), prediction()):
        made = pydicom.dcmread(path)
        assert (made.SpecificCharacterSet, str(made.PatientName)) == ("ISO_IR 192", name)


def test_several_values_where_one_belongs_are_left_out(tmp_path: Path) -> None:
    film = make_film(tmp_path / "f.dcm", PIXELS, PatientName=["Anna", "Maria"], StudyID=["1", "2"])
    for made in make_objects(film, read_radiograph(film), prediction()).values():
        assert (str(made.PatientName), made.StudyID) == ("", "")


def test_a_file_without_a_study_is_refused_by_name(tmp_path: Path) -> None:
    film = make_film(tmp_path / "film.dcm", PIXELS, StudyInstanceUID=None)
    with pytest.raises(ImageError, match=r"film\.dcm has no usable StudyInstanceUID"):
        objects_of(film)


def test_a_refused_prediction_has_no_objects(tmp_path: Path) -> None:
    found = prediction(status="refused", reason="it looks like a hand", probabilities={})
    with pytest.raises(ImageError, match="it looks like a hand"):
        objects_of(make_film(tmp_path / "film.dcm", PIXELS), found)


@pytest.mark.filterwarnings("error")
def test_nothing_warns_and_quotes_the_patient(tmp_path: Path) -> None:
    objects_of(make_film(tmp_path / "film.dcm", PIXELS, PatientName="onlyone"))


@pytest.mark.skipif(not REAL.exists(), reason="needs the real films in ../shared/dicom")
def test_a_real_film(tmp_path: Path) -> None:
    film = tmp_path / "film.dcm"
    shutil.copy(REAL, film)
    radiograph = read_radiograph(film)
    rows, columns = np.indices(radiograph.shape)
    lungs = np.where((abs(columns - 512) > 60) & (abs(columns - 512) < 300) & (abs(rows - 500) < 300), 0.9, 0.1)
    maps = {"lungs": lungs.astype(np.float32), "infection": np.where(rows > 600, lungs, 0.0).astype(np.float32)}
    files = objects_of(film, prediction(probabilities=maps))
    assert np.array_equal(highdicom.seg.segread(files["seg"]).pixel_array[2].astype(bool), maps["infection"] >= 0.5)


@pytest.mark.parametrize("orientation", [["R", "F"], ["F", "R"]])
def test_segments_of_a_turned_film_lie_on_the_pixels_of_the_file(tmp_path: Path, orientation: list[str]) -> None:
    stored = {"R": np.fliplr, "F": np.rot90}[orientation[0]]
    turned = np.ascontiguousarray(stored(PIXELS))
    path = make_film(tmp_path / "film.dcm", turned, PatientOrientation=orientation)
    made = highdicom.seg.segread(objects_of(path)["seg"])
    frames = made.get_pixels_by_source_instance([pydicom.dcmread(path).SOPInstanceUID])[0]
    found = {made.get_segment_description(n).segment_label: frames[..., n - 1] for n in made.segment_numbers}
    for label, mask in {"Left lung": LEFT, "Right lung": RIGHT, "Infection (opacity)": INFECTION}.items():
        np.testing.assert_array_equal(found[label], stored(mask))
