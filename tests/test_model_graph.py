"""Model files that are made to do harm: each is refused before anything in it runs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from cxrseg.errors import ModelFileError
from cxrseg.model_file import OUTPUT, read_model
from made_models import hand_model

Hostile = Callable[..., str]


@pytest.fixture
def refused(tmp_path: Path) -> Hostile:
    """What is said of a model whose logits have a tensor 'z' added, which these nodes make."""

    def read(nodes: Sequence[NodeProto], *tensors: TensorProto, **constants: npt.ArrayLike) -> str:
        model = onnx.load(hand_model(tmp_path / "model.onnx"))
        del model.metadata_props[1]  # the checksum
        for node in model.graph.node:
            node.output[:] = ["before" if name == OUTPUT else name for name in node.output]
        model.graph.node.extend([*nodes, helper.make_node("Add", ["before", "z"], [OUTPUT])])
        model.graph.initializer.extend(tensors)
        model.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items())
        path = tmp_path / "hostile.onnx"
        path.write_bytes(model.SerializeToString())
        with pytest.raises(ModelFileError) as caught:
            read_model(path)
        assert "hostile.onnx" in str(caught.value)
        return str(caught.value)

    return read


def largest(kind: str, *inputs: str) -> list[NodeProto]:
    """Nodes whose one value is the largest of what an operation gives."""
    return [helper.make_node(kind, inputs, ["big"]), helper.make_node("ReduceMax", ["big"], ["z"], keepdims=0)]


HUGE = np.array([200_000, 200_000])


def test_a_constant_of_160_gb(refused: Hostile) -> None:
    assert "ConstantOfShape" in refused(largest("ConstantOfShape", "shape"), shape=HUGE)
    one = np.zeros((1, 1), np.float32)
    assert "needs 160 GB" in refused(largest("Expand", "one", "shape"), one=one, shape=HUGE)
    assert "needs 160 GB" in refused(largest("Tile", "one", "shape"), one=one, shape=HUGE)
    scales = np.array([1, 1, 20_000, 20_000], np.float32)
    assert "GB" in refused(largest("Resize", "radiograph", "", "scales"), scales=scales)


def test_weights_that_claim_more_than_the_file_holds(refused: Hostile) -> None:
    claimed = TensorProto(name="z", data_type=TensorProto.FLOAT, dims=[200_000, 200_000], raw_data=bytes(16))
    assert "damaged" in refused([], claimed)


def test_a_loop_that_never_ends(refused: Hostile) -> None:
    values = [("count", TensorProto.INT64, []), ("more", TensorProto.BOOL, []), ("value", TensorProto.FLOAT, [1])]
    inputs = [helper.make_tensor_value_info(*value) for value in values]
    outputs = [helper.make_tensor_value_info(f"{name}_out", kind, shape) for name, kind, shape in values[1:]]
    steps = [helper.make_node("Identity", [name], [f"{name}_out"]) for name in ("more", "value")]
    body = helper.make_graph(steps, "body", inputs, outputs)
    loop = helper.make_node("Loop", ["", "yes", "zero"], ["z"], body=body)
    assert "loop" in refused([loop], yes=True, zero=np.zeros(1, np.float32))


def test_weights_in_another_file(refused: Hostile) -> None:
    other = TensorProto(name="z", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    other.external_data.add(key="location", value="../../../../etc/passwd")
    assert "another file" in refused([], other)


def test_an_operation_of_another_program(refused: Hostile) -> None:
    evil = helper.make_node("Evil", ["zero"], ["z"], domain="evil")
    assert "not an ONNX graph" in refused([evil], zero=np.zeros(1, np.float32))


def test_nothing_but_the_error_is_printed_of_a_damaged_file(tmp_path: Path) -> None:
    for number, data in enumerate((b"no graph", bytes(1000), hand_model(tmp_path / "model.onnx").read_bytes()[:600])):
        path = tmp_path / f"{number}.onnx"
        path.write_bytes(data)
    script = (
        "import sys, cxrseg.model_file as m\n"
        "for path in sys.argv[1:]:\n"
        "    try: m.read_model(path)\n"
        "    except m.ModelFileError: continue\n"
        "    sys.exit(1)"
    )
    paths = [str(tmp_path / f"{number}.onnx") for number in range(3)]
    done = subprocess.run([sys.executable, "-c", script, *paths], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
