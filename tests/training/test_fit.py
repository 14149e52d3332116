"""Whole runs: what they leave behind, that they repeat, go on after any end, and say what went wrong."""

from __future__ import annotations

import csv
import errno
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.optim.swa_utils import update_bn

from cxrseg.data.layout import open_dataset
from cxrseg.data.sample import Dataset
from cxrseg.errors import DatasetError, DiskFullError, OutOfMemoryError, RecipeError, TrainingError
from cxrseg.evaluation.evaluate import evaluate
from cxrseg.phantom.generate import write_phantoms
from cxrseg.run_folder import RunFolder
from cxrseg.training.batches import Batches, load_pixels, select_samples, shuffled
from cxrseg.training.callbacks import History, history_columns
from cxrseg.training.checkpoints import load_weights
from cxrseg.training.fit import Run, _last_of, train
from cxrseg.training.networks import build_network
from cxrseg.training.recipe import Recipe
from cxrseg.training.recipe_file import load_recipe

FIGURES = [
    f"{name}.{suffix}"
    for name in ("dice", "loss", "overlays", "pairs", "rmse", "triplets")
    for suffix in ("png", "svg")
]
# All that draws random numbers, and all that has a memory.
EVERYTHING: dict[str, dict[str, Any]] = {
    "network": {"dropout": 0.2},
    "augment": {"flip": 0.5, "rotation": 10, "gamma": 0.3, "noise": 0.05, "cutout": 0.5},
    "optimiser": {
        "epochs": 8,
        "schedule": "cosine",
        "warmup_epochs": 1,
        "ema_decay": 0.9,
        "patience": 8,
        "clip_norm": 1.0,
        "name": "adamw",
        "weight_decay": 0.01,
    },
}
Rows = list[dict[str, float | None]]


@pytest.fixture
def unfinished(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the end of the runs out, export and figures: they take longer than tiny runs, and have their own test."""
    monkeypatch.setattr("cxrseg.training.fit._finish", lambda *_: None)


@pytest.fixture(scope="module")
def unbroken(
    tmp_path_factory: pytest.TempPathFactory, dataset: Dataset, tiny_recipe: Callable[..., Recipe]
) -> Iterator[Run]:
    """A run of eight epochs with all that draws random numbers, to compare broken ones with."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cxrseg.training.fit._finish", lambda *_: None)
        yield train(tiny_recipe(**EVERYTHING), dataset, tmp_path_factory.mktemp("unbroken") / "run", device="cpu")


def checkpoint(path: Path) -> dict[str, Any]:
    stored: dict[str, Any] = torch.load(path, weights_only=True)
    return stored


