"""The images of a report: the best, median and worst masks, and the largest false alarms."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from cxrseg.data.sample import Dataset, Sample
from cxrseg.errors import DatasetError
from cxrseg.inference.segmenter import Segmenter
from cxrseg.plots.overlay import resized_mask, resized_pixels

__all__ = ["SIDE", "Group", "Picture", "choose", "take_pictures"]

SIDE = 320
"""Longest side of the pictures in pixels; larger images are reduced, which keeps the page small."""

_EACH, _ALARMS = 6, 3

_Row = Mapping[str, str]


@dataclass(frozen=True)
class Picture:
    """One image with all data that the page needs to draw its mask at any threshold.

    Attributes:
        name: of the sample.
        caption: its figures, as text.
        width, height: in pixels.
        data: a data URI of an 8-bit grayscale PNG of three panels, one below the other: the radiograph; 255 times the
            probability of infection; and 255 in the true infection, 128 in the rest of the lungs, 0 elsewhere.
    """

    name: str
    caption: str
    width: int
    height: int
    data: str


@dataclass(frozen=True)
class Group:
    """A group of pictures, such as the best.

    Attributes:
        title: such as 'Best'.
        about: how they were chosen.
        pictures: in order.
    """

    title: str
    about: str
    pictures: tuple[Picture, ...]


def choose(rows: Sequence[_Row]) -> list[tuple[str, str, list[_Row]]]:
    """Choose infected images by their Dice, and uninfected ones by the marked fraction of the lungs.

    Args:
        rows: of scores.csv, those of the infection.

    Returns:
        Title, how they were chosen, and the rows, of each group that is not empty; each image is in one group only.
    """
    infected = sorted((row for row in rows if row["dice"] and row["status"] != "false alarm"), key=_dice, reverse=True)
    each = min(_EACH, max(1, len(infected) // 3))
    middle = max(each, len(infected) // 2 - each // 2)
    # Non-COVID lungs show opacities although their masks are empty by definition: marking them is not a clear error.
    alarms = [row for row in rows if row["status"] == "false alarm" and row["category"] != "Non-COVID"]
    groups = [
        ("Best", "highest Dice", infected[:each]),
        ("Median", "around the median Dice", infected[middle : middle + each]),
        ("Worst", "lowest Dice, the worst last", infected[max(middle + each, len(infected) - each) :]),
        ("False alarms", "no infection, most of the lungs marked", sorted(alarms, key=_marked, reverse=True)[:_ALARMS]),
    ]
    return [(title, about, chosen) for title, about, chosen in groups if chosen]


def take_pictures(segmenter: Segmenter, dataset: Dataset, rows: Sequence[_Row]) -> list[Group]:
    """Run the model on the images that `choose` chooses.

    Args:
        segmenter: of the evaluated model.
        dataset: the images of the evaluation.
        rows: of scores.csv, those of the infection.

    Raises:
        DatasetError: the dataset lacks an image of the evaluation.
        ImageError: an image cannot be read.
    """
    samples = {sample.name: sample for sample in dataset.samples}
    missing = [row["name"] for row in rows if row["name"] not in samples]
    if missing:
        raise DatasetError(
            f"{dataset.root} lacks {len(missing)} images of the evaluation; use the dataset of the evaluation:",
            missing[:10],
        )
    return [
        Group(title, about, tuple(_picture(segmenter, samples[row["name"]], row) for row in chosen))
        for title, about, chosen in choose(rows)
    ]


def _picture(segmenter: Segmenter, sample: Sample, row: _Row) -> Picture:
    radiograph = sample.read_image()
    probability = segmenter.segment(radiograph).probabilities["infection"]
    shape = _shape(radiograph.pixels.shape)
    truth, lungs = sample.read_mask("infection"), sample.read_mask("lungs")
    marks = np.zeros(shape, np.uint8)
    for mask, value in ((lungs, 128), (truth, 255)):
        if mask is not None:
            marks[resized_mask(mask, shape)] = value
    panels = [_bytes(resized_pixels(radiograph.pixels, shape)), _bytes(resized_pixels(probability, shape)), marks]
    data = io.BytesIO()
    Image.fromarray(np.concatenate(panels)).save(data, "PNG")
    encoded = base64.b64encode(data.getvalue()).decode()
    return Picture(sample.name, _caption(row), shape[1], shape[0], f"data:image/png;base64,{encoded}")


def _shape(shape: tuple[int, ...]) -> tuple[int, int]:
    scale = min(1.0, SIDE / max(shape))
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))


def _bytes(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    return np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)


def _caption(row: _Row) -> str:
    parts: list[Any] = [row["category"], row["status"]]
    if row["status"] != "false alarm":
        parts.append(f"Dice {_dice(row):.3f}")
    true, predicted = row.get("infected_fraction_true"), row.get("infected_fraction_predicted")
    if true and predicted:
        parts.append(f"fraction of lungs {float(true):.0%} true, {float(predicted):.0%} predicted")
    return ", ".join(part for part in parts if part)


def _dice(row: _Row) -> float:
    return float(row["dice"])


def _marked(row: _Row) -> float:
    return float(row["lungs_marked"] or 0)
