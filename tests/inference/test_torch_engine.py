"""The engine for GPUs, on PyTorch's CPU: each operation as ONNX defines it, whole networks as OpenVINO runs them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from torch import nn

from cxrseg.data.sample import Dataset
from cxrseg.errors import MissingExtraError, ModelFileError
from cxrseg.inference.engine import Engine
from cxrseg.inference.torch_engine import TorchRunner
from cxrseg.inference.torch_operations import OPERATIONS
from cxrseg.model_file import INPUT, OUTPUT, ModelInfo, read_model, write_model
from cxrseg.training.export import export_model
from cxrseg.training.fit import Run
from cxrseg.training.networks import Found, build_network
from cxrseg.training.recipe import NetworkRecipe, Recipe

TARGETS = ("infection", "lungs")
LITE0 = "tu-tf_efficientnet_lite0"
GENERATOR = np.random.default_rng(0)


def noise(*shape: int) -> np.ndarray:
    return GENERATOR.standard_normal(shape, dtype=np.float32)


def whole(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


IMAGE, MATRIX = noise(2, 3, 9, 8), noise(4, 5)
WINDOW = {"kernel_shape": [3, 3], "strides": [2, 2]}
ASIDE, AROUND = {"pads": [0, 1, 2, 1]}, {"pads": [1, 1, 1, 1]}
LARGER = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}

OPERATION_CASES: list[tuple[str, Sequence[np.ndarray | None], dict[str, Any]]] = [
    ("Add", [IMAGE, noise(3, 1, 1)], {}),
    ("AveragePool", [IMAGE], WINDOW),
    ("AveragePool", [IMAGE], {**WINDOW, **AROUND, "ceil_mode": 1}),
    ("AveragePool", [IMAGE], {**WINDOW, **ASIDE, "count_include_pad": 1}),
    ("BatchNormalization", [IMAGE, noise(3), noise(3), noise(3), np.abs(noise(3))], {"epsilon": 1e-3}),
    ("Cast", [whole(1, 2, 0)], {"to": TensorProto.FLOAT}),
    ("Cast", [MATRIX.astype(np.float16)], {"to": TensorProto.FLOAT}),
    ("Clip", [IMAGE, np.float32(-0.5), np.float32(0.5)], {}),
    ("Clip", [IMAGE, None, np.float32(0.5)], {}),
    ("Concat", [IMAGE, noise(2, 2, 9, 8)], {"axis": 1}),
    ("Conv", [IMAGE, noise(4, 3, 3, 3), noise(4)], {"strides": [2, 1], "dilations": [2, 1], **AROUND}),
    ("Conv", [IMAGE, noise(3, 1, 3, 3)], {"group": 3, **ASIDE}),
    ("ConvTranspose", [IMAGE, noise(3, 4, 3, 3), noise(4)], {"strides": [2, 2], "output_padding": [1, 0], **AROUND}),
    ("Div", [IMAGE, np.float32(3)], {}),
    ("Erf", [IMAGE], {}),
    ("Exp", [IMAGE], {}),
    ("Gather", [IMAGE, whole(2, 0)], {"axis": 1}),
    ("Gather", [IMAGE, np.int64(1)], {"axis": 1}),
    ("Gather", [IMAGE, whole(0, 1, 2, 1).reshape(2, 2)], {"axis": -1}),
    ("GatherND", [IMAGE, whole(0, 1, 1, 2, 0, 0).reshape(3, 2)], {}),
    ("Gelu", [IMAGE], {}),
    ("Gelu", [IMAGE], {"approximate": "tanh"}),
    ("Gemm", [MATRIX, noise(6, 5), noise(6)], {"transB": 1, "alpha": 0.5, "beta": 2.0}),
    ("Gemm", [MATRIX, noise(4, 3)], {"transA": 1}),
    ("Greater", [IMAGE, np.float32(0)], {}),
    ("HardSigmoid", [IMAGE], {"alpha": 0.3}),
    ("HardSwish", [3 * IMAGE], {}),
    ("InstanceNormalization", [IMAGE, noise(3), noise(3)], {"epsilon": 1e-3}),
    ("LayerNormalization", [IMAGE, noise(8), noise(8)], {"epsilon": 1e-3}),
    ("LayerNormalization", [IMAGE, noise(9, 8)], {"axis": 2}),
    ("Log", [np.abs(IMAGE) + 1], {}),
    ("MatMul", [noise(2, 4, 5), noise(2, 5, 3)], {}),
    ("MaxPool", [IMAGE], {**WINDOW, **AROUND}),
    ("MaxPool", [IMAGE], {**WINDOW, **ASIDE, "ceil_mode": 1}),
    ("Mul", [IMAGE, noise(2, 3, 1, 1)], {}),
    ("Neg", [IMAGE], {}),
    ("PRelu", [IMAGE, noise(3, 1, 1)], {}),
    ("Pad", [IMAGE, whole(0, 0, 1, 2, 0, 0, 3, 4), np.float32(0.5)], {}),
    ("Pad", [IMAGE, whole(1, 2, 0, 3), None, whole(1, -1)], {}),
    ("Pad", [IMAGE, whole(0, 0, 1, 2, 0, 0, 3, 0)], {"mode": "edge"}),
    ("Pad", [IMAGE, whole(0, 0, 1, 2, 0, 0, 3, 0)], {"mode": "reflect"}),
    ("Range", [np.int64(1), np.int64(9), np.int64(3)], {}),
    ("ReduceMean", [IMAGE, whole(2, 3)], {"keepdims": 0}),
    ("ReduceMean", [IMAGE, whole(-1)], {}),
    ("ReduceMean", [IMAGE], {}),
    ("ReduceSum", [IMAGE, whole(1)], {"keepdims": 0}),
    ("ReduceSum", [IMAGE], {"noop_with_empty_axes": 1}),
    ("Relu", [IMAGE], {}),
    ("Reshape", [IMAGE, whole(0, -1, 4)], {}),
    ("Resize", [IMAGE, None, None, whole(2, 3, 18, 20)], LARGER),
    ("Resize", [IMAGE, None, np.float32([1, 1, 2, 4])], {**LARGER, "coordinate_transformation_mode": "align_corners"}),
    (
        "Resize",
        [IMAGE, None, np.float32([1, 1, 2, 2])],
        {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
    ),
    ("Shape", [IMAGE], {}),
    ("Shape", [IMAGE], {"start": 1, "end": 3}),
    ("Sigmoid", [IMAGE], {}),
    ("Slice", [IMAGE, whole(1, 0), whole(2**62, -1), whole(2, 3), whole(2, 1)], {}),
    ("Slice", [IMAGE, whole(1), whole(2)], {}),
    ("Softmax", [IMAGE], {"axis": 1}),
    ("Softplus", [IMAGE], {}),
    ("Sqrt", [np.abs(IMAGE)], {}),
    ("Squeeze", [noise(1, 3, 1), whole(-1)], {}),
    ("Squeeze", [noise(1, 3, 1)], {}),
    ("Sub", [IMAGE, np.float32(1)], {}),
    ("Tanh", [IMAGE], {}),
    ("Transpose", [IMAGE], {"perm": [2, 0, 3, 1]}),
    ("Transpose", [IMAGE], {}),
    ("Unsqueeze", [MATRIX, whole(-1, 0)], {}),
    ("Where", [IMAGE > 0, np.float32(0), IMAGE], {}),
]


def test_every_operation_has_a_case() -> None:
    assert {kind for kind, _, _ in OPERATION_CASES} == OPERATIONS.keys()


@pytest.mark.parametrize(
    ("kind", "inputs", "attributes"),
    OPERATION_CASES,
    ids=[f"{kind}-{n}" for n, (kind, *_) in enumerate(OPERATION_CASES)],
)
def test_an_operation_does_what_onnx_says(
    kind: str, inputs: Sequence[np.ndarray | None], attributes: dict[str, Any]
) -> None:
    arrays = [None if given is None else np.asarray(given) for given in inputs]
    names = ["" if given is None else f"x{place}" for place, given in enumerate(arrays)]
    given = {name: array for name, array in zip(names, arrays, strict=True) if array is not None}
    node = helper.make_node(kind, names, ["y"], **attributes)
    values = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in given.items()
    ]
    graph = helper.make_graph([node], "one", values, [helper.make_tensor_value_info("y", TensorProto.UNDEFINED, None)])
    expected = ReferenceEvaluator(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])).run(
        None, given
    )[0]
    settings = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
    found = OPERATIONS[kind]([None if array is None else torch.from_numpy(array.copy()) for array in arrays], settings)
    assert found.shape == expected.shape and found.numpy().dtype == expected.dtype
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "inputs", "attributes"),
    [
        ("Conv", [IMAGE, noise(4, 3, 3, 3)], {"auto_pad": b"SAME_UPPER"}),
        ("ConvTranspose", [IMAGE, noise(3, 4, 3, 3)], {"pads": [0, 1, 0, 0]}),
        ("AveragePool", [IMAGE], {**WINDOW, **ASIDE}),
        ("Pad", [IMAGE, whole(0, 1, 0, 0, 0, 0, 0, 0)], {"mode": b"edge"}),
        ("Resize", [IMAGE, None, None, whole(2, 3, 18, 16)], {"mode": b"cubic"}),
        ("Slice", [IMAGE, whole(3), whole(0), whole(2), whole(-1)], {}),
        ("GatherND", [IMAGE, whole(0, 1).reshape(2, 1)], {"batch_dims": 1}),
    ],
)
def test_a_setting_that_is_not_known_is_refused(
    kind: str, inputs: Sequence[np.ndarray | None], attributes: dict[str, Any]
) -> None:
    with pytest.raises(ModelFileError, match="use the device cpu"):
        OPERATIONS[kind]([None if given is None else torch.from_numpy(given) for given in inputs], attributes)


def agree(path: Path, size: tuple[int, int]) -> None:
    """Both engines find the same, channel by channel, for several images and for one."""
    engine, runner = Engine(path), TorchRunner(path, "cpu", "float32")
    assert (runner.info, runner.precision) == (engine.info, "float32")
    pixels = np.random.default_rng(0).random((3, *size), np.float32)
    for given in (pixels, pixels[:1]):
        expected = engine.run(given)
        maps, *categories = runner.run(given)
        assert (maps.shape, maps.dtype) == (expected.maps.shape, np.float32)
        for place, channel in enumerate(engine.info.channels):
            spread = float(np.ptp(expected.maps[:, place]))
            assert spread > 1e-4, f"{channel} is the same everywhere, which shows nothing"
            # Random weights may give a nearly even map, on which 1e-4 would be much.
            tolerance = min(1e-4, spread / 100)
            np.testing.assert_allclose(maps[:, place], expected.maps[:, place], rtol=0, atol=tolerance, err_msg=channel)
        assert len(categories) == (expected.categories is not None)
        if expected.categories is not None:
            np.testing.assert_allclose(categories[0], expected.categories, rtol=0, atol=1e-4)


def seen(network: nn.Module, side: int) -> nn.Module:
    """Batch norms that have seen data: fresh ones change nothing, and hide a fault of theirs."""
    network.train()
    with torch.no_grad():
        for _ in range(2):
            network(torch.rand(4, 1, side, side))
    return network.eval()


class Together(nn.Module):
    """Several networks in one graph, whose export takes much longer than to run it: their maps as channels."""

    def __init__(self, networks: dict[str, nn.Module], shared: nn.Module | None = None) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks.values())
        self.shared = shared
        self.channels = tuple(f"{name} {target}" for name in networks for target in TARGETS)

    def forward(self, pixels: torch.Tensor) -> Found:
        if self.shared is None:
            return Found(torch.cat([network(pixels).maps for network in self.networks], 1), None)
        features = self.shared(pixels)
        maps = []
        for network in self.networks:
            decoded = network.decoder(features[: len(network.encoder.out_channels)])
            # Some expect an encoder that reduces the image less, and give a smaller map with this one.
            maps.append(nn.functional.interpolate(network.segmentation_head(decoded), pixels.shape[-2:]))
        return Found(torch.cat(maps, 1), None)


def exported(path: Path, network: nn.Module, recipe: Recipe, dataset: Dataset) -> None:
    export_model(path, network, recipe, dataset, {})
    if isinstance(network, Together):
        write_model(path, path.read_bytes(), replace(read_model(path)[1], channels=network.channels))


def network_recipe(name: str, **settings: Any) -> NetworkRecipe:
    return NetworkRecipe.model_validate({"name": name, "features": 4, **settings})


def test_networks_from_scratch(tmp_path: Path, dataset: Dataset, tiny_recipe: Callable[..., Recipe]) -> None:
    torch.manual_seed(0)
    names = ("unet", "attention-unet", "unet++", "residual-unet")
    together = seen(Together({name: build_network(network_recipe(name), TARGETS) for name in names}), 64)
    exported(tmp_path / "model.onnx", together, tiny_recipe(), dataset)
    agree(tmp_path / "model.onnx", (64, 64))


@pytest.mark.parametrize(
    "names",
    [
        ("unetplusplus", "fpn", "linknet", "manet", "pspnet", "segformer", "upernet"),
        ("deeplabv3plus", "deeplabv3", "pan"),  # with a dilated encoder
    ],
    ids=lambda names: names[0],
)
def test_every_decoder(
    tmp_path: Path, dataset: Dataset, tiny_recipe: Callable[..., Recipe], names: tuple[str, ...]
) -> None:
    torch.manual_seed(0)
    networks = {name: build_network(network_recipe(f"smp/{name}", encoder=LITE0), TARGETS).network for name in names}
    together = seen(Together(networks, networks[names[0]].encoder), 128)
    exported(tmp_path / "model.onnx", together, tiny_recipe(data={"size": 128}), dataset)
    agree(tmp_path / "model.onnx", (128, 128))


def test_a_network_with_every_setting(tmp_path: Path, dataset: Dataset, tiny_recipe: Callable[..., Recipe]) -> None:
    torch.manual_seed(0)
    settings = {"within_lungs": True, "classification_head": True, "decoder_stride": 2, "weights_dtype": "float16"}
    recipe = tiny_recipe(network={"name": "smp/unet", "encoder": LITE0, **settings})
    exported(tmp_path / "model.onnx", seen(build_network(recipe.network, TARGETS), 64), recipe, dataset)
    agree(tmp_path / "model.onnx", (64, 64))


def test_the_temperature_divides_the_logits(tmp_path: Path, tiny_run: Run) -> None:
    info = replace(read_model(tiny_run.folder.model)[1], temperature=3.0)
    write_model(tmp_path / "warm.onnx", tiny_run.folder.model.read_bytes(), info)
    agree(tmp_path / "warm.onnx", (64, 64))


def test_what_cannot_be_used_is_refused(tmp_path: Path, bright_model: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(bright_model.read_bytes()[:-40])
    with pytest.raises(ModelFileError, match=r"model\.onnx is no ONNX graph, or is damaged"):
        TorchRunner(path, "cpu", "float32")
    foreign = onnx.load(bright_model)
    del foreign.metadata_props[:]
    onnx.save(foreign, path)
    with pytest.raises(ModelFileError, match="without the metadata"):
        TorchRunner(path, "cpu", "float32")
    node = helper.make_node("Einsum", [INPUT], [OUTPUT], equation="ncij->ncji")
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, 32, 32]) for name in (INPUT, OUTPUT)]
    graph = helper.make_graph([node], "odd", value[:1], value[1:])
    info = ModelInfo("odd", ("infection",), (32, 32), {"mean": 0.0, "std": 1.0})
    write_model(path, helper.make_model(graph).SerializeToString(), info)
    with pytest.raises(ModelFileError, match=r"cannot run yet \(Einsum\); use the device cpu"):
        TorchRunner(path, "cpu", "float32")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_named(bright_model: Path) -> None:
    with pytest.raises(MissingExtraError, match="expected the device gpu:1, but PyTorch sees 0 GPUs"):
        Engine(bright_model, device="gpu:1")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_finds_the_same(tiny_run: Run) -> None:
    pixels = np.random.default_rng(0).random((3, 64, 64), np.float32)
    expected = Engine(tiny_run.folder.model).run(pixels).maps
    for precision, tolerance in (("float32", 1e-4), ("auto", 1e-2)):
        found = Engine(tiny_run.folder.model, device="gpu", precision=precision).run(pixels).maps  # type: ignore[arg-type]
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)
