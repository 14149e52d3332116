"""The report of a run and its evaluation: one self-contained HTML file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from cxrseg._version import __version__
from cxrseg.data.sample import Dataset
from cxrseg.errors import CxrsegError, DatasetError, ModelFileError
from cxrseg.evaluation.calibrate import Calibration, write_calibration
from cxrseg.evaluation.evaluate import evaluate, write_evaluation
from cxrseg.inference.segmenter import Segmenter
from cxrseg.io.csv_file import read_csv
from cxrseg.io.write import write_bytes
from cxrseg.model_file import model_sha256, read_model
from cxrseg.plots.style import NOTICE
from cxrseg.report import charts, sections
from cxrseg.report.gallery import Group, take_pictures
from cxrseg.report.pages import page_environment, read_part
from cxrseg.report.stored_evaluation import StoredEvaluation, read_evaluation
from cxrseg.run_folder import StoredRun

__all__ = ["evaluate_run", "write_report"]

_CHARTS = ("dice", "sizes", "risk", "reliability", "sweep", "precision", "agreement", "difference")
_SHOWN_ROWS = 200
_CURVES = {"loss": "loss", "dice": "Dice", "iou": "IoU", "rmse": "RMSE of the probability"}


def evaluate_run(
    run: StoredRun, dataset: Dataset, folder: Path, *, on_image: Callable[[int, int], None] | None = None
) -> StoredEvaluation:
    """Evaluate a run's model as `cxrseg evaluate` does, and write the results into a folder.

    Args:
        run: see `read_run`.
        dataset: the images.
        folder: the output folder.
        on_image: called with (finished images, all images).

    Raises:
        DatasetError: see `cxrseg.evaluation.evaluate.evaluate`.
    """
    calibration = Calibration()
    found = evaluate(run.model, dataset, on_image=on_image, callback=calibration.callback)
    write_evaluation(found, folder)
    write_calibration(calibration, found.thresholds, folder)
    return read_evaluation(folder)


def write_report(
    run: StoredRun,
    evaluated: StoredEvaluation,
    out: Path,
    *,
    dataset: Dataset | None = None,
    ablation: Path | None = None,
) -> None:
    """Write the report as one HTML file.

    Args:
        run: see `read_run`.
        evaluated: see `read_evaluation`.
        out: the file.
        dataset: the images of the evaluation, for the gallery; None leaves the gallery out. With a gallery the page
            contains images of the dataset, and their licence applies to it.
        ablation: a CSV file that is shown as a table; its first row has the headings.

    Raises:
        CxrsegError: a file is damaged, or run, evaluation and dataset do not belong together.
    """
    model = _model_file_of(run, evaluated)
    studied = _read_ablation(ablation) if ablation is not None else None
    has_infection = "infection" in evaluated.summary
    thresholds = evaluated.summary["thresholds"]
    groups: list[Group] = []
    if dataset is not None and has_infection:
        task = evaluated.summary.get("task", "opacity")
        segmenter = Segmenter(model, thresholds["infection"], input_check=False, precision="float32", task=task)
        groups = take_pictures(segmenter, dataset, evaluated.rows)
    page = (
        page_environment()
        .get_template("report.html.jinja")
        .render(
            notice=NOTICE,
            version=__version__,
            run=run,
            evaluated=evaluated,
            summary=evaluated.summary,
            info=read_model(model)[1],
            tiles=sections.tiles(evaluated.summary, evaluated.calibration),
            channels=[channel for channel in ("infection", "lungs") if channel in evaluated.summary],
            sections=sections,
            history=_history_charts(run),
            charts=dict.fromkeys(_CHARTS, "") | _evaluation_charts(evaluated),
            ablation=studied,
            groups=groups,
            threshold=thresholds.get("infection"),
            images=sections.image_table(evaluated.rows),
            css=read_part("report.css"),
            script=read_part("report.js"),
        )
    )
    write_bytes(out, page.encode("utf-8", "backslashreplace"))


def _model_file_of(run: StoredRun, evaluated: StoredEvaluation) -> Path:
    """The model file of the run, or the one that `cxrseg evaluate --fit` made of it and evaluated."""
    stated = evaluated.summary["model"] or {"name": "stored masks"}
    for path in (run.model, evaluated.folder / "fitted.onnx"):
        if path.is_file() and model_sha256(path) == stated.get("sha256"):
            return path
    raise ModelFileError(
        f"expected an evaluation of {run.model} ({run.info.name}), but {evaluated.folder} is of another model "
        f"({stated['name']}), or of this one with other weights, threshold or temperature; evaluate it with "
        "'cxrseg evaluate'"
    )


def _read_ablation(path: Path) -> sections.Table:
    """A CSV file as a table; a column is numeric where each cell that is not empty is a number."""
    try:
        head, *rows = [row for row in read_csv(path) if row]
    except (DatasetError, ValueError) as error:
        raise CxrsegError(
            f"expected a CSV file with headings at {path}, but it is missing, empty or damaged ({error})"
        ) from error
    if any(len(row) != len(head) for row in rows) or len(rows) > _SHOWN_ROWS:
        raise CxrsegError(
            f"expected up to {_SHOWN_ROWS} rows of {len(head)} cells each in {path}; correct the CSV file"
        )
    numeric = [bool(rows) and all(_is_number(row[column]) for row in rows) for column in range(len(head))]
    return sections.Table("Ablation", tuple(head), tuple(map(tuple, rows)), tuple(numeric))


def _is_number(text: str) -> bool:
    try:
        return not text or float(text) == float(text)
    except ValueError:
        return False


def _history_charts(run: StoredRun) -> list[str]:
    """Loss, Dice, IoU and RMSE by epoch as SVG elements, where they were recorded."""
    best = run.manifest.get("best") or {}
    epoch = int(best["epoch"]) if best.get("epoch") else None
    return [
        charts.history_chart(f"history-{metric}", run.history, metric, label, epoch)
        for metric, label in _CURVES.items()
        if any(row.get(f"{part}_{metric}") is not None for row in run.history for part in ("train", "val"))
    ]


def _evaluation_charts(evaluated: StoredEvaluation) -> dict[str, str]:
    """Every chart for which the evaluation has figures: name to SVG element."""
    found: dict[str, str] = {}
    dices = [float(row["dice"]) for row in evaluated.rows if row["dice"] and row["status"] != "false alarm"]
    if dices:
        mean, median = float(np.mean(dices)), float(np.median(dices))
        found["dice"] = charts.histogram_chart("dice", dices, "Dice", mean, median)
    infection = evaluated.summary.get("infection", {})
    if sizes := sections.size_rows(infection):
        found["sizes"] = charts.bars_chart("sizes", sizes, "mean Dice", "infected fraction of the lungs")
    sure = (evaluated.summary.get("expected_dice") or {}).get("infected", {})
    if sure.get("risk_coverage"):
        curve = sure["risk_coverage"]
        found["risk"] = charts.risk_chart("risk", curve["coverage"], curve["risk"], sure["auroc"]["value"])
    return found | _calibration_charts(evaluated) | _severity_charts(evaluated)


def _calibration_charts(evaluated: StoredEvaluation) -> dict[str, str]:
    if "infection" not in evaluated.calibration:
        return {}
    curves = evaluated.calibration["infection"]
    found = {}
    if curves["expected_calibration_error"] is not None:
        found["reliability"] = charts.reliability_chart(
            "reliability", curves["reliability"], curves["expected_calibration_error"]
        )
    if curves["sweep"]["images"]:
        best = curves["best"]["threshold"]
        found["sweep"] = charts.sweep_chart("sweep", curves["sweep"], curves["threshold"], best)
        found["precision"] = charts.precision_recall_chart(
            "precision", curves["sweep"], curves["threshold"], curves["average_precision"]
        )
    return found


def _severity_charts(evaluated: StoredEvaluation) -> dict[str, str]:
    # Non-COVID masks are empty by definition, although their lungs show opacities.
    known = [
        (
            float(row["infected_fraction_true"]),
            float(row["infected_fraction_predicted"]),
            int(row["tp"]) + int(row["fn"]) > 0,
        )
        for row in evaluated.rows
        if row.get("infected_fraction_true")
        and row.get("infected_fraction_predicted")
        and row["category"] != "Non-COVID"
    ]
    if not known:
        return {}
    true, predicted, infected = zip(*known, strict=True)
    found = {"agreement": charts.agreement_chart("agreement", true, predicted, infected)}
    stated = (evaluated.summary.get("severity") or {}).get("infected", {})
    ends = stated.get("limits_of_agreement") or {}
    limits = [ends["lower"]["value"], stated["bias"]["mean"], ends["upper"]["value"]] if ends else []
    if limits and None not in limits:
        some = [values for values in known if values[2]]
        true, predicted, infected = zip(*some, strict=True)
        found["difference"] = charts.difference_chart("difference", true, predicted, infected, limits)
    return found
