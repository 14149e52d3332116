"""The output folder of `cxrseg predict` as one HTML page that needs nothing else."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cxrseg._version import __version__
from cxrseg.errors import CxrsegError
from cxrseg.inference.output_names import PAGE
from cxrseg.inference.run_tables import summarise
from cxrseg.io.write import write_bytes
from cxrseg.plots.style import NOTICE
from cxrseg.report.pages import page_environment, read_part

__all__ = ["write_batch_page"]

_PICTURES = 1000
"""Films whose picture is in the page; more would make it too large for a browser."""

_NUMBERS = {
    "infected_fraction": "infected (%)",
    "infected_fraction_right": "right lung (%)",
    "infected_fraction_left": "left lung (%)",
    "extent_score": "extent (0-8)",
    "expected_dice": "expected Dice",
}
_RANKS = {"failed": 0, "refused": 1, "ok": 2}


def write_batch_page(out: Path, stems: Mapping[str, str]) -> Path:
    """Write the page of an output folder, with all rows of statistics.json.

    Args:
        out: the folder.
        stems: name of each file to the beginning of its outputs' names; STEM_thumbnail.jpg is its picture.

    Returns:
        The page.

    Raises:
        CxrsegError: the folder is not a complete output folder.
    """
    try:
        found = json.loads((out / "statistics.json").read_text(encoding="utf-8"))
        manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CxrsegError(f"{out} is not an output folder of 'cxrseg predict' ({error})") from error
    found.sort(key=_order)
    rows = [
        _row(row, out / f"{stems[row['path']]}_thumbnail.jpg" if place < _PICTURES and row["path"] in stems else None)
        for place, row in enumerate(found)
    ]
    summary = summarise(found)
    page = (
        page_environment()
        .get_template("batch.html.jinja")
        .render(
            notice=NOTICE,
            version=__version__,
            rows=rows,
            numbers=list(_NUMBERS.values()),
            counts=", ".join(f"{count} {status}" for status, count in summary.counts.items() if count),
            model=", ".join(f"{model['name']} {model['version']}" for model in manifest["models"]),
            task=manifest["options"]["task"],
            tiles=[
                (
                    "Median",
                    "-" if summary.median is None else f"{summary.median:.1%}",
                    "infected fraction of the lungs",
                ),
                ("Warnings", str(sum(bool(row["warnings"]) for row in found)), f"files, of {len(found)}"),
                ("Without masks", str(len(found) - summary.counts["ok"]), "files that were refused or failed"),
            ],
            pictures=_PICTURES,
            without_picture=len(found) > _PICTURES,
            css=read_part("report.css"),
        )
    )
    path = out / PAGE
    write_bytes(path, page.encode("utf-8", "replace"))
    return path


def _order(row: Mapping[str, Any]) -> tuple[int, bool, float]:
    fraction = row["infected_fraction"]
    return _RANKS[row["status"]], not row["warnings"], -1.0 if fraction is None else -fraction


def _row(row: Mapping[str, Any], picture: Path | None) -> dict[str, Any]:
    return {
        "path": row["path"],
        "status": row["status"],
        "rank": _RANKS[row["status"]],
        "said": [line for line in (row["reason"], *row["warnings"]) if line],
        "numbers": [_number(key, row[key]) for key in _NUMBERS],
        "picture": _inline(picture),
    }


def _number(key: str, value: float | None) -> tuple[str, str]:
    """A number as text, and to sort by; both are empty where it is not known."""
    if value is None:
        return "", ""
    shown = f"{100 * value:.1f}" if "fraction" in key else f"{value:g}" if key == "extent_score" else f"{value:.2f}"
    return shown, str(value)


def _inline(picture: Path | None) -> str:
    if picture is None or not picture.is_file():
        return ""
    return f"data:image/jpeg;base64,{base64.b64encode(picture.read_bytes()).decode()}"
