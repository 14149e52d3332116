"""The same film, stored in other ways: does it get the same answer?

Each film is segmented as it is and as every way of `cxrseg.evaluation.perturbations` stores it. Maps are brought back
onto the film's own pixels and compared with its true masks, and its infected fraction with that of the film as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from cxrseg.data.sample import Sample
from cxrseg.errors import DatasetError
from cxrseg.evaluation.perturbations import WAYS, Way
from cxrseg.inference.prediction import Prediction
from cxrseg.io.radiograph import Radiograph
from cxrseg.metrics.intervals import Estimate, estimate_means, estimate_fraction
from cxrseg.metrics.segmentation import MARKED_LIMIT, count
from cxrseg.metrics.severity import infected_fraction

__all__ = ["AS_IS", "UNCHANGED", "StoredFilm", "Stress", "WaySummary", "choose_films", "stress"]

AS_IS = "as it is"
"""Name of the row of the films as they are."""

UNCHANGED = Way(AS_IS, "unchanged", lambda pixels, _: pixels)
"""The film as it is."""

_Mask = npt.NDArray[np.bool_]


class SegmentsRadiographs(Protocol):
    """Anything that segments as `cxrseg.Segmenter` does."""

    def segment(self, radiograph: Radiograph) -> Prediction:
        """Find infection and lungs."""
        ...


@dataclass(frozen=True)
class StoredFilm:
    """What was found on one film, stored in one way; None where undefined.

    Attributes:
        way: the way's name.
        name: the film's name.
        category: its category.
        refused: why it was refused, '' otherwise; its masks then count as empty.
        dice: of the infection; None where neither truth nor prediction holds a pixel, or the dataset has no such mask.
        lungs_dice: of the lungs, the same.
        lungs_marked: share of the dataset's lungs that is marked.
        infected: True where the dataset marks infection.
        fraction: infected fraction of the model's own lungs, as a user is told.
        fraction_as_is: the same of the film as it is, of the part that can still be seen.
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
        """How far the infected fraction moved, in [0, 1]; None where either is unknown."""
        if self.fraction is None or self.fraction_as_is is None:
            return None
        return abs(self.fraction - self.fraction_as_is)


@dataclass(frozen=True)
class WaySummary:
    """The films stored in one way, in figures.

    Attributes:
        way: its name.
        films: how many.
        refused: how many of them were refused.
        normal_marked: share of the Normal films with more than 1% of the lungs marked.
        covid19_dice: mean Dice of the films that the dataset marks infection on.
        movement: mean of |infected fraction - that of the film as it is|, of all films.
        movement_95: 95th percentile of the same.
        lungs_dice: mean Dice of the lungs.
    """

    way: str
    films: int
    refused: int
    normal_marked: Estimate
    covid19_dice: Estimate
    movement: Estimate
    movement_95: float
    lungs_dice: Estimate


@dataclass(frozen=True)
class Stress:
    """Every film in every way.

    Attributes:
        films: a row for each film and way, the films as they are first.
        about: way's name to what it does.
    """

    films: Sequence[StoredFilm]
    about: Mapping[str, str]

    @property
    def ways(self) -> tuple[str, ...]:
        """The ways' names, beginning with `AS_IS`."""
        return tuple(self.about)

    def of(self, way: str) -> list[StoredFilm]:
        """The films stored in one way."""
        return [film for film in self.films if film.way == way]

    def summaries(self) -> list[WaySummary]:
        """A row for each way, beginning with the films as they are."""
        return [_summary(way, self.of(way)) for way in self.about]

    def lines(self) -> list[str]:
        """The figures as a table for a terminal."""
        head = f"{'way':<16}{'films':>6}{'refused':>8}  Normal marked      COVID-19 Dice          moves   95th  lungs"
        return [head, *(_line(one) for one in self.summaries())]


def choose_films(samples: Sequence[Sample], count: int | None, seed: int = 0) -> list[Sample]:
    """Up to `count` films of each category, drawn at random; all where `count` is None.

    Args:
        samples: what to choose from.
        count: of each category.
        seed: of the choice.
    """
    if count is None:
        return list(samples)
    chosen: list[Sample] = []
    for category in dict.fromkeys(sample.category for sample in samples):
        of = [sample for sample in samples if sample.category == category]
        order = np.random.default_rng(seed).permutation(len(of))[:count]
        chosen += [of[place] for place in sorted(order)]
    return chosen