def tensors(value: Any, place: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor in it, with its place."""
    if isinstance(value, torch.Tensor):
        yield place, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from tensors(inner, f"{place}/{key}")
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from tensors(inner, f"{place}/{index}")


def differing(one: Path, other: Path) -> list[str]:
    kept = ("state_dict", "optimizer_states", "averaging_state", "current_model_state")
    stored = [checkpoint(path) for path in (one, other)]
    assert {key for key in stored[0] if key.endswith(("state", "states", "state_dict"))} <= set(kept)
    first, second = (dict(tensors({key: value[key] for key in kept if key in value})) for value in stored)
    assert first.keys() == second.keys()
    assert len(first) > 50
    return [key for key, value in first.items() if not torch.equal(value, second[key])]


def without_clock(rows: Rows) -> Rows:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def read_history(folder: RunFolder) -> list[dict[str, str]]:
    with folder.history.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _heed_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def begin(
    recipe: Recipe, dataset: Dataset, out: Path, *more: str, launcher: tuple[str, ...] = ()
) -> subprocess.Popen[str]:
    """The command line in a process of its own."""
    out.parent.mkdir(parents=True, exist_ok=True)
    path = out.with_suffix(".yaml")
    path.write_text(recipe.to_yaml(), encoding="utf-8")
    command = [sys.executable, *launcher, "-m", "cxrseg", "train", str(path), "--dataset", str(dataset.root)]
    return subprocess.Popen(
        [*command, "-o", str(out), "-d", "cpu", *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # Where these tests run in the background, Ctrl-C is ignored, and a child would inherit that.
        preexec_fn=_heed_ctrl_c,  # noqa: PLW1509 - it takes no lock
    )


def wait_for_rows(process: subprocess.Popen[str], folder: RunFolder, count: int) -> None:
    while process.poll() is None:
        if folder.history.exists() and len(read_history(folder)) >= count:
            return
        time.sleep(0.01)
    pytest.fail(f"the run ended with {process.returncode} before its row {count}:\n{process.communicate()[0]}")


# What a run leaves behind


def test_the_run_folder_is_complete(tiny_run: Run) -> None:
    root = tiny_run.folder.root
    found = sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    events = [name for name in found if "tfevents" in name]
    assert len(events) == 1
    assert sorted(set(found) - set(events) - {"tensorboard/hparams.yaml"}) == sorted(
        [
            "checkpoints/best.ckpt",
            "checkpoints/last.ckpt",
            *(f"figures/{name}" for name in FIGURES),
            "history.csv",
            "manifest.json",
            "model.onnx",
            "recipe.yaml",
        ]
    )


def test_the_history_has_a_row_for_each_epoch(tiny_run: Run) -> None:
    rows = read_history(tiny_run.folder)
    assert list(rows[0]) == history_columns(("infection", "lungs"))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    for row, same in zip(rows, tiny_run.history, strict=True):
        assert {key: float(value) for key, value in row.items()} == same
        assert all(0 < float(row[f"{split}_{part}rmse"]) < 1 for split in ("train", "val") for part in ("", "lungs_"))
        assert 0 <= float(row["val_iou"]) <= float(row["val_dice"]) <= 1
    assert rows[1]["train_loss"] < rows[0]["train_loss"]


def test_tensorboard_has_the_same_figures(tiny_run: Run) -> None:
    events = EventAccumulator(str(tiny_run.folder.root / "tensorboard")).Reload()
    for key in ("train_loss", "val_loss", "val_dice", "val_lungs_iou", "learning_rate"):
        points = events.Scalars(key)
        assert [point.step for point in points] == [1, 2]
        assert [point.value for point in points] == pytest.approx([row[key] for row in tiny_run.history], rel=1e-5)


def test_the_manifest_says_what_made_the_run(
    tiny_run: Run, tiny_recipe: Callable[..., Recipe], dataset: Dataset
) -> None:
    manifest = json.loads(tiny_run.folder.manifest.read_text(encoding="utf-8"))
    assert torch.__version__.startswith(manifest["packages"]["torch"])
    assert (manifest["seed"], manifest["device"], manifest["ended"]) == (0, "cpu", "complete")
    assert manifest["threads"] == torch.get_num_threads()
    assert manifest["best"] == tiny_run.best
    used = Dataset(dataset.root, dataset.layout, tuple(s for s in dataset.samples if s.split != "test"))
    assert manifest["dataset"]["sha256"] == used.fingerprint
    assert manifest["dataset"]["images"].startswith("train COVID-19 8")
    assert len(manifest["commands"]) == 1
    assert load_recipe(tiny_run.folder.recipe) == tiny_recipe()


def test_the_best_row_is_of_the_best_checkpoint(unbroken: Run) -> None:
    best = checkpoint(unbroken.folder.best)
    assert best["epoch"] + 1 == unbroken.best["epoch"]
    assert unbroken.best["val_dice"] == max(row["val_dice"] or 0 for row in unbroken.history)
    assert checkpoint(unbroken.folder.last)["epoch"] + 1 == 8


def test_the_model_file_has_the_figures_of_the_history(tiny_run: Run, dataset: Dataset) -> None:
    summary = evaluate(tiny_run.folder.model, dataset.select("val")).summary()
    for target, part in (("infection", ""), ("lungs", "lungs_")):
        found, expected = summary[target], tiny_run.best
        for figure in ("dice", "iou"):
            assert found["infected_per_image"][figure]["mean"] == pytest.approx(
                expected[f"val_{part}{figure}"], abs=2e-4
            )
    # The Non-COVID image teaches lungs only, so the run's RMSE of infection leaves it out.
    assert summary["lungs"]["rmse"]["value"] == pytest.approx(tiny_run.best["val_lungs_rmse"], abs=1e-4)


@pytest.mark.parametrize("marked", [0, 1, 2, 5, 9])
def test_as_many_cases_are_drawn_as_there_are(tiny_recipe: Callable[..., Recipe], marked: int) -> None:
    from cxrseg.training.batches import Pixels
    from cxrseg.training.figures import choose_cases
    from cxrseg.training.networks import build_network

    masks = torch.zeros(10, 2, 64, 64, dtype=torch.uint8)
    for index in range(marked):
        masks[index, 0, : 5 + 3 * index] = 1
    images = torch.full((10, 1, 64, 64), 50, dtype=torch.uint8)
    pixels = Pixels(
        tuple(map(str, range(10))), images, masks, torch.ones(10, 2, dtype=torch.bool), torch.full((10,), -1)
    )
    cases = choose_cases(build_network(tiny_recipe().network, ("infection", "lungs")).eval(), pixels)
    assert len({case.title for case in cases}) == len(cases) == min(marked, 4)
    assert all(case.truth is not None and case.truth.any() for case in cases)


# It repeats


@pytest.mark.usefixtures("unfinished")
def test_the_seed_fixes_the_run(tmp_path: Path, dataset: Dataset, tiny_recipe: Callable[..., Recipe]) -> None:
    short = {**EVERYTHING, "optimiser": {**EVERYTHING["optimiser"], "epochs": 2}}
    runs = []
    for number, seed in enumerate((3, 3, 4)):
        torch.manual_seed(100 + number)  # what was drawn before must not matter
        runs.append(train(tiny_recipe(seed=seed, **short), dataset, tmp_path / str(number), device="cpu"))
    assert differing(runs[0].folder.last, runs[1].folder.last) == []
    assert without_clock(runs[0].history) == without_clock(runs[1].history)
    assert len(differing(runs[0].folder.last, runs[2].folder.last)) > 50


# It goes on


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
    scores = evaluate(folder.model, dataset.select("val")).summary()
    best = max(float(row["val_dice"]) for row in read_history(folder))
    assert scores["infection"]["infected_per_image"]["dice"]["mean"] == pytest.approx(best, abs=2e-4)
    assert sorted(path.name for path in folder.figures.iterdir()) == sorted(FIGURES)
    run = train(recipe, dataset, folder.root, resume=True, device="cpu")
    assert not run.interrupted
    assert differing(folder.last, unbroken.folder.last) == []


@pytest.mark.usefixtures("unfinished")
def test_a_complete_run_resumed_stays_as_it_is(
    tmp_path: Path, dataset: Dataset, tiny_recipe: Callable[..., Recipe], unbroken: Run
) -> None:
    shutil.copytree(unbroken.folder.root, tmp_path / "run")
    run = train(tiny_recipe(**EVERYTHING), dataset, tmp_path / "run", resume=True, device="cpu")
    assert run.history == unbroken.history
    assert differing(run.folder.last, unbroken.folder.last) == []


def test_batch_norms_hold_the_statistics_of_unvaried_images(
    tmp_path: Path, dataset: Dataset, tiny_recipe: Callable[..., Recipe]
) -> None:
    optimiser = {"epochs": 2, "ema_decay": 0.9, "batch_norm_recalibration": 12, "batch_size": 4}
    recipe = tiny_recipe(optimiser=optimiser, augment={"gamma": 1.0, "brightness": 0.3})
    run = train(recipe, dataset, tmp_path / "run", device="cpu")
    stored = torch.load(run.folder.last, weights_only=True)["state_dict"]
    network = build_network(recipe.network, recipe.data.targets)
    load_weights(network, run.folder.last)
    pixels = load_pixels(select_samples(dataset, recipe.data, "train"), recipe.data)
    batches = Batches(pixels, 4, shuffled(len(pixels), recipe.seed, 0)[:12])
    update_bn((batch.images.float() / 255 for batch in batches), network)
    statistics = {key: value for key, value in network.state_dict().items() if "running" in key}
    assert statistics
    for key, value in statistics.items():
        torch.testing.assert_close(stored[f"network.{key}"], value, rtol=1e-4, atol=1e-5)


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


# It begins with weights of another run


@pytest.mark.usefixtures("unfinished")
def test_a_run_begins_with_the_weights_given(
    tmp_path: Path, tiny_run: Run, dataset: Dataset, tiny_recipe: Callable[..., Recipe]
) -> None:
    still = tiny_recipe(optimiser={"epochs": 1, "learning_rate": 1e-12, "name": "sgd"}, augment={"flip": 0.5})
    for number, source in enumerate((tiny_run.folder.root, tiny_run.folder.last)):
        run = train(still, dataset, tmp_path / str(number), init_from=[source], device="cpu")
        expected = checkpoint(tiny_run.folder.best if source.is_dir() else source)["state_dict"]
        found = checkpoint(run.folder.last)["state_dict"]
        for key, value in expected.items():
            if key.endswith("conv.weight"):
                torch.testing.assert_close(found[key], value, rtol=0, atol=1e-6)


@pytest.mark.usefixtures("unfinished")
def test_a_run_begins_with_the_mean_of_the_weights_given(
    tmp_path: Path, tiny_run: Run, dataset: Dataset, tiny_recipe: Callable[..., Recipe]
) -> None:
    stored = checkpoint(tiny_run.folder.last)
    weights = stored["state_dict"]
    stored["state_dict"] = {key: value + 2 if value.is_floating_point() else value for key, value in weights.items()}
    torch.save(stored, tmp_path / "other.ckpt")
    still = tiny_recipe(optimiser={"epochs": 1, "learning_rate": 1e-12, "name": "sgd"})
    sources = [tiny_run.folder.last, tmp_path / "other.ckpt"]
    found = checkpoint(train(still, dataset, tmp_path / "run", init_from=sources, device="cpu").folder.last)
    for key, value in weights.items():
        if key.endswith("conv.weight"):
            torch.testing.assert_close(found["state_dict"][key], value + 1, rtol=0, atol=1e-6)


@pytest.mark.parametrize("settings", [{"features": 8}, {"name": "residual-unet"}])
def test_weights_of_another_network_are_refused(
    tmp_path: Path, tiny_run: Run, dataset: Dataset, tiny_recipe: Callable[..., Recipe], settings: dict[str, Any]
) -> None:
    with pytest.raises(TrainingError, match=r"best\.ckpt is a checkpoint of another network .*instead of"):
        train(tiny_recipe(network=settings), dataset, tmp_path / "run", init_from=[tiny_run.folder.root], device="cpu")
    assert not (tmp_path / "run").exists()  # the next try may take the same name


def test_weights_that_are_not_there_are_an_error(
    tmp_path: Path, dataset: Dataset, tiny_recipe: Callable[..., Recipe]
) -> None:
    (tmp_path / "text.ckpt").write_text("hello")
    for source, expected in (
        (tmp_path / "none.ckpt", "found none"),
        (tmp_path, "found none"),
        (tmp_path / "text.ckpt", "damaged"),
    ):
        with pytest.raises(TrainingError, match=expected):
            train(tiny_recipe(), dataset, tmp_path / "run", init_from=[source], device="cpu")


# What can go wrong


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 16 MB."""
    mount, umount = shutil.which("mount"), shutil.which("umount")
    if mount is None or umount is None or not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("mounting a small disk takes root")
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run([umount, "-l", str(folder)], check=True)


def fill(folder: Path) -> Path:
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError as error:
            assert error.errno == errno.ENOSPC
    return filler


@pytest.mark.parametrize("full_in", [1, 3])
def test_a_full_disk_is_named_and_the_last_good_checkpoint_stands(
    small_disk: Path,
    dataset: Dataset,
    tiny_recipe: Callable[..., Recipe],
    unbroken: Run,
    unfinished: None,
    full_in: int,
) -> None:
    recipe, folder = tiny_recipe(**EVERYTHING), RunFolder(small_disk / "run")

    def on_epoch(row: dict[str, float | None]) -> None:
        if row["epoch"] == full_in:
            fill(small_disk)

    with pytest.raises(DiskFullError, match=r"no room left on the disk of .*checkpoints.*--resume"):
        train(recipe, dataset, folder.root, device="cpu", on_epoch=on_epoch)
    if full_in > 1:
        assert checkpoint(folder.last)["epoch"] + 1 == full_in - 1
    (small_disk / "filler").unlink()
    train(recipe, dataset, folder.root, resume=True, device="cpu")
    assert differing(folder.last, unbroken.folder.last) == []


def test_a_batch_too_big_for_memory_is_refused_before_the_first_step(
    tmp_path: Path,
    dataset: Dataset,
    tiny_recipe: Callable[..., Recipe],
    monkeypatch: pytest.MonkeyPatch,
    unfinished: None,
) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=20_000_000))
    rows: Rows = []
    with pytest.raises(OutOfMemoryError, match="a batch of 512 images of 64x64 needs at least") as caught:
        train(tiny_recipe(optimiser={"batch_size": 512}), dataset, tmp_path / "run", device="cpu", on_epoch=rows.append)
    assert rows == []
    fits = int(str(caught.value).partition("set optimiser.batch_size to ")[2].split()[0])
    run = train(tiny_recipe(optimiser={"batch_size": fits, "epochs": 1}), dataset, tmp_path / "run", device="cpu")
    assert len(run.history) == 1


