"""How much of the lungs is infected: fraction of each lung and zone, and the extent score of Wong et al.

Left and right are the patient's: in the usual radiological view the patient's right lung is on the image's
left.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from cxrseg.errors import ImageError
from cxrseg.metrics.components import find_components
from cxrseg.metrics.lungs import Lung, find_lungs

__all__ = [
    "SEVERITY_COLUMNS",
    "SPECK",
    "Severity",
    "extent_score",
    "grade",
    "infected_fraction",
    "lung_extent",
    "measure_severity",
]

_Mask = npt.NDArray[np.bool_]

SPECK = 1 / 600
"""Connected regions of less than this fraction of their lung do not count in the extent score. It is 0.5% of a zone, a
third of a lung: 6 mm across in a lung of 200 square cm. A convention of cxrseg."""


@dataclass(frozen=True)
class Severity:
    """How much of the lungs is infected; None where it cannot be determined.

    Attributes:
        infected_fraction: fraction of both lungs' pixels that are infected, in [0, 1]; None without lungs.
        infected_fraction_left, infected_fraction_right: the same for the patient's left and right lung.
        infected_fraction_left_upper, ..., infected_fraction_right_lower: the same for thirds of each lung's height.
        infected_area_mm2: projected area of the infection within the lungs; None without spacing or lungs.
        extent_score: 0 to 8, see `extent_score`; specks (see `SPECK`) do not count in it, but do in the fractions.
        grade: 'none', 'mild', 'moderate' or 'severe', see `grade`.
    """

    infected_fraction: float | None
    infected_fraction_left: float | None
    infected_fraction_right: float | None
    infected_fraction_left_upper: float | None
    infected_fraction_left_middle: float | None
    infected_fraction_left_lower: float | None
    infected_fraction_right_upper: float | None
    infected_fraction_right_middle: float | None
    infected_fraction_right_lower: float | None
    infected_area_mm2: float | None
    extent_score: int | None
    grade: str | None

    def as_row(self) -> dict[str, Any]:
        """Column name to value, in the order of `SEVERITY_COLUMNS`, for CSV and JSON."""
        return {column: getattr(self, column) for column in SEVERITY_COLUMNS}


SEVERITY_COLUMNS = tuple(field.name for field in fields(Severity))
"""The columns that `Severity.as_row` fills."""


def measure_severity(
    infection: _Mask,
    lungs: _Mask,
    spacing_mm: tuple[float, float] | None = None,
    *,
    sides: tuple[Lung, Lung] | None = None,
) -> Severity:
    """Measure the infection within the lungs; infection outside of them is not counted.

    Args:
        infection: (H, W) bool.
        lungs: (H, W) bool, both lungs.
        spacing_mm: (row, column) distance of pixel centres in mm, or None where unknown. Where it is measured at the
            detector, areas are larger than in the body, since a radiograph magnifies.
        sides: the left and right lung, where `find_lungs` was called before.

    Raises:
        ImageError: the masks differ in shape.
    """
    if infection.shape != lungs.shape:
        raise ImageError(f"expected an infection mask of the lungs' shape {lungs.shape}, got {infection.shape}")
    left, right = find_lungs(lungs) if sides is None else sides
    fraction_left, *zones_left = _fractions(infection, left)
    fraction_right, *zones_right = _fractions(infection, right)
    score = extent_score(_fraction_without_specks(infection, left), _fraction_without_specks(infection, right))
    area = None
    if spacing_mm is not None and lungs.any():
        area = float(np.count_nonzero(infection & lungs)) * spacing_mm[0] * spacing_mm[1]
    return Severity(
        infected_fraction=infected_fraction(infection, lungs),
        infected_fraction_left=fraction_left,
        infected_fraction_right=fraction_right,
        infected_fraction_left_upper=zones_left[0],
        infected_fraction_left_middle=zones_left[1],
        infected_fraction_left_lower=zones_left[2],
        infected_fraction_right_upper=zones_right[0],
        infected_fraction_right_middle=zones_right[1],
        infected_fraction_right_lower=zones_right[2],
        infected_area_mm2=area,
        extent_score=score,
        grade=None if score is None else grade(score),
    )


def infected_fraction(infection: _Mask, region: _Mask) -> float | None:
    """Fraction of a region's pixels that are infected, in [0, 1]; None where the region is empty.

    Args:
        infection: (H, W) bool.
        region: (H, W) bool, such as the lungs or one lung.
    """
    return _ratio(int(np.count_nonzero(infection & region)), int(np.count_nonzero(region)))


def lung_extent(fraction: float) -> int:
    """Extent of one lung: 0 none, 1 below 25%, 2 up to 50%, 3 up to 75%, 4 above.

    Wong et al. 2020 (PMC7233401, Figure 2c) give <25%, 25-50%, 50-75% and >75%, which leaves 50% open. Here
    25% and 50% count as 2, and 75% as 3, so that '<25%' and '>75%' hold as printed. Any infected pixel makes
    1: `measure_severity` leaves out specks before.

    Args:
        fraction: infected fraction of the lung, in [0, 1].
    """
    if fraction <= 0:
        return 0
    if fraction < 0.25:
        return 1
    return 2 if fraction <= 0.5 else 3 if fraction <= 0.75 else 4


def extent_score(fraction_left: float | None, fraction_right: float | None) -> int | None:
    """Extent of both lungs together, 0 to 8; None where a lung was not found.

    A lung that is missing from the mask may be one that is wholly opaque, so it is not counted as healthy.
    Source: Wong et al. 2020 (PMC7233401), which Cohen et al. 2020 (arXiv:2005.11856) call geographic extent.

    Args:
        fraction_left, fraction_right: infected fraction of each lung, in [0, 1], or None where it was not found.
    """
    if fraction_left is None or fraction_right is None:
        return None
    return lung_extent(fraction_left) + lung_extent(fraction_right)


def grade(score: int) -> str:
    """Extent score as a word: 0 'none', 1 and 2 'mild', 3 to 5 'moderate', 6 to 8 'severe'.

    A convention of cxrseg that makes tables easier to read. We found no published cut points for this score, and the
    word does not say how ill the patient is.

    Args:
        score: extent score, 0 to 8.
    """
    return "none" if score == 0 else "mild" if score <= 2 else "moderate" if score <= 5 else "severe"


def _fractions(infection: _Mask, lung: Lung) -> list[float | None]:
    """Infected fraction of a lung, then of the upper, middle and lower third of its height."""
    infected = infection & lung.mask
    return [
        _ratio(int(np.count_nonzero(infected[span])), int(np.count_nonzero(lung.mask[span]))) for span in lung.spans
    ]


def _fraction_without_specks(infection: _Mask, lung: Lung) -> float | None:
    """Infected fraction of a lung, without connected regions that are smaller than `SPECK` of it."""
    pixels = int(np.count_nonzero(lung.mask))
    infected = infection & lung.mask
    if not pixels or not infected.any():
        return _ratio(0, pixels)
    sizes = find_components(infected).sizes
    return _ratio(int(sizes[sizes >= SPECK * pixels].sum()), pixels)


def _ratio(part: int, whole: int) -> float | None:
    return float(part / whole) if whole else None
