"""Follow-up: whose films, when, what counts as a change, and what the outputs give away."""

from __future__ import annotations

import csv
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from pydicom import dcmread

from cxrseg.cli import main
from cxrseg.errors import DatasetError
from cxrseg.hospital.follow_up.course import Course, Measured
from cxrseg.hospital.follow_up.films import Film, read_films
from cxrseg.hospital.follow_up.repeatability import MEASURES, NOISE, band, deviations, kind_of, variants
from cxrseg.inference.prediction import Prediction
from cxrseg.inference.segmenter import Segmenter
from cxrseg.io.patient_key import hashed
from cxrseg.io.radiograph import Radiograph
from made_films import make_film
from made_models import chest, hand_model

PIXELS, INFECTION, LUNGS = chest((128, 128))


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hand_model(tmp_path_factory.mktemp("model") / "hand.onnx")


def film(folder: Path, name: str, patient: str, date: str | None, time: str | None = "101500", **others: Any) -> Path:
    return make_film(
        folder / f"{name}.dcm", PIXELS, PatientID=patient, AcquisitionDate=date, AcquisitionTime=time, **others
    )


def measured(fraction: float, day: float = 0.0, deviation: float = 0.0) -> Measured:
    """A film on which this fraction of each lung, from its top, is infected."""
    probability = np.zeros(LUNGS.shape, np.float32)
    rows, columns = np.nonzero(LUNGS)
    probability[rows[: round(fraction * rows.size)], columns[: round(fraction * rows.size)]] = 1
    maps = {"infection": probability, "lungs": LUNGS.astype(np.float32)}
    found = Prediction(maps, {"infection": 0.5, "lungs": 0.5})
    one = Film(Path("x"), "x", "P", day, "")
    return Measured(one, Radiograph(PIXELS), found, dict.fromkeys(MEASURES, deviation))


def test_films_are_grouped_by_patient_and_ordered_by_time(tmp_path: Path) -> None:
    film(tmp_path, "a", "P2", "20200405")
    film(tmp_path, "b", "P1", "20200403", "120000")
    film(tmp_path, "c", "P1", "20200403", "080000.123")
    film(tmp_path, "d", "P1", "20200401", None)
    film(tmp_path, "e", "P1", "20200405", IssuerOfPatientID="OTHER")  # the same number of another hospital
    films, faults = read_films(tmp_path, None, tmp_path / "out")
    assert [one.name for one in films] == ["e.dcm", "d.dcm", "c.dcm", "b.dcm", "a.dcm"] and faults == []
    assert films[3].day - films[2].day == pytest.approx(4 / 24, abs=1e-4)


def test_the_date_of_the_exposure_comes_before_that_of_the_study(tmp_path: Path) -> None:
    film(tmp_path, "a", "P", "20200405")
    film(tmp_path, "b", "P", None)  # its study is of 1 April
    films, _ = read_films(tmp_path, None, tmp_path / "out")
    assert [(one.name, one.date[:10]) for one in films] == [("b.dcm", "2020-04-01"), ("a.dcm", "2020-04-05")]


@pytest.mark.parametrize(
    ("time", "hour"), [(None, 0), ("09", 9), ("0930", 9), ("093015", 9), ("093015.123456", 9), ("nonsense", 0)]
)
def test_a_time_may_be_short_or_missing(tmp_path: Path, time: str | None, hour: int) -> None:
    path = film(tmp_path, "a", "P", "20201112", "000000")
    data = dcmread(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data.AcquisitionTime = time
        data.save_as(path)
    (one,), _ = read_films(tmp_path, None, tmp_path / "out")
    assert one.date[:13] == f"2020-11-12T{hour:02d}"


def test_what_cannot_be_placed_is_said(tmp_path: Path) -> None:
    film(tmp_path, "a", "", "20200405")
    film(tmp_path, "b", "P", None, StudyDate=None)
    Image.fromarray((PIXELS * 255).astype(np.uint8)).save(tmp_path / "c.png")
    films, faults = read_films(tmp_path, None, tmp_path / "out")
    assert films == []
    assert [fault.partition(":")[2].strip() for fault in faults] == [
        "has no Patient ID",
        "has no date",
        "not a DICOM file; name its patient and date in a CSV (--csv)",
    ]


def test_a_table_says_patient_and_day(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        Image.fromarray((PIXELS * 255).astype(np.uint8)).save(tmp_path / name)
    table = tmp_path / "table.csv"
    table.write_text("file,patient,day\na.png,P,3\nb.png,P,-1.5\n")
    assert [(one.name, one.day) for one in read_films(tmp_path, table, tmp_path)[0]] == [("b.png", -1.5), ("a.png", 3)]
    table.write_text("file,patient,date\na.png,P,2020-04-03\nb.png,P,2020-04-01T12:00\n")
    assert [one.name for one in read_films(tmp_path, table, tmp_path)[0]] == ["b.png", "a.png"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "name,patient,day\na.png,P,1\n",
            "expected the columns file, patient, and date or day, got day, name, patient",
        ),
        ("file,patient,day\nnone.png,P,1\n", "line 2: there is no file .*none.png"),
        (
            "file,patient,day\na.png,P,soon\n",
            "line 2: expected a date such as 2020-04-01 or a day as a number, got 'soon'",
        ),
        ("file,patient,day\na.png,,1\n", "line 2: expected a file and a patient"),
    ],
)
def test_a_wrong_table_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "table.csv").write_text(text)
    with pytest.raises(DatasetError, match=reason):
        read_films(tmp_path, tmp_path / "table.csv", tmp_path / "out")


