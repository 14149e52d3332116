"""Two evaluations of the same images against each other."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from scipy.stats import bootstrap, wilcoxon

from cxrseg.cli import main
from cxrseg.errors import DatasetError
from cxrseg.evaluation.compare import compare, comparison_lines
from cxrseg.io.write import write_csv
from cxrseg.metrics.segmentation import score

TRUTH = np.zeros((20, 20), bool)
TRUTH[:10] = True
NOTHING = np.zeros_like(TRUTH)


def row(name: str, marked: float, truth: Any = TRUTH, fraction: float | None = None, target: str = "infection") -> Any:
    """The row of a prediction that marks this fraction of the rows."""
    prediction = NOTHING.copy()
    prediction[: round(20 * marked)] = True
    return {
        "name": name,
        "split": "val",
        "category": "COVID-19" if truth.any() else "Normal",
        "target": target,
        **score(prediction.astype(np.float32), truth).as_row(),
        "infected_fraction_true": 0.5 if truth.any() else 0.0,
        "infected_fraction_predicted": marked if fraction is None else fraction,
    }


@pytest.fixture
def evaluation(tmp_path: Path) -> Callable[..., Path]:
    def write(name: str, rows: list[Mapping[str, Any]]) -> Path:
        write_csv(tmp_path / name / "scores.csv", list(rows[0]), rows)
        return tmp_path / name

    return write


@pytest.fixture
def two(evaluation: Callable[..., Path]) -> tuple[Path, Path]:
    """40 infected images, the second evaluation better by one row of pixels or two, and 2 healthy ones."""
    random = np.random.default_rng(0)
    marks = random.integers(2, 7, 40) / 20
    healthy = [("h1", 0.0, 0.1), ("h2", 0.0, 0.0)]
    first = [*(row(f"i{n}", mark) for n, mark in enumerate(marks)), *(row(n, a, NOTHING) for n, a, _ in healthy)]
    second = [
        *(row(f"i{n}", mark + (n % 3) / 20) for n, mark in enumerate(marks)),
        *(row(n, b, NOTHING) for n, _, b in healthy),
    ]
    return evaluation("first", first), evaluation("second", second[::-1])  # in another order


def dices(folder: Path) -> Any:
    with (folder / "scores.csv").open(encoding="utf-8", newline="") as file:
        return {found["name"]: float(found["dice"] or "nan") for found in csv.DictReader(file)}


def test_paired_differences_with_their_intervals_and_test(two: tuple[Path, Path]) -> None:
    found = compare(*two).targets["infection"]["infected"]
    assert found["images"] == 40
    first, second = (dices(folder) for folder in two)
    names = [name for name in first if name.startswith("i")]
    difference = np.array([second[name] - first[name] for name in names])
    dice = found["figures"]["dice"]
    assert dice["first"] == pytest.approx(np.mean([first[name] for name in names]))
    assert dice["second"] - dice["first"] == pytest.approx(dice["difference"]["mean"])
    low, high = bootstrap((difference,), np.mean, n_resamples=9999, method="percentile", rng=0).confidence_interval
    assert dice["difference"]["interval"] == pytest.approx([low, high], abs=0.1 * (high - low))
    assert (dice["better"]["fraction"], dice["equal"]) == (26 / 40, 14)
    assert dice["wilcoxon_p"] == pytest.approx(wilcoxon(difference[difference != 0]).pvalue)
    assert found["figures"]["hd95"]["better"]["fraction"] == 26 / 40  # the smaller the better
    assert found["figures"]["fraction_error"]["difference"]["mean"] == pytest.approx(-39 / 20 / 40)
    pooled = found["figures"]["rmse_pooled"]
    assert pooled["difference"]["mean"] == pytest.approx(pooled["second"] - pooled["first"])
    assert pooled["difference"]["interval"][1] < 0


def test_all_images_count_empty_on_empty_as_1(two: tuple[Path, Path]) -> None:
    found = compare(*two).targets["infection"]["all_images"]
    assert found["images"] == 42
    first, second = (dices(folder) for folder in two)
    assert found["figures"]["dice"]["first"] == pytest.approx((sum(first[f"i{n}"] for n in range(40)) + 2) / 42)
    assert found["figures"]["dice"]["second"] == pytest.approx((sum(second[f"i{n}"] for n in range(40)) + 1) / 42)
    assert "precision" not in found["figures"]


def test_the_images_that_differ_most_come_first(two: tuple[Path, Path]) -> None:
    most = compare(*two).targets["infection"]["differ_most"]
    assert len(most) == 10
    assert most[0] == {"name": "h1", "category": "Normal", "first": 1.0, "second": 0.0, "difference": -1.0}
    sizes = [abs(each["difference"]) for each in most]
    assert sizes == sorted(sizes, reverse=True)


def test_an_evaluation_against_itself_differs_in_nothing(two: tuple[Path, Path]) -> None:
    dice = compare(two[0], two[0]).targets["infection"]["infected"]["figures"]["dice"]
    assert dice["difference"] == {"mean": 0.0, "n": 40, "interval": [0.0, 0.0]}
    assert (dice["better"]["fraction"], dice["equal"], dice["wilcoxon_p"]) == (0.0, 40, None)


def test_images_of_one_patient_are_drawn_together(evaluation: Callable[..., Path]) -> None:
    marks = np.random.default_rng(0).integers(2, 7, 12) / 20
    rows = [
        [row(f"{n}-{film}", mark + (n % 3) * by) for n, mark in enumerate(marks) for film in range(4)]
        for by in (0, 0.05)
    ]
    apart = compare(evaluation("first", rows[0]), evaluation("second", rows[1])).targets["infection"]
    grouped = [[{**one, "group": one["name"].split("-")[0]} for one in side] for side in rows]
    found = compare(evaluation("first", grouped[0]), evaluation("second", grouped[1]))
    together = found.targets["infection"]
    assert (apart["resampled"], together["resampled"]) == ("images", "groups")
    widths = [np.ptp(one["infected"]["figures"]["dice"]["difference"]["interval"]) for one in (apart, together)]
    assert widths[1] > 1.5 * widths[0]
    assert any("groups of images (patients, copies) were resampled" in line for line in comparison_lines(found))


def test_sets_of_different_images_are_refused(evaluation: Callable[..., Path]) -> None:
    first = evaluation("first", [row(name, 0.5) for name in "abc"])
    second = evaluation("second", [row(name, 0.5) for name in "bcde"])
    with pytest.raises(DatasetError, match="same images, but 3 images of infection are in only one") as caught:
        compare(first, second)
    assert caught.value.faults == (f"only in {first}: a", f"only in {second}: d", f"only in {second}: e")
    many = evaluation("many", [row(str(number), 0.5) for number in range(50)])
    with pytest.raises(DatasetError, match="and 33 more"):
        compare(first, many)


def test_other_masks_of_the_same_images_are_refused(evaluation: Callable[..., Path]) -> None:
    first, second = evaluation("first", [row("a", 0.5)]), evaluation("second", [row("a", 0.5, TRUTH[::-1])])
    compare(first, second)  # equally large
    with pytest.raises(DatasetError, match="1 masks of infection differ in size"):
        compare(first, evaluation("third", [row("a", 0.5, np.roll(TRUTH, 1, 0) & TRUTH)]))


def test_only_kinds_of_mask_in_common_are_compared(evaluation: Callable[..., Path]) -> None:
    both = evaluation("both", [row("a", 0.5), row("a", 0.4, target="lungs")])
    lungs = evaluation("lungs", [row("a", 0.5, target="lungs")])
    assert list(compare(both, lungs).targets) == ["lungs"]
    with pytest.raises(DatasetError, match=r"common kind of mask, got infection in .* and lungs in"):
        compare(evaluation("one", [row("a", 0.5)]), lungs)


def test_a_table_of_fewer_columns_is_compared_by_those(evaluation: Callable[..., Path]) -> None:
    old = [{key: value for key, value in row(name, 0.3).items() if key != "nsd4"} for name in "ab"]
    figures = compare(evaluation("old", old), evaluation("new", [row(n, 0.4) for n in "ab"]))
    assert "nsd4" not in figures.targets["infection"]["infected"]["figures"]
    assert "nsd4" not in figures.targets["infection"]["all_images"]["figures"]


def test_folders_that_are_no_evaluations(tmp_path: Path, evaluation: Callable[..., Path]) -> None:
    good = evaluation("good", [row("a", 0.5)])
    with pytest.raises(DatasetError, match=r"expected an output folder of .cxrseg evaluate"):
        compare(good, tmp_path / "none")
    for text, message in (("a,b\n1,2\n", "is not a table"), ("name,target\n", "has no rows")):
        (tmp_path / "scores.csv").write_text(text, encoding="utf-8")
        with pytest.raises(DatasetError, match=message):
            compare(good, tmp_path)


def test_the_command_prints_and_writes_all_of_it(tmp_path: Path, two: tuple[Path, Path]) -> None:
    done = CliRunner().invoke(main, ["compare", *map(str, two), "-o", str(tmp_path / "c.json")])
    assert done.exit_code == 0, done.output
    assert "infection, 40 images with a mask" in done.output
    assert "infection, 42 images in all, empty on empty = 1" in done.output
    assert "1.000 -> 0.000  -1.000  h1" in done.output
    stored = json.loads((tmp_path / "c.json").read_text(encoding="utf-8"))
    assert stored == json.loads(json.dumps(compare(*two).as_json(), allow_nan=False))
    assert max(len(line) for line in comparison_lines(compare(*two))) < 100 + len(str(two[0]))
    wrong = CliRunner().invoke(main, ["compare", str(two[0]), str(tmp_path)])
    assert (wrong.exit_code, "cxrseg evaluate" in wrong.output) == (3, True)
