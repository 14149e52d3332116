"""The one value that every reader returns: a radiograph with its geometry and history."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

__all__ = ["Radiograph"]


@dataclass(frozen=True, eq=False)
class Radiograph:
    """One chest X-ray as read from a file.

    Attributes:
        pixels: (H, W) float32 in [0, 1], bright is dense (bone white, air black).
        spacing_mm: (row, column) distance of pixel centres in millimetres, or None where the file does
            not say.
        source: where it came from, as the user named it (a path, or "array").
        steps: what was done to the stored values, in order, in words.
        tags: what the file says of itself, such as 'modality' or 'view_position'; never a name or an
            identifier of a patient. Empty for raster images. See `cxrseg.io.dicom_tags.public_tags`.
        coloured: share of the pixels that had a colour, an even tint of the whole aside; 0 to 1.
    """

    pixels: npt.NDArray[np.float32]
    spacing_mm: tuple[float, float] | None = None
    source: str = "array"
    steps: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    coloured: float = 0.0

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        height, width = self.pixels.shape
        return height, width