def test_a_change_is_one_only_beyond_the_noise() -> None:
    width = band("infected_fraction", 0.0, 0.0)
    course = Course("P", [measured(0.3), measured(0.3 + 0.9 * width), measured(0.3 + 2.1 * width), measured(0.3)])
    verdicts = [course.change("infected_fraction", number, number - 1)["verdict"] for number in (1, 2, 3)]
    assert verdicts == ["within noise", "rise", "fall"]
    assert course.change("infected_fraction", 3, 0)["difference"] == 0.0


def test_a_film_that_varies_more_needs_a_larger_change() -> None:
    steady, shaky = Course("P", [measured(0.3), measured(0.6)]), Course("P", [measured(0.3), measured(0.6, 0, 0.3)])
    assert steady.change("infected_fraction", 1, 0)["verdict"] == "rise"
    assert shaky.change("infected_fraction", 1, 0)["verdict"] == "within noise"


def test_saturation() -> None:
    assert [measured(value).saturation("infected_fraction") for value in (0.0, 0.5, 0.99)] == ["bottom", "", "top"]


def test_measures_and_their_kinds() -> None:
    assert len(MEASURES) == 10 and {kind_of(measure) for measure in MEASURES} == set(NOISE)
    assert kind_of("infected_fraction") == "lungs" and kind_of("infected_fraction_left_upper") == "zone"
    assert kind_of("extent_score") == "extent"


def test_variants_show_the_same_chest() -> None:
    made = list(variants(Radiograph(PIXELS)))
    assert [swapped for swapped, _ in made] == [True, False, False, False, False]
    assert np.array_equal(made[0][1].pixels[:, ::-1], PIXELS)
    assert all(variant.pixels.shape == PIXELS.shape and variant.pixels.dtype == np.float32 for _, variant in made)
    assert not any(np.array_equal(variant.pixels, PIXELS) for _, variant in made)


def test_the_mirrored_variant_counts_for_the_same_side(model: Path) -> None:
    segmenter, radiograph = Segmenter(model, input_check=False), Radiograph(PIXELS)
    severity = segmenter.segment(radiograph).severity
    assert severity is not None and severity.infected_fraction_left and not severity.infected_fraction_right
    found = deviations(segmenter, radiograph, severity)
    assert found["infected_fraction_right"] == 0.0  # were the sides not swapped back, it would be large
    assert found["infected_fraction_left"] < 0.5 * severity.infected_fraction_left


def test_keys_are_stable_and_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert hashed("P1") == hashed("P1") != hashed("P2")
    assert (tmp_path / "state" / "cxrseg" / "patient-key").stat().st_mode & 0o777 == 0o600
    mine = hashed("P1")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "other"))
    assert hashed("P1") != mine


def follow(source: Path, model: Path, *arguments: str) -> Result:
    return CliRunner().invoke(
        main, ["follow", "-i", str(source), "-o", str(source.parent / "out"), "-m", str(model), *arguments]
    )


def films_of_two(folder: Path) -> None:
    film(folder, "first", "SECRET1", "20200401")
    film(folder, "second", "SECRET1", "20200404")
    film(folder, "lateral", "SECRET1", "20200404", "101600", ViewPosition="LL")
    film(folder, "only", "SECRET2", "20200407")


def test_the_command_gives_nobody_away(tmp_path: Path, model: Path) -> None:
    films_of_two(tmp_path / "films")
    done = follow(tmp_path / "films", model)
    assert done.exit_code == 0, done.output
    assert "patients 2, films used 3, not used 1" in done.output and "1 within noise" in done.output
    out = tmp_path / "out"
    assert {path.name.partition("_")[0] for path in out.iterdir()} == {"follow", "patient"}
    for path in out.glob("follow_up.*"):
        text = path.read_text()
        assert not any(word in text for word in ("SECRET", "first.dcm", "2020", "ller^")), path.name
    assert not any("SECRET" in path.name for path in out.iterdir())
    rows = list(csv.DictReader((out / "follow_up.csv").read_text().splitlines()))
    assert [(row["film"], row["day"], row["status"]) for row in rows if row["patient"] == hashed("SECRET1")] == [
        ("1", "0.0", "ok"),
        ("2", "3.0", "ok"),
        ("", "3.0", "refused"),
    ]
    assert rows[1]["since_last_verdict"] == "within noise" and float(rows[1]["infected_fraction"]) > 0.05


def test_the_command_names_patients_where_asked(tmp_path: Path, model: Path) -> None:
    films_of_two(tmp_path / "films")
    done = follow(tmp_path / "films", model, "--identities", "-q")
    assert (done.exit_code, done.output) == (0, "")
    values = json.loads((tmp_path / "out" / "follow_up.json").read_text())
    assert [one["patient"] for one in values["patients"]] == ["SECRET1", "SECRET2"]
    assert values["patients"][0]["films"][0]["file"] == "first.dcm"
    assert len(values["patients"][0]["changes"]["infected_fraction_left_upper"]) == 1
    assert values["noise"]["lungs"]["floor"] == NOISE["lungs"].floor
    page = (tmp_path / "out" / "follow_up.html").read_text()
    assert (
        page.count("data:image/png;base64,") == 2 and "not used: the DICOM tags say that it is a lateral view" in page
    )
