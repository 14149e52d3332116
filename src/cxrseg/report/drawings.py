"""The charts of a report, made of what its folders hold."""

from __future__ import annotations

import numpy as np

from cxrseg.report import charts, sections
from cxrseg.report.folders import Judged, Run

__all__ = ["evaluation_charts", "history_charts"]

_CURVES = {"loss": "loss", "dice": "Dice", "iou": "IoU", "rmse": "RMSE of the probability"}


def history_charts(run: Run) -> list[str]:
    """Loss, Dice, IoU and RMSE by epoch, as SVG elements, as far as they were recorded."""
    best = run.manifest.get("best") or {}
    epoch = int(best["epoch"]) if best.get("epoch") else None
    return [
        charts.history_chart(f"history-{metric}", run.history, metric, label, epoch)
        for metric, label in _CURVES.items()
        if any(row.get(f"{part}_{metric}") is not None for row in run.history for part in ("train", "val"))
    ]


def evaluation_charts(judged: Judged) -> dict[str, str]:
    """Every chart that the figures of an evaluation allow: name to SVG element."""
    found: dict[str, str] = {}
    dices = [float(row["dice"]) for row in judged.rows if row["dice"] and row["status"] != "false alarm"]
    if dices:
        mean, median = float(np.mean(dices)), float(np.median(dices))
        found["dice"] = charts.histogram_chart("dice", dices, "Dice", mean, median)
    infection = judged.summary.get("infection", {})
    if sizes := sections.size_rows(infection):
        found["sizes"] = charts.bars_chart("sizes", sizes, "mean Dice", "infected fraction of the lungs")
    sure = (judged.summary.get("confidence") or {}).get("infected", {})
    if sure.get("risk_coverage"):
        curve = sure["risk_coverage"]
        found["risk"] = charts.risk_chart("risk", curve["coverage"], curve["risk"], sure["auroc"]["value"])
    return found | _calibration_charts(judged) | _severity_charts(judged)


def _calibration_charts(judged: Judged) -> dict[str, str]:
    if "infection" not in judged.calibration:
        return {}
    curves = judged.calibration["infection"]
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


def _severity_charts(judged: Judged) -> dict[str, str]:
    # Non-COVID masks are empty by definition, not because their lungs show nothing.
    known = [
        (
            float(row["infected_fraction_true"]),
            float(row["infected_fraction_predicted"]),
            int(row["tp"]) + int(row["fn"]) > 0,
        )
        for row in judged.rows
        if row.get("infected_fraction_true")
        and row.get("infected_fraction_predicted")
        and row["category"] != "Non-COVID"
    ]
    if not known:
        return {}
    true, predicted, infected = zip(*known, strict=True)
    found = {"agreement": charts.agreement_chart("agreement", true, predicted, infected)}
    stated = (judged.summary.get("severity") or {}).get("infected", {})
    ends = stated.get("limits_of_agreement") or {}
    limits = [ends["lower"]["value"], stated["bias"]["mean"], ends["upper"]["value"]] if ends else []
    if limits and None not in limits:
        some = [values for values in known if values[2]]
        true, predicted, infected = zip(*some, strict=True)
        found["difference"] = charts.difference_chart("difference", true, predicted, infected, limits)
    return found
