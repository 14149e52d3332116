"""A chest drawn by hand, and a model file that finds its parts by brightness alone: answers that are known."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from cxrseg.data.sample import CATEGORIES
from cxrseg.model_file import CATEGORY_OUTPUT, INPUT, OUTPUT, VIEW_OUTPUT, ModelInfo, write_model

BODY, LUNG, INFECTION = 0.55, 0.15, 0.95


def chest(
    shape: tuple[int, int], infected: bool = True
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """(H, W) float32 in [0, 1] of two dark lungs in a body, one with a bright spot; the spot; the lungs."""
    height, width = shape
    rows = (np.arange(height)[:, None] + 0.5) / height
    columns = (np.arange(width)[None] + 0.5) / width
    lungs = np.zeros(shape, dtype=bool)
    for column in (0.3, 0.7):
        lungs |= ((rows - 0.45) / 0.3) ** 2 + ((columns - column) / 0.14) ** 2 <= 1
    spot = ((rows - 0.5) / 0.11) ** 2 + ((columns - 0.69) / 0.07) ** 2 <= 1
    infection = spot if infected else np.zeros(shape, dtype=bool)
    pixels = np.where(infection, INFECTION, np.where(lungs, LUNG + 0.1 * rows, BODY + 0.1 * rows))
    return pixels.astype(np.float32), infection, lungs


def hand_model(
    path: Path,
    size: int = 128,
    infected_above: float = 0.77,
    *,
    threshold: float = 0.5,
    shift: int = 0,
    categories: tuple[float, float, float] | None = None,
    covid19_threshold: float = 0.5,
    opacity_above: float | None = None,
    normal_threshold: float = 1.0,
    views: Mapping[str, tuple[float, float]] | None = None,
    lungs: bool = True,
) -> Path:
    """A model file: infection is brighter than `infected_above`, lungs that or darker than 0.4.

    With `shift`, both lie so many pixels too far to the right. `categories` are what it says of every image as a whole.
    With `opacity_above` it has a channel of opacity too, brighter than that.
    Without `lungs` it has no channel of them. `views` are its views: each one's logit is a + b * the mean brightness.
    """
    side = 2 * abs(shift) + 1
    weight = np.zeros((2, 1, side, side), dtype=np.float32)
    weight[0, 0, side // 2, side // 2 - shift], weight[1, 0, side // 2, side // 2 - shift] = 40, -40
    bias = np.array([-40 * infected_above, 40 * 0.4], dtype=np.float32)
    judged = [
        helper.make_node("GlobalAveragePool", [INPUT], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("Mul", ["flat", "nothing"], ["zero"]),
        helper.make_node("Add", ["zero", "categories"], [CATEGORY_OUTPUT]),
    ]
    category_output = helper.make_tensor_value_info(CATEGORY_OUTPUT, TensorProto.FLOAT, ["images", 3])
    constants = {"weight": weight, "bias": bias}
    if categories is not None:
        constants |= {"nothing": np.zeros((1, 1), np.float32), "categories": np.log(np.float32([categories]))}
    channels = ("infection", "opacity", "lungs") if opacity_above else ("infection", "lungs")
    channels = tuple(channel for channel in channels if lungs or channel != "lungs")
    maps = ["bright", *channels[1:]]
    if opacity_above:
        constants["rise"] = np.float32([[[[40 * (infected_above - opacity_above)]]]])
    seen = [
        helper.make_node("GlobalAveragePool", [INPUT], ["brightness"]),
        helper.make_node("Flatten", ["brightness"], ["flat_brightness"]),
        helper.make_node("Gemm", ["flat_brightness", "slopes", "offsets"], [VIEW_OUTPUT]),
    ]
    if views is not None:
        offsets, slopes = np.float32(list(views.values())).T
        constants |= {"slopes": slopes[None], "offsets": offsets}
    view_output = helper.make_tensor_value_info(VIEW_OUTPUT, TensorProto.FLOAT, ["images", len(views or ())])
    graph = helper.make_graph(
        [
            helper.make_node("Conv", [INPUT, "weight", "bias"], ["both"], pads=[side // 2] * 4),
            helper.make_node("Split", ["both"], ["bright", "dark"], axis=1, num_outputs=2),
            helper.make_node("Max", ["bright", "dark"], ["lungs"]),
            *([helper.make_node("Add", ["bright", "rise"], ["opacity"])] if opacity_above else []),
            helper.make_node("Concat", maps, [OUTPUT], axis=1),
            *(judged if categories else []),
            *(seen if views else []),
        ],
        "hand",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["images", 1, size, size])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["images", len(maps), size, size])]
        + ([category_output] if categories else [])
        + ([view_output] if views else []),
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(made)
    info = ModelInfo(
        "hand",
        channels,
        (size, size),
        {"mean": 0.0, "std": 1.0},
        threshold=threshold,
        categories=CATEGORIES if categories else (),
        covid19_threshold=covid19_threshold,
        normal_threshold=normal_threshold,
        views=tuple(views or ()),
    )
    write_model(path, made.SerializeToString(), info)
    return path
