"""A service without the right to write or to read, two services on one folder, and a clock that was set back."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from cxrseg.data.layout import open_dataset
from cxrseg.inference.options import Options
from cxrseg.io.masks import read_mask
from made_models import chest
from made_rights import run_with_rights, with_rights
from made_service import png, serving

PIXELS, INFECTION, LUNGS = chest((200, 160))
SMALLER = INFECTION & (np.arange(200)[:, None] > 100)


def correct(client: httpx.Client, infection: np.ndarray = INFECTION, **more: Any) -> httpx.Response:
    files = {"infection": ("i.png", png(infection)), "lungs": ("l.png", png(LUNGS))}
    if not more:
        files["image"] = ("film.png", png(PIXELS))
    return client.post("/v1/corrections", files=files, data=more)


def arguments(options: Options, *more: object) -> tuple[object, ...]:
    return ("serve", "--port", "0", "--no-browser", "-m", options.models[0], *more)


@contextmanager
def service(command: list[str], cwd: Path) -> Iterator[httpx.Client]:
    """The command `serve` as a process; at the end it must stop on SIGTERM without an error."""
    environment = {key: value for key, value in os.environ.items() if key != "CXRSEG_TOKEN"}
    process = subprocess.Popen(
        command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    try:
        assert process.stdout is not None
        address = re.fullmatch(r"Serving at (http://\S+/)\n", process.stdout.readline())
        assert address is not None
        with httpx.Client(base_url=address[1], timeout=60, trust_env=False) as client:
            yield client
    finally:
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")


def test_a_folder_of_corrections_that_may_not_be_written_is_named(options: Options, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir(mode=0o555)
    for name in ("images", "infection masks", "lung masks"):
        (tmp_path / "earlier" / name).mkdir(parents=True)
    (tmp_path / "earlier" / "lung masks").chmod(0o555)
    for keep, named in {"new": "new/images", "earlier": "earlier/lung masks"}.items():
        done = run_with_rights(*arguments(options, "--keep", keep), cwd=tmp_path)
        assert (done.returncode, done.stderr) == (
            3,
            f"Error: {named} cannot be written (Permission denied); change its permissions, or give another --keep\n",
        )


def test_a_folder_of_images_that_may_not_be_read_is_named(options: Options, tmp_path: Path) -> None:
    (tmp_path / "films").mkdir(mode=0o444)  # its names may be read, its files not
    done = run_with_rights(*arguments(options, "--folder", "films"), cwd=tmp_path)
    (tmp_path / "films").chmod(0o755)
    assert (done.returncode, done.stderr) == (
        3,
        "Error: films may not be read; change its permissions, or give another --folder\n",
    )


def test_a_service_goes_on_without_the_film_that_it_may_not_read_and_after_a_save_that_failed(
    options: Options, tmp_path: Path
) -> None:
    for name in ("a.png", "secret.png", "z.png"):
        (tmp_path / "films").mkdir(exist_ok=True)
        (tmp_path / "films" / name).write_bytes(png(PIXELS))
    (tmp_path / "films" / "secret.png").chmod(0)
    with service(with_rights(*arguments(options, "--folder", "films", "--keep", "keep")), tmp_path) as client:
        while "waiting" in {film["status"] for film in client.get("/v1/images").json()["images"]}:
            time.sleep(0.05)
        films = {film["name"]: film for film in client.get("/v1/images").json()["images"]}
        assert {name: film["status"] for name, film in films.items()} == {
            "a.png": "ok",
            "secret.png": "failed",
            "z.png": "ok",
        }
        denied = "secret.png may not be read; change its permissions"
        assert films["secret.png"]["reason"] == denied
        for answer in (
            client.get(f"/v1/images/{films['secret.png']['id']}"),
            correct(client, id=films["secret.png"]["id"]),
        ):
            assert (answer.status_code, answer.json()["detail"]) == (422, denied)
        assert client.get(f"/v1/images/{films['z.png']['id']}").content == png(PIXELS)
        images = tmp_path / "keep" / "images"
        images.chmod(0o555)
        answer = correct(client, id=films["a.png"]["id"])
        assert (answer.status_code, "keep cannot be written" in answer.json()["detail"]) == (507, True)
        assert not list((tmp_path / "keep").glob("[!.]*/*"))  # no mask without its image
        images.chmod(0o755)
        assert correct(client, SMALLER, id=films["a.png"]["id"]).status_code == 200
        assert [path.name for path in (tmp_path / "keep").glob(".*")] == [".lock"]
    (sample,) = open_dataset(tmp_path / "keep").samples
    assert np.array_equal(sample.read_mask("infection"), SMALLER)  # the later one, not the one that failed


def test_a_second_service_on_a_folder_of_corrections_ends_at_once(options: Options, tmp_path: Path) -> None:
    with serving(options=options, keep=tmp_path / "keep") as (client, _):
        part = tmp_path / "keep" / "images" / ".film.png.elsewhere-1-0.part"
        part.touch()  # what the first service is writing
        done = run_with_rights(*arguments(options, "--keep", "keep"), cwd=tmp_path)
        assert (done.returncode, done.stdout, done.stderr) == (
            3,
            "",
            "Error: another service saves corrections into keep; stop it, or give another --keep\n",
        )
        assert part.exists()
        assert correct(client).status_code == 200
    with serving(options=options, keep=tmp_path / "keep") as (client, _):
        assert correct(client).status_code == 200
        assert len(open_dataset(tmp_path / "keep").samples) == 1


def test_the_latest_correction_counts_after_the_clock_was_set_back(options: Options, tmp_path: Path) -> None:
    films, keep, tomorrow = tmp_path / "films", tmp_path / "keep", time.time() + 86_400
    films.mkdir()
    (films / "a.png").write_bytes(png(PIXELS))
    with serving(options=options, keep=keep) as (client, _):
        assert correct(client, INFECTION).status_code == 200
    for path in (*keep.rglob("*"), keep, films / "a.png"):  # what a clock leaves that was a day ahead until now
        os.utime(path, (tomorrow, tomorrow))
    with serving(options=options, keep=keep, folder=films) as (client, running):
        while any(film.score is None for film in running.films.list()):
            time.sleep(0.05)
        film = client.get("/v1/images").json()["images"][0]
        assert film["corrected"]
        assert correct(client, SMALLER, id=film["id"]).status_code == 200
        (sample,) = open_dataset(keep).samples
        assert np.array_equal(read_mask(sample.masks["infection"]), SMALLER)
        (films / "a.png").write_bytes(png(chest((200, 160), infected=False)[0]))  # older than what it replaces
        while (changed := client.get("/v1/images").json()["images"][0])["status"] == "waiting":
            time.sleep(0.05)
        assert (changed["corrected"], changed["infected_fraction"]) == (False, 0)
