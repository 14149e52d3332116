"""`cxrseg predict --output-type`: masks, DICOM objects, several at once, and what cannot be made."""

from __future__ import annotations

import json
from pathlib import Path

import pydicom
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from cxrseg.cli import main
from made_films import make_film
from made_models import chest, hand_model

PIXELS = chest((128, 128))[0]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hand_model(tmp_path_factory.mktemp("model") / "hand.onnx")


def predict(source: Path, model: Path, *arguments: str) -> Result:
    out = source.parent / "out"
    return CliRunner().invoke(
        main, ["predict", "-i", str(source), "-o", str(out), "-m", str(model), "--force", *arguments]
    )


def written(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("film_*"))


def test_several_types_at_once(tmp_path: Path, model: Path) -> None:
    film = make_film(tmp_path / "film.dcm", PIXELS)
    done = predict(film, model, "--output-type", "png", "dicom_seg", "dicom_sr", "dicom_sc", "-q")
    assert done.exit_code == 0, done.output
    names = ["film_infection.png", "film_lungs.png", "film_sc.dcm", "film_seg.dcm", "film_sr.dcm"]
    assert written(tmp_path / "out") == names
    made = pydicom.dcmread(tmp_path / "out" / "film_seg.dcm")
    assert made.pixel_array.any() and made.StudyInstanceUID == pydicom.dcmread(film).StudyInstanceUID
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["options"]["output_types"] == ["png", "dicom_seg", "dicom_sr", "dicom_sc"]


def test_what_an_earlier_run_wrote_does_not_stay_beside_another_result(tmp_path: Path, model: Path) -> None:
    film = make_film(tmp_path / "film.dcm", PIXELS)
    assert predict(film, model, "--output-type", "png", "dicom_seg").exit_code == 0
    assert predict(film, model, "--output-type", "dicom_sr").exit_code == 3
    assert predict(film, model, "--output-type", "dicom_sr", "--overwrite").exit_code == 0
    assert written(tmp_path / "out") == ["film_sr.dcm"]


def test_a_picture_has_no_study_to_belong_to(tmp_path: Path, model: Path) -> None:
    film = tmp_path / "film.png"
    Image.fromarray((PIXELS * 255).astype("uint8")).save(film)
    done = predict(film, model, "--output-type", "png", "dicom_seg")
    assert done.exit_code == 1 and "film.png is not a DICOM file" in done.output
    assert written(tmp_path / "out") == []


def test_a_stray_argument_is_named(tmp_path: Path, model: Path) -> None:
    film = make_film(tmp_path / "film.dcm", PIXELS)
    done = predict(film, model, "other.dcm")
    assert done.exit_code == 2 and "other.dcm does not exist; expected an image" in done.output


def test_resuming_with_other_types_is_refused(tmp_path: Path, model: Path) -> None:
    film = make_film(tmp_path / "film.dcm", PIXELS)
    assert predict(film, model, "--output-type", "dicom_sr").exit_code == 0
    assert predict(film, model, "--output-type", "dicom_sr", "--resume").exit_code == 0
    assert predict(film, model, "--output-type", "dicom_seg", "--resume").exit_code == 3


def test_the_folder_contract_of_mercure(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_film(tmp_path / "in" / "film.dcm", PIXELS)
    make_film(tmp_path / "in" / "lateral.dcm", PIXELS, ViewPosition="LL")
    monkeypatch.setenv("MERCURE_IN_DIR", str(tmp_path / "in"))
    monkeypatch.setenv("MERCURE_OUT_DIR", str(tmp_path / "out"))
    arguments = ["predict", "-m", str(model), "--output-type", "dicom_seg", "dicom_sr"]
    assert CliRunner().invoke(main, arguments).exit_code == 1
    done = CliRunner().invoke(main, [*arguments, "--allow-refused", "--overwrite"])
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in (tmp_path / "out").glob("*.dcm")) == ["film_seg.dcm", "film_sr.dcm"]
