"""Films in other ways, judged by a model whose answer is known: infection is bright, lungs are dark or bright."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cxrseg.data.layout import open_dataset
from cxrseg.data.sample import Dataset
from cxrseg.errors import DatasetError
from cxrseg.evaluation.perturbations import WAYS, Way, ways_named
from cxrseg.evaluation.stress import choose_films, stress
from cxrseg.evaluation.stress_summary import AS_IS, write_stress
from cxrseg.inference.prediction import Prediction
from cxrseg.inference.segmenter import Segmenter
from cxrseg.io.radiograph import Radiograph
from made_models import chest, hand_model

SIZE = 128


@pytest.fixture
def films(tmp_path: Path, write_sample: Callable[..., None]) -> Dataset:
    """Three infected chests and two healthy ones."""
    for number in range(5):
        pixels, infection, lungs = chest((SIZE, SIZE), infected=number < 3)
        category = "COVID-19" if number < 3 else "Normal"
        write_sample(f"film_{number}", np.rint(pixels * 255).astype(np.uint8), infection, lungs, "Val", category)
    return open_dataset(tmp_path / "data")


@pytest.fixture
def segmenter(tmp_path: Path) -> Segmenter:
    return Segmenter(hand_model(tmp_path / "hand.onnx", SIZE), input_check=False, precision="float32")


def test_a_model_that_follows_brightness_holds_where_brightness_does(segmenter: Segmenter, films: Dataset) -> None:
    ways = ways_named(["x2-bicubic", "turn+3", "border-black", "shift-right", "noise-2"])
    found = stress(segmenter, films.samples, ways)
    assert found.ways == (AS_IS, *(way.name for way in ways))
    for one in found.summaries():
        assert (one.films, one.refused) == (5, 0)
        assert one.infected_dice.value > 0.9 and one.infected_dice.n == 3, one.way
        assert one.normal_marked.value == 0 and one.normal_marked.n == 2
        assert one.movement.value < 0.02, one.way
        assert one.lungs_dice.value > 0.9
    assert found.summaries()[0].movement.value == 0


def test_a_model_without_lungs_has_no_dice_of_them(tmp_path: Path, films: Dataset) -> None:
    model = hand_model(tmp_path / "hand.onnx", SIZE, lungs=False)
    segmenter = Segmenter(model, input_check=False, precision="float32")
    for one in stress(segmenter, films.samples, ways_named(["x2-bicubic"])).summaries():
        assert one.infected_dice.value > 0.9
        assert (one.lungs_dice.n, np.isnan(one.lungs_dice.value)) == (0, True)


def test_it_says_where_the_answer_follows_the_file(segmenter: Segmenter, films: Dataset) -> None:
    brighter = Way("brighter", "twice as bright", lambda pixels, _: 2 * pixels)
    darker = Way("darker", "half as bright", lambda pixels, _: pixels / 2)
    whole, dark = stress(segmenter, films.samples, [brighter, darker]).summaries()[1:]
    # The body becomes brighter than the limit: most of it is marked now, but the lungs stay dark.
    assert whole.infected_dice.value < 0.5
    # Nothing is bright enough any more, so the whole infected fraction is lost.
    assert dark.infected_dice.value == 0
    assert dark.movement.value == pytest.approx(3 / 5 * 0.06, abs=0.02)
    assert dark.movement_95 > dark.movement.value


def test_normal_films_count_as_marked_from_1_percent_of_the_lungs(segmenter: Segmenter, films: Dataset) -> None:
    def spotted(share: float) -> Way:
        def paint(pixels: np.ndarray, _: np.random.Generator) -> np.ndarray:
            lungs = np.flatnonzero(pixels < 0.4)
            painted = pixels.copy()
            painted.flat[lungs[: int(share * lungs.size)]] = 1
            return painted

        return Way(f"spotted {share:g}", "bright spots in the lungs", paint)

    found = stress(segmenter, films.samples, [spotted(0.005), spotted(0.03)])
    assert [one.normal_marked.value for one in found.summaries()] == [0, 0, 1]


def test_what_is_hidden_counts_neither_for_nor_against(segmenter: Segmenter, films: Dataset) -> None:
    half = Way("half", "the lower half black", _lower_half_black, geometric=True)
    one = stress(segmenter, films.samples, [half]).summaries()[1]
    assert one.infected_dice.value > 0.95
    assert one.movement.value < 0.01


def _lower_half_black(pixels: np.ndarray, _: np.random.Generator) -> np.ndarray:
    covered = pixels.copy()
    covered[SIZE // 2 :] = 0
    return covered


def test_refused_films_are_counted_and_have_empty_masks(films: Dataset) -> None:
    class Refuses:
        def segment(self, radiograph: Radiograph) -> Prediction:
            return Prediction({}, {}, status="refused", reason="no chest")

    one = stress(Refuses(), films.samples, []).summaries()[0]
    assert (one.films, one.refused, one.infected_dice.value) == (5, 5, 0)
    assert np.isnan(one.movement.value) and one.movement.n == 0


def test_films_are_drawn_by_category_and_seed(films: Dataset) -> None:
    assert [film.category for film in choose_films(films.samples, 2)] == ["COVID-19", "COVID-19", "Normal", "Normal"]
    assert choose_films(films.samples, None) == list(films.samples)
    assert choose_films(films.samples, 1, seed=3) == choose_films(films.samples, 1, seed=3)
    with pytest.raises(DatasetError, match="at least one film"):
        choose = films.samples[:0]
        stress(None, choose)  # type: ignore[arg-type]


def test_progress_is_told_film_by_film(segmenter: Segmenter, films: Dataset) -> None:
    told: list[tuple[int, int]] = []
    stress(segmenter, films.samples, [], count=1, on_image=lambda done, of: told.append((done, of)))
    assert told == [(1, 2), (2, 2)]


def test_it_is_written_as_csv_and_json(segmenter: Segmenter, films: Dataset, tmp_path: Path) -> None:
    found = stress(segmenter, films.samples, ways_named(["jpeg-60"]), seed=5)
    write_stress(found, tmp_path / "out")
    told = json.loads((tmp_path / "out" / "stress.json").read_text())
    assert told["films"] == {"COVID-19": 3, "Normal": 2} and told["seed"] == 5
    assert [one["way"] for one in told["ways"]] == [AS_IS, "jpeg-60"]
    assert told["ways"][1]["infected_dice"]["n"] == 3 and len(told["ways"][1]["movement"]["interval"]) == 2
    with (tmp_path / "out" / "stress.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 10 and float(rows[0]["movement"]) == 0
    assert "jpeg-60" in "\n".join(found.lines())


def test_every_way_runs(segmenter: Segmenter, films: Dataset) -> None:
    assert len(stress(segmenter, films.samples, count=1).films) == 2 * (len(WAYS) + 1)
