"""Smooth outlines and fills of masks, for pictures of any size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from cxrseg.errors import ArgumentError

__all__ = ["DEFAULT_STYLE", "PictureStyle", "draw_line", "fill", "soft_mask"]

_Soft = npt.NDArray[np.float32]
_Colour = tuple[int, int, int]

_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
"""Of red, green and blue (ITU-R BT.601)."""


@dataclass(frozen=True)
class PictureStyle:
    """How the picture of a film is drawn.

    Attributes:
        beside: put the plain film on the left.
        fill: strength of the colour inside the infection, 0 (outline only) to 1. The brightness stays as it is, so that
            the finding can be seen through the fill.
        caption: write legend, measurements and warnings below. Without, only the notice and the scale bar are written.
        largest: longest side of the film in the picture, in pixels; 0 for that of the film. Small films are enlarged.
        kind: 'png', or 'svg' or 'pdf' with outlines and text as vectors.

    Raises:
        ArgumentError: a value is out of range.
    """

    beside: bool = False
    fill: float = 0.35
    caption: bool = True
    largest: int = 2048
    kind: Literal["png", "svg", "pdf"] = "png"

    def __post_init__(self) -> None:
        if not 0 <= self.fill <= 1 or self.largest < 0 or self.kind not in ("png", "svg", "pdf"):
            raise ArgumentError(f"expected a fill of 0 to 1, a size of 0 or more, and png, svg or pdf, got {self}")


DEFAULT_STYLE = PictureStyle()


def soft_mask(mask: npt.NDArray[np.bool_], shape: tuple[int, int]) -> _Soft:
    """A mask as a smooth field on another grid, whose contour at 0.5 is the mask's border without stairs.

    Args:
        mask: (H, W) bool.
        shape: (height, width) wanted.

    Returns:
        (height, width) float32 in [0, 1].
    """
    image = Image.fromarray(mask.astype(np.float32))
    values = np.asarray(image.resize(shape[::-1], Image.Resampling.BILINEAR)) if mask.shape != shape else image
    # As wide as a pixel of the mask, where it is enlarged: then the corners of its pixels do not show.
    sigma = 0.8 * max(1.0, shape[0] / mask.shape[0])
    from scipy import ndimage  # here, since it takes long to import

    found: _Soft = ndimage.gaussian_filter(np.asarray(values, dtype=np.float32), sigma, mode="nearest")
    return found


def fill(picture: npt.NDArray[np.float32], field: _Soft, colour: _Colour, strength: float) -> None:
    """Tint the inside of a field, in place, and leave its brightness as it is.

    Args:
        picture: (H, W, 3) float32 of 0 to 255.
        field: see `soft_mask`.
        colour: of the tint.
        strength: 0 to 1.
    """
    tint = np.array(colour, dtype=np.float32)
    shift = strength * (tint - tint @ _LUMA)
    picture += np.clip((field - 0.5) * 4 + 0.5, 0, 1)[:, :, None] * shift
    np.clip(picture, 0, 255, out=picture)


def draw_line(picture: npt.NDArray[np.float32], field: _Soft, colour: _Colour, width: float) -> None:
    """Draw the border of a field in place, with smooth edges; where the picture ends it is closed.

    Args:
        picture: (H, W, 3) float32 of 0 to 255.
        field: see `soft_mask`.
        colour: of the line.
        width: of the line in pixels.
    """
    inner = np.pad(field, 1)
    rows, columns = np.gradient(inner)
    # The distance from the border to first order; within a line's width of it that is exact enough.
    distance = np.abs(inner - 0.5) / np.maximum(np.hypot(rows, columns), 1e-6)
    cover = np.clip(width / 2 + 0.5 - distance, 0, 1)[1:-1, 1:-1, None]
    picture += cover * (np.array(colour, dtype=np.float32) - picture)
