"""For elsewhere.py: what is measured on each source of films."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from cxrseg.errors import DatasetError
from cxrseg.evaluation.expected_dice import auroc
from cxrseg.inference.prediction import Prediction
from cxrseg.inference.segmenter import Segmenter
from cxrseg.io.masks import read_mask
from cxrseg.metrics.intervals import estimate_fraction, estimate_means
from cxrseg.metrics.ranking import spearman
from cxrseg.metrics.segmentation import MARKED_LIMIT, count
from cxrseg.metrics.severity import infected_fraction
from elsewhere_films import Figure, Row, each, films_of, marked, mask_of, ratio, read_index, refused

ZONES = ("right_upper", "right_middle", "right_lower", "left_upper", "left_middle", "left_lower")
"""Brixia's zones A to F, as cxrseg names them."""


FULL, NOT_FULL = 0.9, 0.8
"""The model paints whole lungs where it says more than `FULL` and the reader less than `NOT_FULL`."""


def nih_rsna(segmenter: Segmenter, folder: Path, workers: int | None) -> tuple[list[Row], Iterator[Figure]]:
    """Films of another hospital, classed and boxed by radiologists."""

    def measure(known: Row, prediction: Prediction, shape: tuple[int, int]) -> Row:
        boxes, hit = np.zeros(shape, dtype=bool), 0
        infection = mask_of(prediction, "infection", shape)
        drawn = json.loads(known["boxes"])
        for x, y, width, height in drawn:
            place = np.s_[round(y) : round(y + height), round(x) : round(x + width)]
            boxes[place] = True
            hit += bool(infection[place].any())
        counts = count(infection, boxes)
        return {
            "box_recall": counts.recall,
            "box_precision": counts.precision,
            "boxes_drawn": len(drawn),
            "boxes_hit": hit,
        }

    rows = films_of(segmenter, read_index(folder), lambda row: folder / "images" / row["file"], measure, workers)
    return rows, _nih_figures(rows)


def _nih_figures(rows: Sequence[Row]) -> Iterator[Figure]:
    of = {name: [row for row in rows if row["class"] == name] for name in dict.fromkeys(row["class"] for row in rows)}
    opaque, normal = of.get("Lung Opacity", []), of.get("Normal", [])
    say = partial(Figure, "nih-rsna")
    for name, others, aim in (("Normal", normal, "0.94"), ("all others", [r for r in rows if r not in opaque], "0.85")):
        both = [*opaque, *others]
        truth = [row["class"] == "Lung Opacity" for row in both]
        area = auroc(each(both, "fraction"), truth)
        yield say(f"AUROC, Lung Opacity against {name}", area, aim=f"at least {aim}")
        yield say(f"AUROC of the ranking score, against {name}", auroc(each(both, "score"), truth))
    found = estimate_means({key: each(opaque, key) for key in ("box_recall", "box_precision")})
    yield say("recall of the boxes' area, mean of films", found["box_recall"], aim="at least 0.55")
    yield say("precision of what is marked, mean of films", found["box_precision"], aim="at least 0.65")
    yield say("boxes hit at all", ratio(each(opaque, "boxes_hit"), each(opaque, "boxes_drawn")), percent=True)
    for name, these in of.items():
        yield say(f"{name}: marked", marked(these), percent=True, aim="at most 4%" if name == "Normal" else "")
    yield say("refused", refused(rows), percent=True, aim="0%")


def other_hospitals(segmenter: Segmenter, folder: Path, workers: int | None) -> tuple[list[Row], Iterator[Figure]]:
    """Healthy and tuberculous films of two other countries."""
    hospitals = sorted(path.parent for path in folder.glob("*/index.csv"))
    rows = [row for hospital in hospitals for row in _hospital_rows(segmenter, hospital, workers)]
    if not rows:
        raise DatasetError(f"expected folders with an index.csv in {folder}, found none")
    return rows, _hospital_figures(rows)


def _hospital_rows(segmenter: Segmenter, hospital: Path, workers: int | None) -> list[Row]:
    def measure(known: Row, prediction: Prediction, shape: tuple[int, int]) -> Row:
        truth = read_mask(hospital / "lung masks" / f"{Path(known['file']).stem}.png")
        return {"hospital": hospital.name, "lungs_dice": count(mask_of(prediction, "lungs", shape), truth).dice}

    return films_of(segmenter, read_index(hospital), lambda row: hospital / "images" / row["file"], measure, workers)


def _hospital_figures(rows: Sequence[Row]) -> Iterator[Figure]:
    for hospital in dict.fromkeys(row["hospital"] for row in rows):
        these = [row for row in rows if row["hospital"] == hospital]
        say = partial(Figure, f"other-hospitals/{hospital}")
        for kind in dict.fromkeys(row["class"] for row in these):
            chosen = [row for row in these if row["class"] == kind]
            yield say(f"{kind}: marked", marked(chosen), percent=True, aim="at most 4%" if kind == "normal" else "")
        yield say("lungs, Dice", estimate_means({"": each(these, "lungs_dice")})[""])
        yield say("refused", refused(these), percent=True, aim="0%")


