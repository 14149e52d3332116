"""`cxrseg serve` that is killed while clients save corrections: what it said it saved is there, and nothing in part."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest

from cxrseg.data.layout import open_dataset
from cxrseg.io.read import read_radiograph
from cxrseg.serve import corrections
from cxrseg.serve.corrections import Corrections
from made_models import chest, hand_model
from made_service import png

PIXELS, INFECTION, LUNGS = chest((200, 160))
_KEPT = 3  # number of images: each is corrected again and again, so that a kill meets new and replaced corrections


@contextmanager
def service(folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command on `folder`/films, which keeps corrections in `folder`/keep, and its address."""
    command = [sys.executable, "-m", "cxrseg", "serve", "--port", "0", "--no-browser", "-m", str(folder / "hand.onnx")]
    command += ["--folder", str(folder / "films"), "--keep", str(folder / "keep")]
    environment = {**os.environ, "TMPDIR": str(folder)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        try:
            address = re.search(r"http://\S+", process.stdout.readline())
            assert address is not None
            yield process, address[0]
        finally:
            process.kill()


def marked(number: int) -> np.ndarray:
    """An infection mask that tells which correction it is of; the lung mask of the same one is `lungs_of`."""
    mask = INFECTION.copy()
    mask[-1, :16] = [bit == "1" for bit in f"{number:016b}"]
    return mask


def lungs_of(number: int) -> np.ndarray:
    mask = LUNGS.copy()
    mask[-1, :16] = marked(number)[-1, :16]
    return mask


def number_of(mask: np.ndarray) -> int:
    return int("".join(str(int(bit)) for bit in mask[-1, :16]), 2)


def hidden(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob(".*"))


def save_for_ever(address: str, films: list[Path], begin: int, told: dict[str, int], sent: dict[str, int]) -> None:
    """Correct one image after another until the service is gone; note what was sent, and what it said it saved."""
    number = begin
    with httpx.Client(base_url=address, timeout=60, trust_env=False) as client:
        while True:
            film = films[number % len(films)]
            files = {
                kind: (f"{kind}.png", png(mask))
                for kind, mask in {"infection": marked(number), "lungs": lungs_of(number)}.items()
            }
            files["image"] = (film.name, film.read_bytes())
            sent[film.name] = number
            try:
                answer = client.post("v1/corrections", files=files)
            except httpx.HTTPError:
                return
            assert answer.status_code == 200, answer.text
            told[film.name] = number
            number += 1


def test_every_correction_that_was_acknowledged_is_whole_after_a_kill(tmp_path: Path) -> None:
    hand_model(tmp_path / "hand.onnx")
    (tmp_path / "films").mkdir()
    clients: list[tuple[list[Path], dict[str, int], dict[str, int]]] = []
    for client in range(3):  # each corrects images of its own, so that the last number told is the least that is kept
        films = [tmp_path / "films" / f"{client}-{place}.png" for place in range(_KEPT)]
        for place, film in enumerate(films):
            film.write_bytes(png(PIXELS * np.float32(1 - 0.02 * (3 * client + place))))
        clients.append((films, {}, {}))
    for round_ in range(3):
        with service(tmp_path) as (process, address):  # the same command each time
            threads = [
                threading.Thread(target=save_for_ever, args=(address, films, 1 + 1000 * round_, told, sent))
                for films, told, sent in clients
            ]
            for thread in threads:
                thread.start()
            while sum(len(told) for _, told, _ in clients) < 3 * _KEPT or (
                round_ and not all(max(told.values()) > 1000 * round_ for _, told, _ in clients)
            ):
                assert process.poll() is None
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
            for thread in threads:
                thread.join()
    with service(tmp_path) as (_, address):
        assert httpx.get(f"{address}v1/health", trust_env=False).json()["keep"] is True
        assert hidden(tmp_path / "keep") == [".lock"]
    dataset = open_dataset(tmp_path / "keep")
    assert len(dataset.samples) == 3 * _KEPT
    names = {hashlib.sha256(film.read_bytes()).hexdigest()[:12]: film.name for films, _, _ in clients for film in films}
    told = {name: number for _, each, _ in clients for name, number in each.items()}
    sent = {name: number for _, _, each in clients for name, number in each.items()}
    for sample in dataset.samples:
        assert isinstance(sample.image, Path)
        name = names[sample.image.stem.rpartition("-")[2]]
        assert sample.image.read_bytes() == (tmp_path / "films" / name).read_bytes()
        number = number_of(sample.read_mask("infection"))
        assert told[name] <= number <= sent[name]
        assert np.array_equal(sample.read_mask("infection"), marked(number))
        assert np.array_equal(sample.read_mask("lungs"), lungs_of(number))


class _KilledError(BaseException):
    """Ends a save where a kill would."""


@pytest.mark.parametrize(
    ("again", "done"), [*((False, done) for done in range(7)), *((True, done) for done in range(5))]
)
def test_a_kill_between_two_steps_leaves_the_old_correction_or_the_new_one(
    tmp_path: Path, again: bool, done: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After `done` of the steps that give a file or a folder its name."""
    film = tmp_path / "film.png"
    film.write_bytes(png(PIXELS))
    radiograph = read_radiograph(film)
    kept = Corrections(tmp_path / "keep")
    if again:
        kept.save("film.png", film, radiograph, marked(1), lungs_of(1))
    steps, replace, rename = iter(range(done)), Path.replace, Path.rename

    def killed(path: Path, to: Path) -> Path:
        if next(steps, None) is None:
            raise _KilledError
        return (rename if path.is_dir() else replace)(path, to)

    monkeypatch.setattr(Path, "replace", killed)
    monkeypatch.setattr(Path, "rename", killed)
    monkeypatch.setattr(corrections.shutil, "rmtree", lambda *_, **__: None)  # a killed process clears nothing away
    with pytest.raises(_KilledError):
        kept.save("film.png", film, radiograph, marked(2), lungs_of(2))
    monkeypatch.undo()
    kept.close()  # as the end of a process does
    Corrections(tmp_path / "keep").close()
    assert hidden(tmp_path / "keep") == [".lock"]
    files = list((tmp_path / "keep").rglob("*.png"))
    assert len(files) == (3 if again or done > 3 else 0)  # the fourth step saves
    if files:
        sample = open_dataset(tmp_path / "keep").samples[0]
        numbers = {number_of(sample.read_mask(kind)) for kind in ("infection", "lungs")}
        assert numbers == ({1} if again and done <= 2 else {2})
