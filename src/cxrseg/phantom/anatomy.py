"""A synthetic patient: the outlines of the chest, and how much each part attenuates the X-rays.

Everything is in body coordinates (see `canvas`). Densities are relative to the attenuation in the middle of the trunk:
soft tissue about 0.8 to 1, lung about 0.3, outside 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter

from cxrseg.phantom.canvas import Frame, Grid, Points, smooth_noise

__all__ = ["Patient", "bones", "lungs_of", "soft_tissue", "vessels"]

SOFT_REACH = 1.9
"""The tile of the soft parts shows u and v from minus this to this."""

_SOFT_PIXELS = 144


@dataclass(frozen=True, eq=False)
class Patient:
    """The outlines from which the parts of the chest are drawn.

    Attributes:
        right, left: outlines of the lungs (aerated field, without heart and mediastinum).
        middle: outline of mediastinum and heart between them.
        belly: outline of the part below the diaphragm.
        half_width: half of the rib cage's largest width.
        top: v of the apices of the lungs.
        base: v of the costophrenic angles.
        build: from 0 (slim) to 1 (stout).
    """

    right: Points
    left: Points
    middle: Points
    belly: Points
    half_width: float
    top: float
    base: float
    build: float

    @classmethod
    def make(cls, rng: np.random.Generator) -> Patient:
        """Make a random patient."""
        half_width = rng.uniform(0.62, 0.72)
        top, base = rng.uniform(-0.80, -0.70), rng.uniform(0.30, 0.52)
        heart = rng.uniform(0.85, 1.25) * half_width
        lift = rng.uniform(0.03, 0.09)  # the liver holds the right dome higher
        domes = base - rng.uniform(0.10, 0.20) - np.array([lift, 0.0])
        right_medial = _right_border(rng, top, domes[0], half_width)
        left_medial = _left_border(rng, top, domes[1], heart)
        right, right_dome = _lung(rng, right_medial, half_width, (top, base - lift / 2, domes[0]))
        left, left_dome = _lung(rng, left_medial, half_width, (top, base, domes[1]))
        mirror = np.array([-1.0, 1.0])
        between = np.concatenate([right_medial * mirror, left_medial[::-1]])
        across = np.concatenate([right_dome * mirror, left_dome[::-1]])
        wall = half_width * 1.6
        below = np.array([[wall, base + 0.1], [wall, 9.0], [-wall, 9.0], [-wall, base + 0.1]])
        return cls(
            right=right * mirror,
            left=left,
            middle=np.concatenate([between, [[0.06, top - 0.1], [-0.06, top - 0.1]]]),
            belly=np.concatenate([across, below]),
            half_width=half_width,
            top=top,
            base=base,
            build=rng.uniform(0, 1),
        )

    def cage(self, v: Grid) -> Grid:
        """Half of the rib cage's width at height v."""
        return _cage(v, self.half_width, self.top, self.base)


def _cage(v: Grid, half_width: float, top: float, base: float) -> Grid:
    """Egg-shaped: half an ellipse that ends slightly above the apices, with straight sides below."""
    rise = np.clip((base - 0.12 - v) / (base - top), 0, 1.02)
    half: Grid = half_width * np.sqrt(np.clip(1 - 0.87 * rise**2, 0, None))
    return half


def _spline(points: Points, count: int = 60) -> Points:
    """A smooth curve through points, by the length of its chords."""
    steps = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    return CubicSpline(steps, points)(np.linspace(0, steps[-1], count))


def _right_border(rng: np.random.Generator, top: float, dome: float, width: float) -> Points:
    """The right lung's medial border from the diaphragm up, u positive: right atrium, hilum, vena cava."""
    atrium = rng.uniform(0.17, 0.24) * width
    heights = dome + 0.06 - np.array([0, 0.2, 0.42, 0.65, 0.85]) * (dome - top)
    widths = np.array([0.9 * atrium, 1.2 * atrium, 0.095, 0.085, 0.10])
    return _spline(np.column_stack([widths + rng.normal(0, 0.006, 5), heights]), 40)