def second_reader(segmenter: Segmenter, folder: Path, workers: int | None) -> tuple[list[Row], Iterator[Figure]]:
    """COVID-19 films drawn by radiologists."""

    def measure(known: Row, prediction: Prediction, shape: tuple[int, int]) -> Row:
        truth = {
            channel: read_mask(folder / name / f"{known['name']}.png")
            for channel, name in (("infection", "infection masks"), ("lungs", "lung masks"))
        }
        dices = {channel: count(mask_of(prediction, channel, shape), mask).dice for channel, mask in truth.items()}
        theirs = infected_fraction(truth["infection"], truth["lungs"])
        return {
            "dice": dices["infection"],
            "lungs_dice": dices["lungs"],
            "reader": 0.0 if theirs is None else theirs,
            "reader_drew": bool(truth["infection"].any()),
        }

    def path_of(row: Row) -> Path:
        found = sorted((folder / "images").glob(f"{row['name']}.*"))
        if not found:
            raise DatasetError(f"expected an image of {row['name']} in {folder / 'images'}, found none")
        return found[0]

    rows = films_of(segmenter, read_index(folder), path_of, measure, workers)
    return rows, _reader_figures(rows)


def _reader_figures(rows: Sequence[Row]) -> Iterator[Figure]:
    for split in (None, *sorted({row["split"] for row in rows})):
        these = [row for row in rows if split in (None, row["split"])]
        say = partial(Figure, "second-reader" + (f"/{split}" if split else ""))
        error = np.array(each(these, "fraction")) - np.array(each(these, "reader"))
        found = estimate_means(
            {
                "dice": [row["dice"] if row["reader_drew"] else np.nan for row in these],
                "all": [1.0 if np.isnan(row["dice"]) else row["dice"] for row in these],
                "bias": error,
                "error": np.abs(error),
                "lungs_dice": each(these, "lungs_dice"),
            }
        )
        # Two fixed sets of films: a mean that leaves out 'empty on empty' would gain by its set, model by model.
        yield say("Dice of films that the reader drew on", found["dice"])
        yield say("Dice of all films, empty on empty = 1", found["all"], aim="at least 0.716")
        empty = [row for row in these if not row["reader_drew"]]
        yield say("films that the reader left empty: marked", marked(empty), percent=True)
        yield say("infected fraction, bias", found["bias"], aim="under 0.05")
        yield say("infected fraction, mean absolute error", found["error"])
        open_ = [row for row in these if row["reader"] < NOT_FULL]
        full = estimate_fraction(sum(row["fraction"] > FULL for row in open_), len(open_))
        yield say("over 90% of the lungs where the reader has under 80%", full, percent=True, aim="0%")
        yield say("lungs, Dice", found["lungs_dice"])
        if split is None:
            yield say("refused", refused(these), percent=True, aim="0%")


def brixia(segmenter: Segmenter, folder: Path, workers: int | None) -> tuple[list[Row], Iterator[Figure]]:
    """Scores of two radiologists for films of COVID-QU-Ex."""
    films = {path.name: path for path in sorted((folder.parent / "covid-qu-ex").rglob("images/*.png"))}

    def path_of(row: Row) -> Path:
        if row["file"] not in films:
            raise DatasetError(f"expected {row['file']} below {folder.parent / 'covid-qu-ex'}, as {folder} names it")
        return films[row["file"]]

    def measure(_: Row, prediction: Prediction, __: tuple[int, int]) -> Row:
        return {zone: getattr(prediction.severity, f"infected_fraction_{zone}", None) for zone in ZONES}

    rows = films_of(segmenter, read_index(folder), path_of, measure, workers)
    return rows, _brixia_figures(rows)


def _brixia_figures(rows: Sequence[Row]) -> Iterator[Figure]:
    readers = {name: np.array([_scores(row, name) for row in rows]) for name in ("senior", "junior")}
    total = {name: zones.sum(axis=1) for name, zones in readers.items()}
    ours = np.array([[np.nan if row[zone] is None else row[zone] for zone in ZONES] for row in rows])
    films = np.repeat(np.arange(len(rows)), len(ZONES))
    mean, zone_mean = (np.mean([side[name] for name in side], axis=0) for side in (total, readers))
    say = partial(Figure, "brixia")
    yield say("films: Spearman, ours and the readers' mean", spearman(each(rows, "fraction"), mean), aim="as theirs")
    yield say("films: Spearman, the ranking score and the readers' mean", spearman(each(rows, "score"), mean))
    yield say("films: Spearman, reader and reader", spearman(total["senior"], total["junior"]))
    yield say(
        "zones: Spearman, ours and the readers' mean", spearman(ours.ravel(), zone_mean.ravel(), films), aim="as theirs"
    )
    between = spearman(readers["senior"].ravel(), readers["junior"].ravel(), films)
    yield say("zones: Spearman, reader and reader", between)
    clear = (readers["senior"] == 0) & (readers["junior"] == 0) & ~np.isnan(ours)
    hits, zones = ((ours > MARKED_LIMIT) & clear).sum(axis=1), clear.sum(axis=1)
    yield say("zones that both call clear: over 1% marked", ratio(hits, zones), percent=True, aim="at most 10%")
    area = np.where(clear, ours, 0).sum(axis=1)
    yield say("zones that both call clear: mean marked fraction", ratio(area, zones), percent=True, aim="at most 10%")
    yield say("refused", refused(rows), percent=True, aim="0%")


def _scores(row: Row, reader: str) -> list[int]:
    return [int(score) for score in row[f"{reader}_A_to_F"].split("|")]


SOURCES = {
    "nih-rsna": nih_rsna,
    "other-hospitals": other_hospitals,
    "second-reader": second_reader,
    "brixia": brixia,
}
