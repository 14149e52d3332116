"""Runs a model file's graph with PyTorch, for GPUs. With torch_operations.py all of this room that needs torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cxrseg.errors import MissingExtraError, ModelFileError
from cxrseg.model_file import METADATA_KEY, VIEW_OUTPUT, ModelInfo

if TYPE_CHECKING:
    from cxrseg.inference.torch_operations import Operation

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
        graph, self.info = _read(path)
        self._input = graph.input[0].name
        self._outputs = [entry.name for entry in graph.output]
        self._known = {
            entry.name: torch.from_numpy(onnx.numpy_helper.to_array(entry).copy()).to(self._device)
            for entry in graph.initializer
        }
        self._steps = []
        for operation, inputs, settings, output in (_step(node, path) for node in graph.node):
            if all(name in self._known for name in inputs if name):  # such as weights stored in 16 bits
                self._known[output] = operation([self._known.get(name) for name in inputs], settings)
            else:
                self._steps.append((operation, inputs, settings, output))

    def run(self, pixels: _Pixels) -> tuple[_Pixels, ...]:
        """(N, H, W) float32 pixels to (N, C, H, W) float32 probabilities.

        Then (N, K) probabilities of categories and (N, V) logits of views, where the model has them.
        """
        import torch

        values: dict[str, Any] = dict(self._known)
        with torch.inference_mode(), torch.backends.cudnn.flags(allow_tf32=self.precision == "tf32"):
            given = torch.from_numpy(np.ascontiguousarray(pixels[:, None])).to(self._device)
            values[self._input] = given
            for operation, inputs, settings, output in self._steps:
                values[output] = operation([values.get(name) for name in inputs], settings)
            found = [torch.sigmoid(values[self._outputs[0]] / self.info.temperature)]
            found += [values[name] if name == VIEW_OUTPUT else values[name].softmax(1) for name in self._outputs[1:]]
            return tuple(output.float().cpu().numpy() for output in found)


def _read(path: Path) -> tuple[Any, ModelInfo]:
    """The model file's ONNX GraphProto, and what it says about itself."""
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped, unused-ignore]

    try:
        model = onnx.load(str(path))
    except DecodeError as error:
        raise ModelFileError(f"{path} is no ONNX graph, or is damaged; export or download it anew") from error
    texts = {entry.key: entry.value for entry in model.metadata_props}
    if METADATA_KEY not in texts:
        raise ModelFileError(
            f"{path} is an ONNX graph without the metadata of cxrseg; only files that 'cxrseg train' wrote can be used"
        )
    return model.graph, ModelInfo.from_json(texts[METADATA_KEY], path)


def _step(node: Any, path: Path) -> tuple[Operation, list[str], dict[str, Any], str]:
    """What to do at a node: the operation, its inputs' names, its attributes, its output's name."""
    import onnx

    from cxrseg.inference.torch_operations import OPERATIONS

    if node.op_type not in OPERATIONS or len(node.output) > 1:
        raise ModelFileError(f"{path} has an operation that a GPU cannot run yet ({node.op_type}); use the device cpu")
    settings = {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}
    return OPERATIONS[node.op_type], list(node.input), settings, node.output[0]
