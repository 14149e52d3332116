"""A figure as SVG inside an HTML page, with text as text, colours of the page, and a text for screen readers."""

from __future__ import annotations

import html
import io
import re
from typing import TYPE_CHECKING

from cxrseg.plots.figure import print_style
from cxrseg.plots.style import BLUE, GREEN, VERMILLION, hex_colour

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["VARIABLES", "inline_svg"]

VARIABLES = {
    hex_colour(BLUE): "--blue",
    hex_colour(VERMILLION): "--vermillion",
    hex_colour(GREEN): "--green",
    "#000000": "--ink",
    "#999999": "--muted",
    "#d9d9d9": "--grid",
}
"""Colour of a figure to the CSS variable that replaces it; the page sets it for light and dark mode."""


def inline_svg(figure: Figure, name: str, text: str) -> str:
    """Draw a figure as an SVG element.

    Args:
        figure: made without pyplot.
        name: unique on the page; every id inside begins with it.
        text: describes the figure for screen readers.

    Returns:
        An <svg> element of the class 'chart' without width or height, its colours those of `VARIABLES`.
    """
    data = io.BytesIO()
    with print_style():
        figure.savefig(
            data, format="svg", transparent=True, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type"))
        )
    drawn = data.getvalue().decode()
    drawn = drawn[drawn.index("<svg") :]
    # A style element inside an SVG would apply to the whole page.
    drawn = re.sub(r"<(metadata|style)\b.*?</\1>", "", drawn, flags=re.DOTALL)
    drawn = drawn.replace("xlink:href", "href")
    drawn = re.sub(r'( id="|="#|url\(#)', rf"\g<1>{name}-", drawn)
    drawn = re.sub(r"font(-family)?: ([^;\"]*px )?'?DejaVu[^;\"]*", _own_font, drawn)
    for colour, variable in VARIABLES.items():
        drawn = re.sub(f"{colour}\\b", f"var({variable})", drawn)
    head, _, body = drawn.partition(">")
    box = re.search(r'viewBox="[^"]*"', head)
    assert box is not None
    label = html.escape(text, quote=True)
    return f'<svg xmlns="http://www.w3.org/2000/svg" class="chart" {box[0]} role="img" aria-label="{label}">{body}'


def _own_font(found: re.Match[str]) -> str:
    return f"font: {found[2]}var(--font)" if found[2] else "font-family: var(--font)"
