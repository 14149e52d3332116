"""int8: convolutions with whole numbers of 8 bits, for processors that multiply these faster than float32.

A model file holds the range of values that enters each convolution, measured once on images. With it the graph is
changed when it is loaded: inputs are rounded to 256 steps of their range, weights to 255 steps of each output channel's
(Jacob et al. 2018, arXiv:1712.05877, sections 2.1 and 3). The weights in the file stay as they were trained. The first
convolution, which reads the film, and the last one, which writes the maps, stay in float32.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from cxrseg.loading import LOADING
from cxrseg.model_file import load_openvino

__all__ = ["Ranges", "has_exact_int8", "measure_ranges", "quantised"]

Ranges: TypeAlias = Mapping[str, tuple[float, float]]
"""Name of a convolution to the lowest and the highest value that enters it."""

_TAIL = 0.05
"""The most extreme 5% of the images do not widen a range: what they have beyond it is cut off."""

_FIRST = 4
"""The first convolutions stay as they are: every other one depends on them. With all but one of them in int8, the
shipped weights lose 0.0030 of Dice on Val, and 0.0006 without."""

_CHANNEL_AXES = {"Convolution": 1, "GroupConvolution": 2}
"""Operation to the number of leading axes of its weights that make one output channel each."""


def measure_ranges(graph: Any, images: Iterable[npt.NDArray[np.float32]]) -> dict[str, tuple[float, float]]:
    """Measure what enters each convolution but the first ones and the last.

    Args:
        graph: of `cxrseg.model_file.read_model`; it is not changed.
        images: (H, W) float32 in [0, 1] of the model's input size, at least one.
    """
    openvino = load_openvino()
    from openvino import opset13 as ops

    copy = graph.clone()
    axes = ops.constant(np.arange(4))
    inner = _convolutions(copy)[_FIRST:-1]
    if not inner:
        return {}
    extremes = [
        ops.result(reduce(convolution.input_value(0), axes))
        for convolution in inner
        for reduce in (ops.reduce_min, ops.reduce_max)
    ]
    model = openvino.Model(extremes, copy.get_parameters(), "ranges")
    request = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}).create_infer_request()
    found = np.array([[float(value) for value in request.infer([image[None, None]]).values()] for image in images])
    lowest, highest = np.quantile(found[:, ::2], _TAIL, axis=0), np.quantile(found[:, 1::2], 1 - _TAIL, axis=0)
    return {
        _name(convolution): (round(float(low), 4), round(float(high), 4))
        for convolution, low, high in zip(inner, lowest, highest, strict=True)
        if low < high
    }


def quantised(graph: Any, ranges: Ranges) -> Any:
    """A copy of a graph that computes the convolutions in `ranges` in int8.

    Args:
        graph: of `cxrseg.model_file.read_model`.
        ranges: of `measure_ranges` for the same graph.
    """
    copy = graph.clone()
    chosen = [convolution for convolution in _convolutions(copy) if _name(convolution) in ranges]
    for convolution, largest in zip(chosen, _largest_weights(chosen), strict=True):
        low, high = ranges[_name(convolution)]
        if low < 0:  # then zero is the middle, and of the 256 steps 128 are below it
            low, high = -max(-low, high), max(-low, high) * 127 / 128
        _round(convolution.input(0), np.float32(min(low, 0)), np.float32(high), 256)
        _round(convolution.input(1), -largest, largest, 255)
    copy.validate_nodes_and_infer_types()
    return copy


@cache
def has_exact_int8() -> bool:
    """Whether OpenVINO computes convolutions in int8 on this processor, and adds their products up without an overflow.

    Processors with VNNI or AMX do. Other x86 processors add two products in 16 bits, which cuts off large ones: masks
    would differ, for little gain in speed. Where there is no int8, the rounding would only make float32 slower. So the
    largest products are computed once, and compared with what they should be.
    """
    openvino = load_openvino()
    from openvino import opset13 as ops

    channels = 64
    with LOADING:
        pixels = ops.parameter([1, channels, 8, 8], np.float32, "pixels")
        weights = ops.constant(np.ones((channels, channels, 1, 1), np.float32))
        convolution = ops.convolution(pixels, weights, [1, 1], [0, 0], [0, 0], [1, 1])
        one = np.ones((channels, 1, 1, 1), np.float32)
        _round(convolution.input(0), np.float32(0), np.float32(1), 256)
        _round(convolution.input(1), -one, one, 255)
        model = openvino.Model([ops.result(convolution)], [pixels], "probe")
        compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        found = next(iter(compiled(np.ones((1, channels, 8, 8), np.float32)).values()))
    about = [op.get_rt_info() for op in compiled.get_runtime_model().get_ordered_ops()]
    formats = [str(one["runtimePrecision"].value) for one in about if one["layerType"].value == "Convolution"]
    return formats in (["u8"], ["i8"]) and bool(np.allclose(found, channels, rtol=1e-3))


def _round(place: Any, low: npt.NDArray[np.float32] | np.float32, high: Any, steps: int) -> None:
    """Round what enters an operation to `steps` values from `low` to `high`."""
    from openvino import opset13 as ops

    edges = [ops.constant(np.asarray(edge, np.float32)) for edge in (low, high, low, high)]
    place.replace_source_output(ops.fake_quantize(place.get_source_output(), *edges, steps).output(0))


def _convolutions(graph: Any) -> list[Any]:
    """The convolutions in the order in which they run."""
    return [op for op in graph.get_ordered_ops() if op.get_type_name() in _CHANNEL_AXES]


def _name(convolution: Any) -> str:
    """Its name in the ONNX graph: OpenVINO adds to it after a slash."""
    return str(convolution.get_friendly_name()).partition("/")[0]


def _largest_weights(convolutions: Sequence[Any]) -> list[npt.NDArray[np.float32]]:
    """The largest absolute weight of each output channel, of a shape that can be divided into the weights."""
    openvino = load_openvino()
    from openvino import opset13 as ops

    if not convolutions:
        return []
    results = [ops.result(convolution.input_value(1)) for convolution in convolutions]
    found = openvino.Core().compile_model(openvino.Model(results, [], "weights"), "CPU")([])
    largest = []
    for convolution, values in zip(convolutions, found.values(), strict=True):
        weights = np.abs(values).astype(np.float32)
        axes = tuple(range(_CHANNEL_AXES[convolution.get_type_name()], weights.ndim))
        largest.append(np.maximum(weights.max(axis=axes, keepdims=True), np.finfo(np.float32).tiny))
    return largest
