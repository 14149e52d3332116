from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest

from cxrseg.errors import ModelFileError
from cxrseg.inference.engine import Engine, _OpenVino
from cxrseg.model_file import read_model, write_model
from cxrseg.training.fit import Run


def noise(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((count, 64, 64), np.float32)


def test_probabilities_by_channel(bright_model: Path) -> None:
    pixels = noise(3)
    found = Engine(bright_model).run(pixels).maps
    assert (found.shape, found.dtype) == ((3, 2, 64, 64), np.float32)
    expected = 1 / (1 + np.exp(-200 * (pixels.astype(np.float64) - 0.5)))
    np.testing.assert_allclose(found[:, 0], expected, atol=1e-5)
    np.testing.assert_allclose(found[:, 1], 1 - expected, atol=1e-5)


def test_the_temperature_divides_the_logits(tmp_path: Path, bright_model: Path) -> None:
    import dataclasses

    info = dataclasses.replace(read_model(bright_model)[1], temperature=50.0)
    write_model(tmp_path / "warm.onnx", bright_model.read_bytes(), info)
    pixels = noise(1)
    found = Engine(tmp_path / "warm.onnx").run(pixels).maps[0, 0]
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-4 * (pixels[0].astype(np.float64) - 0.5))), atol=1e-5)


def test_eight_threads_find_what_one_finds(tiny_run: Run) -> None:
    engine = Engine(tiny_run.folder.model)
    images = noise(64)
    alone = [engine.run(image[None]).maps for image in images]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda image: engine.run(image[None]).maps, images))
    assert all(np.array_equal(one, other) for one, other in zip(alone, together, strict=True))


@pytest.mark.parametrize("streams", [0, 1, 2])
def test_the_processors_are_left_to_the_system(bright_model: Path, streams: int) -> None:
    """OpenVINO would hold its threads on the first processors, and so those of every other process."""
    runner = Engine(bright_model, streams=streams)._runner
    assert isinstance(runner, _OpenVino)
    assert runner._compiled.get_property("ENABLE_CPU_PINNING") is False


def test_a_result_is_the_callers_own(tiny_run: Run) -> None:
    engine = Engine(tiny_run.folder.model)
    first = engine.run(noise(1)).maps
    kept = first.copy()
    engine.run(noise(1, seed=1))
    assert np.array_equal(first, kept)
    first[:] = 0
    assert np.array_equal(engine.run(noise(1)).maps, kept)


def test_pixels_that_lie_apart_in_memory_are_read_right(tiny_run: Run) -> None:
    engine = Engine(tiny_run.folder.model)
    mirrored = noise(2)[:, :, ::-1]
    np.testing.assert_array_equal(engine.run(mirrored).maps, engine.run(mirrored.copy()).maps)


def test_two_engines_of_one_file_agree(tiny_run: Run) -> None:
    first, second = Engine(tiny_run.folder.model), Engine(tiny_run.folder.model)
    np.testing.assert_array_equal(first.run(noise(2)).maps, second.run(noise(2)).maps)
    assert first.info == second.info == read_model(tiny_run.folder.model)[1]


def test_another_file_in_the_same_place_is_another_model(tmp_path: Path, bright_model: Path, tiny_run: Run) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(bright_model.read_bytes())
    first = Engine(path).run(noise(1)).maps
    path.write_bytes(tiny_run.folder.model.read_bytes())
    assert not np.allclose(Engine(path).run(noise(1)).maps, first)


@pytest.mark.parametrize("data", [None, b"", b"no graph"])
def test_what_is_no_model_file_is_refused(tmp_path: Path, data: bytes | None) -> None:
    path = tmp_path / "model.onnx"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(ModelFileError, match=r"model\.onnx"):
        Engine(path)


def test_a_foreign_graph_is_refused(tmp_path: Path, bright_model: Path) -> None:
    model = onnx.load(bright_model)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "foreign.onnx")
    with pytest.raises(ModelFileError, match="without the metadata"):
        Engine(tmp_path / "foreign.onnx")


def test_the_first_inference_is_over_before_threads_can_meet(tiny_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    # OpenVINO's binding deadlocks where two threads hand it their first array at once.
    threads = []
    run = _OpenVino.run

    def noted(self: _OpenVino, pixels: np.ndarray) -> np.ndarray:
        threads.append(threading.current_thread())
        return run(self, pixels)

    monkeypatch.setattr(_OpenVino, "run", noted)
    Engine(tiny_run.folder.model)
    assert threads == [threading.current_thread()]
