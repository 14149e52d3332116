"""How much of the Dice is lost in the extent of an infection, and how much in its place: one table.

    python benchmarks/extent.py src/cxrseg/weights/cxrseg.onnx --dataset covid-qu-ex [--split val]

The Dice of the task `infection` on COVID-19 films, by the fraction of the lungs that the dataset marks: with the model
file's threshold; with the best threshold of each film; and where as many pixels are marked as the dataset marks. The
last two know the answer: no threshold can do better than the second, and the third has the right extent.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cxrseg.data.layout import open_dataset
from cxrseg.data.sample import Sample
from cxrseg.inference.segmenter import Segmenter
from cxrseg.inference.work import processors
from cxrseg.metrics.segmentation import count
from cxrseg.metrics.severity import infected_fraction

EDGES = (0, 0.05, 0.15, 0.3, 0.5, 0.7, 0.9, 1)
THRESHOLDS = np.arange(0.04, 1, 0.04)


def film(segmenter: Segmenter, sample: Sample) -> list[float]:
    """Marked fraction of the dataset and of the model, and the three Dice."""
    truth, lungs = sample.read_mask("infection"), sample.read_mask("lungs")
    prediction = segmenter.segment(sample.image)
    map_, mask = prediction.probabilities["infection"], prediction.mask("infection")
    highest = np.sort(map_, axis=None)[-max(1, np.count_nonzero(truth))]
    return [
        infected_fraction(truth, lungs) or 0.0,
        infected_fraction(mask, prediction.mask("lungs")) or 0.0,
        count(mask, truth).dice,
        max(count(map_ >= threshold, truth).dice for threshold in THRESHOLDS),
        count(map_ >= highest, truth).dice,
    ]


def table(films: Sequence[list[float]]) -> list[str]:
    """A row for each range of the fraction, and one for all films."""
    values = np.array(films)
    rows = [f"{'marked in the dataset':<24}{'films':>6}{'dataset':>9}{'model':>7}{'Dice':>7}{'best':>7}{'extent':>8}"]
    for low, high in itertools.pairwise(EDGES):
        rows.append(_row(f"{low:.0%} to {high:.0%}", values[(values[:, 0] > low) & (values[:, 0] <= high)]))
    return [*rows, _row("all", values)]


def _row(name: str, values: npt.NDArray[np.float64]) -> str:
    if not len(values):
        return f"{name:<24}{0:>6}"
    fraction, ours, dice, best, extent = values.mean(0)
    return f"{name:<24}{len(values):>6}{fraction:>9.1%}{ours:>7.1%}{dice:>7.3f}{best:>7.3f}{extent:>8.3f}"


def main() -> None:
    """Read the command line, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--split", default="val")
    given = parser.parse_args()
    segmenter = Segmenter(given.model, task="infection", precision="float32", force=True, streams=processors())
    samples = open_dataset(given.dataset).select(given.split, {"COVID-19"}).samples
    with ThreadPoolExecutor(processors()) as pool:
        films = list(pool.map(lambda sample: film(segmenter, sample), samples))
    print("\n".join(table(films)))


if __name__ == "__main__":
    main()
