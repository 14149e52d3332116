"""Masks drawn on a radiograph, and the preview with numbers below it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from cxrseg.errors import ImageError
from cxrseg.plots.style import COLOURS, NOTICE

__all__ = ["contour", "line_width", "overlay", "preview", "resized_mask", "resized_pixels"]

_Pixels = npt.NDArray[np.float32]
_Mask = npt.NDArray[np.bool_]
_Picture = npt.NDArray[np.uint8]

_OPACITY = 0.35
"""Opacity of the colour inside an infection; the texture of the radiograph stays visible."""

_SMALLEST, _LARGEST = 640, 2048
"""A preview's radiograph is enlarged or reduced so that its longest side lies between these, in pixels."""

_INK, _PAPER = (240, 240, 240), (16, 16, 16)


def overlay(
    pixels: _Pixels,
    infection: _Mask | None = None,
    lungs: _Mask | None = None,
    truth: _Mask | None = None,
    width: int | None = None,
) -> _Picture:
    """Draw masks on a radiograph.

    The infection is filled and outlined in vermillion, the lungs are outlined in sky blue, the truth in
    yellow with a black rim. Outlines lie on the masks' own outermost pixels. Colours are Okabe and Ito's,
    which the colour-blind tell apart.

    Args:
        pixels: (H, W) float32 in [0, 1].
        infection: (H, W) bool, the prediction, or None.
        lungs: (H, W) bool, or None.
        truth: (H, W) bool, the true infection, or None.
        width: of the outlines in pixels; by default 1/320 of the longest side.

    Returns:
        (H, W, 3) uint8.

    Raises:
        ImageError: a mask's shape is not that of the pixels.
    """
    _check(pixels, infection=infection, lungs=lungs, truth=truth)
    width = width or line_width(pixels.shape)
    gray = np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8)
    picture = np.repeat(gray[:, :, np.newaxis], 3, axis=2)
    if infection is not None:
        colour = np.array(COLOURS["infection"])
        under = picture[infection].astype(np.float32)
        picture[infection] = np.rint(under * (1 - _OPACITY) + colour * _OPACITY).astype(np.uint8)
    if lungs is not None:
        picture[contour(lungs, width)] = COLOURS["lungs"]
    if infection is not None:
        picture[contour(infection, width)] = COLOURS["infection"]
    if truth is not None:
        line = contour(truth, width)
        picture[_grown(line, max(1, width // 2)) & ~line] = (0, 0, 0)
        picture[line] = COLOURS["truth"]
    return picture


def contour(mask: _Mask, width: int = 1) -> _Mask:
    """Outline of a mask: its pixels that have a pixel outside the mask within `width` rows and columns.

    Beyond the image's border all is outside, so an outline is closed where the border cuts the mask.

    Args:
        mask: (H, W) bool.
        width: in pixels, at least 1.

    Returns:
        (H, W) bool, a part of the mask.
    """
    line = np.zeros(mask.shape, dtype=bool)
    box = _box(mask, 0)
    if box is not None:
        inside = mask[box]
        line[box] = inside & (_extreme(inside, width, "minimum") == 0)
    return line


def line_width(shape: tuple[int, ...]) -> int:
    """Width of outlines that is visible on an image of this (height, width), in pixels."""
    return max(1, round(max(shape) / 320))


def resized_pixels(pixels: _Pixels, shape: tuple[int, int]) -> _Pixels:
    """Enlarge or reduce a radiograph for display (bicubic).

    Args:
        pixels: (H, W) float32 in [0, 1].
        shape: (height, width) wanted.

    Returns:
        (height, width) float32 in [0, 1].
    """
    if pixels.shape == shape:
        return pixels
    image = Image.fromarray(np.ascontiguousarray(pixels, dtype=np.float32))
    values: _Pixels = np.asarray(image.resize(shape[::-1], Image.Resampling.BICUBIC))
    return np.clip(values, 0.0, 1.0)


def resized_mask(mask: _Mask, shape: tuple[int, int]) -> _Mask:
    """Enlarge or reduce a mask for display (bilinear, cut at half, so that its edge stays smooth).

    Args:
        mask: (H, W) bool.
        shape: (height, width) wanted.

    Returns:
        (height, width) bool.
    """
    if mask.shape == shape:
        return mask
    image = Image.fromarray(mask.astype(np.uint8) * 255)
    return np.asarray(image.resize(shape[::-1], Image.Resampling.BILINEAR)) >= 128


def preview(
    pixels: _Pixels,
    infection: _Mask | None = None,
    lungs: _Mask | None = None,
    lines: Sequence[str] = (),
    truth: _Mask | None = None,
) -> _Picture:
    """Draw the overlay with a caption below it: a legend, the given lines, and 'Research use only'.

    The radiograph is enlarged or reduced to a longest side of 640 to 2048 pixels; text is wrapped to fit.

    Args:
        pixels: (H, W) float32 in [0, 1].
        infection: (H, W) bool, or None.
        lungs: (H, W) bool, or None.
        lines: the caption, such as the infected fractions.
        truth: (H, W) bool, or None.

    Returns:
        (height, width, 3) uint8.

    Raises:
        ImageError: a mask's shape is not that of the pixels.
    """
    _check(pixels, infection=infection, lungs=lungs, truth=truth)
    longest = max(pixels.shape)
    scale = min(max(longest, _SMALLEST), _LARGEST) / longest
    shape = (max(1, round(pixels.shape[0] * scale)), max(1, round(pixels.shape[1] * scale)))
    masks = [None if mask is None else resized_mask(mask, shape) for mask in (infection, lungs, truth)]
    picture = overlay(resized_pixels(pixels, shape), masks[0], masks[1], masks[2])
    legend = [name for name, mask in zip(COLOURS, masks, strict=True) if mask is not None]
    width = max(shape[1], _SMALLEST // 2)
    strip = _caption(width, legend, [*lines, NOTICE], size=max(15, round(max(shape) / 48)))
    canvas = Image.new("RGB", (width, shape[0] + strip.height), _PAPER)
    canvas.paste(Image.fromarray(picture), ((width - shape[1]) // 2, 0))
    canvas.paste(strip, (0, shape[0]))
    return np.asarray(canvas)


def _check(pixels: _Pixels, **masks: _Mask | None) -> None:
    for name, mask in masks.items():
        if mask is not None and mask.shape != pixels.shape:
            raise ImageError(f"expected a mask of the {name} of shape {pixels.shape}, got {mask.shape}")


def _box(mask: _Mask, margin: int) -> tuple[slice, slice] | None:
    """The rows and columns that a mask covers, with a margin, or None where it is empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return None
    top, left = max(0, int(rows[0]) - margin), max(0, int(columns[0]) - margin)
    return slice(top, int(rows[-1]) + 1 + margin), slice(left, int(columns[-1]) + 1 + margin)


def _extreme(mask: _Mask, reach: int, which: str) -> npt.NDArray[np.uint8]:
    """Minimum or maximum over the square of pixels at most `reach` away; beyond the array all is 0."""
    values = mask.astype(np.uint8)
    run = ndimage.minimum_filter1d if which == "minimum" else ndimage.maximum_filter1d
    for axis in (0, 1):
        values = run(values, 2 * reach + 1, axis=axis, mode="constant", cval=0)
    return values


def _grown(mask: _Mask, reach: int) -> _Mask:
    grown = np.zeros(mask.shape, dtype=bool)
    box = _box(mask, reach)
    if box is not None:
        grown[box] = _extreme(mask[box], reach, "maximum") == 1
    return grown


def _caption(width: int, legend: Sequence[str], lines: Sequence[str], size: int) -> Image.Image:
    """The strip below a preview: a legend of coloured squares, then lines of text, wrapped."""
    font = ImageFont.load_default(size)
    margin, step = size // 2, round(1.4 * size)
    wrapped = [part for line in lines for part in _wrapped(line, font, width - 2 * margin)]
    rows = [*_legend_rows(legend, font, width - 2 * margin, size), *wrapped]
    strip = Image.new("RGB", (width, step * len(rows) + 2 * margin), _PAPER)
    draw = ImageDraw.Draw(strip)
    for number, row in enumerate(rows):
        x, y = float(margin), margin + number * step
        if isinstance(row, str):
            draw.text((x, y), row, font=font, fill=_INK)
            continue
        for name in row:
            draw.rectangle((x, y + size * 0.2, x + size * 0.8, y + size), fill=COLOURS[name])
            draw.text((x + 1.2 * size, y), name, font=font, fill=_INK)
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


def _wrapped(line: str, font: _Font, width: float) -> list[str]:
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
