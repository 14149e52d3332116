"""Evaluate a model on films of other hospitals and against other readers; print one table with 95% intervals.

    python benchmarks/elsewhere.py [MODEL] --folder shared [--only nih-rsna ...] [-o elsewhere.json] [--rows films.csv]

Every film goes as it is through the public `Segmenter`, input check included. A refused film counts as one
without infection or lungs, and is counted. Each part of the folder has the `index.csv` of docs/evaluating.md:

nih-rsna         films of the NIH Clinical Center, classed and boxed by radiologists for RSNA
other-hospitals  healthy and tuberculous films of Montgomery and Shenzhen, with lung masks
second-reader    COVID-19 films drawn by radiologists
brixia           scores of two radiologists for films of covid-qu-ex, which must lie beside it

'Marked' is an infected fraction over 1%, as a user is told it: of the lungs that the model finds.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from cxrseg.inference.engine import Precision
from cxrseg.inference.segmenter import Segmenter
from cxrseg.inference.tasks import TASKS
from cxrseg.io.write import write_csv, write_json
from elsewhere_films import Figure, Row
from elsewhere_sources import SOURCES


@dataclass
class Findings:
    """The figures of all sources, and a row for each film."""

    figures: list[Figure] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)


def evaluate_elsewhere(
    segmenter: Segmenter, folder: Path, only: Sequence[str] = (), workers: int | None = None
) -> Findings:
    """The figures of each source, in order.

    Raises:
        DatasetError: a folder or a file in it is missing.
    """
    found = Findings()
    for name in only or SOURCES:
        rows, figures = SOURCES[name](segmenter, folder / name, workers)
        found.rows += [{"folder": name, **row} for row in rows]
        found.figures += list(figures)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, nargs="?", help="without it, the weights that come with cxrseg")
    parser.add_argument("--folder", type=Path, required=True, help="where nih-rsna and the others lie")
    parser.add_argument("--only", nargs="+", choices=SOURCES, default=())
    parser.add_argument("--task", choices=TASKS, default="opacity")
    parser.add_argument("--threshold", type=float)
    parser.add_argument("--precision", choices=get_args(Precision), default="float32")
    parser.add_argument("--workers", type=int, default=2, help="films at the same time")
    parser.add_argument("-o", "--out", type=Path, help="write the figures as JSON")
    parser.add_argument("--rows", type=Path, help="write a row for each film as CSV")
    given = parser.parse_args()
    segmenter = Segmenter(
        given.model,
        given.threshold,
        precision=given.precision,
        task=given.task,
        streams=given.workers if given.workers > 1 else 0,
    )
    found = evaluate_elsewhere(segmenter, given.folder, given.only, given.workers)
    print(f"{segmenter.mark.name} {segmenter.mark.sha256[:12]}, task {given.task}, thresholds {segmenter.thresholds}")
    print(f"{'source':<28}{'figure':<58}{'value':>8}  {'95% interval':<22}{'n':>5}  aim")
    for figure in found.figures:
        print(figure.text())
    if given.out:
        lines = [{"source": one.source, "figure": one.name, **one.estimate.as_json("value")} for one in found.figures]
        write_json(given.out, {"model": segmenter.mark.sha256, "task": given.task, "figures": lines})
    if given.rows:
        write_csv(given.rows, list(dict.fromkeys(key for row in found.rows for key in row)), found.rows)


if __name__ == "__main__":
    main()
