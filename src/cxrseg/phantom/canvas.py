"""Drawing in body coordinates, so that one patient looks the same at every image size.

Body coordinates are (u, v): u runs to the patient's left (the image's right), v runs down, the origin is the
middle of the chest. An upright square image at scale 1 shows u and v from -1 to 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

__all__ = ["Frame", "Grid", "Points", "smooth_noise"]

Grid = npt.NDArray[np.float32]
"""(H, W) float32."""

Points = npt.NDArray[np.float64]
"""(N, 2) float64: body coordinates (u, v) of a curve's points, in order."""


@dataclass(frozen=True, eq=False)
class Frame:
    """The position of the body in an image.

    Attributes:
        shape: (height, width) of the image in pixels.
        matrix: (2, 2) float64, body coordinates (u, v) to pixels (x, y), without the shift.
        origin: (2,) float64, the pixel position (x, y) of the body's origin; pixel i covers [i, i + 1).
    """

    shape: tuple[int, int]
    matrix: npt.NDArray[np.float64]
    origin: npt.NDArray[np.float64]

    @classmethod
    def square(cls, pixels: int, reach: float) -> Frame:
        """An upright frame of `pixels` x `pixels` that shows u and v from -reach to reach: a tile."""
        return cls((pixels, pixels), np.eye(2) * pixels / (2 * reach), np.full(2, pixels / 2))

    @property
    def pixels_per_unit(self) -> float:
        """Pixels in one unit of body coordinates."""
        return math.sqrt(abs(float(np.linalg.det(self.matrix))))

    @property
    def _oversampling(self) -> int:
        return 4 if min(self.shape) < 128 else 2

    def coordinates(self) -> tuple[Grid, Grid]:
        """(u, v) of every pixel centre, each (H, W) float32."""
        inverse = np.linalg.inv(self.matrix)
        height, width = self.shape
        x = np.arange(width) + 0.5 - self.origin[0]
        y = (np.arange(height) + 0.5 - self.origin[1])[:, None]
        u = inverse[0, 0] * x + inverse[0, 1] * y
        v = inverse[1, 0] * x + inverse[1, 1] * y
        return u.astype(np.float32), v.astype(np.float32)

    def fill(self, outline: Points) -> Grid:
        """The fraction of each pixel inside a closed outline, in [0, 1]."""
        image, pen, times = self._sheet()
        pen.polygon(self._places(outline, times), fill=255)
        return _coverage(image, times)

    def stroke(self, lines: Iterable[tuple[Points, float]]) -> Grid:
        """The fraction of each pixel that is covered by lines, in [0, 1].

        Args:
            lines: the points of each line, and its width in body units.
        """
        image, pen, times = self._sheet()
        scale = times * self.pixels_per_unit
        for points, width in lines:
            wide = width * scale
            # Lines thinner than a pixel are drawn fainter, since the pen has a whole number of pixels.
            ink = round(255 * min(1.0, wide))
            pen.line(self._places(points, times), fill=ink, width=max(1, round(wide)), joint="curve")
        return _coverage(image, times)

    def sample(self, tile: Grid, reach: float) -> Grid:
        """Look up a square tile that shows u and v from -reach to reach; outside, its border values are repeated.

        Returns:
            (H, W) float32.
        """
        per_unit = len(tile) / (2 * reach)
        inverse = np.linalg.inv(self.matrix)
        height, width = self.shape
        corners = np.array([[0, 0], [width, 0], [0, height], [width, height]]) - self.origin
        pad = max(2, math.ceil((np.abs(corners @ inverse.T).max() - reach) * per_unit) + 2)
        padded = np.pad(tile, pad, mode="edge")
        turn = inverse * per_unit
        shift = len(padded) / 2 - turn @ self.origin
        data = (turn[0, 0], turn[0, 1], shift[0], turn[1, 0], turn[1, 1], shift[1])
        image = Image.fromarray(padded)
        # Bicubic takes four times as long and makes a difference only where the tile is enlarged a lot.
        enlarged = self.pixels_per_unit > 2.5 * per_unit
        between = Image.Resampling.BICUBIC if enlarged else Image.Resampling.BILINEAR
        return np.array(image.transform((width, height), Image.Transform.AFFINE, data, between))

    def _sheet(self) -> tuple[Image.Image, ImageDraw.ImageDraw, int]:
        times = self._oversampling
        image = Image.new("L", (self.shape[1] * times, self.shape[0] * times))
        return image, ImageDraw.Draw(image), times

    def _places(self, points: Points, times: int) -> list[tuple[float, float]]:
        places = (points @ self.matrix.T + self.origin) * times - 0.5
        return [(x, y) for x, y in places.tolist()]


def _coverage(image: Image.Image, times: int) -> Grid:
    return np.asarray(image.reduce(times), dtype=np.float32) / np.float32(255)


def smooth_noise(rng: np.random.Generator, pixels: int, cells: Iterable[int], fall: float) -> Grid:
    """Noise of several scales on a square tile, made at low resolution and enlarged.

    Args:
        rng: random generator.
        pixels: width and height of the tile.
        cells: number of independent values across the tile, for each scale, coarse first.
        fall: amplitude of each scale relative to the one before.

    Returns:
        (pixels, pixels) float32 of mean 0 and standard deviation 1.
    """
    total = np.zeros((pixels, pixels), np.float32)
    for octave, count in enumerate(cells):
        image = Image.fromarray(rng.standard_normal((count, count), dtype=np.float32))
        total += np.asarray(image.resize((pixels, pixels), Image.Resampling.BICUBIC)) * np.float32(fall**octave)
    total -= total.mean()
    return total / max(float(total.std()), 1e-6)
