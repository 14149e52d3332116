"""The files of an evaluation as tables and tiles of a report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = [
    "IMAGE_COLUMNS",
    "Table",
    "Tile",
    "category_table",
    "flatten",
    "image_level_table",
    "image_table",
    "mean_table",
    "region_table",
    "size_rows",
    "stress_table",
    "tiles",
]

_Json = Mapping[str, Any]

_FIGURES = {
    "dice": "Dice",
    "iou": "IoU",
    "precision": "precision",
    "recall": "recall",
    "rmse": "RMSE",
    "hd95": "HD95 (px)",
    "assd": "ASSD (px)",
    "nsd2": "NSD 2 px",
    "nsd4": "NSD 4 px",
}
_PIXELS = {"hd95", "assd"}

IMAGE_COLUMNS = {
    "name": "image",
    "category": "category",
    "status": "status",
    "dice": "Dice",
    "iou": "IoU",
    "precision": "precision",
    "recall": "recall",
    "hd95": "HD95 (px)",
    "nsd2": "NSD 2 px",
    "infected_fraction_true": "true fraction (%)",
    "infected_fraction_predicted": "predicted fraction (%)",
    "expected_dice": "expected Dice",
}
"""Columns of scores.csv in the table of all images, and their headings there."""

_TEXT = {"name", "category", "status"}


@dataclass(frozen=True)
class Tile:
    """One headline figure.

    Attributes:
        name: such as 'Dice'.
        value: as text.
        interval: as text, '' where there is none.
        about: what it is a mean of.
        span: ends of the interval and value as percentages of [0, 1], or None for other figures.
    """

    name: str
    value: str
    interval: str
    about: str
    span: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class Table:
    """A table as text.

    Attributes:
        caption: what it shows.
        columns: their headings.
        rows: cells; the first of each is the row's heading.
        numeric: for each column, whether it holds numbers.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: tuple[bool, ...]


def tiles(summary: _Json, calibration: _Json) -> list[Tile]:
    """The headline figures of the infection, and the Dice of the lungs."""
    made = []
    infection, lungs = summary.get("infection"), summary.get("lungs")
    if infection:
        each, marked = infection["infected_per_image"], infection["uninfected_marked"]
        normal = infection["by_category"].get("Normal", {}).get("uninfected_marked", marked)
        whose = "Normal images" if normal is not marked else "uninfected images"
        per_image = f"mean of {each['dice']['n']} infected images"
        made += [
            _tile("Dice", each["dice"], per_image),
            _tile("IoU", each["iou"], per_image),
            _tile("Dice, pooled", infection["infected_pooled"]["dice"], "all pixels of infected images"),
            _tile("Recall", each["recall"], per_image),
            _tile("Precision", each["precision"], per_image),
            _tile("HD95", each["hd95"], f"pixels, {per_image}", 1),
            _tile("RMSE", infection["rmse"], f"all pixels of {infection['rmse']['n']} images"),
            Tile("Missed", str(infection["missed"]), "", f"of {infection['infected']} infected images"),
            _tile("False alarms", normal, f"of {normal['n']} {whose}, over {normal['limit']:.0%} of the lungs marked"),
        ]
    severity = (summary.get("severity") or {}).get("infected")
    if severity and severity["mean_absolute_error"]["mean"] is not None:
        about = f"of the infected fraction of the lungs, points; bias {100 * severity['bias']['mean']:+.1f}"
        made.append(_tile("Fraction error", severity["mean_absolute_error"], about, 1, 100))
    if "infection" in calibration and calibration["infection"]["expected_calibration_error"] is not None:
        error = calibration["infection"]["expected_calibration_error"]
        made.append(Tile("Calibration error", f"{error:.3f}", "", "expected, of pixels in the lungs"))
    if lungs:
        dice = lungs["infected_per_image"]["dice"]
        made.append(_tile("Lungs: Dice", dice, f"mean of {dice['n']} images"))
    return [tile for tile in made if tile.value]


def mean_table(channel: str, found: _Json) -> Table:
    """The different means that publications report, in one table."""
    kinds = {
        "images with a mask,\nper image": found["infected_per_image"],
        "images with a mask,\npixels pooled": found["infected_pooled"],
        "all images,\nempty on empty = 1": {**found["all_images_empty_on_empty_is_1"], "rmse": found["rmse"]},
    }
    rows = [
        (name, *(_cell(figures.get(key), 1 if key in _PIXELS else 3) for key in _FIGURES))
        for name, figures in kinds.items()
    ]
    return _table(f"Every mean of the {channel}, with 95% intervals", ("mean of", *_FIGURES.values()), rows)


def category_table(found: _Json) -> Table:
    """The infection by category."""
    columns = ("category", "images", "infected", "Dice", "IoU", "missed", "false alarms", "over 1% of lungs marked")
    rows = [
        (
            category,
            str(one["images"]),
            str(one["infected"]),
            _cell(one["infected_per_image"]["dice"]),
            _cell(one["infected_per_image"]["iou"]),
            str(one["missed"]),
            str(one["false_alarm"]),
            _cell(one["uninfected_marked"]),
        )
        for category, one in found["by_category"].items()
    ]
    return _table("By category", columns, rows)


