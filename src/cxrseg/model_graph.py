"""Checks of the graph of a model file before anything in it runs. A file may come from anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any

from cxrseg.protobuf_fields import NotAMessageError, fields

if TYPE_CHECKING:
    import openvino

__all__ = ["check_nodes", "check_shapes"]

_MAX_BYTES = 2**32
"""Size of the largest tensor for one image. U-Net++ with 32 features has one of 2.7 GB at 2048x2048 pixels."""

# Numbers of the fields, from https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
_MODEL_GRAPH, _MODEL_FUNCTIONS = 7, 25
_GRAPH_NODE, _GRAPH_INITIALIZER, _FUNCTION_NODE = 1, 5, 7
_NODE_OP_TYPE, _NODE_ATTRIBUTE = 4, 5
_ATTRIBUTE_TENSOR, _ATTRIBUTE_GRAPHS = 5, (6, 11)
_TENSOR_LOCATION = 14

_FILLS = "ConstantOfShape"
"""The one operation that OpenVINO computes while it reads a file, whatever the size."""

_NOT_ONNX = "it is not an ONNX graph, or is incomplete or damaged"


def check_nodes(data: bytes) -> None:
    """Refuse what could run for ever, fill the memory or read other files, before OpenVINO reads the graph.

    Args:
        data: a serialised ONNX ModelProto. Only its outline is read; values are skipped.

    Raises:
        ValueError: says what is wrong with it.
    """
    try:
        _check_model(memoryview(data))
    except NotAMessageError as error:
        raise ValueError(_NOT_ONNX) from error


def _check_model(model: memoryview) -> None:
    graphs = 0
    for number, value, _ in fields(model):
        if number == _MODEL_GRAPH:
            graphs += 1
            _check_graph(_inside(value), _GRAPH_NODE)
        elif number == _MODEL_FUNCTIONS:
            _check_graph(_inside(value), _FUNCTION_NODE)
    if graphs != 1:
        raise ValueError(_NOT_ONNX)


def _check_graph(graph: memoryview, nodes: int) -> None:
    for number, value, _ in fields(graph):
        if number == nodes:
            _check_node(_inside(value))
        elif nodes == _GRAPH_NODE and number == _GRAPH_INITIALIZER:
            _check_tensor(_inside(value))


def _check_node(node: memoryview) -> None:
    kind = ""
    for number, value, _ in fields(node):
        if number == _NODE_OP_TYPE:
            kind = bytes(_inside(value)).decode("ascii")
        elif number == _NODE_ATTRIBUTE:
            for inner, held, _ in fields(_inside(value)):
                if inner in _ATTRIBUTE_GRAPHS:
                    raise ValueError(
                        "it has a loop or a branch, which can run for ever and which no network of cxrseg has"
                    )
                if inner == _ATTRIBUTE_TENSOR:
                    _check_tensor(_inside(held))
    if kind == _FILLS:
        raise ValueError(f"it has the operation {_FILLS}, which can fill the memory")


def _check_tensor(tensor: memoryview) -> None:
    if any(number == _TENSOR_LOCATION and value != 0 for number, value, _ in fields(tensor)):
        raise ValueError("its weights are in another file; save it with all weights inside")


def _inside(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError(_NOT_ONNX)
    return value


def check_shapes(model: openvino.Model, size: tuple[int, int], outputs: Sequence[int]) -> None:
    """Compare a graph with its metadata, and refuse tensors that do not fit into memory.

    Args:
        model: the graph, not compiled.
        size: (height, width) of the input.
        outputs: number of channels of the maps, then of categories and of views where there are any.

    Raises:
        ValueError: says what differs.
    """
    if len(model.inputs) != 1 or len(model.outputs) != len(outputs):
        raise ValueError(
            f"expected 1 input and {len(outputs)} outputs, as its metadata say, "
            f"got {len(model.inputs)} and {len(model.outputs)}"
        )
    taken = model.inputs[0].partial_shape
    if taken.rank.is_dynamic or [str(side) for side in taken][1:] != ["1", *map(str, size)]:
        raise ValueError(f"expected it to take images of {size[0]}x{size[1]}, as its metadata say, got {taken}")
    one = model.clone()
    try:
        one.reshape([1, 1, *size])
    except RuntimeError as error:
        raise ValueError("it does not take one image at a time") from error
    wanted = [(1, outputs[0], *size), *((1, count) for count in outputs[1:])]
    for output, shape in zip(one.outputs, wanted, strict=True):
        if not output.partial_shape.is_static or tuple(output.shape) != shape:
            raise ValueError(f"expected an output of shape {shape}, as its metadata say, got {output.partial_shape}")
    for operation in one.get_ops():
        for output in operation.outputs():
            _check_memory(output)


def _check_memory(output: Any) -> None:
    shape = output.partial_shape
    if not shape.is_static:
        raise ValueError("the size of a tensor in it depends on the pixels, so its memory is not known")
    needed = prod(output.shape) * output.element_type.size
    if needed > _MAX_BYTES:
        raise ValueError(f"a tensor in it needs {needed / 1e9:.0f} GB; at most {_MAX_BYTES / 1e9:.1f} GB are allowed")
