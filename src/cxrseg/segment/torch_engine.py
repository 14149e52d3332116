"""Runs a model file's graph with PyTorch, for GPUs. The one file of this room that needs torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cxrseg.errors import MissingExtraError, ModelFileError
from cxrseg.model_file import METADATA_KEY, ModelInfo

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["TorchRunner"]

_Pixels = npt.NDArray[np.float32]


class TorchRunner:
    """A model file on a device of PyTorch. May be called from many threads.

    Args:
        path: the model file.
        device: 'gpu', 'gpu:N', or any name that PyTorch knows.
        precision: 'auto' lets the GPU compute products in TF32, 'float32' does not.

    Raises:
        MissingExtraError: PyTorch or onnx is not installed, or PyTorch sees no such device.
        ModelFileError: the file is damaged, or has an operation that is not known here.
    """

    def __init__(self, path: Path, device: str, precision: str) -> None:
        try:
            import onnx
            import torch
        except ImportError as error:
            raise MissingExtraError(
                f"the device {device} needs {error.name}: pip install 'cxrseg[train]', or use the device cpu"
            ) from None
        self._device = torch.device(device.replace("gpu", "cuda"))
        if self._device.type == "cuda" and (self._device.index or 0) >= torch.cuda.device_count():
            raise MissingExtraError(
                f"expected the device {device}, but PyTorch sees {torch.cuda.device_count()} GPUs; use the device cpu"
            )
        self.precision = "tf32" if precision == "auto" and self._device.type == "cuda" else "float32"
        model = onnx.load(str(path))
        texts = {entry.key: entry.value for entry in model.metadata_props}
        if METADATA_KEY not in texts:
            raise ModelFileError(f"{path} is an ONNX graph without the metadata of cxrseg")
        self.info = ModelInfo.from_json(texts[METADATA_KEY], path)
        self._graph = model.graph
        unknown = {node.op_type for node in self._graph.node} - _OPERATIONS.keys()
        if unknown:
            listed = ", ".join(sorted(unknown))
            raise ModelFileError(
                f"{path} has operations that cannot be run on a GPU yet ({listed}); use the device cpu"
            )
        self._weights = {
            entry.name: torch.from_numpy(onnx.numpy_helper.to_array(entry).copy()).to(self._device)
            for entry in self._graph.initializer
        }
        self._settings = [
            {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}
            for node in self._graph.node
        ]

    def run(self, pixels: _Pixels) -> _Pixels:
        """(N, H, W) float32 pixels to (N, C, H, W) float32 probabilities."""
        import torch

        values: dict[str, Any] = dict(self._weights)
        with torch.inference_mode(), torch.backends.cudnn.flags(allow_tf32=self.precision == "tf32"):
            given = torch.from_numpy(np.ascontiguousarray(pixels[:, None])).to(self._device)
            values[self._graph.input[0].name] = given
            for node, settings in zip(self._graph.node, self._settings, strict=True):
                inputs = [values[name] if name else None for name in node.input]
                values[node.output[0]] = _OPERATIONS[node.op_type](inputs, settings)
            logits: Tensor = values[self._graph.output[0].name]
            found: _Pixels = torch.sigmoid(logits / self.info.temperature).float().cpu().numpy()
        return found


def _padded(value: Any, settings: Mapping[str, Any], fill: float) -> tuple[Any, list[int]]:
    """The value, and what is left for the operation to pad; ONNX pads each side by itself, PyTorch both alike."""
    from torch.nn import functional

    pads = list(settings.get("pads", [0, 0, 0, 0]))
    if settings.get("auto_pad", b"NOTSET") != b"NOTSET":
        raise ModelFileError("the model pads its convolutions in a way that cannot be run on a GPU yet; use cpu")
    top, left, bottom, right = pads
    if (top, left) == (bottom, right):
        return value, [top, left]
    return functional.pad(value, (left, right, top, bottom), value=fill), [0, 0]


def _convolve(inputs: list[Any], settings: Mapping[str, Any]) -> Any:
    from torch.nn import functional

    value, padding = _padded(inputs[0], settings, 0.0)
    bias = inputs[2] if len(inputs) > 2 else None
    strides, dilations = settings.get("strides", [1, 1]), settings.get("dilations", [1, 1])
    return functional.conv2d(value, inputs[1], bias, strides, padding, dilations, settings.get("group", 1))


def _convolve_transposed(inputs: list[Any], settings: Mapping[str, Any]) -> Any:
    from torch.nn import functional

    value, padding = _padded(inputs[0], settings, 0.0)
    bias = inputs[2] if len(inputs) > 2 else None
    strides, dilations = settings.get("strides", [1, 1]), settings.get("dilations", [1, 1])
    beyond = settings.get("output_padding", [0, 0])
    groups = settings.get("group", 1)
    return functional.conv_transpose2d(value, inputs[1], bias, strides, padding, beyond, groups, dilations)


def _pool(inputs: list[Any], settings: Mapping[str, Any]) -> Any:
    from torch.nn import functional

    value, padding = _padded(inputs[0], settings, float("-inf"))
    size, strides = settings["kernel_shape"], settings.get("strides", [1, 1])
    dilations, ceil = settings.get("dilations", [1, 1]), bool(settings.get("ceil_mode", 0))
    return functional.max_pool2d(value, size, strides, padding, dilations, ceil)


def _clip(inputs: list[Any], settings: Mapping[str, Any]) -> Any:
    low, high = (*inputs[1:], None, None)[:2]
    return inputs[0].clamp(min=low, max=high)


def _concatenate(inputs: list[Any], settings: Mapping[str, Any]) -> Any:
    import torch

    return torch.cat(inputs, settings["axis"])


def _shape(inputs: list[Any], settings: Mapping[str, Any]) -> Any:
    import torch

    value = inputs[0]
    return torch.tensor(value.shape[settings.get("start", 0) : settings.get("end", value.ndim)], device=value.device)


def _resize(inputs: list[Any], settings: Mapping[str, Any]) -> Any:
    from torch.nn import functional

    value, *_ = inputs
    scales, sizes = (*inputs[2:], None, None)[:2]
    if sizes is None:
        sizes = [round(float(side) * float(scale)) for side, scale in zip(value.shape, scales, strict=True)]
    height, width = (int(side) for side in sizes[2:])
    mode, place = settings.get("mode", b"nearest"), settings.get("coordinate_transformation_mode", b"half_pixel")
    if mode == b"nearest" and place == b"asymmetric" and settings.get("nearest_mode") == b"floor":
        return functional.interpolate(value, (height, width), mode="nearest")
    if mode == b"linear" and place in (b"half_pixel", b"pytorch_half_pixel", b"align_corners"):
        corners = place == b"align_corners"
        return functional.interpolate(value, (height, width), mode="bilinear", align_corners=corners)
    raise ModelFileError(f"the model resizes in a way that cannot be run on a GPU yet ({mode!r}, {place!r}); use cpu")


_OPERATIONS: Mapping[str, Callable[[list[Any], Mapping[str, Any]], Any]] = {
    "Add": lambda inputs, settings: inputs[0] + inputs[1],
    "Clip": _clip,
    "Concat": _concatenate,
    "Conv": _convolve,
    "ConvTranspose": _convolve_transposed,
    "Div": lambda inputs, settings: inputs[0] / inputs[1],
    "MaxPool": _pool,
    "Mul": lambda inputs, settings: inputs[0] * inputs[1],
    "Relu": lambda inputs, settings: inputs[0].relu(),
    "Resize": _resize,
    "Shape": _shape,
    "Sigmoid": lambda inputs, settings: inputs[0].sigmoid(),
    "Sub": lambda inputs, settings: inputs[0] - inputs[1],
}
"""What the networks that cxrseg trains are made of; others are refused by name."""