def image_level_table(summary: _Json) -> Table | None:
    """Results of the classification head; None where the model has none."""
    found = summary.get("image_level")
    if not found:
        return None
    rows = [
        ("kept of COVID-19 (sensitivity)", _cell(found["sensitivity"])),
        ("emptied of the others (specificity)", _cell(found["specificity"])),
        *((f"kept of {category}", _cell(fraction)) for category, fraction in found["kept_by_category"].items()),
        ("AUROC", _cell(found["auroc"])),
    ]
    caption = f"Whole images, {found['images']} of them: is it COVID-19?"
    return _table(caption, ("figure", "value"), rows)


def region_table(found: _Json) -> Table | None:
    """The infection by lung and zone, left and right being the patient's; None where lungs are unknown."""
    regions = found.get("by_region") or {}
    rows = [
        (
            region.replace("_", " "),
            str(one["infected"]),
            _cell(one["dice"]),
            _cell(one["dice_pooled"]),
            _cell(one["fraction_error"]),
            _cell(one["fraction_bias"]),
        )
        for region, one in regions.items()
    ]
    columns = (
        "region",
        "infected images",
        "Dice",
        "Dice, pooled",
        "fraction error, all images",
        "fraction bias, all images",
    )
    return _table("By lung and zone (left and right are the patient's)", columns, rows) if rows else None


def stress_table(found: _Json) -> Table:
    """The figures of each way of storing the images, as stress.json has them."""
    rows = [
        (
            f"{one['way']}\n{one['about']}",
            str(one["refused"]),
            _cell(one["normal_marked"]),
            _cell(one["infected_dice"]),
            _cell(one["movement"]),
            "-" if one["movement_95"] is None else f"{one['movement_95']:.3f}",
            _cell(one["lungs_dice"]),
        )
        for one in found["ways"]
    ]
    images = ", ".join(f"{count} {category}" for category, count in found["films"].items())
    columns = (
        *("stored", "refused", "Normal: over 1%\nof lungs marked", "infected: Dice"),
        *("infected fraction\nmoves by", "95% of them\nby less than", "lungs: Dice"),
    )
    return _table(f"The same images stored in other ways ({images})", columns, rows)


def size_rows(found: _Json) -> list[tuple[str, float, tuple[float, float] | None]]:
    """Label, mean Dice and interval of each bin of infected fraction that has images."""
    return [
        (
            f"{one['from']:.0%}-{one['to']:.0%}\nn = {one['images']}",
            dice["mean"],
            tuple(dice["interval"]) if dice.get("interval") else None,
        )
        for one in found.get("by_size") or ()
        if (dice := one["infected_per_image"]["dice"])["mean"] is not None
    ]


def image_table(rows: Sequence[Mapping[str, str]]) -> Table:
    """Every image with its main figures; empty columns are left out."""
    columns = [key for key in IMAGE_COLUMNS if any(row.get(key) for row in rows)]
    cells = [tuple(_image_cell(key, row.get(key) or "") for key in columns) for row in rows]
    return Table(
        f"All {len(rows)} images",
        tuple(IMAGE_COLUMNS[key] for key in columns),
        tuple(cells),
        tuple(key not in _TEXT for key in columns),
    )


def flatten(values: _Json, above: str = "") -> list[tuple[str, str]]:
    """Nested JSON as pairs of dotted name and text, in order."""
    pairs: list[tuple[str, str]] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            pairs += flatten(value, f"{above}{key}.")
        elif isinstance(value, list):
            pairs.append((f"{above}{key}", "\n".join(map(str, value))))
        else:
            pairs.append((f"{above}{key}", "-" if value is None else str(value)))
    return pairs


def _image_cell(key: str, value: str) -> str:
    if key in _TEXT or not value:
        return value
    number = float(value)
    return f"{100 * number:.1f}" if "fraction" in key else f"{number:.{1 if key in _PIXELS else 3}f}"


def _table(caption: str, columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Table:
    return Table(caption, columns, tuple(rows), tuple(number > 0 for number in range(len(columns))))


def _value(figure: _Json) -> float | None:
    for key in ("mean", "value", "fraction"):
        if key in figure:
            found: float | None = figure[key]
            return found
    return None


def _tile(name: str, figure: _Json, about: str, decimals: int = 3, times: float = 1) -> Tile:
    value = _value(figure)
    if value is None:
        return Tile(name, "", "", about)
    ends = figure.get("interval")
    whole = "fraction" in figure
    shown = [f"{v:.1%}" if whole else f"{times * v:.{decimals}f}" for v in (value, *(ends or ()))]
    span = (100 * ends[0], 100 * ends[1], 100 * value) if ends and decimals == 3 else None
    return Tile(name, shown[0], f"{shown[1]} to {shown[2]}" if ends else "", about, span)


def _cell(figure: _Json | None, decimals: int = 3) -> str:
    value = _value(figure) if figure else None
    if figure is None or value is None:
        return "-"
    ends = figure.get("interval")
    if not ends:
        return f"{value:.{decimals}f}"
    to = "\N{EN DASH}" if ends[0] >= 0 else " to "
    return f"{value:.{decimals}f}\n({ends[0]:.{decimals}f}{to}{ends[1]:.{decimals}f})"
