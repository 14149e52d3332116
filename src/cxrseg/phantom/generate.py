"""Synthetic chest X-rays with known lungs and infection: a dataset that needs no download.

A frontal radiograph is composed of a patient (`anatomy`), opacities in the lungs, and an `exposure`. The seed
determines patient and exposure; the category changes only the lungs. So the categories differ only in the opacity:
tubes, markers and borders are equally frequent in all three.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.ndimage import gaussian_filter

from cxrseg.data.sample import CATEGORIES, PHANTOM_MARK, SPLITS
from cxrseg.errors import DatasetError
from cxrseg.io.write import write_atomic, write_bytes, write_mask
from cxrseg.phantom import anatomy, exposure
from cxrseg.phantom.anatomy import Patient
from cxrseg.phantom.canvas import Frame, Grid, smooth_noise

__all__ = ["DEFAULT_COUNTS", "MASK_FRACTION", "Phantom", "make_phantom", "write_phantoms"]

DEFAULT_COUNTS: Mapping[str, Mapping[str, int]] = {
    "train": {"COVID-19": 240, "Non-COVID": 60, "Normal": 120},
    "val": {"COVID-19": 32, "Non-COVID": 16, "Normal": 16},
    "test": {"COVID-19": 64, "Non-COVID": 16, "Normal": 32},
}
"""Default number of images of each split and category in `write_phantoms`: 596 in all, so that making them, training
and evaluation take minutes on a small CPU."""

MASK_FRACTION = 0.3
"""The infection mask is where the drawn opacity exceeds this fraction of its amplitude."""

_SIZES = (64, 2048)
_NAMES = {"COVID-19": "covid_{}.png", "Non-COVID": "non_COVID ({}).png", "Normal": "Normal ({}).png"}
_LUNG_PIXELS, _LUNG_REACH = 176, 0.95


@dataclass(frozen=True, eq=False)
class Phantom:
    """One synthetic frontal chest X-ray with its true masks.

    Attributes:
        image: (H, W) uint8, bright is dense.
        infection: (H, W) bool, inside the lungs; empty unless the category is 'COVID-19', as in COVID-QU-Ex.
        left_lung: (H, W) bool, the patient's left lung (at the image's right), without heart and mediastinum.
        right_lung: (H, W) bool, the patient's right lung.
        category: 'COVID-19', 'Non-COVID' (an opacity is drawn, its mask is empty by definition) or 'Normal'.
    """

    image: npt.NDArray[np.uint8]
    infection: npt.NDArray[np.bool_]
    left_lung: npt.NDArray[np.bool_]
    right_lung: npt.NDArray[np.bool_]
    category: str

    @property
    def lungs(self) -> npt.NDArray[np.bool_]:
        """(H, W) bool, both lungs."""
        return self.left_lung | self.right_lung


def make_phantom(seed: int, category: str, size: int | tuple[int, int] = 256) -> Phantom:
    """Make one chest X-ray.

    The same arguments give the same pixels in every process. Another size gives the same patient with other
    noise; another category gives the same patient with other opacities.

    Args:
        seed: any integer from 0.
        category: 'COVID-19', 'Non-COVID' or 'Normal'.
        size: width and height, or (height, width), each 64 to 2048 pixels.

    Raises:
        DatasetError: the seed, category or size is invalid.
    """
    shape = size if isinstance(size, tuple) else (size, size)
    _check(seed, category, shape)
    body, show, lung, grain = (np.random.default_rng([seed, stream]) for stream in range(4))
    patient = Patient.make(body)
    frame = exposure.place(show, shape)
    right, left = anatomy.lungs_of(patient, frame)
    opacity = _opacity(patient, category, lung)
    drawn = np.clip(frame.sample(opacity.drawn, _LUNG_REACH), 0, 1)
    density = _density(patient, frame, body, right + left, drawn * frame.sample(opacity.strength, _LUNG_REACH))
    pixels, open_field = exposure.expose(density, frame, show, grain)
    right_lung, left_lung = (right >= 0.5) & open_field, (left >= 0.5) & open_field
    infection = (drawn > MASK_FRACTION) & (right_lung | left_lung) & (category == "COVID-19")
    return Phantom(pixels, infection, left_lung, right_lung, category)


def _check(seed: int, category: str, shape: tuple[int, int]) -> None:
    if category not in CATEGORIES:
        raise DatasetError(f"expected a category out of {', '.join(CATEGORIES)}; got {category!r}")
    low, high = _SIZES
    if len(shape) != 2 or not all(low <= side <= high for side in shape):
        raise DatasetError(f"expected phantoms of {low} to {high} pixels a side; got {shape}")
    if seed < 0:
        raise DatasetError(f"expected a seed of 0 or more; got {seed}")


def _density(patient: Patient, frame: Frame, rng: np.random.Generator, lungs: Grid, filled: Grid) -> Grid:
    """The total attenuation; `filled` is the fraction of the lung's air that opacity replaces."""
    unit = frame.pixels_per_unit
    tissue = frame.sample(anatomy.soft_tissue(patient, rng), anatomy.SOFT_REACH)
    middle, belly = frame.fill(patient.middle), frame.fill(patient.belly)
    tissue += gaussian_filter(0.2 * middle + rng.uniform(0.15, 0.35) * belly * np.clip(tissue, 0, 1), 0.014 * unit)
    tissue += anatomy.bones(patient, frame, rng)
    if rng.random() < 0.5:
        u, v = frame.coordinates()
        x, y = rng.uniform(0.28, 0.42), patient.base + rng.uniform(0.06, 0.14)
        tissue -= 0.22 * np.exp(-((((u - x) / 0.15) ** 2 + ((v - y) / 0.08) ** 2) ** 2))  # air in the stomach
    air = rng.uniform(0.42, 0.56) * frame.sample(_thickness(patient), _LUNG_REACH)
    air *= gaussian_filter(lungs, 0.008 * unit)
    tissue += anatomy.vessels(frame, rng) * lungs
    return tissue - air * (1 - filled)


