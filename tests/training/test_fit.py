"""Whole runs: what they leave behind, that they repeat, and every way to train."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.optim.swa_utils import update_bn

from cxrseg.data.sample import Dataset
from cxrseg.training.batches import Batches, Pixels, load_pixels, select_samples, shuffled
from cxrseg.training.callbacks import history_columns
from cxrseg.training.checkpoints import choice, load_weights
from cxrseg.training.figures import choose_cases
from cxrseg.training.fit import Run, train
from cxrseg.training.lightning_module import Scores
from cxrseg.training.networks import build_network
from cxrseg.training.recipe import Recipe
from cxrseg.training.recipe_file import load_recipe
from made_runs import EVERYTHING, FIGURES, Rows, checkpoint, differing, figures_of, read_history, without_clock

# What a run leaves behind


def test_the_run_folder_is_complete(tiny_run: Run) -> None:
    root = tiny_run.folder.root
    found = sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    events = [name for name in found if "tfevents" in name]
    assert len(events) == 1
    assert sorted(set(found) - set(events) - {"tensorboard/hparams.yaml"}) == sorted(
        [
            ".lock",
            "checkpoints/best.ckpt",
            "checkpoints/last.ckpt",
            *(f"figures/{name}" for name in FIGURES),
            "history.csv",
            "manifest.json",
            "model.onnx",
            "recipe.yaml",
            "split.csv",
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


def test_the_model_file_has_the_figures_of_the_history(
    tiny_run: Run, dataset: Dataset, tiny_recipe: Callable[..., Recipe]
) -> None:
    summary = figures_of(tiny_run.folder.model, dataset, tiny_recipe())
    for target, part in (("infection", ""), ("lungs", "lungs_")):
        found, expected = summary[target], tiny_run.best
        for figure in ("dice", "iou"):
            assert found["infected_per_image"][figure]["mean"] == pytest.approx(
                expected[f"val_{part}{figure}"], abs=2e-4
            )
        assert found["rmse"]["value"] == pytest.approx(expected[f"val_{part}rmse"], abs=1e-4)


@pytest.mark.parametrize("marked", [0, 1, 2, 5, 9])
def test_as_many_cases_are_drawn_as_there_are(tiny_recipe: Callable[..., Recipe], marked: int) -> None:
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


# Every way to train


@pytest.mark.usefixtures("unfinished")
@pytest.mark.parametrize(
    "settings",
    [
        {"optimiser": {"name": "nadam", "schedule": "plateau", "ema_decay": 0.5}},
        {"optimiser": {"name": "radam", "schedule": "poly", "precision": "bfloat16", "channels_last": True}},
        {
            "optimiser": {"name": "rmsprop", "schedule": "cosine", "warmup_epochs": 0.5},
            "loss": {"name": "dice+focal"},
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


@pytest.mark.usefixtures("unfinished")
def test_while_nothing_is_found_the_loss_chooses(
    tmp_path: Path, dataset: Dataset, tiny_recipe: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = Scores.figures

    def without_overlap(scores: Scores) -> dict[str, list[float]]:
        return figures(scores) | {"dice": [0.0, 0.0]}

    monkeypatch.setattr(Scores, "figures", without_overlap)
    run = train(tiny_recipe(optimiser={"epochs": 3, "patience": 1}), dataset, tmp_path / "run", device="cpu")
    losses = [row["val_loss"] or 0 for row in run.history]
    assert len(losses) > 2 and losses[0] > min(losses)  # it did not stop early while the loss fell
    assert run.best_by == "val loss" and run.best["val_loss"] == min(losses)
    assert checkpoint(run.folder.best)["epoch"] + 1 == run.best["epoch"]


def test_a_dice_above_0_is_better_than_any_loss() -> None:
    assert choice(0.1, 9.0) > choice(0.0, 0.01) > choice(None, 0.02) > choice(0.0, None)
    assert choice(0.2, 1.0) > choice(0.1, 0.1)


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
