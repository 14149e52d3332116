"""The picture of a film as SVG or PDF: the film as pixels, outlines and text as vectors."""

from __future__ import annotations

import io
import textwrap
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cxrseg.plots.figure import COLUMN_MM, PAGE_MM, new_figure, print_style
from cxrseg.plots.outlines import PictureStyle, fill
from cxrseg.plots.overlay import film_and_fields, scale_bar
from cxrseg.plots.style import COLOURS, NOTICE, hex_colour

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["vector_picture"]

_LINE_MM, _POINTS = 3.4, 7.0


def vector_picture(
    pixels: npt.NDArray[np.float32],
    infection: npt.NDArray[np.bool_] | None,
    lungs: npt.NDArray[np.bool_] | None,
    lines: Sequence[str],
    *,
    style: PictureStyle,
    spacing_mm: tuple[float, float] | None = None,
) -> bytes:
    """Draw what `cxrseg.plots.overlay.preview` draws, as wide as a column of a page, or as the page with two panels.

    Returns:
        The content of the file, of `style.kind`. The same arguments give the same bytes.
    """
    film, fields = film_and_fields(pixels, {"infection": infection, "lungs": lungs}, style)
    tinted = film.copy()
    if "infection" in fields:
        fill(tinted, fields["infection"], COLOURS["infection"], style.fill)
    panels = [film, tinted] if style.beside else [tinted]
    width_mm = PAGE_MM if style.beside else COLUMN_MM
    said = [line for text in _said(fields, lines, style) for line in textwrap.wrap(text, round(width_mm * 0.85))]
    picture_mm = width_mm / len(panels) * film.shape[0] / film.shape[1]
    height_mm = picture_mm + _LINE_MM * (len(said) + 1)
    with print_style(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = new_figure(width_mm, height_mm)
        figure.set_layout_engine("none")
        below = 1 - picture_mm / height_mm
        for place, panel in enumerate(panels):
            axes = figure.add_axes((place / len(panels), below, 1 / len(panels), 1 - below))
            axes.imshow(panel.astype(np.uint8), interpolation="none", aspect="auto")
            axes.set_axis_off()
            if place == len(panels) - 1:
                _draw_outlines(axes, fields)
                if spacing_mm is not None:
                    _draw_scale_bar(axes, spacing_mm[1] * pixels.shape[1] / film.shape[1], film.shape)
        figure.text(0.01, below - 0.6 * _LINE_MM / height_mm, "\n".join(said), fontsize=_POINTS, va="top")
        data = io.BytesIO()
        metadata: dict[str, Any] = {"Date": None, "Creator": None} if style.kind == "svg" else {"CreationDate": None}
        figure.savefig(data, format=style.kind, metadata=metadata)
    return data.getvalue()


def _said(fields: Mapping[str, Any], lines: Sequence[str], style: PictureStyle) -> list[str]:
    names = {"infection": "infection: orange", "lungs": "lungs: blue"}
    legend = [", ".join(names[name] for name in fields)] if fields else []
    return [*legend, *lines, NOTICE] if style.caption else [NOTICE]


def _draw_outlines(axes: Axes, fields: Mapping[str, npt.NDArray[np.float32]]) -> None:
    for name in sorted(fields, reverse=True):  # the infection last
        if fields[name].max() > 0.5:
            closed = np.pad(fields[name], 1)
            rows, columns = (np.arange(-1, side - 1) for side in closed.shape)
            axes.contour(columns, rows, closed, levels=[0.5], colors=[hex_colour(COLOURS[name])], linewidths=0.9)


def _draw_scale_bar(axes: Axes, mm_per_pixel: float, shape: tuple[int, ...]) -> None:
    length, words = scale_bar(mm_per_pixel, shape[1])
    right, bottom = 0.97 * shape[1], 0.97 * shape[0]
    axes.plot([right - length, right], [bottom, bottom], color="white", linewidth=1.5, solid_capstyle="butt")
    axes.text(right - length / 2, bottom - 0.012 * shape[0], words, color="white", fontsize=_POINTS, ha="center")