def _thickness(patient: Patient) -> Grid:
    """Depth of the lungs from front to back, 0.55 to 1: smaller at their borders."""
    tile = Frame.square(_LUNG_PIXELS, _LUNG_REACH)
    right, left = anatomy.lungs_of(patient, tile)
    depth = gaussian_filter(right + left, 0.10 * tile.pixels_per_unit)
    return np.float32(0.45) + np.float32(0.6) * depth.astype(np.float32)


@dataclass(frozen=True, eq=False)
class _Opacity:
    """Tiles of `_LUNG_REACH`: where opacity is drawn, in [0, 1], and how much of the air it replaces."""

    drawn: Grid
    strength: Grid


def _opacity(patient: Patient, category: str, rng: np.random.Generator) -> _Opacity:
    tile = Frame.square(_LUNG_PIXELS, _LUNG_REACH)
    if category == "Normal":
        return _Opacity(np.zeros(tile.shape, np.float32), np.zeros(tile.shape, np.float32))
    right, left = anatomy.lungs_of(patient, tile)
    noise = smooth_noise(rng, _LUNG_PIXELS, (7, 14, 28, 56), 0.5)
    if category == "COVID-19":
        fraction, likely = _covid(patient, tile, right, left, rng)
        strength = rng.uniform(max(0.55, 0.8 - 2 * fraction), 0.95)
    else:
        fraction, likely = _lobar(tile, right, left, rng)
        strength = rng.uniform(0.5, 0.85)
    field = likely + 0.5 * noise
    lungs = right + left > 0.5
    level = np.quantile(field[lungs], 1 - fraction) if fraction < 1 else field.min() - 1
    # In a small lesion few pixels are far above the level: with a narrower feather they still become dense.
    feather = rng.uniform(0.2, 0.5) * min(1.0, 0.4 + 4 * fraction)
    edge = np.clip((field - level) / feather + 0.5, 0, 1)
    edge = edge * edge * (3 - 2 * edge)
    patchy = np.clip(0.82 + 0.12 * smooth_noise(rng, _LUNG_PIXELS, (14, 28, 56), 0.9), 0.6, 1)
    uneven = np.clip(1 + 0.14 * smooth_noise(rng, _LUNG_PIXELS, (3, 6), 0.7), 0.7, 1.25)
    return _Opacity(edge * patchy, np.minimum(strength * uneven, 1))


