"""The view head in the graph of a model file: finding its features, and adding its output."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from cxrseg.errors import MissingExtraError, ModelFileError
from cxrseg.model_file import VIEW_OUTPUT

if TYPE_CHECKING:
    import onnx

__all__ = ["VIEW_FEATURES", "with_view_features", "with_view_output"]

VIEW_FEATURES = "view_features"
"""Name of the tensor that the view head reads: (N, 4 C) float32."""

_POOLED = "view_pooled"
_GRID = 2
"""Features are averaged over this number of parts of the height and of the width, to distinguish top and bottom."""


class _Tensor(NamedTuple):
    name: str
    channels: int
    height: int
    width: int


def with_view_features(path: Path) -> onnx.ModelProto:
    """A model file's graph with the additional output `VIEW_FEATURES`; an existing view head is removed.

    The features are those of the encoder's last skip connection to the decoder, averaged over the four quarters of the
    image. The deepest features are less useful: they are specialised in the task of the network.

    Args:
        path: a model file.

    Raises:
        ModelFileError: there is no such file, or its graph has no skip connections.
        MissingExtraError: the onnx package is not installed.
    """
    try:
        import onnx
    except ImportError:
        raise MissingExtraError("changing a model file needs onnx: pip install 'cxrseg[train]'") from None
    try:
        model = onnx.load(path)
    except FileNotFoundError:
        raise ModelFileError(f"expected a model file at {path}, found none") from None
    _remove_head(model.graph)
    found = _last_skip(onnx.shape_inference.infer_shapes(model).graph, path)
    kernel = [found.height // _GRID, found.width // _GRID]
    pool = onnx.helper.make_node("AveragePool", [found.name], [_POOLED], kernel_shape=kernel, strides=kernel)
    model.graph.node.extend([pool, onnx.helper.make_node("Flatten", [_POOLED], [VIEW_FEATURES], axis=1)])
    _add_output(model.graph, VIEW_FEATURES, found.channels * _GRID**2)
    return model


def with_view_output(
    model: onnx.ModelProto, weights: npt.NDArray[np.float32], bias: npt.NDArray[np.float32]
) -> onnx.ModelProto:
    """Replace the output `VIEW_FEATURES` by `VIEW_OUTPUT`, a linear function of it.

    Args:
        model: from `with_view_features`; it is changed.
        weights: (K, D) for K views and D features.
        bias: (K).
    """
    import onnx

    graph = model.graph
    graph.output.remove(next(output for output in graph.output if output.name == VIEW_FEATURES))
    for name, values in (("view_weights", weights), ("view_bias", bias)):
        graph.initializer.append(onnx.numpy_helper.from_array(np.ascontiguousarray(values, np.float32), name))
    linear = onnx.helper.make_node("Gemm", [VIEW_FEATURES, "view_weights", "view_bias"], [VIEW_OUTPUT], transB=1)
    graph.node.append(linear)
    _add_output(graph, VIEW_OUTPUT, len(bias))
    return model


def _add_output(graph: onnx.GraphProto, name: str, size: int) -> None:
    import onnx

    images = graph.input[0].type.tensor_type.shape.dim[0].dim_param or "images"
    graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [images, size]))


def _remove_head(graph: onnx.GraphProto) -> None:
    """Remove the view head of an earlier fit."""
    added = {_POOLED, VIEW_FEATURES, VIEW_OUTPUT}
    for entries in (graph.node, graph.output, graph.initializer):
        for entry in list(entries):
            names = set(entry.output) if hasattr(entry, "op_type") else {entry.name}
            if names & added or names & {"view_weights", "view_bias"}:
                entries.remove(entry)


def _last_skip(graph: onnx.GraphProto, path: Path) -> _Tensor:
    """The smallest feature map that the encoder computes and the decoder reads, without the deepest ones.

    The encoder consists of all nodes that the first of the smallest maps depends on.
    """
    made_by = {output: node for node in graph.node for output in node.output}
    shapes = {
        value.name: _Tensor(value.name, *(dim.dim_value for dim in value.type.tensor_type.shape.dim[1:]))
        for value in graph.value_info
        if len(value.type.tensor_type.shape.dim) == 4 and value.type.tensor_type.shape.dim[0].dim_param
    }
    if not shapes:
        raise ModelFileError(f"{path} has no feature maps for a view head; use a model with an encoder and a decoder")
    deepest = min(
        (shape for shape in shapes.values() if shape.height > 1), key=lambda shape: shape.height * shape.width
    )
    encoder, waiting = set[str](), [deepest.name]
    while waiting:
        node = made_by.get(waiting.pop())
        if node is not None and node.output[0] not in encoder:
            encoder.update(node.output)
            waiting += node.input
    read = {entry for node in graph.node if node.output[0] not in encoder for entry in node.input}
    skips = [shapes[entry] for entry in read & encoder & shapes.keys()]
    skips = [skip for skip in skips if skip.height > deepest.height and not (skip.height % _GRID or skip.width % _GRID)]
    if not skips:
        raise ModelFileError(f"{path} has no skip connections, which a view head needs; use a model such as a U-Net")
    return min(skips, key=lambda skip: skip.height * skip.width)
