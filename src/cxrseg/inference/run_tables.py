"""What a run over many files leaves beside the masks: the statistics, the manifest, and a summary."""

from __future__ import annotations

import json
import platform
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from cxrseg._version import __version__
from cxrseg.inference.options import Options
from cxrseg.inference.outputs import COLUMNS
from cxrseg.inference.segmenter import Segmenter
from cxrseg.io.text import harmless_cell
from cxrseg.io.write import write_atomic, write_csv

__all__ = ["RunSummary", "manifest", "summarise", "write_statistics"]

Row = Mapping[str, Any]

_MOST = 5


@dataclass(frozen=True)
class RunSummary:
    """A run over many files in figures.

    Attributes:
        counts: 'ok', 'refused' and 'failed' to the number of files.
        median: of the infected fraction, 0 to 1; None where it is known for no file.
        most_infected: path and infected fraction of up to five files, the largest first, without healthy ones.
        warnings: each kind to its number of files, the most frequent first; numbers in which they differ are left out.
        reasons: why files were refused or failed, likewise; the key is (status, reason).
    """

    counts: Mapping[str, int]
    median: float | None = None
    most_infected: Sequence[tuple[str, float]] = ()
    warnings: Mapping[str, int] = field(default_factory=dict)
    reasons: Mapping[tuple[str, str], int] = field(default_factory=dict)


def summarise(rows: Iterable[Row]) -> RunSummary:
    """Count and rank rows."""
    counts: Counter[str] = Counter()
    warnings: Counter[str] = Counter()
    reasons: Counter[tuple[str, str]] = Counter()
    fractions: list[float] = []
    most: list[tuple[str, float]] = []
    for row in rows:
        counts[row["status"]] += 1
        warnings.update(row["warnings"])
        if row["status"] != "ok":
            reasons[row["status"], row["reason"].replace(row["path"], "the file")] += 1
        fraction = row["infected_fraction"]
        if fraction is not None:
            fractions.append(fraction)
            if fraction > 0:
                most = sorted([*most, (row["path"], fraction)], key=lambda one: -one[1])[:_MOST]
    return RunSummary(
        {status: counts[status] for status in ("ok", "refused", "failed")},
        median(fractions) if fractions else None,
        most,
        _by_kind(warnings),
        dict(reasons.most_common()),
    )


def _by_kind(warnings: Counter[str]) -> dict[str, int]:
    """Counts of warnings that differ only in their numbers, which are then left out, the most frequent kind first."""
    kinds: dict[str, list[str]] = {}
    for text in warnings:
        kinds.setdefault(re.sub(r"\d+(\.\d+)?", "...", text), []).append(text)
    counts = {
        kind if len(texts) > 1 else texts[0]: sum(warnings[text] for text in texts) for kind, texts in kinds.items()
    }
    return dict(sorted(counts.items(), key=lambda one: -one[1]))


def write_statistics(out: Path, rows: Callable[[], Iterator[Row]], *, excel: bool = False) -> None:
    """Write statistics.csv and statistics.json, each atomically.

    In the CSV, cells that a spreadsheet would take for a formula begin with '.

    Args:
        out: the output folder.
        rows: gives all rows, from the first.
        excel: begin the CSV with a byte order mark, without which Excel shows other letters than ASCII wrongly.
    """
    write_csv(out / "statistics.csv", COLUMNS, map(_flat, rows()), byte_order_mark=excel)

    def write(file: Any) -> None:
        separator = "[\n"
        for row in rows():
            file.write((separator + json.dumps(row, ensure_ascii=False)).encode())
            separator = ",\n"
        file.write(b"\n]\n" if separator != "[\n" else b"[]\n")

    write_atomic(out / "statistics.json", write)


def manifest(options: Options, segmenter: Segmenter) -> dict[str, Any]:
    """What made the results: options, models, thresholds and versions."""
    return {
        "options": options.as_json(),
        "models": [
            {
                "name": engine.info.name,
                "version": engine.info.version,
                "sha256": engine.sha256,
                "channels": list(engine.info.channels),
                "computes_with": engine.precision,
                "licence": engine.info.licence,
            }
            for engine in segmenter.engines
        ],
        "thresholds": segmenter.thresholds,
        "versions": {"cxrseg": __version__, "python": platform.python_version(), **_versions()},
    }


def _flat(row: Row) -> Row:
    joined = {**row, **{column: "; ".join(row[column]) for column in ("warnings", "steps")}}
    return {key: harmless_cell(value) if isinstance(value, str) else value for key, value in joined.items()}


def _versions() -> dict[str, str]:
    """Versions of the packages that were used."""
    modules = {name: sys.modules.get(name) for name in ("numpy", "openvino", "PIL", "pydicom", "ray", "scipy", "torch")}
    return {name: str(module.__version__) for name, module in modules.items() if module is not None}
