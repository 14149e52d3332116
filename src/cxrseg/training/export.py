"""Exporting a trained network as a model file."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cxrseg.data.sample import CATEGORIES, Dataset
from cxrseg.model_file import CATEGORY_OUTPUT, INPUT, OUTPUT, ModelInfo, write_model
from cxrseg.training.networks import input_normalisation
from cxrseg.training.recipe import Recipe

__all__ = ["COVID_QU_EX_LICENCE", "export_model"]

COVID_QU_EX_LICENCE = (
    "CC BY-SA 4.0, as derived from COVID-QU-Ex; cite Tahir et al. 2021, "
    "doi:10.1016/j.compbiomed.2021.105002, and doi:10.34740/kaggle/dsv/3122898. Research use only, not for diagnosis."
)
"""Terms of weights that learned from COVID-QU-Ex."""

_SMALL = 1024
"""Number of values; smaller tensors keep float32, since float16 would save nearly nothing."""

_OTHER_LICENCE = "The terms of the training data apply. Research use only, not for diagnosis."


def export_model(
    path: Path, network: nn.Module, recipe: Recipe, dataset: Dataset, figures: Mapping[str, Any]
) -> ModelInfo:
    """Write a trained network as a model file.

    Args:
        path: the file, ending in .onnx.
        network: as `build_network` returns it, with trained weights.
        recipe: that it was trained with.
        dataset: that it was trained on.
        figures: measured results, by the name of the split.

    Returns:
        The metadata of the file.
    """
    mean, std = input_normalisation(recipe.network)
    # MedSegBench's arrays are an edition of the same images.
    derived = dataset.layout.startswith(("COVID-QU-Ex", "MedSegBench"))
    info = ModelInfo(
        name=recipe.name,
        channels=recipe.data.targets,
        categories=CATEGORIES if recipe.network.classification_head else (),
        size=recipe.data.size,
        normalisation={"mean": mean, "std": std},
        recipe=recipe.model_dump(mode="json"),
        dataset={
            "layout": dataset.layout,
            "images": dataset.describe(),
            "sha256": dataset.fingerprint,
        },
        figures=figures,
        licence=COVID_QU_EX_LICENCE if derived else _OTHER_LICENCE,
    )
    outputs = [OUTPUT, CATEGORY_OUTPUT] if recipe.network.classification_head else [OUTPUT]
    graph = _to_onnx(network, recipe.data.size, outputs)
    write_model(path, _halved(graph) if recipe.network.weights_dtype == "float16" else graph, info)
    return info


class _Outputs(nn.Module):
    """The network's outputs as a plain tuple without None."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        return tuple(found for found in self.network(pixels) if found is not None)


def _to_onnx(network: nn.Module, size: tuple[int, int], outputs: list[str]) -> bytes:
    """Export the network in float32 on the CPU, for any number of images."""
    network = network.eval().cpu().float().to(memory_format=torch.contiguous_format)
    example = torch.zeros(2, 1, *size)
    level = logging.getLogger("torch.onnx").level
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecations inside the exporter
            program = torch.onnx.export(
                _Outputs(network),
                (example,),
                input_names=[INPUT],
                output_names=outputs,
                dynamic_shapes=({0: torch.export.Dim("images")},),
                dynamo=True,
                verbose=False,
            )
    finally:
        logging.getLogger("torch.onnx").setLevel(level)
    assert program is not None
    graph: bytes = program.model_proto.SerializeToString()
    return graph


def _halved(graph: bytes) -> bytes:
    """The graph with its large tensors stored as float16; they are cast to float32 where they are used."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load_from_string(graph)
    casts = []
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.size < _SMALL or np.abs(values).max() > np.finfo(np.float16).max:
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}.float16"))
        casts.append(helper.make_node("Cast", [tensor.name], [name], to=TensorProto.FLOAT))
    for cast in reversed(casts):
        model.graph.node.insert(0, cast)
    halved: bytes = model.SerializeToString()
    return halved
