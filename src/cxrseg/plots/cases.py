"""Radiographs with masks, side by side: the reports' pairs, triplets and overlays, as PNG and SVG."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cxrseg.data.sample import Dataset, Sample
from cxrseg.errors import ImageError
from cxrseg.io.text import shortened
from cxrseg.plots.figure import COLUMN_MM, PAGE_MM, new_figure, print_style, save_figure
from cxrseg.plots.overlay import line_width, overlay, resized_mask, resized_pixels
from cxrseg.plots.style import COLOURS, NOTICE, hex_colour

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Case", "draw_overlays", "draw_pairs", "draw_samples", "draw_triplets"]

_Mask = npt.NDArray[np.bool_]
_Picture = npt.NDArray[np.uint8]

_PER_ROW = 4
_POINT = 25.4 / 72
"""Of type, in mm."""

_GRAY = (90, 90, 90)
_SIDE = 512
"""Radiographs are drawn with a longest side of at least this many pixels, so that outlines are fine."""


@dataclass(frozen=True, eq=False)
class Case:
    """One radiograph to draw.

    Attributes:
        title: text above it, such as its name and Dice; may contain line breaks.
        pixels: (H, W) float32 in [0, 1].
        truth: (H, W) bool, the true infection, or None.
        lungs: (H, W) bool, or None.
        prediction: (H, W) bool, the predicted infection, or None.

    Raises:
        ImageError: a mask's shape is not that of the pixels.
    """

    title: str
    pixels: npt.NDArray[np.float32]
    truth: _Mask | None = None
    lungs: _Mask | None = None
    prediction: _Mask | None = None

    def __post_init__(self) -> None:
        for name in ("truth", "lungs", "prediction"):
            mask = getattr(self, name)
            if mask is not None and mask.shape != self.pixels.shape:
                wanted = f"expected the {name} of {self.title} in the shape of its pixels, {self.pixels.shape}"
                raise ImageError(f"{wanted}, got {mask.shape}")


def draw_pairs(cases: Sequence[Case], path: Path) -> list[Path]:
    """Draw radiographs, each above its mask: the infection white, the lungs (where known) gray.

    Args:
        cases: at least one; four in a row.
        path: of the figure, without suffix.

    Returns:
        the files written, PNG and SVG.

    Raises:
        ImageError: there is no case.
        DiskFullError: the disk is full.
    """
    rows = {"X-ray": _plain, "mask": lambda case: _masks(case, case.truth, case.lungs)}
    with_lungs = any(case.lungs is not None for case in cases)
    legend = {"infection": (255, 255, 255), "lungs": _GRAY} if with_lungs else {}
    return _draw_images(cases, rows, path, legend)


def draw_triplets(cases: Sequence[Case], path: Path, threshold: float = 0.5) -> list[Path]:
    """Draw radiograph, truth and prediction, one above the other.

    Args:
        cases: at least one; four in a row.
        path: of the figure, without suffix.
        threshold: that the predictions were cut at, for the label.

    Returns:
        the files written, PNG and SVG.

    Raises:
        ImageError: there is no case.
        DiskFullError: the disk is full.
    """
    rows = {
        "X-ray": _plain,
        "truth": lambda case: _masks(case, case.truth),
        f"prediction at {threshold:g}": lambda case: _masks(case, case.prediction),
    }
    return _draw_images(cases, rows, path, notice=NOTICE)


def draw_overlays(cases: Sequence[Case], path: Path) -> list[Path]:
    """Draw predictions on their radiographs, with the contours of the truth and of the lungs, and a legend.

    Args:
        cases: at least one; four in a row.
        path: of the figure, without suffix.

    Returns:
        the files written, PNG and SVG.

    Raises:
        ImageError: there is no case.
        DiskFullError: the disk is full.
    """
    colours = {"prediction": COLOURS["infection"], "truth": COLOURS["truth"], "lungs": COLOURS["lungs"]}
    legend = {
        name: colour for name, colour in colours.items() if any(getattr(case, name) is not None for case in cases)
    }
    return _draw_images(cases, {"": _overlaid}, path, legend, NOTICE)


def draw_samples(dataset: Dataset, path: Path, count: int = 8, seed: int = 0) -> list[Path]:
    """Draw random images of a dataset with their masks: a first look before any training.

    Args:
        dataset: the images to choose from.
        path: of the figure, without suffix.
        count: how many images; all of them where there are fewer.
        seed: of the random choice.

    Returns:
        the files written, PNG and SVG.

    Raises:
        ImageError: one of the images cannot be read.
        DiskFullError: the disk is full.
    """
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(dataset.samples), min(count, len(dataset.samples)), replace=False)
    return draw_pairs([_case(dataset.samples[index]) for index in sorted(chosen)], path)


def _case(sample: Sample) -> Case:
    return Case(
        title=sample.name,
        pixels=sample.read_image().pixels,
        truth=sample.read_mask("infection"),
        lungs=sample.read_mask("lungs"),
    )


def _draw_images(
    cases: Sequence[Case],
    rows: Mapping[str, Callable[[Case], _Picture]],
    path: Path,
    legend: Mapping[str, tuple[int, int, int]] | None = None,
    notice: str = "",
) -> list[Path]:
    """Cases side by side, four in a band; in each band one row for each kind of picture."""
    if not cases:
        raise ImageError("expected at least one radiograph to draw, got none; choose some")
    columns = min(_PER_ROW, len(cases))
    bands = -(-len(cases) // columns)
    width = {1: 65.0, 2: COLUMN_MM}.get(columns, PAGE_MM)
    tallest = max(case.pixels.shape[0] / case.pixels.shape[1] for case in cases)
    height = bands * (len(rows) * (width - 6) / columns * min(tallest, 2.0) + 8)
    with print_style():
        figure = new_figure(width, height + 5 * bool(notice) + 6 * bool(legend))
        grid = figure.subplots(bands * len(rows), columns, squeeze=False)
        for axes in grid.flat:
            axes.set_axis_off()
        for number, case in enumerate(cases):
            band, column = divmod(number, columns)
            for line, (label, picture) in enumerate(rows.items()):
                axes = grid[band * len(rows) + line, column]
                axes.imshow(picture(case), cmap="gray", vmin=0, vmax=255)
                if line == 0:
                    axes.set_title(_fitted(case.title, (width - 6) / columns - 2))
                if column == 0:
                    axes.text(-0.04, 0.5, label, transform=axes.transAxes, rotation=90, ha="right", va="center")
        _add_legend(figure, legend or {})
        if notice:
            figure.supxlabel(notice, fontsize=8)
        return save_figure(figure, path)


def _fitted(title: str, width_mm: float) -> str:
    """The lines of a title, each shortened in its middle to fit the width of a panel."""
    from matplotlib import rcParams
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    font = FontProperties(family=rcParams["font.family"], size=rcParams["axes.titlesize"])

    def width_of(text: str) -> float:  # a path is in points, as the size of the font is
        return float(TextPath((0, 0), text, prop=font).get_extents().width) * _POINT

    fitted = []
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        for line in title.split("\n"):
            length = len(line)
            while length > 10 and width_of(shortened(line, length)) > width_mm:
                length -= 1
            fitted.append(shortened(line, length))
    return "\n".join(fitted)


def _add_legend(figure: Figure, legend: Mapping[str, tuple[int, int, int]]) -> None:
    from matplotlib.patches import Patch

    handles = [
        Patch(facecolor=hex_colour(colour), edgecolor="0.3", linewidth=0.5, label=name)
        for name, colour in legend.items()
    ]
    if handles:
        figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), handlelength=1.0)


def _shape(case: Case) -> tuple[int, int]:
    """The size to draw a case at: its own, or enlarged."""
    height, width = case.pixels.shape
    scale = max(1.0, _SIDE / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def _plain(case: Case) -> _Picture:
    return overlay(resized_pixels(case.pixels, _shape(case)))


def _masks(case: Case, infection: _Mask | None, lungs: _Mask | None = None) -> _Picture:
    """The infection white, the lungs dark gray, as (h, w) uint8."""
    shape = _shape(case)
    picture = np.zeros(shape, dtype=np.uint8)
    for mask, value in ((lungs, _GRAY[0]), (infection, 255)):
        if mask is not None:
            picture[resized_mask(mask, shape)] = value
    return picture


def _overlaid(case: Case) -> _Picture:
    shape = _shape(case)
    prediction, lungs, truth = (
        None if mask is None else resized_mask(mask, shape) for mask in (case.prediction, case.lungs, case.truth)
    )
    # Wider lines than on a screen: on paper the picture is some 40 mm wide.
    width = round(1.5 * line_width(shape))
    return overlay(resized_pixels(case.pixels, shape), prediction, lungs, truth, width)
