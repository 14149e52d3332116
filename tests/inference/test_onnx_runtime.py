"""The engine for GPUs, on ONNX Runtime's CPU provider: it gives what OpenVINO gives, and says what is missing."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from cxrseg.errors import ArgumentError, MissingExtraError, ModelFileError
from cxrseg.inference.engine import Engine
from cxrseg.inference.onnx_runtime import OnnxRuntimeRunner
from cxrseg.model_file import read_model, shipped_model, write_model
from cxrseg.training.fit import Run

CPU = [("CPUExecutionProvider", {})]


def agree(path: Path) -> None:
    engine, runner = Engine(path), OnnxRuntimeRunner(path, CPU)
    height, width = engine.info.size
    pixels = np.random.default_rng(0).random((3, height, width), np.float32)
    expected, found = engine.run(pixels), runner.run(pixels)
    np.testing.assert_allclose(found[0], expected.maps, rtol=0, atol=1e-4)
    others = [output for output in (expected.categories, expected.views) if output is not None]
    for given, wanted in zip(found[1:], others, strict=True):
        np.testing.assert_allclose(given, wanted, rtol=1e-3, atol=1e-3)
    assert all(output.dtype == np.float32 for output in found)
    assert runner.info == engine.info


def test_the_shipped_weights_give_the_same() -> None:
    agree(shipped_model())


def test_the_temperature_divides_the_logits(tmp_path: Path, tiny_run: Run) -> None:
    info = replace(read_model(tiny_run.folder.model)[1], temperature=3.0)
    write_model(tmp_path / "warm.onnx", tiny_run.folder.model.read_bytes(), info)
    agree(tmp_path / "warm.onnx")


def test_a_foreign_graph_is_refused(tmp_path: Path, bright_model: Path) -> None:
    foreign = onnx.load(bright_model)
    del foreign.metadata_props[:]
    onnx.save(foreign, tmp_path / "model.onnx")
    with pytest.raises(ModelFileError, match="without the metadata"):
        OnnxRuntimeRunner(tmp_path / "model.onnx", CPU)


def test_a_provider_that_cannot_be_loaded_is_named(bright_model: Path) -> None:
    with pytest.warns(UserWarning), pytest.raises(MissingExtraError, match="cannot load CUDAExecutionProvider"):
        OnnxRuntimeRunner(bright_model, [("CUDAExecutionProvider", {}), *CPU])


def has_gpu_support() -> bool:
    import onnxruntime

    return "CUDAExecutionProvider" in onnxruntime.get_available_providers()


@pytest.mark.skipif(has_gpu_support(), reason="this ONNX Runtime supports GPUs")
def test_a_gpu_without_its_package_says_what_to_install(bright_model: Path) -> None:
    with pytest.raises(MissingExtraError, match=r"gpu:1 needs ONNX Runtime for GPUs: pip install 'cxrseg\[gpu\]'"):
        Engine(bright_model, device="gpu:1")


@pytest.mark.parametrize("device", ["tpu", "gpu:x", "gpu0"])
def test_an_unknown_device_is_refused(bright_model: Path, device: str) -> None:
    with pytest.raises(ArgumentError, match="expected the device cpu, gpu or gpu:N"):
        Engine(bright_model, device=device)


@pytest.mark.skipif(not has_gpu_support(), reason="needs a GPU")
def test_a_gpu_gives_the_same(tiny_run: Run) -> None:
    pixels = np.random.default_rng(0).random((3, 64, 64), np.float32)
    expected = Engine(tiny_run.folder.model).run(pixels).maps
    for precision, tolerance in (("float32", 1e-4), ("auto", 1e-2)):
        found = Engine(tiny_run.folder.model, device="gpu", precision=precision).run(pixels).maps  # type: ignore[arg-type]
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)
