from __future__ import annotations

import base64
import io
import json
import math
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread

from cxrseg._version import __version__
from cxrseg.inference.options import Options
from cxrseg.inference.outputs import COLUMNS, row_of
from cxrseg.inference.segmenter import Segmenter
from cxrseg.io.read import read_radiograph
from cxrseg.metrics.severity import measure_severity
from cxrseg.serve import answer as answers
from cxrseg.serve.schema import Segmented
from made_films import make_film
from made_models import chest
from made_service import pixels_of, png, serving


def send(client: httpx.Client, content: bytes, name: str = "film.png", **query: Any) -> httpx.Response:
    return client.post("/v1/segment", files={"file": (name, content)}, params=query)


def picture(answer: dict[str, Any], name: str) -> np.ndarray:
    return pixels_of(base64.b64decode(answer[name]["png"]))


def problem(answer: httpx.Response, status: int) -> str:
    """The detail of an error, once it is clear that it is one as RFC 9457 describes."""
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json().keys() == {"type", "title", "status", "detail"}
    assert answer.status_code == answer.json()["status"] == status
    return str(answer.json()["detail"])


def test_the_answer_has_the_row_of_predict(client: httpx.Client, film: bytes, tmp_path: Path, options: Options) -> None:
    answer = send(client, film).json()
    (tmp_path / "film.png").write_bytes(film)
    radiograph = read_radiograph(tmp_path / "film.png")
    expected = row_of("film.png", radiograph, Segmenter(options.models).segment(radiograph))
    assert {column: answer[column] for column in COLUMNS if column != "path"} | {"path": answer["name"]} == expected
    assert answer["infected_fraction_left"] > 0.05
    assert (answer["task"], answer["disclaimer"]) == ("opacity", "Research use only. Not for diagnosis.")
    Segmented.model_validate_json(json.dumps(answer), strict=True)


def test_the_pictures_are_enough_to_measure_again(client: httpx.Client, film: bytes) -> None:
    answer = send(client, film).json()
    assert answer["grid"] == {"width": 160, "height": 200, "spacing_mm": None}
    assert (picture(answer, "image") == pixels_of(film)).all()
    infection = picture(answer, "probability") >= math.ceil(255 * answer["threshold"])
    lungs, regions = picture(answer, "lungs"), picture(answer, "regions")
    assert set(np.unique(lungs)) == {0, 255}
    assert ((regions > 0) == (lungs > 0)).all()
    row = measure_severity(infection, lungs > 0).as_row()
    assert all(answer[name] == (round(value, 6) if isinstance(value, float) else value) for name, value in row.items())
    zones = ("left_upper", "left_middle", "left_lower", "right_upper", "right_middle", "right_lower")
    for number, zone in enumerate(zones, start=1):
        assert infection[regions == number].mean() == pytest.approx(answer[f"infected_fraction_{zone}"], abs=1e-6)


def test_a_large_film_is_answered_on_a_smaller_grid(
    client: httpx.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "LARGEST_SIDE", 200)
    path = make_film(tmp_path / "large.dcm", chest((500, 401))[0], PixelSpacing=[0.6, 0.5], ImagerPixelSpacing=None)
    answer = send(client, path.read_bytes(), "large.dcm").json()
    assert (answer["width"], answer["height"]) == (401, 500)
    assert answer["grid"]["spacing_mm"] == pytest.approx([0.6 * 500 / 200, 0.5 * 401 / 160])
    for name in ("image", "probability", "lungs", "regions"):
        assert picture(answer, name).shape == (200, 160)
    infection = picture(answer, "probability") >= math.ceil(255 * answer["threshold"])
    row = measure_severity(infection, picture(answer, "lungs") > 0).as_row()
    assert row["infected_fraction"] == pytest.approx(answer["infected_fraction"], abs=0.005)


def test_a_refused_image_comes_with_its_reason_and_without_maps(client: httpx.Client) -> None:
    flat = np.full((120, 130), 90, np.uint8)
    answer = send(client, png(flat)).json()
    assert answer["status"] == "refused"
    assert answer["reason"]
    assert (picture(answer, "image") == flat).all()
    assert [answer[name] for name in ("probability", "lungs", "regions", "infected_fraction")] == [None] * 4
    assert answer["reason"] in problem(send(client, png(flat), format="png"), 422)


def test_a_mask_lies_on_the_pixels_of_the_file(client: httpx.Client, tmp_path: Path) -> None:
    pixels, infection, _ = chest((200, 160))
    path = make_film(tmp_path / "turned.dcm", pixels[:, ::-1], PatientOrientation=["R", "F"])
    answer = send(client, path.read_bytes(), "turned.dcm", format="png")
    assert answer.headers["content-type"] == "image/png"
    mask = pixels_of(answer.content) == 255
    expected = infection[:, ::-1]
    assert 2 * (mask & expected).sum() / (mask.sum() + expected.sum()) > 0.9