def _left_border(rng: np.random.Generator, top: float, dome: float, heart: float) -> Points:
    """The left lung's medial border from the diaphragm up: apex of the heart, its waist, the aortic knob."""
    heights = dome + 0.04 - np.array([0, 0.14, 0.32, 0.48, 0.60, 0.70, 0.80, 0.90]) * (dome + 0.04 - top)
    knob = rng.uniform(0.13, 0.18)
    widths = np.array([0.52 * heart, 0.51 * heart, 0.40 * heart, 0.22 * heart, 0.10, knob, 0.115, 0.10])
    return _spline(np.column_stack([widths + rng.normal(0, 0.006, 8), heights]), 60)


def _lung(
    rng: np.random.Generator, medial: Points, width: float, heights: tuple[float, float, float]
) -> tuple[Points, Points]:
    """One lung with u positive: its closed outline, and the diaphragm's curve below (lateral to medial).

    The heights are those of the apex, of the costophrenic angle and of the diaphragm's dome.
    """
    top, base, dome = heights
    rows = np.array([0.10, 0.25, 0.45, 0.65, 0.85, 1.0]) * (base - top) + top
    lateral = np.column_stack([_cage(rows.astype(np.float32), width, top, base) - 0.025, rows])
    lateral[:, 0] += rng.normal(0, 0.006, len(lateral))
    apex = np.array([[0.36 * width, top]])
    outer = _spline(np.concatenate([medial[-12::6], medial[-1:], apex, lateral]), 90)
    angle, inner = lateral[-1], medial[0]
    peak = np.array([inner[0] + (angle[0] - inner[0]) * rng.uniform(0.3, 0.45), dome])
    flank = np.array([angle[0] - 0.06, base - (base - dome) * 0.45])
    curve = _spline(np.stack([angle, flank, peak, inner]), 40)
    return np.concatenate([medial[:-12], outer, curve]), curve


def lungs_of(patient: Patient, frame: Frame) -> tuple[Grid, Grid]:
    """The fraction of each pixel inside the right and the left lung, each (H, W) float32 in [0, 1]."""
    return frame.fill(patient.right), frame.fill(patient.left)


def soft_tissue(patient: Patient, rng: np.random.Generator) -> Grid:
    """Trunk, arms, breasts and heart as one soft tile, `SOFT_REACH` wide to each side.

    Returns:
        (144, 144) float32 density of a patient without lungs.
    """
    tile = Frame.square(_SOFT_PIXELS, SOFT_REACH)
    u, v = tile.coordinates()
    unit = tile.pixels_per_unit
    skin = patient.half_width + 0.08 + 0.14 * patient.build
    trunk = tile.fill(_trunk(skin, patient.top))
    density = (0.35 + 0.1 * patient.build) * gaussian_filter(trunk, 0.03 * unit)
    density += 0.4 * gaussian_filter(trunk, 0.16 * unit)
    if rng.random() < 0.6:
        density += 0.5 * gaussian_filter(_arms(tile, rng, skin), 0.05 * unit)
    if rng.random() < 0.45:
        density += rng.uniform(0.06, 0.18) * gaussian_filter(_breasts(tile, rng, patient), 0.025 * unit)
    x, y = 0.11, patient.base - 0.32
    density += 0.16 * np.exp(-(((u - x) / 0.24) ** 2) - ((v - y) / 0.22) ** 2)
    for side in (-1, 1):
        bright = rng.uniform(0.04, 0.12)
        density += bright * np.exp(-(((u - 0.17 * side) / 0.07) ** 2) - ((v + 0.16) / 0.11) ** 2)
    density += 0.03 * trunk * smooth_noise(rng, _SOFT_PIXELS, (6, 12, 24), 0.7)
    return density


def _trunk(skin: float, top: float) -> Points:
    """Neck, shoulders, flanks."""
    shoulder = np.array([[0, -8], [0, -0.25], [0.06, -0.13], [0.38, -0.03], [0.74, 0.12], [0.88, 0.35]])
    flank = np.array([[0.14, top + 0.60], [0.03, 0.1], [0, 0.45], [0.05, 9]])
    half = np.concatenate([shoulder + np.array([0.24, top]), flank + np.array([skin, 0])])
    return np.concatenate([half, half[::-1] * [-1, 1]])


