"""Runs that are asked to end by SIGTERM, as schedulers and containers do: they end as after Ctrl-C, and go on."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path

from cxrseg.data.sample import Dataset
from cxrseg.run_folder import RunFolder
from cxrseg.training.fit import Run, train
from cxrseg.training.recipe import Recipe
from made_runs import EVERYTHING, begin, checkpoint, differing, read_history, wait_for_rows, without_clock

STOPS = Path(__file__).resolve().parents[1] / "train_and_stop.py"


def test_sigterm_in_the_middle_of_an_epoch_ends_in_order_and_the_run_goes_on(
    tmp_path: Path, dataset: Dataset, tiny_recipe: Callable[..., Recipe], unbroken: Run, unfinished: None
) -> None:
    recipe, folder = tiny_recipe(**EVERYTHING), RunFolder(tmp_path / "run")
    process = begin(recipe, dataset, folder.root, program=(str(STOPS), "6"))  # the second of two steps of epoch 3
    text = process.communicate()[0]
    assert (process.returncode, "Traceback" in text) == (130, False), text
    assert "stopped after epoch 2; continue with --resume" in text
    assert [row["epoch"] for row in read_history(folder)] == ["1", "2"]
    assert checkpoint(folder.last)["epoch"] == 1  # counted from 0: that of the last complete epoch
    assert json.loads(folder.manifest.read_text(encoding="utf-8"))["ended"] == "interrupted"
    assert folder.model.exists() and not list(folder.root.rglob(".*.part"))
    run = train(recipe, dataset, folder.root, resume=True, device="cpu")
    assert differing(folder.last, unbroken.folder.last) == []
    assert without_clock(run.history) == without_clock(unbroken.history)


def test_sigterm_in_the_first_epoch_says_how_to_go_on(
    tmp_path: Path, dataset: Dataset, tiny_recipe: Callable[..., Recipe], unfinished: None
) -> None:
    recipe, folder = tiny_recipe(optimiser={"epochs": 1}), RunFolder(tmp_path / "run")
    process = begin(recipe, dataset, folder.root, program=(str(STOPS), "1"))
    text = " ".join(process.communicate()[0].split())
    assert (process.returncode, "Traceback" in text) == (130, False), text
    assert "stopped before the first epoch was complete" in text and "continue with --resume" in text
    assert not folder.last.exists() and not list(folder.root.rglob(".*.part"))
    assert len(train(recipe, dataset, folder.root, resume=True, device="cpu").history) == 1


def test_sigterm_ends_a_run_of_two_processes(
    tmp_path: Path, dataset: Dataset, tiny_recipe: Callable[..., Recipe]
) -> None:
    recipe, folder = tiny_recipe(optimiser={"epochs": 500}), RunFolder(tmp_path / "run")
    process = begin(recipe, dataset, folder.root, "--processes", "2")
    wait_for_rows(process, folder, 2)
    process.send_signal(signal.SIGTERM)
    text = process.communicate()[0]  # it ends once no process holds its output any more
    assert (process.returncode, "Traceback" in text) == (130, False), text
    assert f"stopped after epoch {len(read_history(folder))}; continue with --resume" in text
    assert folder.model.exists() and not list(folder.root.rglob(".*.part"))
