"""The strip of text below a picture."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from cxrseg.plots.style import COLOURS

__all__ = ["INK", "PAPER", "caption_strip", "wrap_line"]

INK, PAPER = (240, 240, 240), (16, 16, 16)


def caption_strip(width: int, legend: Sequence[str], lines: Sequence[str], size: int) -> Image.Image:
    """The strip below a preview: a legend of coloured squares, then lines of text, wrapped."""
    font = ImageFont.load_default(size)
    margin, step = size // 2, round(1.4 * size)
    wrapped = [part for line in lines for part in wrap_line(line, font, width - 2 * margin)]
    rows = [*_legend_rows(legend, font, width - 2 * margin, size), *wrapped]
    strip = Image.new("RGB", (width, step * len(rows) + 2 * margin), PAPER)
    draw = ImageDraw.Draw(strip)
    for number, row in enumerate(rows):
        x, y = float(margin), margin + number * step
        if isinstance(row, str):
            draw.text((x, y), row, font=font, fill=INK)
            continue
        for name in row:
            draw.rectangle((x, y + size * 0.2, x + size * 0.8, y + size), fill=COLOURS[name])
            draw.text((x + 1.2 * size, y), name, font=font, fill=INK)
            x += _entry_width(name, font, size)
    return strip


_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def _entry_width(name: str, font: _Font, size: int) -> float:
    return 2.2 * size + font.getlength(name)


def _legend_rows(names: Sequence[str], font: _Font, width: float, size: int) -> list[list[str]]:
    rows: list[list[str]] = []
    left = 0.0
    for name in names:
        needed = _entry_width(name, font, size)
        if needed > left:
            rows.append([])
            left = width
        rows[-1].append(name)
        left -= needed
    return rows


def wrap_line(line: str, font: _Font, width: float) -> list[str]:
    """Break a line at spaces, and a word that is too long anywhere."""
    parts = [""]
    for word in line.split():
        joined = f"{parts[-1]} {word}".strip()
        if font.getlength(joined) <= width:
            parts[-1] = joined
            continue
        parts.append("")
        for letter in word:
            if parts[-1] and font.getlength(parts[-1] + letter) > width:
                parts.append("")
            parts[-1] += letter
    return [part for part in parts if part] or [""]
