from __future__ import annotations

import base64
import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread

from cxrseg.data.layout import open_dataset
from cxrseg.errors import CxrsegError, DiskFullError
from cxrseg.inference.options import Options
from cxrseg.metrics.severity import measure_severity
from cxrseg.serve import answer as answers
from cxrseg.serve import corrections
from cxrseg.serve.corrections import Corrections, safe_stem
from cxrseg.serve.service import Service
from made_films import make_film
from made_models import chest
from made_service import pixels_of, png, serving

PIXELS, INFECTION, LUNGS = chest((200, 160))


@pytest.fixture(scope="module")
def keeping(options: Options, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[httpx.Client, Service]]:
    """A service that keeps corrections, and lists three chests, one of them doubtful, and a flat image."""
    folder = tmp_path_factory.mktemp("films")
    images = {"a.png": png(PIXELS), "b.png": png(chest((200, 160), infected=False)[0]), "flat.png": png(PIXELS * 0)}
    # Where the model decides at 0.77, its probability of infection is one half.
    doubtful = np.where(INFECTION | (LUNGS & (np.arange(160) > 80)), 0.772, PIXELS)
    (folder / "sub").mkdir()
    for name, content in {**images, "sub/doubtful.png": png(doubtful.astype(np.float32))}.items():
        (folder / name).write_bytes(content)
    (folder / "broken.png").write_bytes(b"broken")
    (folder / "outside.png").symlink_to(make_film(tmp_path_factory.mktemp("else") / "secret.dcm", PIXELS))
    with serving(options=options, folder=folder, keep=tmp_path_factory.mktemp("keep") / "new") as (client, service):
        while any(film.score is None for film in service.films.list()):
            time.sleep(0.05)
        yield client, service


def correct(client: httpx.Client, masks: dict[str, np.ndarray], query: dict[str, Any] | None = None, **more: Any):
    files = {kind: (f"{kind}.png", png(mask)) for kind, mask in masks.items()}
    if "image" in more:
        files["image"] = more.pop("image")
    return client.post("/v1/corrections", files=files, data=more, params=query)


def test_the_images_of_the_folder_are_listed_with_their_measurements(keeping: tuple[httpx.Client, Service]) -> None:
    client, _ = keeping
    images = {image["name"]: image for image in client.get("/v1/images").json()["images"]}
    assert list(images) == ["a.png", "b.png", "broken.png", "flat.png", "sub/doubtful.png"]
    assert {name: image["status"] for name, image in images.items()} == {
        "a.png": "ok",
        "b.png": "ok",
        "broken.png": "failed",
        "flat.png": "refused",
        "sub/doubtful.png": "ok",
    }
    assert images["a.png"]["infected_fraction"] > 0.05 > images["b.png"]["infected_fraction"] == 0
    assert images["flat.png"]["reason"]
    assert "broken.png" in images["broken.png"]["reason"]
    assert "/" not in images["broken.png"]["reason"].replace("BMP, ", "")


def test_the_file_of_an_image_is_given_and_nothing_else(keeping: tuple[httpx.Client, Service]) -> None:
    client, _ = keeping
    image = client.get("/v1/images").json()["images"][0]
    answer = client.get(f"/v1/images/{image['id']}")
    assert answer.content == png(PIXELS)
    assert answer.headers["content-type"] == "image/png"
    assert client.get("/v1/images/0123456789abcdef").status_code == 404
    for attempt in ("..%2f..%2fetc%2fpasswd", "a.png", "%00", "a" * 15):
        assert client.get(f"/v1/images/{attempt}").status_code in (404, 422)


def test_the_next_image_is_the_most_uncertain_one_until_it_is_corrected(
    keeping: tuple[httpx.Client, Service],
) -> None:
    client, _ = keeping
    told = client.get("/v1/next").json()
    assert (told["image"]["name"], told["scored"], told["images"]) == ("sub/doubtful.png", 5, 5)
    others = [image["uncertainty"] for image in client.get("/v1/images").json()["images"]]
    assert told["image"]["uncertainty"] == max(value for value in others if value is not None) > 0.2
    answer = correct(client, {"infection": INFECTION, "lungs": LUNGS}, id=told["image"]["id"])
    assert answer.status_code == 200
    assert client.get("/v1/next").json()["image"]["name"] != "sub/doubtful.png"
    assert {image["name"]: image["corrected"] for image in client.get("/v1/images").json()["images"]}[
        "sub/doubtful.png"
    ]


