"""Figures for print with one style and fixed widths, written as PNG and SVG."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxrseg.io.write import RESULT_MARK, write_bytes

if TYPE_CHECKING:  # Matplotlib takes half a second to import; only drawing needs it.
    from matplotlib.figure import Figure

__all__ = ["COLUMN_MM", "PAGE_MM", "new_figure", "print_style", "save_figure"]

COLUMN_MM, PAGE_MM = 85.0, 170.0
"""Widths of a figure: one column of a journal's page, and the whole page."""

_STYLE: dict[Any, Any] = {
    "font.size": 8.0,
    "axes.titlesize": 8.0,
    "axes.labelsize": 8.0,
    "legend.fontsize": 8.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "grid.linewidth": 0.4,
    "grid.color": "0.85",
    "lines.linewidth": 1.3,
    "lines.markersize": 3.5,
    "legend.frameon": False,
    "svg.fonttype": "none",  # text stays text, which can be searched and edited
    "svg.hashsalt": "cxrseg",
    "text.parse_math": False,  # names of files may contain dollar signs
}


@contextmanager
def print_style() -> Iterator[None]:
    """Matplotlib's settings for figures of cxrseg, inside the context."""
    import matplotlib as mpl

    with mpl.rc_context(_STYLE):
        yield


def new_figure(width_mm: float, height_mm: float) -> Figure:
    """Make an empty figure of 300 dots per inch, without pyplot and so without a display or global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_mm / 25.4, height_mm / 25.4), dpi=300, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: Path) -> list[Path]:
    """Write a figure as PNG and SVG, atomically, without date or version inside.

    Args:
        figure: a `matplotlib.figure.Figure`, made without pyplot.
        path: of the figure, without suffix.

    Returns:
        the files written: `path` with '.png' and '.svg' added.

    Raises:
        DiskFullError: the disk is full.
    """
    written = []
    for kind, metadata in (("png", {"Software": RESULT_MARK}), ("svg", {"Date": None, "Creator": None})):
        data = io.BytesIO()
        with print_style(), warnings.catch_warnings():
            # Characters that the font lacks are drawn as boxes; the figure is still complete.
            warnings.filterwarnings("ignore", message="Glyph .* missing from font")
            figure.savefig(data, format=kind, metadata=metadata)
        file = path.with_name(f"{path.name}.{kind}")
        write_bytes(file, data.getvalue())
        written.append(file)
    return written
