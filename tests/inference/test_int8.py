"""int8: what is measured, that it computes in int8, and what it is allowed on."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cxrseg.errors import ArgumentError, ModelFileError
from cxrseg.inference.engine import Engine
from cxrseg.inference.int8 import has_exact_int8, measure_ranges, quantised
from cxrseg.inference.segmenter import Segmenter
from cxrseg.model_file import ModelInfo, load_openvino, read_model, shipped_model, write_model
from cxrseg.phantom.generate import make_phantom

exact = pytest.mark.skipif(not has_exact_int8(), reason="this processor has no exact int8 (VNNI or AMX)")

GAINS = (1.0, 1.0, 1.0, 1.0, 2.0, -3.0, 0.5)
"""Of seven convolutions in a row: each multiplies its input."""


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    nodes = [
        helper.make_node("Conv", [before, f"w{place}"], [after], name=f"conv{place}")
        for place, (before, after) in enumerate(pairwise(["radiograph", "x1", "x2", "x3", "x4", "x5", "x6", "logits"]))
    ]
    weights = [numpy_helper.from_array(np.float32([[[[gain]]]]), f"w{place}") for place, gain in enumerate(GAINS)]
    shape = ["images", 1, 8, 8]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("radiograph", "logits")]
    graph = helper.make_graph(nodes, "chain", ends[:1], ends[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    info = ModelInfo("chain", ("infection",), (8, 8), {"mean": 0.0, "std": 1.0})
    write_model(tmp_path / "chain.onnx", model.SerializeToString(), info)
    return tmp_path / "chain.onnx"


def film(low: float, high: float) -> np.ndarray:
    return np.linspace(low, high, 64, dtype=np.float32).reshape(8, 8)


def test_a_range_is_what_enters_a_convolution_that_is_not_at_an_end(chain: Path) -> None:
    found = measure_ranges(read_model(chain)[0], [film(0.2, 0.7)] * 3)
    assert found == {"conv4": pytest.approx((0.2, 0.7), abs=1e-4), "conv5": pytest.approx((0.4, 1.4), abs=1e-4)}


def test_a_few_extreme_images_do_not_widen_it(chain: Path) -> None:
    found = measure_ranges(read_model(chain)[0], [*[film(0.2, 0.7)] * 98, film(0, 1), film(0, 1)])
    assert found["conv4"] == pytest.approx((0.2, 0.7), abs=1e-4)


def test_values_are_rounded_to_256_steps_of_the_range_and_cut_off_beyond_it(chain: Path) -> None:
    graph, _ = read_model(chain)
    changed = quantised(graph, {"conv1": (0.0, 0.5)})
    run = load_openvino().Core().compile_model(changed, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    pixels = film(0, 1)
    expected = np.rint(np.minimum(pixels, 0.5) * 510) / 510 * np.prod(GAINS)
    np.testing.assert_allclose(run(pixels[None, None])[0][0, 0], expected, atol=1e-5)
    assert [op.get_friendly_name() for op in graph.get_ordered_ops() if op.get_type_name() == "FakeQuantize"] == []


@exact
def test_masks_in_int8_are_nearly_those_in_float32() -> None:
    plain, fast = (Segmenter(input_check=False, precision=precision) for precision in ("float32", "int8"))
    assert (plain.engines[0].precision, fast.engines[0].precision) == ("float32", "int8")
    for seed in range(4):
        image = make_phantom(seed, "COVID-19").image
        one, other = plain.segment(image), fast.segment(image)
        assert not np.array_equal(one.probabilities["lungs"], other.probabilities["lungs"])
        for channel in ("infection", "lungs"):
            pair = one.mask(channel), other.mask(channel)
            overlap = 2 * np.count_nonzero(pair[0] & pair[1]) / max(1, sum(map(np.count_nonzero, pair)))
            assert overlap > 0.95 or not (pair[0].any() or pair[1].any()), (seed, channel, overlap)


@exact
def test_convolutions_of_the_shipped_weights_run_in_8_bits() -> None:
    graph, info = read_model(shipped_model())
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = load_openvino().Core().compile_model(quantised(graph, info.int8_ranges), "CPU", settings)
    kinds = [
        str(op.get_rt_info()["runtimePrecision"].value)
        for op in compiled.get_runtime_model().get_ordered_ops()
        if op.get_rt_info()["layerType"].value == "Convolution"
    ]
    assert len(kinds) > 50
    assert kinds.count("f32") == 5, kinds


@exact
def test_it_is_the_same_from_the_cache() -> None:
    height, width = Engine(shipped_model(), precision="int8").info.size
    pixels = np.random.default_rng(0).random((1, height, width), np.float32)
    first, again = (Engine(shipped_model(), precision="int8") for _ in range(2))
    assert first.precision == again.precision == "int8"
    np.testing.assert_array_equal(first.run(pixels).maps, again.run(pixels).maps)


@exact
def test_a_model_file_without_ranges_says_how_it_gets_some(bright_model: Path) -> None:
    with pytest.raises(ModelFileError, match=r"has no ranges for int8; 'cxrseg evaluate .* --fit"):
        Engine(bright_model, precision="int8")


def test_a_gpu_does_not_take_it(bright_model: Path) -> None:
    with pytest.raises(ArgumentError, match="int8 is for the CPU"):
        Engine(bright_model, precision="int8", device="gpu")


def test_auto_takes_what_the_processor_has(bright_model: Path) -> None:
    bfloat16 = "BF16" in load_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    other = "bfloat16" if bfloat16 else "float32"
    for _ in range(2):  # also from the cache
        assert Engine(shipped_model(), precision="auto").precision == ("int8" if has_exact_int8() else other)
        assert Engine(bright_model, precision="auto").precision == other


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="only x86 has processors without exact int8")
def test_a_processor_whose_sums_overflow_does_not_take_it() -> None:
    code = (
        "from cxrseg.inference.engine import Engine; from cxrseg.model_file import shipped_model\n"
        "Engine(shipped_model(), precision='int8')"
    )
    limited = {"ONEDNN_MAX_CPU_ISA": "AVX2"}  # as if the processor had no later instructions
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | limited, capture_output=True, text=True, check=False
    )
    assert "this processor has no exact int8" in done.stderr


def test_the_graph_in_the_file_stays_as_it_was(chain: Path) -> None:
    before = onnx.load(chain).graph
    quantised(read_model(chain)[0], {"conv1": (0.0, 0.5)})
    assert onnx.load(chain).graph == before