def _arms(tile: Frame, rng: np.random.Generator, skin: float) -> Grid:
    """Upper arms beside the trunk, raised to different degrees."""
    arms = np.zeros(tile.shape, np.float32)
    for side in (-1, 1):
        away = rng.uniform(0.1, 0.5)
        elbow = np.array([[1.0, -0.5], [skin + 0.25 + away, 0.6], [skin + 0.3 + away * 1.4, 1.8]])
        arms = np.maximum(arms, tile.stroke([(elbow * [side, 1], rng.uniform(0.26, 0.36))]))
    return arms


def _breasts(tile: Frame, rng: np.random.Generator, patient: Patient) -> Grid:
    """Two drop shapes whose lower edge crosses the lung bases or is below them."""
    angles = np.linspace(0, 2 * np.pi, 40)
    radius, low = rng.uniform(0.24, 0.36), patient.base - rng.uniform(-0.05, 0.25)
    drop = np.zeros(tile.shape, np.float32)
    for side in (-1, 1):
        stretch = np.where(np.sin(angles) > 0, 1.0, 1.6)
        u = side * 0.62 * patient.half_width + radius * np.cos(angles) * 1.05 + rng.normal(0, 0.02)
        v = low - 0.6 * radius + radius * np.sin(angles) * stretch * 0.9
        weight = np.clip(1.2 - np.abs(tile.coordinates()[1] - low) * 1.4, 0, 1)
        drop = np.maximum(drop, tile.fill(np.column_stack([u, v])) * weight)
    return drop


def bones(patient: Patient, frame: Frame, rng: np.random.Generator) -> Grid:
    """Ribs, spine, clavicles and shoulder blades minus the trachea: (H, W) float32 density to add."""
    u, v = frame.coordinates()
    density = _ribs(patient, u, v, rng) + _spine(u, v, rng)
    blur = 0.008 * frame.pixels_per_unit
    limbs = _shoulders(patient, frame, rng)
    bifurcation = -0.30 + rng.normal(0, 0.02)
    airway = [
        (np.array([[0, -9], [0.0, -0.6], [0.015, bifurcation]]), 0.085),
        (np.array([[0.01, bifurcation], [-0.12, bifurcation + 0.12]]), 0.055),
        (np.array([[0.02, bifurcation], [0.15, bifurcation + 0.15]]), 0.05),
    ]
    limbs -= rng.uniform(0.08, 0.16) * frame.stroke(airway)
    return density + gaussian_filter(limbs, blur)


def _ribs(patient: Patient, u: Grid, v: Grid, rng: np.random.Generator) -> Grid:
    """Rings tilted forward: from the front each is an ellipse, whose upper half is the back of the rib."""
    spacing = (patient.base - patient.top) * rng.uniform(0.095, 0.115)
    drop = rng.uniform(0.8, 1.25) * (0.17 + 0.07 * np.clip(v - patient.top, 0, 1.3))
    strength, half_width = rng.uniform(0.08, 0.20), spacing * rng.uniform(0.24, 0.31)
    ratio = np.abs(u) / np.maximum(patient.cage(v), 0.05)
    depth = np.sqrt(np.clip(1 - ratio**2, 0.02, 1))
    steep = np.sqrt(1 + np.clip(drop * ratio / depth / patient.half_width, 0, 1.5) ** 2)
    inside = np.clip((1.05 - ratio) * 25, 0, 1) * np.clip((patient.base + 0.2 - v) * 4, 0, 1)
    total = np.zeros(u.shape, np.float32)
    for sign, fraction, start in ((-1, 1.0, 0.02), (1, 0.65, 0.40)):
        height = (v - patient.top + 0.04 - drop * (1 + sign * depth)) / spacing
        across = np.abs(height - np.rint(height)) * spacing / (half_width * steep)
        band = np.sqrt(np.clip(1 - across**2, 0, 1)) * (0.55 + 0.45 * np.clip(across, 0, 1) ** 3)
        ends = np.clip((ratio - start) * 8, 0, 1) * (np.rint(height) >= 0)
        total += fraction * band * ends
    ribs: Grid = strength * total * inside
    return ribs


