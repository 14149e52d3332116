"""The figures of a stress test."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cxrseg.io.write import write_csv, write_json
from cxrseg.metrics.intervals import Estimate, Groups, chosen_groups, estimate_fraction, estimate_means
from cxrseg.metrics.segmentation import MARKED_LIMIT

__all__ = ["AS_IS", "StoredFilm", "Stress", "WaySummary", "write_stress"]

AS_IS = "as it is"
"""Name of the row of the unchanged films."""


@dataclass(frozen=True)
class StoredFilm:
    """The result for one film, stored in one way; None where undefined.

    Attributes:
        way: name of the way.
        name: of the film.
        category: of the film.
        refused: why it was refused, '' otherwise; its masks then count as empty.
        dice: of the infection; None where both masks are empty, or the dataset has no such mask.
        lungs_dice: of the lungs, likewise.
        lungs_marked: fraction of the dataset's lungs that is marked.
        infected: True where the dataset marks infection.
        fraction: infected fraction of the model's own lungs, as `cxrseg predict` reports it.
        fraction_as_is: the same of the unchanged film, in the visible part.
    """

    way: str
    name: str
    category: str | None
    refused: str
    dice: float | None
    lungs_dice: float | None
    lungs_marked: float | None
    infected: bool
    fraction: float | None
    fraction_as_is: float | None

    @property
    def movement(self) -> float | None:
        """Change of the infected fraction, in [0, 1]; None where one of the two is unknown."""
        if self.fraction is None or self.fraction_as_is is None:
            return None
        return abs(self.fraction - self.fraction_as_is)


@dataclass(frozen=True)
class WaySummary:
    """The figures of the films stored in one way.

    Attributes:
        way: name of the way.
        films: number of films.
        refused: number of refused films.
        normal_marked: fraction of the Normal films with more than 1% of the lungs marked.
        infected_dice: mean Dice of the films that the dataset marks infection on.
        movement: mean of |infected fraction - that of the unchanged film|, of all films.
        movement_95: 95th percentile of the same.
        lungs_dice: mean Dice of the lungs.
    """

    way: str
    films: int
    refused: int
    normal_marked: Estimate
    infected_dice: Estimate
    movement: Estimate
    movement_95: float
    lungs_dice: Estimate

    def as_json(self, about: str) -> dict[str, Any]:
        """Name to figure, with None instead of nan."""
        return {
            "way": self.way,
            "about": about,
            "films": self.films,
            "refused": self.refused,
            "normal_marked": self.normal_marked.as_json("fraction"),
            "infected_dice": self.infected_dice.as_json(),
            "movement": self.movement.as_json(),
            "movement_95": None if np.isnan(self.movement_95) else self.movement_95,
            "lungs_dice": self.lungs_dice.as_json(),
        }


@dataclass(frozen=True)
class Stress:
    """Every film in every way.

    Attributes:
        films: a row for each film and way, the unchanged films first.
        about: name of the way to its description.
        seed: of the choice of films and of the noise.
        groups: name of a film to its group (patient, copies), where any are known; intervals draw groups as a whole.
    """

    films: Sequence[StoredFilm]
    about: Mapping[str, str]
    seed: int = 0
    groups: Mapping[str, int] | None = None

    @property
    def ways(self) -> tuple[str, ...]:
        """The ways' names, beginning with `AS_IS`."""
        return tuple(self.about)

    def of(self, way: str) -> list[StoredFilm]:
        """The films stored in one way."""
        return [film for film in self.films if film.way == way]

    def summaries(self) -> list[WaySummary]:
        """A row for each way, beginning with the unchanged films."""
        return [_summary(way, self.of(way), self._groups(self.of(way))) for way in self.about]

    def _groups(self, films: Sequence[StoredFilm]) -> Groups:
        return None if self.groups is None else [self.groups[film.name] for film in films]

    def lines(self) -> list[str]:
        """The figures as a table for a terminal."""
        head = f"{'stored':<16}{'films':>6}{'refused':>9}{'Normal marked':>18}{'infected: Dice':>24}{'moves':>10}"
        return [f"{head}{'95% within':>12}{'lungs: Dice':>13}", *(_line(one) for one in self.summaries())]

    def to_json(self) -> dict[str, Any]:
        """The figures, ready for JSON; docs/evaluating.md explains each key."""
        categories = Counter(str(film.category) for film in self.of(AS_IS))
        return {
            "films": dict(categories),
            "seed": self.seed,
            "ways": [one.as_json(self.about[one.way]) for one in self.summaries()],
        }


def _summary(way: str, films: Sequence[StoredFilm], groups: Groups) -> WaySummary:
    is_normal = [film.category == "Normal" and film.lungs_marked is not None for film in films]
    normal = [film for film, chosen in zip(films, is_normal, strict=True) if chosen]
    marked = sum((film.lungs_marked or 0) > MARKED_LIMIT for film in normal)
    moved = [np.nan if film.movement is None else film.movement for film in films]
    means = estimate_means(
        {
            "infected_dice": [_or_nan(film.dice) if film.infected else np.nan for film in films],
            "movement": moved,
            "lungs_dice": [_or_nan(film.lungs_dice) for film in films],
        },
        groups=groups,
    )
    return WaySummary(
        way=way,
        films=len(films),
        refused=sum(bool(film.refused) for film in films),
        normal_marked=estimate_fraction(marked, len(normal), chosen_groups(groups, is_normal)),
        movement_95=float(np.nanpercentile(moved, 95)) if not np.isnan(moved).all() else np.nan,
        **means,
    )


def _or_nan(value: float | None) -> float:
    return np.nan if value is None else value


def _line(one: WaySummary) -> str:
    normal, dice = one.normal_marked, one.infected_dice
    return (
        f"{one.way:<16}{one.films:>6}{one.refused:>9}"
        f"{f'{normal.value:.1%} ({normal.low:.0%}-{normal.high:.0%})':>18}"
        f"{f'{dice.value:.3f} ({dice.low:.3f}-{dice.high:.3f})':>24}"
        f"{one.movement.value:>10.3f}{one.movement_95:>12.3f}{one.lungs_dice.value:>13.3f}"
    )


def write_stress(found: Stress, out: Path) -> None:
    """Write stress.csv, a row for each film and way, and stress.json, the figures of each way, into a folder.

    Raises:
        DiskFullError: the disk is full.
    """
    rows = [{**asdict(film), "infected": int(film.infected), "movement": film.movement} for film in found.films]
    write_csv(out / "stress.csv", list(rows[0]), rows)
    write_json(out / "stress.json", found.to_json())