@pytest.mark.usefixtures("unfinished")
@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
)
def test_memory_that_runs_out_later_is_named(
    tmp_path: Path,
    dataset: Dataset,
    tiny_recipe: Callable[..., Recipe],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("cxrseg.training.lightning_module.Learner.training_step", fail)
    with pytest.raises(OutOfMemoryError, match=r"a batch of 8 images of 64x64 .*optimiser\.batch"):
        train(tiny_recipe(), dataset, tmp_path / "run", device="cpu")


@pytest.mark.usefixtures("unfinished")
def test_a_loss_that_is_no_number_ends_the_run(
    tmp_path: Path, dataset: Dataset, tiny_recipe: Callable[..., Recipe]
) -> None:
    wild = tiny_recipe(optimiser={"learning_rate": 1e38, "name": "sgd", "epochs": 3})
    with pytest.raises(TrainingError, match=r"nan or infinite in epoch \d; use a smaller optimiser\.learning_rate"):
        train(wild, dataset, tmp_path / "run", device="cpu")


@pytest.mark.parametrize(
    ("device", "settings", "expected"),
    [
        ("tpu", {}, "got 'tpu'"),
        ("cpu:1", {}, "got 'cpu:1'"),
        ("gpu:x", {}, "got 'gpu:x'"),
        ("cpu", {"precision": "float16"}, "float16 needs a GPU"),
    ],
)
def test_a_device_that_cannot_be_used_is_refused(
    tmp_path: Path,
    dataset: Dataset,
    tiny_recipe: Callable[..., Recipe],
    device: str,
    settings: dict[str, Any],
    expected: str,
) -> None:
    with pytest.raises(TrainingError, match=expected):
        train(tiny_recipe(optimiser=settings), dataset, tmp_path / "run", device=device)
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_an_error(
    tmp_path: Path, dataset: Dataset, tiny_recipe: Callable[..., Recipe]
) -> None:
    with pytest.raises(TrainingError, match="finds no GPU that it can use; use -d cpu"):
        train(tiny_recipe(), dataset, tmp_path / "run", device="gpu")


def test_a_dataset_that_lacks_a_split_leaves_no_folder(
    tmp_path: Path, dataset: Dataset, tiny_recipe: Callable[..., Recipe]
) -> None:
    with pytest.raises(DatasetError, match="val"):
        train(tiny_recipe(), dataset.select("train"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_network_that_cannot_be_built_leaves_no_folder(
    tmp_path: Path, dataset: Dataset, tiny_recipe: Callable[..., Recipe]
) -> None:
    with pytest.raises(RecipeError, match="no network 'unett'"):
        train(tiny_recipe(network={"name": "unett"}), dataset, tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


# Every way to train


@pytest.mark.usefixtures("unfinished")
@pytest.mark.parametrize(
    "settings",
    [
        {"optimiser": {"name": "nadam", "schedule": "plateau", "ema_decay": 0.5}},
        {"optimiser": {"name": "radam", "schedule": "poly", "precision": "bfloat16", "channels_last": True}},
        {
            "optimiser": {"name": "rmsprop", "schedule": "cosine", "warmup_epochs": 0.5},
            "loss": {"name": "focal-tversky"},
        },
        {"optimiser": {"name": "sgd", "learning_rate": 1e-3, "clip_norm": 0.1}, "loss": {"name": "dice+focal"}},
        {"network": {"name": "unet++"}, "data": {"targets": ["lungs"], "size": [64, 32]}},
        {"network": {"name": "smp/fpn", "encoder": "tu-tf_efficientnet_lite0", "pretrained": True}},
    ],
    ids=lambda settings: "-".join(str(value) for part in settings.values() for value in part.values())[:40],
)
def test_every_kind_of_run_goes_through(
    tmp_path: Path, dataset: Dataset, tiny_recipe: Callable[..., Recipe], settings: dict[str, dict[str, Any]]
) -> None:
    run = train(tiny_recipe(**settings), dataset, tmp_path / "run", device="cpu")
    assert len(run.history) == 2
    assert all(math.isfinite(row["train_loss"] or math.nan) for row in run.history)
    assert run.history[0]["train_loss"] != run.history[1]["train_loss"]


@pytest.mark.usefixtures("unfinished")
def test_early_stopping(tmp_path: Path, dataset: Dataset, tiny_recipe: Callable[..., Recipe]) -> None:
    # Weights that do not move: nothing gets better after the first epoch.
    recipe = tiny_recipe(
        optimiser={"epochs": 9, "patience": 2, "learning_rate": 1e-12, "name": "sgd"}, loss={"name": "bce"}
    )
    rows: Rows = []

    def worse(learner: Any, batch: Any, _: int) -> None:
        learner.scores["val"].update(
            torch.tensor(0.0), torch.full(batch.masks.shape, -9.0), batch.masks.float(), batch.present
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cxrseg.training.lightning_module.Learner.validation_step", worse)
        run = train(recipe, dataset, tmp_path / "run", device="cpu", on_epoch=rows.append)
        assert len(run.history) == len(rows) == 1 + 2
        assert run.best["epoch"] == 1
        again = train(recipe, dataset, tmp_path / "run", resume=True, device="cpu", on_epoch=rows.append)
    assert len(again.history) == len(rows) == 1 + 2


@pytest.mark.usefixtures("unfinished")
def test_the_average_of_the_weights_is_what_is_kept(
    tmp_path: Path, dataset: Dataset, tiny_recipe: Callable[..., Recipe]
) -> None:
    def weights(place: str, **settings: Any) -> torch.Tensor:
        run = train(tiny_recipe(optimiser={"epochs": 4, **settings}), dataset, tmp_path / place, device="cpu")
        stored = checkpoint(run.folder.last)["state_dict"]
        return torch.cat(
            [value.flatten() for key, value in stored.items() if key.startswith("network") and key.endswith("weight")]
        )

    first, still = weights("plain"), weights("start", learning_rate=1e-12, name="sgd")
    slow = weights("slow", ema_decay=0.999)
    assert (slow - still).norm() < 0.5 * (first - still).norm()  # hardly left where its first step led


@pytest.mark.usefixtures("unfinished")
def test_without_infected_val_images_the_loss_chooses(
    tmp_path: Path, dataset: Dataset, tiny_recipe: Callable[..., Recipe]
) -> None:
    healthy = replace(
        dataset, samples=tuple(s for s in dataset.samples if s.split == "train" or s.category == "Normal")
    )
    run = train(tiny_recipe(optimiser={"epochs": 3}), healthy, tmp_path / "run", device="cpu")
    losses = [row["val_loss"] or 0 for row in run.history]
    assert losses[0] > min(losses)  # else the test says nothing
    assert run.best_by == "val loss" and run.best["val_loss"] == min(losses)
    assert checkpoint(run.folder.best)["epoch"] + 1 == run.best["epoch"]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"optimiser": {"batch_size": 1}, "data": {"size": 32}, "network": {"name": "smp/pspnet"}}, "batch_size to 2"),
        ({"network": {"name": "smp/unet", "decoder_channels": [16, 8, 8], "decoder_stride": 4}}, None),
        ({"network": {"name": "smp/unet", "decoder_channels": [8], "decoder_stride": 4}}, "cannot build|leaves out 2"),
        ({"network": {"name": "smp/unet", "decoder_channels": [8] * 7}}, "decoder_channels"),
        ({"network": {"name": "smp/fpn", "decoder_channels": [8, 8]}}, "decoder_channels"),
    ],
)
@pytest.mark.usefixtures("unfinished")
def test_settings_that_do_not_fit_each_other_are_named(
    tmp_path: Path,
    dataset: Dataset,
    tiny_recipe: Callable[..., Recipe],
    settings: dict[str, dict[str, Any]],
    expected: str | None,
) -> None:
    network = {"features": 4, "encoder": "tu-tf_efficientnet_lite0", **settings["network"]}
    recipe = tiny_recipe(
        **{**settings, "network": network, "optimiser": {"epochs": 1, **settings.get("optimiser", {})}}
    )
    few = replace(dataset, samples=tuple(s for n, s in enumerate(dataset.samples) if n % 4 == 0 or s.split != "train"))
    if expected is None:
        train(recipe, few, tmp_path / "run", device="cpu")
        return
    with pytest.raises(RecipeError, match=expected):
        train(recipe, few, tmp_path / "run", device="cpu")
    assert not (tmp_path / "run" / "recipe.yaml").exists()


# Several processes


def test_two_processes_make_one_run(tmp_path: Path, dataset: Dataset, tiny_recipe: Callable[..., Recipe]) -> None:
    recipe = tiny_recipe(optimiser={"learning_rate": 1e-3, "name": "sgd"})
    process = begin(recipe, dataset, tmp_path / "two", "--processes", "2")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cxrseg.training.fit._finish", lambda *_: None)
        one = train(recipe, dataset, tmp_path / "one", device="cpu")
    text = process.communicate()[0]
    assert process.returncode == 0, text
    assert text.count("Research use only") == 1
    assert text.count("epoch   1") == 1
    folder = RunFolder(tmp_path / "two")
    rows = [{key: float(value) for key, value in row.items()} for row in read_history(folder)]
    assert [row["epoch"] for row in rows] == [1, 2]
    # The same images in the same steps; but each process normalises its half of a batch by itself.
    assert rows[0]["train_loss"] == pytest.approx(one.history[0]["train_loss"], rel=0.003)
    assert rows[0]["train_rmse"] == pytest.approx(one.history[0]["train_rmse"], rel=0.003)
    torch.manual_seed(recipe.seed)
    began = build_network(recipe.network, ("infection", "lungs")).state_dict()

    def moved(path: Path) -> torch.Tensor:
        stored = checkpoint(path)["state_dict"]
        return torch.cat([(stored[f"network.{key}"] - began[key]).flatten() for key in began if key.endswith("weight")])

    first, second = moved(one.folder.last), moved(folder.last)
    assert second.norm().item() == pytest.approx(first.norm().item(), rel=0.1)  # gradients are averaged, not summed
    assert torch.nn.functional.cosine_similarity(first, second, 0) > 0.9
    # Figures of all processes together: the model file, judged by itself, has them too.
    best = max(rows, key=lambda row: row["val_dice"])
    summary = evaluate(folder.model, dataset.select("val")).summary()
    assert summary["lungs"]["rmse"]["value"] == pytest.approx(best["val_lungs_rmse"], abs=1e-4)
    assert summary["lungs"]["infected_per_image"]["dice"]["mean"] == pytest.approx(best["val_lungs_dice"], abs=2e-4)


def test_torchrun_makes_one_run(tmp_path: Path, dataset: Dataset, tiny_recipe: Callable[..., Recipe]) -> None:
    # A network with weights that no output depends on, and images that do not go into the processes evenly.
    recipe = tiny_recipe(
        network={"name": "smp/pspnet", "encoder": "tu-tf_efficientnet_lite0"},
        optimiser={"batch_size": 5, "ema_decay": 0.5},
    )
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    process = begin(recipe, dataset, tmp_path / "run", launcher=launcher)
    text = process.communicate()[0]
    assert process.returncode == 0, text
    assert text.count("Research use only") == 1
    folder = RunFolder(tmp_path / "run")
    assert [row["epoch"] for row in read_history(folder)] == ["1", "2"]
    assert json.loads(folder.manifest.read_text(encoding="utf-8"))["ended"] == "complete"
    best = max(read_history(folder), key=lambda row: float(row["val_dice"]))
    summary = evaluate(folder.model, dataset.select("val")).summary()
    assert summary["lungs"]["rmse"]["value"] == pytest.approx(float(best["val_lungs_rmse"]), abs=1e-4)
