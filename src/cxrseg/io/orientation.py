"""How the pixels of a file have to be turned so that a frontal radiograph stands upright and is not mirrored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

__all__ = ["UPRIGHT", "Orientation", "exif_orientation", "patient_orientation"]


@dataclass(frozen=True)
class Orientation:
    """What is done to the pixels of a file, in this order; `undo` takes pixels back to the file's own order.

    Attributes:
        transpose: rows and columns change places.
        flip_rows: then the first row becomes the last.
        flip_columns: then the first column becomes the last.
    """

    transpose: bool = False
    flip_rows: bool = False
    flip_columns: bool = False

    def apply(self, pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Turn the pixels of the file, (H, W) or (H, W, C); the result is a view of shape (W, H) if transposed."""
        pixels = pixels.swapaxes(0, 1) if self.transpose else pixels
        return self._flip(pixels)

    def undo(self, pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Turn upright pixels, such as those of a mask, back to the order of the file."""
        pixels = self._flip(pixels)
        return pixels.swapaxes(0, 1) if self.transpose else pixels

    def _flip(self, pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return pixels[:: -1 if self.flip_rows else 1, :: -1 if self.flip_columns else 1]

    def __str__(self) -> str:
        """In words: what is done."""
        return _WORDS[self.transpose, self.flip_rows, self.flip_columns]


_WORDS = {
    (False, False, False): "nothing",
    (False, False, True): "mirrored left to right",
    (False, True, False): "flipped top to bottom",
    (False, True, True): "turned by 180 degrees",
    # A transposition with one flip is a quarter turn.
    (True, False, False): "turned by 90 degrees and mirrored left to right",
    (True, False, True): "turned by 90 degrees clockwise",
    (True, True, False): "turned by 90 degrees counter-clockwise",
    (True, True, True): "turned by 90 degrees and flipped top to bottom",
}

UPRIGHT = Orientation()
"""Nothing has to be done."""

_EXIF = {
    2: Orientation(flip_columns=True),
    3: Orientation(flip_rows=True, flip_columns=True),
    4: Orientation(flip_rows=True),
    5: Orientation(transpose=True),
    6: Orientation(transpose=True, flip_columns=True),
    7: Orientation(transpose=True, flip_rows=True, flip_columns=True),
    8: Orientation(transpose=True, flip_rows=True),
}


def exif_orientation(value: int) -> Orientation:
    """The orientation that an EXIF or TIFF tag 274 of this value asks for; other values than 2 to 8 ask for none."""
    return _EXIF.get(value, UPRIGHT)


def patient_orientation(text: str) -> Orientation | None:
    """What makes a frontal radiograph upright, by its DICOM Patient Orientation (PS3.3 C.7.6.1.1.1).

    The first value tells to which side of the patient the rows run (to the image's right), the second to which the
    columns run (downwards). A frontal radiograph is shown with the patient's left at the right: 'L' and 'F'. Of a value
    such as 'LF' the first letter counts most, and decides.

    Args:
        text: both values in capitals, joined by a backslash, such as 'L\\F'.

    Returns:
        The orientation, or None where the text does not describe a frontal view: missing, malformed, or running from
        front to back.
    """
    parts = [part.strip() for part in text.upper().split("\\")]
    if len(parts) != 2 or not all(part and set(part) <= set("LRHFAP") for part in parts):
        return None
    row, column = parts[0][0], parts[1][0]
    if row in "LR" and column in "HF":
        return Orientation(flip_rows=column == "H", flip_columns=row == "R")
    if row in "HF" and column in "LR":
        # After the transposition the columns run to where the rows ran.
        return Orientation(transpose=True, flip_rows=row == "H", flip_columns=column == "R")
    return None
