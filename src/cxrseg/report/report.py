"""One page that shows all: a run and its evaluation as a single HTML file that needs nothing else."""

from __future__ import annotations

import csv
from importlib.resources import files
from pathlib import Path
from typing import Any

from cxrseg._version import __version__
from cxrseg.data.sample import Dataset
from cxrseg.errors import CxrsegError, ModelFileError
from cxrseg.evaluation.calibrate import Calibration, write_calibration
from cxrseg.evaluation.evaluate import evaluate, write_evaluation
from cxrseg.inference.segmenter import Segmenter
from cxrseg.io.write import write_bytes
from cxrseg.model_file import model_sha256, read_model
from cxrseg.plots.style import NOTICE
from cxrseg.report import sections
from cxrseg.report.drawings import evaluation_charts, history_charts
from cxrseg.report.folders import Judged, Run, read_evaluation
from cxrseg.report.gallery import Group, take_pictures

__all__ = ["judge_run", "write_report"]

_SHOWN_ROWS = 200


def judge_run(run: Run, dataset: Dataset, folder: Path) -> Judged:
    """Judge a run's model as `cxrseg evaluate` does, and write what it finds into a folder.

    Raises:
        DatasetError: see `cxrseg.evaluation.evaluate.evaluate`.
    """
    seen = Calibration()
    found = evaluate(run.model, dataset, callback=seen.callback)
    write_evaluation(found, folder)
    write_calibration(seen, found.thresholds, folder)
    return read_evaluation(folder)


def write_report(
    run: Run, judged: Judged, out: Path, *, dataset: Dataset | None = None, ablation: Path | None = None
) -> None:
    """Write the report as one HTML file.

    Args:
        run: see `read_run`.
        judged: see `read_evaluation`.
        out: the file.
        dataset: what was judged, for the gallery; None leaves that out. The page then holds images of the dataset, and
            stays under its licence.
        ablation: a CSV that is shown as a table; its first row has the headings.

    Raises:
        CxrsegError: a file is damaged, or run, evaluation and dataset do not belong together.
    """
    model = _judged_model(run, judged)
    studied = _read_ablation(ablation) if ablation is not None else None
    has_infection = "infection" in judged.summary
    thresholds = judged.summary["thresholds"]
    groups: list[Group] = []
    if dataset is not None and has_infection:
        task = judged.summary.get("task", "opacity")
        segmenter = Segmenter(model, thresholds["infection"], input_check=False, precision="float32", task=task)
        groups = take_pictures(segmenter, dataset, judged.rows)
    page = (
        _environment()
        .get_template("report.html.jinja")
        .render(
            notice=NOTICE,
            version=__version__,
            run=run,
            judged=judged,
            summary=judged.summary,
            info=read_model(model)[1],
            tiles=sections.tiles(judged.summary, judged.calibration),
            channels=[channel for channel in ("infection", "lungs") if channel in judged.summary],
            sections=sections,
            history=history_charts(run),
            charts=evaluation_charts(judged),
            ablation=studied,
            groups=groups,
            threshold=thresholds.get("infection"),
            images=sections.image_table(judged.rows),
            css=_part("report.css"),
            script=_part("report.js"),
        )
    )
    write_bytes(out, page.encode())


def _judged_model(run: Run, judged: Judged) -> Path:
    """The model file of the run, or the one that `cxrseg evaluate --fit` made of it and judged."""
    stated = judged.summary["model"] or {"name": "stored masks"}
    for path in (run.model, judged.folder / "fitted.onnx"):
        if path.is_file() and model_sha256(path) == stated.get("sha256"):
            return path
    raise ModelFileError(
        f"expected an evaluation of {run.model} ({run.info.name}), and {judged.folder} is one of another model "
        f"({stated['name']}), or of this one with other weights, threshold or temperature; judge it with "
        "'cxrseg evaluate'"
    )


def _environment() -> Any:
    import jinja2

    loader = jinja2.FunctionLoader(_part)
    return jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )


def _part(name: str) -> str:
    """A file of the folder page/."""
    return (files("cxrseg.report") / "templates" / name).read_text(encoding="utf-8")


def _read_ablation(path: Path) -> sections.Table:
    """A CSV as a table; a column is numeric where each filled cell is a number."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            head, *rows = [row for row in csv.reader(file) if row]
    except (OSError, ValueError) as error:
        raise CxrsegError(
            f"expected a CSV with headings at {path}; it is missing, empty or damaged ({error})"
        ) from error
    if any(len(row) != len(head) for row in rows) or len(rows) > _SHOWN_ROWS:
        raise CxrsegError(f"expected up to {_SHOWN_ROWS} rows of {len(head)} cells in {path}; mend the CSV")
    numeric = [bool(rows) and all(_is_number(row[column]) for row in rows) for column in range(len(head))]
    return sections.Table("Ablation", tuple(head), tuple(map(tuple, rows)), tuple(numeric))


def _is_number(text: str) -> bool:
    try:
        return not text or float(text) == float(text)
    except ValueError:
        return False
