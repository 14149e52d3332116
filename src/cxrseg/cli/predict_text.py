"""What `cxrseg predict` prints: a line for each file that is not ok, the finding of one file, the summary of many."""

from __future__ import annotations

import glob
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cxrseg.cli.shared import NOTICE

if TYPE_CHECKING:
    from cxrseg.inference.files import BatchResult

__all__ = ["Progress"]

_KINDS = 10
"""Kinds of warnings, reasons and files left out that are listed; the CSV has all."""


class Progress:
    """Prints while a run goes on, and at its end.

    Args:
        out: the output folder.
        quiet: print only errors.
        verbose: print a line for each file.
        statistics: print the measurements of each file.
    """

    def __init__(self, out: Path, *, quiet: bool, verbose: bool, statistics: bool) -> None:
        self._out, self._quiet, self._verbose, self._statistics = out, quiet, verbose, statistics
        self._done, self._total = 0, 0
        self._last: Mapping[str, Any] | None = None

    def add(self, row: Mapping[str, Any], done: int, total: int) -> None:
        """Print what is to be said about a file as soon as it is finished."""
        self._done, self._total, self._last = done, total, row
        counts = total > 1 and not self._quiet and not self._verbose and sys.stderr.isatty()
        if self._verbose or row["status"] == "failed" or (row["status"] != "ok" and not self._quiet):
            click.echo(("\r" if counts else "") + _line(row), err=True)
        if self._statistics and row["status"] == "ok":
            click.echo(_measures(row))
        if counts:
            click.echo(f"\r{done} of {total}", nl=done == total, err=True)

    def interrupted(self) -> None:
        """Print what is there after Ctrl-C."""
        click.echo(
            f"\nstopped after {self._done} of {self._total or '?'} files; {self._out / 'statistics.csv'} has what is "
            f"done. Continue with the same command and --resume",
            err=True,
        )

    def done(self, found: BatchResult, page: Path | None) -> None:
        """Print the finding of one file, or the summary of many, and where the results are."""
        if self._quiet:
            return
        total = sum(found.counts.values())
        if total == 1 and self._last is not None and not self._statistics:
            self._one(self._last)
        counts = ", ".join(f"{count} {status}" for status, count in found.counts.items() if count)
        click.echo(f"{counts} in {found.seconds:.1f} s")
        if total > 1:
            _many(found)
        if found.left_out:
            _list("left out", found.left_out)
        for stem in found.stems.values() if total == 1 else ():
            for picture in sorted(self._out.glob(f"{glob.escape(stem)}_preview.*")):
                click.echo(f"preview     {picture}")
        if page is not None:
            click.echo(f"page        {page}")
        click.echo(f"statistics  {found.statistics}")
        click.echo(NOTICE)

    def _one(self, row: Mapping[str, Any]) -> None:
        if row["status"] != "ok":
            return
        click.echo(row["path"])
        for name, text in _finding(row):
            click.echo(f"  {name:<13}{text}")


def _line(row: Mapping[str, Any]) -> str:
    said = [row["reason"]] if row["reason"] else row["warnings"]
    return f"{row['path']}: {row['status']}" + (f" ({'; '.join(said)})" if said else "")


def _measures(row: Mapping[str, Any]) -> str:
    if row["infected_fraction"] is None:
        return f"{row['path']}: no lungs found"
    return f"{row['path']}: infected {row['infected_fraction']:.1%} of the lungs, extent score {_score(row)}"


def _score(row: Mapping[str, Any]) -> str:
    return "unknown" if row["extent_score"] is None else f"{row['extent_score']} of 8 ({row['grade']})"


def _finding(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    lines = []
    if row["infected_fraction"] is None:
        lines.append(("infected", "not known, since no lungs were found"))
    else:
        lines.append(("infected", f"{row['infected_fraction']:.1%} of the lungs"))
        for side in ("right", "left"):
            fraction = row[f"infected_fraction_{side}"]
            shown = "not known" if fraction is None else f"{fraction:.1%}"
            lines.append((f"{side} lung", f"{shown} (the patient's {side})"))
        if row["infected_area_mm2"] is not None:
            lines.append(("area", f"{row['infected_area_mm2'] / 100:.1f} square cm"))
        lines.append(("extent score", _score(row)))
    return [*lines, *(("warning", warning) for warning in row["warnings"])]


def _many(found: BatchResult) -> None:
    summary = found.summary
    if summary.median is not None:
        click.echo(f"infected fraction of the lungs: median {summary.median:.1%}")
    if summary.most_infected:
        click.echo("most infected")
        for path, fraction in summary.most_infected:
            click.echo(f"  {fraction:>6.1%}  {path}")
    _list("warnings", summary.warnings)
    for status in ("refused", "failed"):
        _list(status, {reason: count for (kind, reason), count in summary.reasons.items() if kind == status})


def _list(title: str, counts: Mapping[str, int]) -> None:
    if not counts:
        return
    click.echo(title)
    for text, count in list(counts.items())[:_KINDS]:
        click.echo(f"  {count:>6}  {text}")
    if len(counts) > _KINDS:
        click.echo(f"          and {len(counts) - _KINDS} other kinds")
