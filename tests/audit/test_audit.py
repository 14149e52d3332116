"""The data audit from end to end, on phantoms with planted faults."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from cxrseg.audit.audit import Audit, audit_dataset
from cxrseg.cli import main
from cxrseg.data.layout import list_dataset
from cxrseg.data.sample import Sample
from cxrseg.phantom.generate import write_phantoms

COUNTS = {
    "train": {"COVID-19": 14, "Non-COVID": 12, "Normal": 12},
    "val": {"COVID-19": 3, "Non-COVID": 2, "Normal": 2},
    "test": {},
}


def gray(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("L"))


def file_of(sample: Sample, kind: str) -> Path:
    stored = sample.image if kind == "image" else sample.masks[kind]
    assert isinstance(stored, Path)
    return stored


def plant(sample: Sample, split: str, name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Put a changed copy of an image, with its masks, into a split."""
    for kind in ("image", "infection", "lungs"):
        source = file_of(sample, kind)
        pixels = gray(source)
        goal = source.parents[3] / split / source.parts[-3] / source.parent.name / f"{name}.png"
        Image.fromarray(change(pixels) if kind == "image" else pixels).save(goal)


@pytest.fixture(scope="module")
def sick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Phantoms with an exact leak, a darker copy within Train, a broken image, and two odd infection masks."""
    root = write_phantoms(tmp_path_factory.mktemp("sick"), COUNTS, size=128)
    samples = list_dataset(root)[0].select("train").samples
    covid = [sample for sample in samples if sample.category == "COVID-19"]
    normal = [sample for sample in samples if sample.category == "Normal"]
    plant(covid[0], "Val", "leak", lambda pixels: pixels)
    plant(covid[1], "Train", "darker", lambda pixels: (pixels * 0.6).astype(np.uint8))
    broken = file_of(normal[0], "image")
    broken.write_bytes(broken.read_bytes()[:-200])
    lungs = gray(file_of(normal[1], "lungs"))
    Image.fromarray(lungs).save(file_of(normal[1], "infection"))
    Image.fromarray(lungs * 0).save(file_of(covid[2], "infection"))
    return root


@pytest.fixture(scope="module")
def audit(sick: Path) -> Audit:
    return audit_dataset(*list_dataset(sick))


def test_finds_the_leak_and_the_darker_copy_and_no_more(audit: Audit) -> None:
    found = {(pair.kind, pair.splits, pair.second.name) for pair in audit.pairs if pair.is_copy}
    assert {(kind, splits) for kind, splits, _ in found} == {("exact", "train-val"), ("near", "train")}
    assert "Val/COVID-19/leak" in {name for _, _, name in found}
    assert len(audit.leaks) == 1


def test_names_the_training_side_of_a_leak(audit: Audit) -> None:
    leak = next(one for one in audit.exclusions if one.reason == "leak")
    assert leak.name.startswith("Train/") and leak.copy_of == "Val/COVID-19/leak"
    assert [one.reason for one in audit.exclusions].count("duplicate") == 1


def test_copies_agree_with_their_own_masks(audit: Audit) -> None:
    assert len(audit.agreement) == 2
    assert min(audit.agreement.values()) > 0.95


def test_finds_the_odd_masks_and_the_broken_image(audit: Audit) -> None:
    counts = audit.fault_counts()
    assert counts["infection", "empty"] == 1
    assert counts["infection", "not empty"] == 1
    assert len(audit.unreadable) == 1


def test_counts_every_image(audit: Audit) -> None:
    found = {(count.split, count.category): count.images for count in audit.counts}
    assert found["train", "COVID-19"] == 15 and found["val", "COVID-19"] == 4


def test_measures_each_shortcut_for_each_category(audit: Audit) -> None:
    assert {(one.view, one.category) for one in audit.shortcuts} == {
        (view, category)
        for view in ("frame", "histogram", "thumbnail", "spectrum")
        for category in ("COVID-19", "Non-COVID", "Normal")
    }
    assert all(0 <= one.auc <= 1 for one in audit.shortcuts)


def test_the_command_writes_page_names_and_json_and_ends_with_1(sick: Path, tmp_path: Path) -> None:
    names = tmp_path / "names.csv"
    done = CliRunner().invoke(main, ["data", "check", str(sick), "-o", str(tmp_path), "--write-exclusions", str(names)])
    assert done.exit_code == 1, done.output
    assert "Leak: 1 pairs" in done.output
    told = json.loads((tmp_path / "audit.json").read_text())
    assert [pair["leak"] for pair in told["pairs"]].count(True) == 1
    page = (tmp_path / "audit.html").read_text()
    assert "Val/COVID-19/leak" in page and "http://" not in page and "https://" not in page
    assert names.read_text().startswith("name,reason,copy_of\nTrain/")


def test_the_command_ends_with_0_where_it_finds_nothing(tmp_path: Path) -> None:
    root = write_phantoms(tmp_path / "clean", {"train": {"Normal": 3}, "val": {"Normal": 2}}, size=64)
    done = CliRunner().invoke(main, ["data", "check", str(root), "-o", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "No leak" in done.output


def test_names_on_the_page_are_escaped(tmp_path: Path, write_sample: Callable[..., None]) -> None:
    blank = np.zeros((32, 32), np.uint8)
    write_sample("a<b>", blank, blank > 0, blank > 0)
    CliRunner().invoke(main, ["data", "check", str(tmp_path / "data"), "-o", str(tmp_path)])
    page = (tmp_path / "audit.html").read_text()
    assert "a&lt;b&gt;" in page and "a<b>" not in page