def test_a_service_without_a_folder_says_so(client: httpx.Client) -> None:
    for path in ("/v1/images", "/v1/next", "/v1/images/0123456789abcdef"):
        answer = client.get(path)
        assert (answer.status_code, "--folder" in answer.json()["detail"]) == (404, True)


def test_corrections_are_a_dataset_to_train_on(options: Options, tmp_path: Path) -> None:
    turned = make_film(tmp_path / "t.dcm", PIXELS[:, ::-1], PatientOrientation=["R", "F"])
    films = {"../one.png": png(PIXELS), "two": turned.read_bytes()}
    smaller = INFECTION & (np.arange(200)[:, None] > 100)
    with serving(options=options, keep=tmp_path / "keep") as (client, _):
        for name, content in films.items():
            for mask in (INFECTION, smaller):  # the second replaces the first
                answer = correct(client, {"infection": mask, "lungs": LUNGS}, image=(name, content))
                assert answer.status_code == 200
            again = correct(client, {"infection": smaller, "lungs": LUNGS}, image=("other name.png", content))
            assert again.json()["image"] == answer.json()["image"]
    row = measure_severity(smaller, LUNGS).as_row()
    assert answer.json()["infected_fraction"] == pytest.approx(row["infected_fraction"])
    dataset = open_dataset(tmp_path / "keep")
    assert [sample.image.suffix for sample in dataset.samples] == [".png", ".dcm"]
    for sample in dataset.samples:
        assert np.array_equal(sample.read_mask("infection"), smaller)
        assert np.array_equal(sample.read_mask("lungs"), LUNGS)
        assert np.corrcoef(sample.read_image().pixels.ravel(), PIXELS.ravel())[0, 1] > 0.999
    assert sorted(path.name for path in tmp_path.iterdir()) == ["keep", "t.dcm"]


def test_masks_of_a_large_film_come_on_the_grid(
    options: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "LARGEST_SIDE", 200)
    pixels, infection, lungs = chest((500, 400))
    grid = {"infection": INFECTION, "lungs": LUNGS}
    with serving(options=options, keep=tmp_path / "keep") as (client, _):
        assert correct(client, grid, image=("large.png", png(pixels))).status_code == 200
    sample = open_dataset(tmp_path / "keep").samples[0]
    for target, expected in (("infection", infection), ("lungs", lungs)):
        mask = sample.read_mask(target)
        assert 2 * (mask & expected).sum() / (mask.sum() + expected.sum()) > 0.98


def test_masks_as_a_canvas_writes_them_are_understood(options: Options, tmp_path: Path) -> None:
    """Colour with transparency: white where it is marked, and nothing elsewhere."""
    files = {"image": ("film.png", png(PIXELS))}
    for kind, mask in {"infection": INFECTION, "lungs": LUNGS}.items():
        file = io.BytesIO()
        Image.fromarray(np.repeat(mask[..., None], 4, axis=2).astype(np.uint8) * 255).save(file, "PNG")
        files[kind] = ("mask.png", file.getvalue())
    with serving(options=options, keep=tmp_path / "keep") as (client, _):
        assert client.post("/v1/corrections", files=files).status_code == 200
    assert np.array_equal(open_dataset(tmp_path / "keep").samples[0].read_mask("infection"), INFECTION)