def _covid(patient: Patient, tile: Frame, right: Grid, left: Grid, rng: np.random.Generator) -> tuple[float, Grid]:
    """Infected fraction and likely places: mostly both lungs, peripheral, lower zones; very small to whole lungs."""
    kind = rng.random()
    if kind < 0.06:
        fraction = 10 ** rng.uniform(-2.4, -1.4)
    elif kind < 0.50:
        fraction = rng.uniform(0.05, 0.45)
    elif kind < 0.83:
        fraction = rng.uniform(0.45, 0.85)
    else:
        fraction = rng.uniform(0.85, 1.0)
    u, v = tile.coordinates()
    likely = rng.normal(1.0, 0.9) * (v - patient.top) / (patient.base - patient.top)
    likely += rng.normal(0.9, 0.6) * np.abs(u) / patient.half_width
    lean = rng.normal(0, 0.35)
    if rng.random() < 0.15 and fraction < 0.4:
        lean = 4.0 if rng.random() < 0.5 else -4.0  # one lung only
    likely += lean * (left - right)
    likely += rng.uniform(0, 0.8) * smooth_noise(rng, _LUNG_PIXELS, (5,), 1.0)
    return float(fraction), likely


def _lobar(tile: Frame, right: Grid, left: Grid, rng: np.random.Generator) -> tuple[float, Grid]:
    """Infected fraction and likely places: one focus in one lung, sometimes with a straight edge along a fissure."""
    lung = right if rng.random() < 0.5 else left
    places = np.argwhere(lung > 0.9)
    row, column = places[rng.integers(len(places))]
    u, v = tile.coordinates()
    u, v = u - u[row, column], v - v[row, column]
    likely = -2.5 * np.hypot(u / rng.uniform(0.2, 0.3), v / rng.uniform(0.16, 0.3)) + 6.0 * lung
    beyond = v - rng.normal(0, 0.25) * u - rng.choice([-1, 1]) * 0.08
    likely -= 25 * np.clip(beyond * (1 if rng.random() < 0.5 else -1), 0, None) * (rng.random() < 0.6)
    return rng.uniform(0.05, 0.22), likely


def write_phantoms(
    root: Path | str, counts: Mapping[str, Mapping[str, int]] | None = None, size: int = 256, seed: int = 0
) -> Path:
    """Write phantoms as PNG files in the layout of COVID-QU-Ex's infection segmentation data.

    Every image shows another patient. An image depends on the seed, its split, its category and its index there, not on
    the number of other images.

    Args:
        root: the output folder; files with the same names are replaced, others are kept.
        counts: split ('train', 'val', 'test') to category to number of images; `DEFAULT_COUNTS` where None.
        size: width and height in pixels, 64 to 2048.
        seed: 0 or more.

    Returns:
        `root` as a path, which then contains 'Infection Segmentation Data', as the unpacked archive does.

    Raises:
        DatasetError: a split or category is unknown, a number is negative, or the size or seed is invalid.
        DiskFullError: the disk is full.
    """
    counts = DEFAULT_COUNTS if counts is None else counts
    _check(seed, CATEGORIES[0], (size, size))
    root = Path(root)
    base = root / "Infection Segmentation Data" / "Infection Segmentation Data"
    jobs = _jobs(base, counts, seed)
    write_bytes(base / PHANTOM_MARK, f"Synthetic chest X-rays, drawn by cxrseg: seed {seed}, size {size}.\n".encode())
    # Threads, because an atomic write mostly waits for the disk.
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda job: _write(*job, size=size), jobs))
    return root


def _jobs(base: Path, counts: Mapping[str, Mapping[str, int]], seed: int) -> list[tuple[Path, str, int]]:
    """Folder, file name and seed of every image; the folder's own name is the category."""
    rows = [(split, category, number) for split, row in counts.items() for category, number in row.items()]
    known = f"splits {', '.join(SPLITS)}, categories {', '.join(CATEGORIES)} and numbers of 0 or more"
    faults = [
        f"{split} {category}: {number}"
        for split, category, number in rows
        if split not in SPLITS or category not in CATEGORIES or number < 0
    ]
    if faults:
        raise DatasetError(f"expected {known} of phantoms; correct:", faults)
    before = dict.fromkeys(CATEGORIES, 0)
    jobs = []
    for split, category, number in rows:
        for place in range(number):
            before[category] += 1
            source = np.random.SeedSequence([seed, SPLITS.index(split), CATEGORIES.index(category), place])
            name = _NAMES[category].format(before[category])
            jobs.append((base / split.capitalize() / category, name, int(source.generate_state(1, np.uint64)[0])))
    return jobs


def _write(folder: Path, name: str, seed: int, *, size: int) -> None:
    phantom = make_phantom(seed, folder.name, size)
    image = Image.fromarray(phantom.image)
    write_mask(folder / "lung masks" / name, phantom.lungs)
    write_mask(folder / "infection masks" / name, phantom.infection)
    write_atomic(folder / "images" / name, lambda file: image.save(file, "PNG", compress_level=1))
