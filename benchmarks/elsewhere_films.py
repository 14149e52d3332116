"""For elsewhere.py: segmenting the films of an index, and the figures that all sources share."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cxrseg.errors import DatasetError
from cxrseg.inference.prediction import Prediction
from cxrseg.inference.segmenter import Segmenter
from cxrseg.io.read import read_radiograph
from cxrseg.metrics.intervals import Estimate, estimate, estimate_fraction
from cxrseg.metrics.segmentation import MARKED_LIMIT

Row = dict[str, Any]


Mask = npt.NDArray[np.bool_]


@dataclass
class Figure:
    """One line of the table."""

    source: str
    name: str
    estimate: Estimate
    percent: bool = False
    aim: str = ""

    def text(self) -> str:
        one = self.estimate
        shown = [f"{value:.1%}" if self.percent else f"{value:.3f}" for value in (one.value, one.low, one.high)]
        return (
            f"{self.source:<28}{self.name:<58}{shown[0]:>8}  {f'({shown[1]} to {shown[2]})':<22}{one.n:>5}  {self.aim}"
        )


def films_of(
    segmenter: Segmenter,
    index: Sequence[Row],
    path_of: Callable[[Row], Path],
    measure: Callable[[Row, Prediction, tuple[int, int]], Row],
    workers: int | None,
) -> list[Row]:
    """A row for each film of an index: what is known of it, and what was found on it."""

    def one(known: Row) -> Row:
        radiograph = read_radiograph(path_of(known))
        prediction = segmenter.segment(radiograph)
        severity = prediction.severity
        found = None if severity is None else severity.infected_fraction
        return {
            **known,
            "refused": prediction.reason,
            "fraction": 0.0 if found is None else found,
            "score": prediction.ranking_score or 0.0,
            **measure(known, prediction, radiograph.shape),
        }

    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(one, index))


def read_index(folder: Path) -> list[Row]:
    """The rows of index.csv."""
    path = folder / "index.csv"
    if not path.is_file():
        raise DatasetError(f"expected {path}; give the folder that holds {folder.name}, or leave it out with --only")
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def mask_of(prediction: Prediction, channel: str, shape: tuple[int, int]) -> Mask:
    """A predicted mask, empty where there is none."""
    if prediction.status == "refused" or channel not in prediction.probabilities:
        return np.zeros(shape, dtype=bool)
    return prediction.mask(channel)


def marked(rows: Sequence[Row]) -> Estimate:
    """The fraction of films with more than 1% of the lungs marked."""
    return estimate_fraction(sum(row["fraction"] > MARKED_LIMIT for row in rows), len(rows))


def refused(rows: Sequence[Row]) -> Estimate:
    """The fraction of films that were refused."""
    return estimate_fraction(sum(bool(row["refused"]) for row in rows), len(rows))


def ratio(parts: Iterable[float], wholes: Iterable[float]) -> Estimate:
    """The ratio of two sums over films."""
    sums = np.array([list(parts), list(wholes)], dtype=np.float64).T

    def statistic(weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        found = weights @ sums
        return found[:, :1] / found[:, 1:]

    return estimate(statistic, len(sums))[0]


def each(rows: Sequence[Row], key: str) -> list[float]:
    """A column of the rows."""
    return [row[key] for row in rows]