def stress(
    segmenter: SegmentsRadiographs,
    samples: Sequence[Sample],
    ways: Sequence[Way] = WAYS,
    *,
    count: int | None = None,
    seed: int = 0,
    workers: int | None = None,
    on_image: Callable[[int, int], None] | None = None,
) -> Stress:
    """Segment films as they are and in every way, and compare.

        from cxrseg.evaluation.stress import stress
        found = stress(Segmenter(model, input_check=False), dataset.select("val", ["COVID-19", "Normal"]).samples, count=60)
        print("\\n".join(found.lines()))

    Args:
        segmenter: such as `cxrseg.Segmenter`.
        samples: the films, with their masks.
        ways: see `WAYS` and `ways_named`.
        count: how many films of each category, see `choose_films`.
        seed: of the choice of films and of the noise.
        workers: films at the same time; None takes what `ThreadPoolExecutor` does.
        on_image: called with (films done, films in all).

    Raises:
        DatasetError: there are no films.
        ImageError: a film or mask cannot be read.
    """
    films = choose_films(samples, count, seed)
    if not films:
        raise DatasetError("expected at least one film to store in other ways, got none")
    rows: list[StoredFilm] = []
    with ThreadPoolExecutor(workers) as pool:
        for done, found in enumerate(pool.map(lambda film: _film(segmenter, film, ways, seed), films), 1):
            rows += found
            if on_image is not None:
                on_image(done, len(films))
    about = {way.name: way.about for way in (UNCHANGED, *ways)}
    order = {name: place for place, name in enumerate(about)}
    return Stress(sorted(rows, key=lambda row: order[row.way]), about)


def _film(segmenter: SegmentsRadiographs, sample: Sample, ways: Sequence[Way], seed: int) -> list[StoredFilm]:
    """One film in every way."""
    radiograph = sample.read_image()
    truths = {target: sample.read_mask(target) for target in ("infection", "lungs")}
    base: dict[str, _Mask] | None = None
    rows = []
    for way in (UNCHANGED, *ways):
        stored = way.store(radiograph.pixels, sample.name, seed)
        prediction = segmenter.segment(replace(radiograph, pixels=stored))
        masks = _masks(prediction, way, radiograph.shape)
        base = masks if base is None else base
        rows.append(_row(sample, way, prediction, masks, base, truths))
    return rows


def _masks(prediction: Prediction, way: Way, shape: tuple[int, int]) -> dict[str, _Mask]:
    """Channel to mask on the film's own pixels."""
    if prediction.status == "refused":
        return {}
    return {
        channel: way.restore(map_, shape) >= prediction.thresholds[channel]
        for channel, map_ in prediction.probabilities.items()
    }


def _row(
    sample: Sample,
    way: Way,
    prediction: Prediction,
    masks: Mapping[str, _Mask],
    base: Mapping[str, _Mask],
    truths: Mapping[str, _Mask | None],
) -> StoredFilm:
    infection, lungs = truths["infection"], truths["lungs"]
    shape = next(iter(mask.shape for mask in (*masks.values(), infection, lungs) if mask is not None), (1, 1))
    seen = way.visible((shape[0], shape[1]))
    marked = masks.get("infection", np.zeros(shape, dtype=bool)) & seen
    where = lungs if lungs is not None else masks.get("lungs")
    return StoredFilm(
        way=way.name,
        name=sample.name,
        category=sample.category,
        refused=prediction.reason if prediction.status == "refused" else "",
        dice=_dice(marked, infection, seen),
        lungs_dice=_dice(masks.get("lungs", np.zeros(shape, dtype=bool)), lungs, seen),
        lungs_marked=None if where is None else infected_fraction(marked, where & seen),
        infected=infection is not None and bool((infection & seen).any()),
        fraction=_fraction(masks, seen),
        fraction_as_is=_fraction(base, seen),
    )


def _dice(mask: _Mask, truth: _Mask | None, seen: _Mask) -> float | None:
    if truth is None:
        return None
    value = count(mask & seen, truth & seen).dice
    return None if np.isnan(value) else value


def _fraction(masks: Mapping[str, _Mask], seen: _Mask) -> float | None:
    if not {"infection", "lungs"} <= masks.keys():
        return None
    return infected_fraction(masks["infection"], masks["lungs"] & seen)


def _summary(way: str, films: Sequence[StoredFilm]) -> WaySummary:
    normal = [film for film in films if film.category == "Normal" and film.lungs_marked is not None]
    moved = [np.nan if film.movement is None else film.movement for film in films]
    means = estimate_means(
        {
            "covid19_dice": [_or_nan(film.dice) if film.infected else np.nan for film in films],
            "movement": moved,
            "lungs_dice": [_or_nan(film.lungs_dice) for film in films],
        }
    )
    return WaySummary(
        way=way,
        films=len(films),
        refused=sum(bool(film.refused) for film in films),
        normal_marked=estimate_fraction(sum((film.lungs_marked or 0) > MARKED_LIMIT for film in normal), len(normal)),
        movement_95=float(np.nanpercentile(moved, 95)) if not np.isnan(moved).all() else np.nan,
        **means,
    )


def _or_nan(value: float | None) -> float:
    return np.nan if value is None else value


def _line(one: WaySummary) -> str:
    normal, dice = one.normal_marked, one.covid19_dice
    return (
        f"{one.way:<16}{one.films:>6}{one.refused:>8}  {normal.value:>5.1%} ({normal.low:.0%}-{normal.high:.0%})"
        f"{'':<4}{dice.value:.3f} ({dice.low:.3f}-{dice.high:.3f})   {one.movement.value:>6.3f} {one.movement_95:>6.3f}"
        f"  {one.lungs_dice.value:.3f}"
    )


def rows_of(found: Stress) -> list[dict[str, Any]]:
    """A row for each film and way, ready for CSV."""
    return [{**asdict(film), "infected": int(film.infected), "movement": film.movement} for film in found.films]
