"""How much the measures of a film vary where nothing in the patient has changed.

A film is measured again mirrored, shifted and exposed otherwise. The standard deviation of that, and a part that every
film has, were fitted to pairs of copies of one exposure (`benchmarks/repeatability.py`), so that 95% of the differences
between copies lie within the band. Two exposures of a patient differ by more: by posture and breathing. So a change
within the band is noise for certain, and one beyond it may still be posture.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import pstdev

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from cxrseg.inference.segmenter import Segmenter
from cxrseg.io.radiograph import Radiograph
from cxrseg.metrics.severity import Severity

__all__ = ["MEASURES", "NOISE", "Noise", "band", "deviations", "variants"]

_PARTS = ("", *(f"_{side}{zone}" for side in ("left", "right") for zone in ("", "_upper", "_middle", "_lower")))
MEASURES = (*(f"infected_fraction{part}" for part in _PARTS), "extent_score")
"""What is followed: columns of `cxrseg.metrics.severity.Severity`."""

_SHIFT = 0.02
_GAMMAS = (0.8, 1.25)
_Z = 1.96
"""95% of a normal distribution lie within so many standard deviations."""


@dataclass(frozen=True)
class Noise:
    """Variance of a measure: `floor` squared + (`scale` times its standard deviation over the variants) squared."""

    floor: float
    scale: float


NOISE: Mapping[str, Noise] = {
    "lungs": Noise(0.0227, 1.0),
    "lung": Noise(0.0214, 1.0),
    "zone": Noise(0.0212, 1.0),
    "extent": Noise(0.1380, 1.0),
}
"""Fitted by `benchmarks/repeatability.py` with the weights that come with cxrseg, see docs/results.md."""


def variants(radiograph: Radiograph) -> Iterator[tuple[bool, Radiograph]]:
    """The film mirrored, shifted by 2% of its size both ways, and exposed otherwise; and whether sides are swapped."""
    pixels = radiograph.pixels
    yield True, replace(radiograph, pixels=np.ascontiguousarray(pixels[:, ::-1]))
    for sign in (-1, 1):
        move = [sign * round(_SHIFT * side) for side in pixels.shape]
        yield False, replace(radiograph, pixels=_shifted(pixels, move))
    for gamma in _GAMMAS:
        yield False, replace(radiograph, pixels=np.power(pixels, np.float32(gamma)))


def deviations(segmenter: Segmenter, radiograph: Radiograph, severity: Severity) -> dict[str, float]:
    """Standard deviation of each of `MEASURES` over a film and its variants; a variant that is refused takes no part.

    Args:
        segmenter: measures the variants.
        radiograph: the film.
        severity: what was measured on the film itself.
    """
    rows = [severity.as_row()]
    for swapped, variant in variants(radiograph):
        found = segmenter.segment(variant).severity if variant.pixels.size else None
        if found is not None:
            rows.append({_other(name) if swapped else name: value for name, value in found.as_row().items()})
    return {name: _deviation([row[name] for row in rows]) for name in MEASURES}


def band(measure: str, first: float, second: float, noise: Mapping[str, Noise] = NOISE) -> float:
    """The difference of two films that noise alone stays below in 95 of 100 cases.

    Args:
        measure: one of `MEASURES`.
        first, second: its standard deviations on the two films, see `deviations`.
        noise: fitted values.
    """
    fitted = noise[kind_of(measure)]
    variance = 2 * fitted.floor**2 + fitted.scale**2 * (first**2 + second**2)
    return float(_Z * np.sqrt(variance))


def kind_of(measure: str) -> str:
    """'lungs', 'lung', 'zone' or 'extent'."""
    if measure == "extent_score":
        return "extent"
    return ("lungs", "lung", "zone")[measure.count("_") - 1]


def _shifted(pixels: npt.NDArray[np.float32], move: Sequence[int]) -> npt.NDArray[np.float32]:
    return np.asarray(ndimage.shift(pixels, move, order=0, mode="nearest"), dtype=np.float32)


def _other(name: str) -> str:
    """The same measure of the other side."""
    return name.replace("_left", "_LEFT").replace("_right", "_left").replace("_LEFT", "_right")


def _deviation(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None]
    return pstdev(known) if len(known) > 1 else 0.0
