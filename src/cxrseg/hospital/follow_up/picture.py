"""A patient's course as a picture: films side by side, the curve below."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxrseg.hospital.follow_up.course import Course, Measured
from cxrseg.io.write import write_atomic
from cxrseg.plots.figure import new_figure, print_style
from cxrseg.plots.overlay import overlay, resized_mask, resized_pixels
from cxrseg.plots.style import BLUE, GREEN, NOTICE, VERMILLION, hex_colour

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_course"]

_FILM_MM, _CURVE_MM, _LEAST_MM = 42.0, 60.0, 130.0
_SIDE = 320
_SATURATED = {"top": ",\nsaturated", "bottom": ",\nnear zero", "": "\n"}
_LINES = (
    ("infected_fraction", "both lungs", hex_colour(VERMILLION), "-"),
    ("infected_fraction_right", "patient's right lung", hex_colour(BLUE), "--"),
    ("infected_fraction_left", "patient's left lung", hex_colour(GREEN), ":"),
)


def draw_course(course: Course, name: str, path: Path) -> None:
    """Draw a course and write it as PNG, atomically.

    Args:
        course: with one usable film at least.
        name: what to call the patient.
        path: the PNG.
    """
    with print_style():
        columns = len(course.films)
        width = max(_LEAST_MM, columns * _FILM_MM)
        figure = new_figure(width, _FILM_MM * 1.35 + _CURVE_MM)
        grid = figure.add_gridspec(2, columns, height_ratios=[_FILM_MM * 1.2, _CURVE_MM])
        first = course.films[0].film.day
        for number, measured in enumerate(course.films):
            _draw_film(figure.add_subplot(grid[0, number]), measured, number, measured.film.day - first)
        _draw_curve(figure.add_subplot(grid[1, :]), course)
        figure.suptitle(f"Patient {name}. {NOTICE}")
        write_atomic(path, lambda file: figure.savefig(file, format="png", dpi=150))


def _draw_film(axes: Axes, measured: Measured, number: int, day: float) -> None:
    prediction, pixels = measured.prediction, measured.radiograph.pixels
    scale = min(1.0, _SIDE / max(pixels.shape))
    shape = (max(1, round(pixels.shape[0] * scale)), max(1, round(pixels.shape[1] * scale)))
    masks: dict[str, Any] = {
        channel: resized_mask(prediction.mask(channel), shape) for channel in prediction.probabilities
    }
    axes.imshow(overlay(resized_pixels(pixels, shape), masks.get("infection"), masks.get("lungs")))
    axes.set_axis_off()
    value = measured.value("infected_fraction") or 0.0
    remark = _SATURATED[measured.saturation("infected_fraction")]
    axes.set_title(f"film {number + 1}, day {round(day, 2):g}\n{100 * value:.0f}% infected{remark}")


def _draw_curve(axes: Axes, course: Course) -> None:
    days = [measured.film.day - course.films[0].film.day for measured in course.films]
    for measure, label, colour, line in _LINES:
        known = [(day, film) for day, film in zip(days, course.films, strict=True) if film.value(measure) is not None]
        values = [100 * (film.value(measure) or 0.0) for _, film in known]
        axes.plot([day for day, _ in known], values, line, color=colour, marker="o", label=label)
        if measure == "infected_fraction":
            margins = [100 * film.margin(measure) for _, film in known]
            low = [max(0.0, value - margin) for value, margin in zip(values, margins, strict=True)]
            high = [min(100.0, value + margin) for value, margin in zip(values, margins, strict=True)]
            days_known = [day for day, _ in known]
            if len(known) == 1:
                axes.vlines(days_known, low, high, color=colour, alpha=0.3, linewidth=6)
            axes.fill_between(days_known, low, high, color=colour, alpha=0.18, linewidth=0, label="noise of one film")
    _mark_changes(axes, course, days)
    axes.set_ylim(0, 105)
    axes.set_xlabel("days since the first film")
    axes.set_ylabel("infected fraction (%)")
    axes.grid(axis="y")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))


def _mark_changes(axes: Axes, course: Course, days: list[float]) -> None:
    """A word where both lungs have changed by more than the noise since the film before."""
    for number, (day, measured) in enumerate(zip(days, course.films, strict=True)):
        verdict = course.change("infected_fraction", number, number - 1)["verdict"] if number else ""
        if verdict not in ("rise", "fall"):
            continue
        value = 100 * (measured.value("infected_fraction") or 0.0)
        above = value < 85
        axes.annotate(
            verdict,
            (day, value),
            xytext=(0, 7 if above else -7),
            textcoords="offset points",
            ha="center",
            va="bottom" if above else "top",
            weight="bold",
        )