def _spine(u: Grid, v: Grid, rng: np.random.Generator) -> Grid:
    """A column of vertebral bodies with darker discs and bright end plates, and the spinous processes."""
    size, phase, half = rng.uniform(0.10, 0.13), rng.uniform(0, 1), rng.uniform(0.075, 0.095)
    within = (v / size + phase) % 1.0
    body = np.clip(np.minimum(within, 1 - within) * 7, 0, 1)
    plates = np.exp(-(((np.minimum(within, 1 - within) - 0.14) / 0.05) ** 2))
    waist = half * (0.93 + 0.14 * (2 * within - 1) ** 2)
    column = np.clip((waist - np.abs(u)) * 45, 0, 1)
    process = np.exp(-((u / 0.015) ** 2) - ((within - 0.75) / 0.16) ** 2)
    spine: Grid = rng.uniform(0.08, 0.18) * (column * (0.5 + 0.4 * body + 0.25 * plates) + 0.5 * process)
    return spine


def _shoulders(patient: Patient, frame: Frame, rng: np.random.Generator) -> Grid:
    """Clavicles, shoulder blades and upper arm bones."""
    down = np.array([0, patient.top])
    density = np.zeros(frame.shape, np.float32)
    collarbones, arms = [], []
    bright, thick = rng.uniform(0.03, 0.08), rng.uniform(0.05, 0.065)
    for side in (np.array([-1, 1]), np.array([1, 1])):
        tilt, inner = rng.uniform(-0.04, 0.10), patient.half_width * rng.uniform(0.82, 1.08)
        ends = np.array([[0.07, 0.17], [0.26, 0.13], [0.48, 0.05 - tilt / 2], [0.86, -0.01 - tilt]])
        collarbones.append((_spline(ends + down, 30) * side, thick))
        arms.append(((np.array([[0.97, 0.14], [1.0, 0.3], [1.1, 0.9], [1.2, 2.0]]) + down) * side, 0.13))
        blade = np.array([[inner, 0.12], [0.80, 0.02], [0.94, 0.10], [0.86, 0.28], [inner + 0.06, 0.68]])
        density += bright * frame.fill(_spline(np.concatenate([blade, blade[:1]]) + down) * side)
    density += rng.uniform(0.10, 0.18) * frame.stroke(collarbones) + 0.18 * frame.stroke(arms)
    return density


def vessels(frame: Frame, rng: np.random.Generator) -> Grid:
    """Arteries that branch from the hila into the lungs: (H, W) float32 density to add (inside the lungs)."""
    stems = 7
    side = np.repeat([-1.0, 1.0], stems)
    angle = np.tile(np.linspace(-1.3, 1.4, stems), 2) + rng.normal(0, 0.15, 2 * stems)  # downward positive
    start = np.column_stack([0.13 * side, np.full(2 * stems, -0.14)]) + rng.normal(0, 0.02, (2 * stems, 2))
    width = rng.uniform(0.018, 0.032, 2 * stems)
    levels: list[list[tuple[Points, float]]] = []
    for _ in range(4):
        length = rng.uniform(0.05, 0.11, (len(side), 1))
        bend = angle + rng.normal(0, 0.3, len(side))
        middle = start + length * np.column_stack([side * np.cos(angle), np.sin(angle)])
        end = middle + length * np.column_stack([side * np.cos(bend), np.sin(bend)])
        levels.append(list(zip(np.stack([start, middle, end], axis=1), width.tolist(), strict=True)))
        fork = np.concatenate([rng.uniform(0.1, 0.6, len(side)), -rng.uniform(0.1, 0.6, len(side))])
        side, start, angle = np.tile(side, 2), np.tile(end, (2, 1)), np.tile(bend, 2) + fork
        width = np.tile(width, 2) * rng.uniform(0.5, 0.8, len(side))
    drawn = frame.stroke(line for level in reversed(levels) for line in level)
    return rng.uniform(0.05, 0.13) * gaussian_filter(drawn, 0.006 * frame.pixels_per_unit)