def test_a_dicom_film_becomes_a_seg(client: httpx.Client, tmp_path: Path) -> None:
    path = make_film(tmp_path / "film.dcm", chest((200, 160))[0])
    answer = send(client, path.read_bytes(), "film", format="seg")
    assert answer.headers["content-type"] == "application/dicom"
    made = dcmread(io.BytesIO(answer.content))
    assert made.Modality == "SEG"
    assert made.StudyInstanceUID == dcmread(path).StudyInstanceUID
    assert [item.SegmentAlgorithmType for item in made.SegmentSequence] == ["AUTOMATIC"] * 3


def test_a_seg_of_a_png_is_a_problem(client: httpx.Client, film: bytes) -> None:
    assert "film.png is not a DICOM file" in problem(send(client, film, format="seg"), 422)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"no image", "none of BMP, JPEG, PNG, TIFF, WEBP"),
        (b"", "none of BMP, JPEG, PNG, TIFF, WEBP"),
        (b"%PDF-1.7", "is a PDF file"),
    ],
)
def test_a_file_that_is_not_a_radiograph_is_a_problem(client: httpx.Client, content: bytes, said: str) -> None:
    detail = problem(send(client, content, "../../etc/my film.png"), 422)
    assert said in detail
    assert detail.startswith("my film.png")
    assert "/" not in detail.replace("BMP, ", "")


def test_a_film_that_is_cut_short_is_a_problem(client: httpx.Client, film: bytes) -> None:
    assert "damaged or cut short" in problem(send(client, film[: len(film) // 2]), 422)


@pytest.mark.parametrize(
    "query", [{"task": "cure"}, {"format": "gif"}, {"window": -1}, {"value_range": "white"}, {"task": "covid19"}]
)
def test_wrong_settings_are_problems(client: httpx.Client, film: bytes, query: dict[str, Any]) -> None:
    assert (
        next(iter(query)) in problem(send(client, film, **query), 422)
        or "supports" in send(client, film, **query).json()["detail"]
    )


def test_the_value_range_is_used(client: httpx.Client) -> None:
    pixels = np.rint(chest((200, 160))[0] * 1000).astype(np.uint16)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    answer = send(client, file.getvalue(), value_range="0:1000").json()
    assert picture(answer, "image").max() == round(255 * int(pixels.max()) / 1000)


def test_a_missing_file_is_a_problem(client: httpx.Client) -> None:
    assert "file" in problem(client.post("/v1/segment", files={"other": b"x"}), 422)
    problem(client.post("/v1/segment", content=b"x"), 422)
    problem(client.get("/v1/nothing"), 404)
    problem(client.get("/v1/segment"), 405)


def test_nothing_of_a_request_stays_on_the_disk(options: Options, film: bytes) -> None:
    with serving(options=options) as (client, service):
        folder = Path(service.uploads)
        for content in (film, b"broken"):
            send(client, content)
        assert list(folder.iterdir()) == []
    assert not folder.exists()


def test_the_model_and_the_health_are_told(client: httpx.Client, options: Options) -> None:
    told = client.get("/v1/model").json()
    assert (told["name"], told["tasks"], told["task"]) == ("hand", ["opacity", "infection"], "opacity")
    assert told["sha256"] == Segmenter(options.models).mark.sha256
    assert client.get("/v1/health").json() == {
        "status": "ok",
        "version": __version__,
        "token": False,
        "folder": False,
        "keep": False,
    }


def test_phantoms_to_try_it_with(client: httpx.Client) -> None:
    told = client.get("/v1/phantoms").json()
    answer = client.get(f"/v1/phantoms/{told[-1]['number']}")
    assert pixels_of(answer.content).shape == (512, 512)
    problem(client.get(f"/v1/phantoms/{len(told)}"), 422)


def test_metrics_count_requests_and_images(options: Options, film: bytes) -> None:
    with serving(options=options) as (client, _):
        send(client, film)
        send(client, b"broken")
        client.get("/somewhere/else")
        told = client.get("/metrics").text.splitlines()
    assert 'cxrseg_requests_total{method="POST",route="/v1/segment",status="200"} 1.0' in told
    assert 'cxrseg_requests_total{method="POST",route="/v1/segment",status="422"} 1.0' in told
    assert 'cxrseg_requests_total{method="GET",route="other",status="404"} 1.0' in told
    assert 'cxrseg_images_total{status="ok"} 1.0' in told
    assert "cxrseg_batch_images_count 1.0" in told
    assert "cxrseg_requests_waiting 0.0" in told
