"""Masks drawn on a radiograph, and the preview with numbers below it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from cxrseg.errors import ImageError
from cxrseg.plots.caption import PAPER, caption_strip
from cxrseg.plots.outlines import DEFAULT_STYLE, PictureStyle, draw_line, fill, soft_mask
from cxrseg.plots.style import COLOURS, NOTICE

__all__ = [
    "contour",
    "film_and_fields",
    "film_with_masks",
    "line_width",
    "overlay",
    "preview",
    "resized_mask",
    "resized_pixels",
    "scale_bar",
]

_Pixels = npt.NDArray[np.float32]
_Mask = npt.NDArray[np.bool_]
_Picture = npt.NDArray[np.uint8]

_OPACITY = 0.35
"""Opacity of the colour inside an infection; the texture of the radiograph stays visible."""

_SMALLEST = 640
"""A preview's radiograph is enlarged so that its longest side has so many pixels."""


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
    *,
    style: PictureStyle = DEFAULT_STYLE,
    spacing_mm: tuple[float, float] | None = None,
) -> _Picture:
    """Draw the masks on a film, with a caption below it: a legend, the given lines, and 'Research use only'.

    The radiograph is enlarged or reduced to a longest side of 640 to `style.largest` pixels; text is wrapped to fit.

    Args:
        pixels: (H, W) float32 in [0, 1].
        infection: (H, W) bool, or None.
        lungs: (H, W) bool, or None.
        lines: the caption, such as the infected fractions.
        truth: (H, W) bool, or None.
        style: how it is drawn; its `kind` does not matter here.
        spacing_mm: (row, column) distance of pixels, for a scale bar; None draws none.

    Returns:
        (height, width, 3) uint8.

    Raises:
        ImageError: a mask's shape is not that of the pixels.
    """
    _check(pixels, infection=infection, lungs=lungs, truth=truth)
    masks = {"infection": infection, "lungs": lungs, "truth": truth}
    film, fields = film_and_fields(pixels, masks, style)
    picture = _with_masks(film, fields, style)
    panels = [film, picture] if style.beside else [picture]
    row = Image.fromarray(np.rint(np.concatenate(panels, axis=1)).astype(np.uint8))
    size = max(15, round(max(film.shape) / 48))
    if spacing_mm is not None:
        _scale_bar(row, spacing_mm[1] * pixels.shape[1] / film.shape[1], film.shape[1], size)
    across = max(row.width, _SMALLEST // 2)
    said = [*lines, NOTICE] if style.caption else [NOTICE]
    strip = caption_strip(across, list(fields) if style.caption else [], said, size=size)
    canvas = Image.new("RGB", (across, row.height + strip.height), PAPER)
    canvas.paste(row, ((across - row.width) // 2, 0))
    canvas.paste(strip, (0, row.height))
    return np.asarray(canvas)


def film_with_masks(pixels: _Pixels, masks: Mapping[str, _Mask], side: int) -> _Picture:
    """Draw a film with its masks and nothing else, small.

    Args:
        pixels: (H, W) float32 in [0, 1].
        masks: 'infection' and 'lungs' to (H, W) bool; may lack them.
        side: longest side of the picture in pixels.

    Returns:
        (height, width, 3) uint8.
    """
    film, fields = _film_and_fields(pixels, masks, min(1.0, side / max(pixels.shape)))
    return np.rint(_with_masks(film, fields, DEFAULT_STYLE)).astype(np.uint8)


def film_and_fields(
    pixels: _Pixels, masks: Mapping[str, _Mask | None], style: PictureStyle
) -> tuple[npt.NDArray[np.float32], dict[str, npt.NDArray[np.float32]]]:
    """The film in gray at the size of its picture, (H, W, 3) float32 of 0 to 255, and each mask as a soft field."""
    longest = max(pixels.shape)
    return _film_and_fields(pixels, masks, max(_SMALLEST, min(longest, style.largest or longest)) / longest)


def _film_and_fields(
    pixels: _Pixels, masks: Mapping[str, _Mask | None], scale: float
) -> tuple[npt.NDArray[np.float32], dict[str, npt.NDArray[np.float32]]]:
    shape = (max(1, round(pixels.shape[0] * scale)), max(1, round(pixels.shape[1] * scale)))
    gray = np.rint(np.clip(resized_pixels(pixels, shape), 0, 1) * 255).astype(np.float32)
    fields = {name: soft_mask(mask, shape) for name, mask in masks.items() if mask is not None}
    return np.repeat(gray[:, :, np.newaxis], 3, axis=2), fields


def _with_masks(
    film: npt.NDArray[np.float32], fields: Mapping[str, npt.NDArray[np.float32]], style: PictureStyle
) -> npt.NDArray[np.float32]:
    picture = film.copy()
    if "infection" in fields:
        fill(picture, fields["infection"], COLOURS["infection"], style.fill)
    width = max(1.5, max(film.shape) / 300)
    if "truth" in fields:
        draw_line(picture, fields["truth"], (0, 0, 0), 2 * width)
    for name in sorted(fields, key=("lungs", "infection", "truth").index):
        draw_line(picture, fields[name], COLOURS[name], width)
    return picture


def scale_bar(mm_per_pixel: float, width: int) -> tuple[int, str]:
    """Length in pixels, and the words, of a scale bar of at most a third of `width` pixels."""
    fitting = [cm for cm in (10, 5, 2, 1) if 10 * cm / mm_per_pixel <= width / 3] or [1]
    return round(10 * fitting[0] / mm_per_pixel), f"{fitting[0]} cm"


def _scale_bar(picture: Image.Image, mm_per_pixel: float, width: int, size: int) -> None:
    """Draw a scale bar into the lower right corner, white with a black rim."""
    length, words = scale_bar(mm_per_pixel, width)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(size)
    right, bottom, thick = picture.width - size, picture.height - size, max(2, size // 6)
    draw.rectangle((right - length - 1, bottom - thick - 1, right + 1, bottom + 1), fill=(0, 0, 0))
    draw.rectangle((right - length, bottom - thick, right, bottom), fill=(255, 255, 255))
    where = (right - length / 2, bottom - thick - size * 0.3)
    draw.text(where, words, font=font, anchor="ms", fill=(255, 255, 255), stroke_width=2, stroke_fill=(0, 0, 0))


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
