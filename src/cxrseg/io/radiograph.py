"""The one value that every reader returns: a radiograph with its geometry and history."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from cxrseg.io.orientation import UPRIGHT, Orientation
from cxrseg.io.text import printable, shortened

__all__ = ["Radiograph"]


@dataclass(frozen=True, eq=False)
class Radiograph:
    """One chest X-ray as read from a file, upright and not mirrored as far as the file tells.

    Attributes:
        pixels: (H, W) float32 in [0, 1], bright is dense (bone white, air black).
        spacing_mm: (row, column) distance of the centres of `pixels` in millimetres, or None where the file does
            not say.
        source: where it came from, as the user named it (a path, or "array").
        steps: what was done to the stored values, in order, in words.
        tags: what the file says of itself, such as 'modality' or 'view_position'; never a name or an
            identifier of a patient. Empty for raster images. See `cxrseg.io.dicom_tags.public_tags`.
        coloured: fraction of the pixels that had a colour, an even tint of the whole aside; 0 to 1.
        warnings: what a reader of the result should know about how the file was read, one sentence each.
        identifiers: 'patient_id', 'study_date', 'study_uid', 'series_uid' and 'sop_uid' of a DICOM file, as far as it
            has them. They may name a patient, so `repr` leaves them out.
        orientation: what was done to the file's pixels to make them upright.
        reduced_by: how many of the file's pixels in each direction became one of `pixels`; more than 1 only for very
            large images.
        stored_shape: (height, width) of the file's own pixels; None where it is that of `pixels`.
    """

    pixels: npt.NDArray[np.float32]
    spacing_mm: tuple[float, float] | None = None
    source: str = "array"
    steps: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    coloured: float = 0.0
    warnings: tuple[str, ...] = ()
    identifiers: Mapping[str, str] = field(default_factory=dict, repr=False)
    orientation: Orientation = UPRIGHT
    reduced_by: int = 1
    stored_shape: tuple[int, int] | None = None

    def __repr__(self) -> str:
        height, width = self.shape
        spacing = "" if self.spacing_mm is None else ", {:g} x {:g} mm each".format(*self.spacing_mm)
        warnings = f", {len(self.warnings)} warning{'s' * (len(self.warnings) > 1)}" if self.warnings else ""
        return f"Radiograph({shortened(printable(self.source))}, {height} x {width} pixels{spacing}{warnings})"

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) of `pixels`."""
        height, width = self.pixels.shape
        return height, width

    @property
    def file_shape(self) -> tuple[int, int]:
        """(height, width) of the file's own pixels."""
        return self.stored_shape or self.shape

    def to_file(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Bring a mask or a map from `pixels` back onto the file's own pixels.

        Args:
            values: (H, W) of any type, such as a mask.

        Returns:
            The same values in the file's order, of `file_shape`; each is repeated where the image was reduced.
        """
        values = self.orientation.undo(values)
        if self.reduced_by > 1:
            height, width = self.file_shape
            values = values.repeat(self.reduced_by, axis=0).repeat(self.reduced_by, axis=1)[:height, :width]
        return np.ascontiguousarray(values)
