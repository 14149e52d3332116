"""The operations of ONNX that chest X-ray networks are made of, in PyTorch. Imported only where a GPU is asked for.

Each takes its inputs in ONNX's order, absent ones as None, and its attributes by name, as
https://onnx.ai/onnx/operators defines them for opset 20, which cxrseg writes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from onnx import helper
from torch.nn import functional

from cxrseg.errors import ModelFileError

__all__ = ["OPERATIONS", "Operation"]

Operation = Callable[[list[Any], Mapping[str, Any]], Any]
"""(inputs, attributes) to the output, or to a tuple of outputs."""

_ON_CPU = "in a way that cannot be run on a GPU yet; use the device cpu"


def _plain(function: Callable[..., Any]) -> Operation:
    """An operation of inputs alone, which all are there."""
    return lambda inputs, settings: function(*inputs)


def _numbers(value: Any) -> list[int]:
    """A tensor of whole numbers, such as axes or a shape."""
    return [int(number) for number in value.reshape(-1).tolist()]


def _padded(value: Any, settings: Mapping[str, Any], fill: float) -> tuple[Any, list[int]]:
    """The value, and what is left for the operation to pad; ONNX pads each side by itself, PyTorch both alike."""
    pads = list(settings.get("pads", [0, 0, 0, 0]))
    if settings.get("auto_pad", b"NOTSET") != b"NOTSET":
        raise ModelFileError(f"the model pads {_ON_CPU}")
    top, left, bottom, right = pads
    if (top, left) == (bottom, right):
        return value, [top, left]
    return functional.pad(value, (left, right, top, bottom), value=fill), [0, 0]


def _convolve(inputs: list[Any], settings: Mapping[str, Any]) -> Any:
    value, padding = _padded(inputs[0], settings, 0.0)
    weight, bias = (*inputs[1:], None)[:2]
    strides, dilations = settings.get("strides", [1, 1]), settings.get("dilations", [1, 1])
    return functional.conv2d(value, weight, bias, strides, padding, dilations, settings.get("group", 1))


def _convolve_transposed(inputs: list[Any], settings: Mapping[str, Any]) -> Any:
    top, left, bottom, right = settings.get("pads", [0, 0, 0, 0])
    if (top, left) != (bottom, right) or settings.get("auto_pad", b"NOTSET") != b"NOTSET" or "output_shape" in settings:
        raise ModelFileError(f"the model enlarges {_ON_CPU}")
    weight, bias = (*inputs[1:], None)[:2]
    strides, dilations = settings.get("strides", [1, 1]), settings.get("dilations", [1, 1])
    beyond, groups = settings.get("output_padding", [0, 0]), settings.get("group", 1)
    return functional.conv_transpose2d(inputs[0], weight, bias, strides, [top, left], beyond, groups, dilations)


def _largest_of(inputs: list[Any], settings: Mapping[str, Any]) -> Any:
    value, padding = _padded(inputs[0], settings, float("-inf"))
    size, strides = settings["kernel_shape"], settings.get("strides", [1, 1])
    dilations, ceil = settings.get("dilations", [1, 1]), bool(settings.get("ceil_mode", 0))
    return functional.max_pool2d(value, size, strides, padding, dilations, ceil)


def _mean_of(inputs: list[Any], settings: Mapping[str, Any]) -> Any:
    counted = bool(settings.get("count_include_pad", 0))
    value, padding = _padded(inputs[0], settings, 0.0)
    if set(settings.get("dilations", [1])) != {1} or (value is not inputs[0] and not counted):
        raise ModelFileError(f"the model averages {_ON_CPU}")
    size, strides = settings["kernel_shape"], settings.get("strides", [1, 1])
    return functional.avg_pool2d(value, size, strides, padding, bool(settings.get("ceil_mode", 0)), counted)


def _pad(inputs: list[Any], settings: Mapping[str, Any]) -> Any:
    value, pads, fill, axes = (*inputs, None, None)[:4]
    named = range(value.ndim) if axes is None else [axis % value.ndim for axis in _numbers(axes)]
    amounts = _numbers(pads)
    starts, ends = ([0] * value.ndim for _ in range(2))
    for place, axis in enumerate(named):
        starts[axis], ends[axis] = amounts[place], amounts[place + len(amounts) // 2]
    # PyTorch counts from the last axis, and repeats edges only along the last ones.
    backwards = [amount for pair in zip(starts[::-1], ends[::-1], strict=True) for amount in pair]
    mode = settings.get("mode", b"constant").decode()
    if mode == "constant":
        return functional.pad(value, backwards, value=0.0 if fill is None else fill.item())
    if any(backwards[4:]) or value.ndim != 4 or mode not in ("edge", "reflect"):
        raise ModelFileError(f"the model pads {_ON_CPU}")
    return functional.pad(value, backwards[:4], mode="replicate" if mode == "edge" else mode)


def _resize(inputs: list[Any], settings: Mapping[str, Any]) -> Any:
    value, _, scales, sizes = (*inputs, None, None)[:4]
    if sizes is None:
        size = [round(side * scale) for side, scale in zip(value.shape[2:], scales.tolist()[2:], strict=True)]
    else:
        size = _numbers(sizes)[2:]
    mode, place = settings.get("mode", b"nearest"), settings.get("coordinate_transformation_mode", b"half_pixel")
    if mode == b"nearest" and place == b"asymmetric" and settings.get("nearest_mode") == b"floor":
        return functional.interpolate(value, size, mode="nearest")
    if mode == b"linear" and place in (b"half_pixel", b"pytorch_half_pixel", b"align_corners"):
        return functional.interpolate(value, size, mode="bilinear", align_corners=place == b"align_corners")
    raise ModelFileError(f"the model resizes {_ON_CPU}")


def _gemm(inputs: list[Any], settings: Mapping[str, Any]) -> Any:
    one, other, added = (*inputs, None)[:3]
    one = one.mT if settings.get("transA", 0) else one
    other = other.mT if settings.get("transB", 0) else other
    product = settings.get("alpha", 1.0) * (one @ other)
    return product if added is None else product + settings.get("beta", 1.0) * added


def _batch_norm(inputs: list[Any], settings: Mapping[str, Any]) -> Any:
    if settings.get("training_mode", 0):
        raise ModelFileError(f"the model normalises {_ON_CPU}")
    value, scale, bias, mean, variance = inputs
    return functional.batch_norm(value, mean, variance, scale, bias, eps=settings.get("epsilon", 1e-5))


def _layer_norm(inputs: list[Any], settings: Mapping[str, Any]) -> Any:
    value, scale, bias = (*inputs, None)[:3]
    shape = value.shape[settings.get("axis", -1) :]
    return functional.layer_norm(value, shape, scale, bias, settings.get("epsilon", 1e-5))


def _instance_norm(inputs: list[Any], settings: Mapping[str, Any]) -> Any:
    value, scale, bias = inputs
    return functional.instance_norm(value, weight=scale, bias=bias, eps=settings.get("epsilon", 1e-5))


def _reduced(function: Callable[..., Any]) -> Operation:
    """An operation over some axes, or over all."""

    def reduce(inputs: list[Any], settings: Mapping[str, Any]) -> Any:
        value, axes = (*inputs, None)[:2]
        named = [] if axes is None else _numbers(axes)
        if not named and settings.get("noop_with_empty_axes", 0):
            return value
        return function(value, named or list(range(value.ndim)), bool(settings.get("keepdims", 1)))

    return reduce


def _reshape(inputs: list[Any], settings: Mapping[str, Any]) -> Any:
    value, wanted = inputs[0], _numbers(inputs[1])
    if not settings.get("allowzero", 0):
        wanted = [side or value.shape[place] for place, side in enumerate(wanted)]
    return value.reshape(wanted)


def _slice(inputs: list[Any], settings: Mapping[str, Any]) -> Any:
    value, starts, ends, axes, steps = (*inputs, None, None)[:5]
    named = range(starts.numel()) if axes is None else _numbers(axes)
    strides = [1] * starts.numel() if steps is None else _numbers(steps)
    cut = [slice(None)] * value.ndim
    for axis, start, end, stride in zip(named, _numbers(starts), _numbers(ends), strides, strict=True):
        if stride < 0:
            raise ModelFileError(f"the model cuts {_ON_CPU}")
        cut[axis] = slice(start, end, stride)
    return value[tuple(cut)]


def _squeeze(inputs: list[Any], settings: Mapping[str, Any]) -> Any:
    value, axes = (*inputs, None)[:2]
    return value.squeeze() if axes is None else value.squeeze(tuple(_numbers(axes)))


def _unsqueeze(inputs: list[Any], settings: Mapping[str, Any]) -> Any:
    value, axes = inputs[0], _numbers(inputs[1])
    for axis in sorted(axis % (value.ndim + len(axes)) for axis in axes):
        value = value.unsqueeze(axis)
    return value


def _gather(inputs: list[Any], settings: Mapping[str, Any]) -> Any:
    value, places = inputs
    return value[(slice(None),) * (settings.get("axis", 0) % value.ndim) + (places,)]


def _gather_nd(inputs: list[Any], settings: Mapping[str, Any]) -> Any:
    if settings.get("batch_dims", 0):
        raise ModelFileError(f"the model gathers {_ON_CPU}")
    return inputs[0][inputs[1].unbind(-1)]


def _shape(inputs: list[Any], settings: Mapping[str, Any]) -> Any:
    value = inputs[0]
    return torch.tensor(value.shape[settings.get("start", 0) : settings.get("end", value.ndim)], device=value.device)


def _cast(inputs: list[Any], settings: Mapping[str, Any]) -> Any:
    kind = helper.tensor_dtype_to_np_dtype(settings["to"])
    return inputs[0].to(torch.from_numpy(np.empty(0, kind)).dtype)


def _clip(inputs: list[Any], settings: Mapping[str, Any]) -> Any:
    value, low, high = (*inputs, None, None)[:3]
    return value.clamp(min=low, max=high)


OPERATIONS: Mapping[str, Operation] = {
    "Add": _plain(torch.add),
    "AveragePool": _mean_of,
    "BatchNormalization": _batch_norm,
    "Cast": _cast,
    "Clip": _clip,
    "Concat": lambda inputs, settings: torch.cat(inputs, settings["axis"]),
    "Conv": _convolve,
    "ConvTranspose": _convolve_transposed,
    "Div": lambda inputs, settings: inputs[0] / inputs[1],
    "Erf": _plain(torch.erf),
    "Exp": _plain(torch.exp),
    "Gather": _gather,
    "GatherND": _gather_nd,
    "Gelu": lambda inputs, settings: functional.gelu(
        inputs[0], approximate=settings.get("approximate", b"none").decode()
    ),
    "Gemm": _gemm,
    "Greater": _plain(torch.gt),
    "HardSigmoid": lambda inputs, settings: (settings.get("alpha", 0.2) * inputs[0] + settings.get("beta", 0.5)).clamp(
        0, 1
    ),
    "HardSwish": _plain(functional.hardswish),
    "InstanceNormalization": _instance_norm,
    "LayerNormalization": _layer_norm,
    "Log": _plain(torch.log),
    "MatMul": _plain(torch.matmul),
    "MaxPool": _largest_of,
    "Mul": _plain(torch.mul),
    "Neg": _plain(torch.neg),
    "PRelu": lambda inputs, settings: torch.where(inputs[0] < 0, inputs[0] * inputs[1], inputs[0]),
    "Pad": _pad,
    "Range": lambda inputs, settings: torch.arange(*(entry.item() for entry in inputs), device=inputs[0].device),
    "ReduceMean": _reduced(torch.mean),
    "ReduceSum": _reduced(torch.sum),
    "Relu": _plain(torch.relu),
    "Reshape": _reshape,
    "Resize": _resize,
    "Shape": _shape,
    "Sigmoid": _plain(torch.sigmoid),
    "Slice": _slice,
    "Softmax": lambda inputs, settings: inputs[0].softmax(settings.get("axis", -1)),
    "Softplus": _plain(functional.softplus),
    "Sqrt": _plain(torch.sqrt),
    "Squeeze": _squeeze,
    "Sub": _plain(torch.sub),
    "Tanh": _plain(torch.tanh),
    "Transpose": lambda inputs, settings: inputs[0].permute(settings.get("perm", list(range(inputs[0].ndim))[::-1])),
    "Unsqueeze": _unsqueeze,
    "Where": _plain(torch.where),
}
"""By name; models with others are refused by name."""
