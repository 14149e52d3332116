"""Stress test: does the same film get the same result when it is stored in other ways?

Each film is segmented unchanged and changed in every way of `cxrseg.evaluation.perturbations`. Maps are transformed
back to the film's own pixels and compared with its true masks, and its infected fraction with that of the unchanged
film.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from cxrseg.data.groups import independent_groups
from cxrseg.data.sample import Sample
from cxrseg.errors import DatasetError
from cxrseg.evaluation.perturbations import WAYS, Way
from cxrseg.evaluation.stress_summary import AS_IS, StoredFilm, Stress
from cxrseg.inference.prediction import Prediction
from cxrseg.io.radiograph import Radiograph
from cxrseg.metrics.segmentation import count
from cxrseg.metrics.severity import infected_fraction

__all__ = ["UNCHANGED", "SegmentsRadiographs", "choose_films", "stress"]

UNCHANGED = Way(AS_IS, "unchanged", lambda pixels, _: pixels)
"""The unchanged film."""

_Mask = npt.NDArray[np.bool_]


class SegmentsRadiographs(Protocol):
    """Anything that segments as `cxrseg.Segmenter` does."""

    def segment(self, radiograph: Radiograph) -> Prediction:
        """Segment infection and lungs."""
        ...


def choose_films(samples: Sequence[Sample], count: int | None, seed: int = 0) -> list[Sample]:
    """Up to `count` films of each category, drawn at random; all where `count` is None.

    Args:
        samples: the films to choose from.
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
    """Segment films unchanged and changed in every way, and compare.

        from cxrseg.evaluation.stress import stress
        val = dataset.select("val", ["COVID-19", "Normal"])
        found = stress(Segmenter(model, input_check=False), val.samples, count=60)
        print("\\n".join(found.lines()))

    Args:
        segmenter: such as `cxrseg.Segmenter`.
        samples: the films, with their masks.
        ways: see `WAYS` and `ways_named`.
        count: number of films of each category, see `choose_films`.
        seed: of the choice of films and of the noise.
        workers: number of films at the same time; None for the default of `ThreadPoolExecutor`.
        on_image: called with (finished films, all films).

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
    numbers = independent_groups(films)
    groups = None if numbers is None else dict(zip([film.name for film in films], numbers, strict=True))
    return Stress(sorted(rows, key=lambda row: order[row.way]), about, seed, groups)


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
        row = _row(masks, base, truths, way.visible(radiograph.shape))
        refused = prediction.reason if prediction.status == "refused" else ""
        rows.append(StoredFilm(way.name, sample.name, sample.category, refused, **row))
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
    masks: Mapping[str, _Mask], base: Mapping[str, _Mask], truths: Mapping[str, _Mask | None], seen: _Mask
) -> dict[str, Any]:
    """The result compared with the true masks and with the unchanged film, in the visible part."""
    nothing = np.zeros_like(seen)
    infection, lungs = truths["infection"], truths["lungs"]
    marked = masks.get("infection", nothing)
    where = lungs if lungs is not None else masks.get("lungs")
    return {
        "dice": _dice(marked, infection, seen),
        # Blank where the model does not segment lungs; where the film was refused, there are no masks at all.
        "lungs_dice": _dice(masks.get("lungs", nothing), lungs if "lungs" in masks or not masks else None, seen),
        "lungs_marked": None if where is None else infected_fraction(marked, where & seen),
        "infected": infection is not None and bool((infection & seen).any()),
        "fraction": _fraction(masks, seen),
        "fraction_as_is": _fraction(base, seen),
    }


def _dice(mask: _Mask, truth: _Mask | None, seen: _Mask) -> float | None:
    if truth is None:
        return None
    value = count(mask & seen, truth & seen).dice
    return None if np.isnan(value) else value


def _fraction(masks: Mapping[str, _Mask], seen: _Mask) -> float | None:
    if not {"infection", "lungs"} <= masks.keys():
        return None
    return infected_fraction(masks["infection"], masks["lungs"] & seen)