def test_a_corrected_film_becomes_a_seg_without_being_kept(client: httpx.Client, tmp_path: Path) -> None:
    content = make_film(tmp_path / "film.dcm", PIXELS).read_bytes()
    masks = {"infection": LUNGS, "lungs": LUNGS}
    answer = correct(client, masks, {"as": "seg", "save": "false"}, image=("film.dcm", content))
    made = dcmread(io.BytesIO(answer.content))
    assert [item.SegmentAlgorithmType for item in made.SegmentSequence] == ["SEMIAUTOMATIC"] * 3
    assert np.array_equal(made.pixel_array[2] > 0, LUNGS)
    saved = correct(client, masks, {"save": "false"}, image=("film.dcm", content)).json()
    assert [saved[name] for name in ("image", "infection", "lungs")] == [None] * 3


def test_wrong_corrections_are_problems_and_save_nothing(keeping: tuple[httpx.Client, Service]) -> None:
    client, service = keeping
    before = service.corrections.marks()
    good = {"infection": INFECTION, "lungs": LUNGS}
    image = ("new.png", png(PIXELS * np.float32(0.9)))
    for masks, more, status, said in (
        (good, {}, 422, "either"),
        (good, {"image": image, "id": "0" * 16}, 422, "either"),
        (good, {"id": "0" * 16}, 404, "no image with the id"),
        (good, {"image": ("new.png", b"x")}, 422, "new.png is none of"),
        ({"infection": INFECTION}, {"image": image}, 422, "lungs"),
        ({**good, "lungs": LUNGS[:-1]}, {"image": image}, 422, "expected the lung mask on the image's 160x200 pixels"),
        ({**good, "infection": PIXELS}, {"image": image}, 422, "the infection mask holds"),
    ):
        answer = correct(client, masks, **more)
        assert (answer.status_code, said in answer.json()["detail"]) == (status, True), answer.text
    answer = correct(client, good, {"as": "seg"}, image=image)
    assert answer.status_code == 422
    assert service.corrections.marks() == before


def test_a_service_that_keeps_nothing_says_so(client: httpx.Client) -> None:
    answer = correct(client, {"infection": INFECTION, "lungs": LUNGS}, image=("a.png", png(PIXELS)))
    assert (answer.status_code, "--keep" in answer.json()["detail"]) == (403, True)


def test_a_full_disk_is_a_problem_and_leaves_no_masks_without_an_image(
    options: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise DiskFullError("no room left on the disk")

    monkeypatch.setattr(corrections, "write_atomic", full)  # the image comes last
    with serving(options=options, keep=tmp_path / "keep") as (client, _):
        answer = correct(client, {"infection": INFECTION, "lungs": LUNGS}, image=("a.png", png(PIXELS)))
    assert (answer.status_code, answer.json()["detail"]) == (507, "no room left on the disk")
    assert list((tmp_path / "keep").rglob("*.p*")) == []


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("film.png", "film"),
        ("../../etc/passwd", "passwd"),
        ("..\\..\\windows\\film.PNG", "film"),
        ("..", "image"),
        (".hidden.png", "hidden"),
        ("", "image"),
        ("a\0b\nc.dcm", "a_b_c"),
        ("Müller, 肺 (2).jpeg", "Müller_ 肺 (2)"),
        ("1.2.840.113", "1.2.840.113"),
        ("CON", "CON"),
        ("é" * 300, "é" * 40),
    ],
)
def test_names_lead_nowhere(name: str, stem: str) -> None:
    assert safe_stem(name) == stem


def test_a_folder_that_cannot_be_written_is_refused_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CxrsegError, match="--keep"):
        Corrections(tmp_path / "file" / "keep")


def test_what_the_service_answers_can_be_sent_back(options: Options, tmp_path: Path) -> None:
    with serving(options=options, keep=tmp_path) as (client, _):
        answer = client.post("/v1/segment", files={"file": png(PIXELS)}).json()
        maps = {name: pixels_of(base64.b64decode(answer[name]["png"])) for name in ("probability", "lungs")}
        masks = {"infection": maps["probability"] >= 128, "lungs": maps["lungs"] > 0}
        saved = correct(client, masks, image=("film.png", png(PIXELS))).json()
    assert saved["infected_fraction"] == pytest.approx(answer["infected_fraction"], abs=1e-6)
