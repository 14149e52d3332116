"""Runs that were ended go on: what is bit for bit the same afterwards, and what cannot go on."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from cxrseg.data.layout import open_dataset
from cxrseg.data.sample import Dataset
from cxrseg.errors import TrainingError
from cxrseg.phantom.generate import write_phantoms
from cxrseg.run_folder import RunFolder
from cxrseg.training.callbacks import History
from cxrseg.training.fit import Run, _last_of, train
from cxrseg.training.recipe import Recipe
from made_runs import (
    EVERYTHING,
    FIGURES,
    begin,
    differing,
    figures_of,
    read_history,
    wait_for_rows,
    without_clock,
)

DIES = Path(__file__).resolve().parents[1] / "train_and_die.py"


def test_killed_at_any_moment_it_resumes_bit_for_bit(
    tmp_path: Path, dataset: Dataset, tiny_recipe: Callable[..., Recipe], unbroken: Run, unfinished: None
) -> None:
    recipe, folder = tiny_recipe(**EVERYTHING), RunFolder(tmp_path / "run")
    process = begin(recipe, dataset, folder.root)
    wait_for_rows(process, folder, 2)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert len(read_history(folder)) < 8
    assert not folder.model.exists()
    run = train(recipe, dataset, folder.root, resume=True, device="cpu")
    assert differing(folder.last, unbroken.folder.last) == []
    assert differing(folder.best, unbroken.folder.best) == []
    assert without_clock(run.history) == without_clock(unbroken.history)
    assert [row["epoch"] for row in read_history(folder)] == [str(epoch) for epoch in range(1, 9)]
    assert not list(folder.root.rglob(".*.part"))


@pytest.mark.parametrize("place", ["step", "checkpoint"])
def test_killed_at_a_random_step_or_inside_a_checkpoint_it_resumes_bit_for_bit(
    tmp_path: Path, dataset: Dataset, tiny_recipe: Callable[..., Recipe], unbroken: Run, unfinished: None, place: str
) -> None:
    recipe, folder = tiny_recipe(**EVERYTHING), RunFolder(tmp_path / "run")
    number = random.SystemRandom().randrange(3, 15)  # of 16 steps; each of the 8 epochs writes one checkpoint or two
    if place == "checkpoint":
        number = number // 2 + 1
    process = begin(recipe, dataset, folder.root, program=(str(DIES), place, str(number)))
    text = process.communicate()[0]
    assert process.returncode == -signal.SIGKILL, f"{place} {number}\n{text}"
    unfinished_files = list(folder.root.rglob(".*.part"))
    assert len(unfinished_files) == (place == "checkpoint"), f"{place} {number}"
    assert 0 < len(read_history(folder)) < 8
    run = train(recipe, dataset, folder.root, resume=True, device="cpu")
    assert differing(folder.last, unbroken.folder.last) == [], f"{place} {number}"
    assert differing(folder.best, unbroken.folder.best) == []
    assert without_clock(run.history) == without_clock(unbroken.history)
    assert not list(folder.root.rglob(".*.part"))


def test_a_second_process_on_a_folder_ends_at_once(
    tmp_path: Path, dataset: Dataset, tiny_recipe: Callable[..., Recipe], unfinished: None
) -> None:
    folder, seen = RunFolder(tmp_path / "run"), []

    def meanwhile(row: dict[str, float | None]) -> None:
        part = folder.root / ".history.csv.elsewhere-1-0.part"
        part.touch()  # what the first process is writing
        for more in ((), ("--resume",)):
            process = begin(tiny_recipe(), dataset, folder.root, *more)
            seen.append((process.wait(), process.communicate()[0]))
        seen.append(part.exists())
        part.unlink()

    train(tiny_recipe(optimiser={"epochs": 1}), dataset, folder.root, device="cpu", on_epoch=meanwhile)
    assert [found[0] for found in seen[:2]] == [3, 3] and seen[2]
    assert all(f"another process trains in {folder.root}" in found[1].replace("\n", " ") for found in seen[:2])
    assert (
        len(train(tiny_recipe(optimiser={"epochs": 1}), dataset, folder.root, resume=True, device="cpu").history) == 1
    )


def test_ctrl_c_ends_in_order_and_the_run_goes_on(
    tmp_path: Path, dataset: Dataset, tiny_recipe: Callable[..., Recipe], unbroken: Run, unfinished: None
) -> None:
    recipe, folder = tiny_recipe(**EVERYTHING), RunFolder(tmp_path / "run")
    process = begin(recipe, dataset, folder.root)
    wait_for_rows(process, folder, 2)
    process.send_signal(signal.SIGINT)
    text = process.communicate()[0]
    assert process.returncode == 130, text
    assert "Traceback" not in text
    assert "continue with --resume" in text
    assert "Research use only" in text
    done = len(read_history(folder))
    assert 2 <= done < 8
    assert json.loads(folder.manifest.read_text(encoding="utf-8"))["ended"] == "interrupted"
    infection = figures_of(folder.model, dataset, recipe)["infection"]
    best = max(float(row["val_dice"]) for row in read_history(folder))
    assert infection["infected_per_image"]["dice"]["mean"] == pytest.approx(best, abs=2e-4)
    assert sorted(path.name for path in folder.figures.iterdir()) == sorted(FIGURES)
    run = train(recipe, dataset, folder.root, resume=True, device="cpu")
    assert not run.interrupted
    assert differing(folder.last, unbroken.folder.last) == []


def test_a_clock_that_was_set_back_changes_nothing(
    tmp_path: Path, dataset: Dataset, tiny_recipe: Callable[..., Recipe], unbroken: Run, unfinished: None
) -> None:
    recipe, folder = tiny_recipe(**EVERYTHING), RunFolder(tmp_path / "run")

    def stop(row: dict[str, float | None]) -> None:
        if row["epoch"] == 4:
            os.kill(os.getpid(), signal.SIGINT)

    assert train(recipe, dataset, folder.root, device="cpu", on_epoch=stop).interrupted
    tomorrow = time.time() + 86_400
    for path in (*folder.root.rglob("*"), folder.root):  # what a clock leaves that was a day ahead until now
        os.utime(path, (tomorrow, tomorrow))
    trained: list[dict[str, float | None]] = []
    run = train(recipe, dataset, folder.root, resume=True, device="cpu", on_epoch=trained.append)
    assert [row["epoch"] for row in trained] == [4, 5, 6, 7, 8]  # it was stopped before the checkpoint of epoch 4
    assert differing(folder.last, unbroken.folder.last) == []
    assert differing(folder.best, unbroken.folder.best) == []
    assert without_clock(run.history) == without_clock(unbroken.history)
    assert [row["epoch"] for row in read_history(folder)] == [str(epoch) for epoch in range(1, 9)]


@pytest.mark.usefixtures("unfinished")
def test_a_complete_run_resumed_stays_as_it_is(
    tmp_path: Path, dataset: Dataset, tiny_recipe: Callable[..., Recipe], unbroken: Run
) -> None:
    shutil.copytree(unbroken.folder.root, tmp_path / "run")
    run = train(tiny_recipe(**EVERYTHING), dataset, tmp_path / "run", resume=True, device="cpu")
    assert run.history == unbroken.history
    assert differing(run.folder.last, unbroken.folder.last) == []


def test_a_run_stopped_before_it_resumes_has_its_rows(tmp_path: Path, tiny_run: Run) -> None:
    history = History(tmp_path / "history.csv")
    assert _last_of(tiny_run.folder, history) == tiny_run.folder.last
    assert history.rows == tiny_run.history
    assert _last_of(RunFolder(tmp_path), history) is None


@pytest.mark.usefixtures("unfinished")
def test_resume_without_a_run_begins_one(tmp_path: Path, dataset: Dataset, tiny_recipe: Callable[..., Recipe]) -> None:
    run = train(tiny_recipe(optimiser={"epochs": 1}), dataset, tmp_path / "run", resume=True, device="cpu")
    assert len(run.history) == 1


def test_resume_with_another_recipe_is_refused(
    tiny_run: Run, dataset: Dataset, tiny_recipe: Callable[..., Recipe]
) -> None:
    other = tiny_recipe(seed=1, optimiser={"learning_rate": 0.5}, data={"non_covid": "out"})
    before = tiny_run.folder.recipe.read_bytes()
    with pytest.raises(TrainingError, match="has another recipe") as caught:
        train(other, dataset, tiny_run.folder.root, resume=True)
    for fault in (
        "optimiser.learning_rate: the run has 0.01, now 0.5",
        "data.non_covid: the run has 'lungs', now 'out'",
        "seed: the run has 0, now 1",
    ):
        assert fault in str(caught.value)
    assert tiny_run.folder.recipe.read_bytes() == before


def test_resume_on_other_images_is_refused(tmp_path: Path, tiny_run: Run, tiny_recipe: Callable[..., Recipe]) -> None:
    counts = {split: {"COVID-19": 2} for split in ("train", "val")}
    other = open_dataset(write_phantoms(tmp_path / "other", counts, size=64))
    with pytest.raises(TrainingError, match=r"trained on other images than .*other"):
        train(tiny_recipe(), other, tiny_run.folder.root, resume=True)


def test_images_that_have_moved_are_the_same(
    tmp_path: Path, tiny_run: Run, phantoms: Path, tiny_recipe: Callable[..., Recipe], unfinished: None
) -> None:
    shutil.copytree(phantoms, tmp_path / "moved")
    shutil.copytree(tiny_run.folder.root, tmp_path / "run")
    run = train(tiny_recipe(), open_dataset(tmp_path / "moved"), tmp_path / "run", resume=True, device="cpu")
    assert run.history == tiny_run.history


def test_a_folder_that_holds_a_run_is_refused(
    tiny_run: Run, dataset: Dataset, tiny_recipe: Callable[..., Recipe]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in tiny_run.folder.root.rglob("*")}
    with pytest.raises(TrainingError, match="already holds a run; continue it with --resume"):
        train(tiny_recipe(), dataset, tiny_run.folder.root)
    assert {path: path.stat().st_mtime_ns for path in tiny_run.folder.root.rglob("*")} == before


def test_a_folder_of_other_things_is_refused(
    tmp_path: Path, dataset: Dataset, tiny_recipe: Callable[..., Recipe]
) -> None:
    (tmp_path / "letters.txt").write_text("dear")
    for resume in (False, True):
        with pytest.raises(TrainingError, match="is not empty and does not hold a run"):
            train(tiny_recipe(), dataset, tmp_path, resume=resume)
    with pytest.raises(TrainingError, match="got a file"):
        train(tiny_recipe(), dataset, tmp_path / "letters.txt")


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "foreign"])
def test_a_damaged_checkpoint_is_named(
    tmp_path: Path, tiny_run: Run, dataset: Dataset, tiny_recipe: Callable[..., Recipe], damage: str
) -> None:
    folder = RunFolder(tmp_path / "run")
    shutil.copytree(tiny_run.folder.root, folder.root)
    whole = folder.last.read_bytes()
    if damage == "foreign":
        torch.save({"weights": torch.zeros(3)}, folder.last)
    else:
        folder.last.write_bytes({"cut": whole[: len(whole) // 2], "empty": b"", "text": b"hello"}[damage])
    with pytest.raises(TrainingError, match=r"last\.ckpt is not a checkpoint of cxrseg, or is damaged"):
        train(tiny_recipe(), dataset, folder.root, resume=True, device="cpu")


@pytest.mark.usefixtures("unfinished")
def test_a_complete_run_can_be_extended_where_its_rate_does_not_depend_on_its_length(
    tmp_path: Path, dataset: Dataset, tiny_recipe: Callable[..., Recipe]
) -> None:
    long = tiny_recipe(optimiser={"epochs": 4})
    whole = train(long, dataset, tmp_path / "whole", device="cpu")
    train(tiny_recipe(optimiser={"epochs": 2}), dataset, tmp_path / "run", device="cpu")
    extended = train(long, dataset, tmp_path / "run", resume=True, device="cpu")
    assert [row["val_loss"] for row in extended.history] == [row["val_loss"] for row in whole.history]
    assert len(extended.history) == 4
    assert differing(extended.folder.last, whole.folder.last) == []
    with pytest.raises(TrainingError, match=r"optimiser.epochs: the run has 4, now 3"):
        train(tiny_recipe(optimiser={"epochs": 3}), dataset, tmp_path / "run", resume=True, device="cpu")


def test_a_run_whose_rate_depends_on_its_length_is_not_extended(
    tmp_path: Path, dataset: Dataset, tiny_recipe: Callable[..., Recipe], unbroken: Run
) -> None:
    shutil.copytree(unbroken.folder.root, tmp_path / "run")
    longer = {**EVERYTHING, "optimiser": {**EVERYTHING["optimiser"], "epochs": 9}}
    with pytest.raises(TrainingError, match=r"epochs: the run has 8, now 9") as caught:
        train(tiny_recipe(**longer), dataset, tmp_path / "run", resume=True, device="cpu")
    assert f"--init-from {tmp_path / 'run'}" in str(caught.value)
