"""Threads that read large films wait for each other."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cxrseg.inference import local, work
from cxrseg.inference.files import Options, predict_files
from cxrseg.inference.pixel_budget import PixelBudget, pixels_of
from cxrseg.io.radiograph import Radiograph
from made_films import make_film
from made_models import hand_model


class Crowd:
    """Counts what is held at the same time."""

    def __init__(self) -> None:
        self.lock, self.now, self.most, self.finished = threading.Lock(), 0, 0, 0

    def enter(self, pixels: int) -> None:
        with self.lock:
            self.now += pixels
            self.most = max(self.most, self.now)

    def leave(self, pixels: int) -> None:
        with self.lock:
            self.now -= pixels
            self.finished += 1


@pytest.mark.parametrize(("pixels", "most"), [(30, 90), (60, 60), (1000, 1000)])
def test_no_more_pixels_are_held_than_the_budget_has(pixels: int, most: int) -> None:
    """A budget of 100: three times 30, once 60, or once more than there is."""
    budget, crowd = PixelBudget(5, each=20), Crowd()

    def work() -> None:
        for _ in range(50):
            with budget.hold(pixels):
                crowd.enter(pixels)
                crowd.leave(pixels)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert crowd.finished == 400 and 0 < crowd.most <= most


def test_a_large_film_is_not_passed_by_small_ones() -> None:
    budget, order = PixelBudget(1, each=100), []
    waits = {"large": threading.Event(), "small": threading.Event()}

    def take(name: str, pixels: int) -> None:
        waits[name].set()
        with budget.hold(pixels):
            order.append(name)

    large, small = (threading.Thread(target=take, args=each) for each in (("large", 100), ("small", 1)))
    with budget.hold(50):
        large.start()
        while not budget._queue:
            waits["large"].wait(0.01)
        small.start()
        small.join(0.3)
        assert order == []  # there is room for the small one, but it came later
    large.join(60)
    small.join(60)
    assert sorted(order) == ["large", "small"]


def test_the_pixels_of_a_film_that_fails_are_given_back() -> None:
    budget = PixelBudget(1, each=10)
    for _ in range(3):
        with pytest.raises(ValueError, match="damaged"), budget.hold(10):
            raise ValueError("damaged")
    with budget.hold(10):
        pass


def test_pixels_are_counted_by_the_header(tmp_path: Path) -> None:
    Image.new("L", (30, 20)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    make_film(tmp_path / "c.dcm", np.zeros((40, 50), np.float32))
    assert [pixels_of(tmp_path / name) for name in ("a.png", "b.png", "c.dcm", "none.png")] == [600, 0, 2000, 0]


def test_large_films_of_a_batch_are_processed_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXRSEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(local, "processors", lambda: 3)
    monkeypatch.setattr(local, "PixelBudget", lambda threads: PixelBudget(threads, each=10_000))
    crowd, real = Crowd(), work.write_outputs

    def read(path: Path, **settings: object) -> Radiograph:
        crowd.enter(1)
        return Radiograph(np.random.default_rng(0).random((300, 300), np.float32), source=str(path))

    def write(*arguments: object) -> None:
        real(*arguments)  # type: ignore[arg-type]
        crowd.leave(1)

    monkeypatch.setattr(work, "read_radiograph", read)
    monkeypatch.setattr(work, "write_outputs", write)
    for number in range(8):
        path = tmp_path / "in" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("L", (300, 300), number).save(path)
    options = Options((hand_model(tmp_path / "hand.onnx"),), force=True)
    assert predict_files(tmp_path / "in", tmp_path / "out", options).counts["ok"] == 8
    assert (crowd.most, crowd.finished) == (1, 8)
