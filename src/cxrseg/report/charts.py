"""The charts of a report: each takes numbers, and returns an SVG element with a text alternative."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cxrseg.plots.curves import History, plot_metric
from cxrseg.plots.figure import new_figure, print_style
from cxrseg.plots.style import BLUE, GREEN, VERMILLION, hex_colour
from cxrseg.report.inline_svg import inline_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "agreement_chart",
    "bars_chart",
    "difference_chart",
    "histogram_chart",
    "history_chart",
    "precision_recall_chart",
    "reliability_chart",
    "risk_chart",
    "sweep_chart",
]

_BLUE, _VERMILLION, _GREEN = (hex_colour(colour) for colour in (BLUE, VERMILLION, GREEN))
_INK, _MUTED = "#000000", "#999999"
_WIDE, _SQUARE = (108.0, 66.0), (85.0, 85.0)

Curve = Sequence[float | None]
"""Values along an axis; None leaves a gap."""


def history_chart(name: str, history: History, metric: str, label: str, best_epoch: int | None = None) -> str:
    """Training and validation by epoch, see `cxrseg.plots.curves`.

    Args:
        name: unique on the page.
        history: a row for each epoch.
        metric: such as 'dice'.
        label: of the axis.
        best_epoch: the epoch to mark.
    """
    values = [float(value) for row in history if (value := row.get(f"val_{metric}")) is not None]
    ends = f"on validation from {values[0]:.3g} to {values[-1]:.3g}" if values else "no values on validation"

    def draw(axes: Axes) -> None:
        plot_metric(axes, history, metric, best_epoch)
        axes.set_ylabel(label)

    return _drawn(name, f"{label} by epoch, {len(history)} epochs: {ends}.", draw, _WIDE)


def histogram_chart(name: str, values: npt.ArrayLike, label: str, mean: float, median: float) -> str:
    """Histogram of values in [0, 1], in 20 bins, with mean and median."""
    counts, edges = np.histogram(np.asarray(values, np.float64), bins=20, range=(0, 1))
    text = f"{label} of {counts.sum()} images: mean {mean:.3f}, median {median:.3f}, {counts[:10].sum()} below 0.5."

    def draw(axes: Axes) -> None:
        axes.bar(edges[:-1], counts, width=np.diff(edges) * 0.92, align="edge", color=_BLUE)
        axes.axvline(mean, color=_VERMILLION, label=f"mean {mean:.3f}")
        axes.axvline(median, color=_INK, linestyle="--", label=f"median {median:.3f}")
        axes.set(xlim=(0, 1), xlabel=label, ylabel="images")
        _finish(axes, 2)

    return _drawn(name, text, draw, _WIDE)


def bars_chart(name: str, rows: Sequence[tuple[str, float, tuple[float, float] | None]], label: str, of: str) -> str:
    """A value in [0, 1] for each of a few groups, with its interval.

    Args:
        name: unique on the page.
        rows: group, value and interval.
        label: what the values are.
        of: what the groups are.
    """
    text = (
        f"{label} by {of}: " + "; ".join(f"{group.replace(chr(10), ' ')} {value:.3f}" for group, value, _ in rows) + "."
    )

    def draw(axes: Axes) -> None:
        places = np.arange(len(rows))
        values = np.array([value for _, value, _ in rows])
        spans = np.array([span or (value, value) for _, value, span in rows]).reshape(-1, 2)
        axes.bar(places, values, width=0.6, color=_BLUE)
        reach = np.abs(spans - values[:, None]).T
        axes.errorbar(places, values, reach, fmt="none", color=_INK, ecolor=_INK, elinewidth=0.9, capsize=2.5)
        axes.set_xticks(places, [group for group, _, _ in rows])
        axes.set(ylim=(0, 1), xlabel=of, ylabel=label)
        _finish(axes)

    return _drawn(name, text, draw, _WIDE)


def reliability_chart(name: str, bins: Sequence[Mapping[str, Any]], error: float) -> str:
    """Observed fraction of infected pixels by predicted probability; `bins` as in calibration.json."""
    filled = [each for each in bins if each["pixels"]]
    most = max((each["pixels"] for each in filled), default=1)
    text = f"Observed against predicted probability in {len(filled)} bins; expected calibration error {error:.3f}. " + (
        "; ".join(f"{each['predicted']:.2f} predicted, {each['observed']:.2f} observed" for each in filled)
    )

    def draw(axes: Axes) -> None:
        # The height of a bar shows the number of pixels in its bin: most bins have few, which the points do not show.
        fractions = [0.2 * each["pixels"] / most for each in filled]
        width = [each["high"] - each["low"] for each in filled]
        axes.bar(
            [each["low"] for each in filled], fractions, width, align="edge", color="#d9d9d9", label="pixels (scaled)"
        )
        axes.plot([0, 1], [0, 1], "--", color=_MUTED, label="perfect")
        points = [each["predicted"] for each in filled], [each["observed"] for each in filled]
        axes.plot(*points, "-o", color=_VERMILLION, label=f"model (ECE {error:.3f})")
        axes.set(
            xlim=(0, 1), ylim=(0, 1), xlabel="predicted probability", ylabel="observed fraction of infected pixels"
        )
        _finish(axes, 2)

    return _drawn(name, text, draw, _SQUARE)


def sweep_chart(name: str, sweep: Mapping[str, Curve], threshold: float, best: float | None) -> str:
    """Figures at each threshold; `sweep` as in calibration.json."""
    x = _array(sweep["threshold"])
    dice = _array(sweep["dice"])
    text = f"Mean Dice by threshold: {np.interp(threshold, x, dice):.3f} at the model's {threshold:g}" + (
        f", best around {best:g} with {np.interp(best, x, dice):.3f}." if best is not None else "."
    )
    lines = {
        "dice": ("Dice", _BLUE, "-"),
        "precision": ("precision", _GREEN, "--"),
        "recall": ("recall", _VERMILLION, "-."),
        "uninfected_marked": ("uninfected marked", _INK, ":"),
    }

    def draw(axes: Axes) -> None:
        for key, (label, colour, dashes) in lines.items():
            values = _array(sweep[key])
            if np.isfinite(values).any():
                axes.plot(x, values, dashes, color=colour, label=label)
        axes.axvline(threshold, color=_MUTED, linewidth=0.8)
        axes.annotate(f"model's {threshold:g}", (threshold, 0.02), (2, 0), textcoords="offset points")
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="threshold", ylabel="value (0 to 1)")
        _finish(axes, 2)

    return _drawn(name, text, draw, _SQUARE)


def precision_recall_chart(name: str, sweep: Mapping[str, Curve], threshold: float, average: float) -> str:
    """Precision by recall of the pixels of infected images; `sweep` as in calibration.json."""
    recall, precision = _array(sweep["recall"]), _array(sweep["precision"])
    place = int(np.argmin(np.abs(_array(sweep["threshold"]) - threshold)))
    text = (
        f"Precision by recall over thresholds, average precision {average:.3f}; at the model's threshold precision "
        f"{precision[place]:.3f}, recall {recall[place]:.3f}."
    )

    def draw(axes: Axes) -> None:
        axes.plot(recall, precision, color=_BLUE, label=f"model (AP {average:.3f})")
        axes.plot(recall[place], precision[place], "o", color=_VERMILLION, markersize=5, label=f"at {threshold:g}")
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="recall", ylabel="precision")
        _finish(axes, 2)

    return _drawn(name, text, draw, _SQUARE)


def agreement_chart(name: str, true: npt.ArrayLike, predicted: npt.ArrayLike, infected: npt.ArrayLike) -> str:
    """Predicted by true infected fraction of the lungs, a point for each image."""
    x, y, marked = (np.asarray(values, np.float64) * 100 for values in (true, predicted, infected))
    text = (
        f"Predicted by true infected fraction of {len(x)} images; the mean absolute error is {_error(x, y):.1f} points."
    )

    def draw(axes: Axes) -> None:
        axes.plot([0, 100], [0, 100], "--", color=_MUTED, label="equal")
        _points(axes, x, y, marked)
        axes.set(
            xlim=(-2, 102), ylim=(-2, 102), xlabel="true fraction of the lungs (%)", ylabel="predicted fraction (%)"
        )
        _finish(axes, 3)

    return _drawn(name, text, draw, _SQUARE)


def difference_chart(
    name: str, true: npt.ArrayLike, predicted: npt.ArrayLike, infected: npt.ArrayLike, limits: Sequence[float]
) -> str:
    """Difference of predicted and true fraction by their mean (Bland & Altman 1986).

    Args:
        name: unique on the page.
        true, predicted: (n,) fractions in [0, 1].
        infected: (n,) bool, which images have an infection.
        limits: lower limit of agreement, bias, upper limit, as fractions.
    """
    x, y, marked = (np.asarray(values, np.float64) * 100 for values in (true, predicted, infected))
    lower, bias, upper = (100 * value for value in limits)
    text = (
        f"Difference of predicted and true fraction by their mean, {len(x)} images: bias {bias:+.1f} points, limits of "
        f"agreement {lower:+.1f} to {upper:+.1f}."
    )

    def draw(axes: Axes) -> None:
        _points(axes, (x + y) / 2, y - x, marked)
        axes.axhline(0, color=_MUTED, linewidth=0.6, linestyle=":")
        axes.axhline(bias, color=_INK, linewidth=0.9, label=f"bias {bias:+.1f}")
        for value, label in ((lower, f"limits {lower:+.1f}, {upper:+.1f}"), (upper, None)):
            axes.axhline(value, color=_INK, linewidth=0.9, linestyle="--", label=label)
        axes.set(xlim=(-2, 102), xlabel="mean of both (%)", ylabel="predicted - true (points)")
        axes.margins(y=0.15)
        _finish(axes, 2)

    return _drawn(name, text, draw, _SQUARE)


def risk_chart(name: str, coverage: Curve, risk: Curve, auroc: float | None) -> str:
    """Mean of 1 - Dice among the images of the highest expected Dice, by how many of them are kept."""
    x, y = _array(coverage) * 100, _array(risk)
    sure = "" if auroc is None else f" AUROC of the expected Dice for a Dice below 0.5: {auroc:.3f}."
    half = np.interp(50, x, y)
    text = f"1 - Dice of the images kept: {y[-1]:.3f} with all, {half:.3f} for the half expected best.{sure}"

    def draw(axes: Axes) -> None:
        axes.axhline(y[-1], color=_MUTED, linestyle="--", label="any order")
        axes.plot(x, y, "-o", color=_BLUE, label="by expected Dice")
        axes.set(xlim=(0, 102), xlabel="images kept, highest expected Dice first (%)", ylabel="mean of 1 - Dice")
        axes.set_ylim(0, max(0.05, 1.15 * float(np.nanmax(y))))
        _finish(axes, 2)

    return _drawn(name, text, draw, _SQUARE)


def _drawn(name: str, text: str, draw: Callable[[Axes], None], size: tuple[float, float]) -> str:
    with print_style():
        figure = new_figure(*size)
        draw(figure.subplots())
        return inline_svg(figure, name, text)


def _finish(axes: Axes, legend: int = 0) -> None:
    """Add a light grid, and a legend of so many columns above the panel, where it hides nothing."""
    axes.grid(axis="y")
    axes.set_axisbelow(True)
    if legend:
        axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=legend, columnspacing=0.9, handletextpad=0.4)


def _points(
    axes: Axes, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], infected: npt.NDArray[np.float64]
) -> None:
    size = 2.2 if len(x) > 100 else 4.0
    kinds = (("infected", infected > 0, _BLUE, "o"), ("uninfected", infected == 0, _VERMILLION, "x"))
    for label, chosen, colour, marker in kinds:
        if chosen.any():
            axes.plot(x[chosen], y[chosen], marker, color=colour, markersize=size, alpha=0.55, mew=0.6, label=label)


def _array(values: Curve) -> npt.NDArray[np.float64]:
    return np.array([math.nan if value is None else value for value in values], np.float64)


def _error(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> float:
    return float(np.abs(x - y).mean()) if len(x) else math.nan
