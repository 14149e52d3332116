"""The output folder of `cxrseg evaluate`, read back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cxrseg.errors import DatasetError
from cxrseg.io.csv_file import read_csv_rows

__all__ = ["StoredEvaluation", "read_evaluation"]


@dataclass(frozen=True)
class StoredEvaluation:
    """The contents of an evaluation folder.

    Attributes:
        folder: its path.
        summary: of summary.json.
        calibration: of calibration.json.
        rows: of scores.csv, those of the infection; of the lungs where the model finds the lungs only.
        stress: of stress.json; empty where the evaluation was made without --stress.
    """

    folder: Path
    summary: Mapping[str, Any]
    calibration: Mapping[str, Any]
    rows: Sequence[dict[str, str]]
    stress: Mapping[str, Any] = field(default_factory=dict)


def read_evaluation(folder: Path) -> StoredEvaluation:
    """Read what `cxrseg evaluate` wrote.

    Raises:
        DatasetError: a file is missing or damaged.
    """
    try:
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        # Stored masks have no probabilities, so no calibration; stress.json is there after --stress only.
        calibration, stress = (_read_if_there(folder / name) for name in ("calibration.json", "stress.json"))
        rows = read_csv_rows(folder / "scores.csv")
        target = "infection" if "infection" in summary else rows[0]["target"]
        return StoredEvaluation(folder, summary, calibration, [row for row in rows if row["target"] == target], stress)
    except (DatasetError, OSError, ValueError, KeyError, IndexError) as error:
        raise DatasetError(
            f"expected summary.json, calibration.json and scores.csv in {folder}, as 'cxrseg evaluate -o {folder}' "
            f"writes them; they are missing or damaged ({error})"
        ) from error


def _read_if_there(path: Path) -> dict[str, Any]:
    """A JSON object, or an empty one where there is no such file."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found
