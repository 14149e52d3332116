from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from cxrseg.report import charts
from cxrseg.report.inline_svg import VARIABLES

HISTORY = [{"epoch": 1.0, "train_dice": 0.3, "val_dice": 0.4}, {"epoch": 2.0, "train_dice": 0.5, "val_dice": None}]
BINS = [
    {"low": 0.0, "high": 0.5, "pixels": 90, "predicted": 0.2, "observed": 0.1},
    {"low": 0.5, "high": 1.0, "pixels": 0, "predicted": None, "observed": None},
]
SWEEP: dict[str, list[float | None]] = {
    "threshold": [0.25, 0.5, 0.75],
    "dice": [0.5, 0.7, 0.6],
    "precision": [0.4, 0.8, None],
    "recall": [0.9, 0.7, 0.5],
    "uninfected_marked": [None, None, None],
}
TRUE, PREDICTED, INFECTED = [0.0, 0.2, 0.5], [0.1, 0.2, 0.3], [False, True, True]

DRAWN: dict[str, tuple[Callable[[str], str], list[str]]] = {
    "history": (lambda name: charts.history_chart(name, HISTORY, "dice", "Dice", 1), ["2 epochs", "0.4"]),
    "histogram": (
        lambda name: charts.histogram_chart(name, [0.2, 0.9, 0.9], "Dice", 0.667, 0.9),
        ["3 images", "1 below"],
    ),
    "bars": (
        lambda name: charts.bars_chart(name, [("0%-10%\nn = 3", 0.4, (0.3, 0.5)), ("rest", 0.6, None)], "Dice", "size"),
        ["0%-10% n = 3 0.400", "rest 0.600"],
    ),
    "reliability": (
        lambda name: charts.reliability_chart(name, BINS, 0.1),
        ["1 bins", "0.20 predicted, 0.10 observed"],
    ),
    "sweep": (lambda name: charts.sweep_chart(name, SWEEP, 0.5, 0.6), ["0.700 at the model's 0.5", "best around 0.6"]),
    "precision": (lambda name: charts.precision_recall_chart(name, SWEEP, 0.5, 0.77), ["0.770", "recall 0.700"]),
    "agreement": (lambda name: charts.agreement_chart(name, TRUE, PREDICTED, INFECTED), ["3 images", "10.0 points"]),
    "difference": (
        lambda name: charts.difference_chart(name, TRUE, PREDICTED, INFECTED, (-0.2, 0.0, 0.2)),
        ["bias +0.0", "-20.0 to +20.0"],
    ),
    "risk": (
        lambda name: charts.risk_chart(name, [0.5, 1.0], [0.1, 0.3], 0.9),
        ["0.300 with all", "0.100 for the half", "0.900"],
    ),
}


def parsed(text: str) -> Any:
    return ElementTree.fromstring(text)


@pytest.mark.parametrize("name", DRAWN)
def test_a_chart_is_an_image_that_can_be_read_out(name: str) -> None:
    draw, said = DRAWN[name]
    root = parsed(draw(name))
    assert root.get("role") == "img"
    assert root.get("viewBox")
    assert root.get("width") is root.get("height") is None
    for words in said:
        assert words in root.get("aria-label")
    assert len([each for each in root.iter() if each.tag.endswith("}text")]) > 3  # text stays text


@pytest.mark.parametrize("name", DRAWN)
def test_colours_and_fonts_are_the_pages(name: str) -> None:
    drawn = DRAWN[name][0](name)
    assert "var(--font)" in drawn
    assert "var(--ink)" in drawn
    assert "DejaVu" not in drawn
    assert re.findall(r"#[0-9a-f]{6}\b", drawn) == []
    assert set(re.findall(r"var\((--\w+)\)", drawn)) <= {*VARIABLES.values(), "--font"}


@pytest.mark.parametrize("name", DRAWN)
def test_nothing_of_a_chart_reaches_the_rest_of_the_page(name: str) -> None:
    drawn = DRAWN[name][0](name)
    assert "<style" not in drawn
    assert "<metadata" not in drawn
    ids = re.findall(r' id="([^"]+)"', drawn)
    assert len(set(ids)) == len(ids) > 0
    assert {one for one in ids if not one.startswith(f"{name}-")} == set()
    assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', drawn)) <= set(ids)


def test_what_a_reader_hears_is_escaped() -> None:
    drawn = charts.bars_chart("x", [('a"><script>', 0.5, None)], "Dice", "size")
    assert "<script>" not in drawn
    assert 'a"><script> 0.500' in parsed(drawn).get("aria-label")


def test_the_same_numbers_give_the_same_chart() -> None:
    draw = DRAWN["sweep"][0]
    assert draw("one") == draw("one")


def test_gaps_are_no_errors() -> None:
    assert "no values on validation" in charts.history_chart("h", [{"epoch": 1.0, "val_dice": None}], "dice", "Dice")
    assert "<svg" in charts.reliability_chart("r", BINS[1:], math.nan)
    assert "<svg" in charts.agreement_chart("a", np.zeros(0), np.zeros(0), np.zeros(0))
