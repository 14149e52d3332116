"""From a patient's density to a radiograph: position, tubes, scatter, film, noise, markers, borders."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter

from cxrseg.phantom.canvas import Frame, Grid, Points

__all__ = ["expose", "place"]


def place(rng: np.random.Generator, shape: tuple[int, int]) -> Frame:
    """Place a patient in front of the detector: rotated by up to 8 degrees, shifted, scaled.

    Args:
        rng: random generator.
        shape: (height, width) in pixels; the shorter side determines the size of the patient.
    """
    angle = np.deg2rad(np.clip(rng.normal(0, 3.5), -8, 8))
    scale = rng.uniform(0.92, 1.28) * min(shape) / 2
    aspect = rng.uniform(0.94, 1.06)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    shift = rng.normal(0, [0.035, 0.05]) * min(shape) + [0, 0.06 * min(shape)]
    matrix = turn @ np.diag([scale * aspect, scale / aspect])
    return Frame(shape, matrix, np.array([shape[1] / 2, shape[0] / 2]) + shift)


def expose(
    density: Grid, frame: Frame, rng: np.random.Generator, grain: np.random.Generator
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """Simulate the exposure.

    Args:
        density: (H, W) float32, attenuation by the patient.
        frame: position of the patient.
        rng: random generator for everything that does not depend on the image size.
        grain: random generator for the noise of each pixel.

    Returns:
        (H, W) uint8, bright is dense, and (H, W) bool, False where the collimator's border hides the patient.
    """
    height, width = frame.shape
    density = density + _devices(frame, rng)
    density = _scattered(density, rng)
    x = np.linspace(-1, 1, width, dtype=np.float32)
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    density = density + rng.normal(0, 0.05) * x + rng.normal(0, 0.05) * y
    noise = grain.standard_normal(frame.shape, dtype=np.float32)
    density += rng.uniform(0.006, 0.028) * np.clip(density, 0.2, 1.2) * (noise + np.roll(noise, 1, 0)) / 1.4
    low, high = rng.uniform(-0.25, 0.2), rng.uniform(1.05, 1.6)
    steep, gamma = rng.uniform(2.2, 4.2), rng.uniform(0.8, 1.3)
    bright = np.tanh(steep * ((density - low) / (high - low) - 0.5))
    ends = np.tanh(0.5 * steep)
    bright = np.clip((bright + ends) / (2 * ends), 0, 1) ** gamma
    bright = rng.uniform(0.0, 0.08) + bright * rng.uniform(0.8, 0.95)
    bright = np.maximum(bright, _marker(frame.shape, rng))
    field = _collimation(frame.shape, rng)
    pixels = np.where(field, bright, rng.uniform(0, 0.03))
    return np.clip(np.rint(pixels * 255), 0, 255).astype(np.uint8), field


def _scattered(density: Grid, rng: np.random.Generator) -> Grid:
    """Scatter reduces large contrasts, and digital processing increases small ones: both are a blend with a blur."""
    height, width = density.shape
    step = max(1, min(height, width) // 64)
    small = Image.fromarray(density).reduce(step)
    veil = gaussian_filter(np.asarray(small, dtype=np.float32), 0.07 * min(small.size))
    enlarged = Image.fromarray(veil).resize((width, height), Image.Resampling.BICUBIC)
    fraction = rng.uniform(-0.45, 0.25)
    blended: Grid = (1 - fraction) * density + fraction * np.asarray(enlarged, dtype=np.float32)
    return blended


def _devices(frame: Frame, rng: np.random.Generator) -> Grid:
    """In some images: leads with electrodes, a tube in the trachea, a line into the vena cava, a pacemaker."""
    lines: list[tuple[Points, float]] = []
    chance = rng.random(4)
    if chance[0] < 0.22:
        for _ in range(rng.integers(1, 4)):
            lines.extend(_lead(rng))
    if chance[1] < 0.12:
        lines.append((np.array([[0.01, -1.6], [0.0, -0.9], [0.015, -0.42]]), 0.022))
    if chance[2] < 0.15:
        path = np.array([[-0.75, -0.95], [-0.45, -0.72], [-0.16, -0.58], [-0.09, -0.35], [-0.10, -0.05]])
        lines.append((_curve(path + rng.normal(0, 0.015, path.shape)), 0.016))
    if chance[3] < 0.06:
        box = np.array([[0.42, -0.55], [0.52, -0.55]])
        wire = np.array([[0.42, -0.52], [0.2, -0.6], [0.0, -0.4], [-0.08, -0.05], [0.1, 0.22], [0.22, 0.24]])
        lines += [(box, 0.13), (_curve(wire), 0.014)]
    if not lines:
        return np.zeros(frame.shape, np.float32)
    return rng.uniform(0.10, 0.30) * frame.stroke(lines)


def _lead(rng: np.random.Generator) -> list[tuple[Points, float]]:
    """A lead across the chest that ends at an electrode."""
    start = np.array([rng.choice([-1.5, 1.5]), rng.uniform(-0.9, 0.9)])
    end = rng.uniform([-0.6, -0.6], [0.6, 0.4])
    bend = (start + end) / 2 + rng.normal(0, 0.22, 2)
    angles = np.linspace(0, 2 * np.pi, 16)
    ring = end + 0.028 * np.column_stack([np.cos(angles), np.sin(angles)])
    return [(_curve(np.stack([start, bend, end])), 0.013), (ring, 0.022)]


def _curve(points: Points) -> Points:
    return CubicSpline(np.arange(len(points)), points)(np.linspace(0, len(points) - 1, 40))


def _marker(shape: tuple[int, int], rng: np.random.Generator) -> Grid:
    """The letter of the side in an upper corner, sometimes a word below: (H, W) float32, 0 elsewhere."""
    height, width = shape
    unit = min(shape)
    left_side, size = rng.random() < 0.6, rng.uniform(0.045, 0.085)
    word = str(rng.choice(["", "", "", "AP", "PA", "PORTABLE", "SUPINE", "ERECT", "PHANTOM"]))
    across, down, bright = rng.uniform(0.03, 0.10), rng.uniform(0.02, 0.15), rng.uniform(0.75, 1.0)
    sheet = Image.new("L", (width, height))
    if rng.random() < 0.85:
        pen = ImageDraw.Draw(sheet)
        # The patient's left is the image's right.
        x, anchor = (width - across * unit, "ra") if left_side else (across * unit, "la")
        letter, small = ImageFont.load_default(size * unit), ImageFont.load_default(0.45 * size * unit)
        pen.text((x, down * unit), "L" if left_side else "R", fill=255, font=letter, anchor=anchor)
        if word:
            pen.text((x, (down + 1.15 * size) * unit), word, fill=255, font=small, anchor=anchor)
    return np.asarray(sheet, dtype=np.float32) * np.float32(bright / 255)


def _collimation(shape: tuple[int, int], rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """(H, W) bool: the exposed field, in some images with slightly oblique black borders."""
    height, width = shape
    shown = rng.random(4) < 0.22
    edges = np.where(shown, rng.uniform(0.01, 0.07, 4), 0.0)
    slants = np.where(shown, rng.normal(0, 0.01, 4), 0.0)
    x = (np.arange(width) + 0.5) / width
    y = ((np.arange(height) + 0.5) / height)[:, None]
    inside: npt.NDArray[np.bool_] = (x >= edges[0] + slants[0] * y) & (1 - x >= edges[1] + slants[1] * y)
    inside &= (y >= edges[2] + slants[2] * x) & (1 - y >= edges[3] + slants[3] * x)
    return inside
