from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cxrseg.data.sample import Dataset
from cxrseg.training.batches import load_pixels, select_samples
from cxrseg.training.lightning_module import Learner
from cxrseg.training.recipe import Recipe
from cxrseg.training.scores import Scores


def random_batch(seed: int, images: int, channels: int) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, masks (some of them empty) and present (some of them not)."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(images, channels, 8, 6, generator=generator)
    masks = (torch.rand(images, channels, 8, 6, generator=generator) > 0.7).float()
    masks[::3] = 0
    present = torch.rand(images, channels, generator=generator) > 0.3
    return logits, masks, present


def by_hand(batches: list[tuple[Tensor, Tensor, Tensor]], channel: int) -> dict[str, float]:
    squares: list[float] = []
    dices: list[float] = []
    ious: list[float] = []
    for logits, masks, present in batches:
        for image in range(len(logits)):
            if not present[image, channel]:
                continue
            z, y = logits[image, channel].double().numpy(), masks[image, channel].numpy() == 1
            p = 1 / (1 + np.exp(-z))
            squares += ((p - y) ** 2).ravel().tolist()
            if y.any():
                marked = p >= 0.5
                both, either = np.logical_and(marked, y).sum(), np.logical_or(marked, y).sum()
                dices.append(2 * both / (marked.sum() + y.sum()))
                ious.append(both / either)
    return {"rmse": math.sqrt(np.mean(squares)), "dice": float(np.mean(dices)), "iou": float(np.mean(ious))}


@pytest.mark.parametrize("channels", [1, 2])
def test_scores_are_those_of_numpy(channels: int) -> None:
    batches = [random_batch(seed, images, channels) for seed, images in enumerate((7, 7, 3))]
    scores = Scores(channels)
    for number, batch in enumerate(batches):
        scores.update(torch.tensor(float(number)), *batch)
    figures = scores.figures()
    assert figures["loss"] == [1.0]
    for name in ("rmse", "dice", "iou"):
        expected = [by_hand(batches, channel)[name] for channel in range(channels)]
        assert figures[name] == pytest.approx(expected, abs=1e-6)


def test_the_mean_is_over_pixels_of_all_images_not_over_batches() -> None:
    scores = Scores(1)
    there = torch.ones(1, 1, dtype=torch.bool)
    scores.update(torch.tensor(0.0), torch.full((1, 1, 4, 4), 50.0), torch.zeros(1, 1, 4, 4), there)
    right = torch.full((3, 1, 4, 4), -50.0)
    scores.update(torch.tensor(0.0), right, torch.zeros(3, 1, 4, 4), there.expand(3, 1))
    assert scores.figures()["rmse"] == pytest.approx([0.5])  # one of four images wholly wrong


def test_an_image_whose_mask_is_empty_enters_no_dice() -> None:
    scores = Scores(1)
    masks = torch.zeros(2, 1, 4, 4)
    masks[0, 0, :2] = 1
    logits = torch.full((2, 1, 4, 4), 5.0)
    scores.update(torch.tensor(0.0), logits, masks, torch.ones(2, 1, dtype=torch.bool))
    assert scores.figures()["dice"] == pytest.approx([2 * 8 / (8 + 16)])
    assert scores.figures()["iou"] == pytest.approx([0.5])


def test_what_could_not_be_measured_is_nan() -> None:
    scores = Scores(2)
    masks = torch.zeros(1, 2, 4, 4)
    scores.update(torch.tensor(0.0), masks, masks, torch.tensor([[True, False]]))
    figures = scores.figures()
    assert figures["rmse"][0] == pytest.approx(0.5)
    assert math.isnan(figures["rmse"][1])
    assert all(math.isnan(value) for name in ("dice", "iou") for value in figures[name])


def test_a_miss_counts_as_zero_and_a_hit_as_one() -> None:
    masks = torch.zeros(1, 1, 4, 4)
    masks[..., :2] = 1
    for sign, expected in ((1, 1.0), (-1, 0.0)):
        scores = Scores(1)
        scores.update(torch.tensor(0.0), sign * (2 * masks - 1) * 20, masks, torch.ones(1, 1, dtype=torch.bool))
        assert scores.figures()["dice"] == pytest.approx([expected])


def test_reset_begins_anew() -> None:
    scores = Scores(1)
    scores.update(torch.tensor(3.0), *random_batch(0, 4, 1))
    scores.reset()
    batch = random_batch(1, 4, 1)
    scores.update(torch.tensor(1.0), *batch)
    assert scores.figures()["loss"] == [1.0]
    assert scores.figures()["rmse"] == pytest.approx([by_hand([batch], 0)["rmse"]], abs=1e-6)


@pytest.fixture
def make_learner(dataset: Dataset, tiny_recipe: Callable[..., Recipe]) -> Callable[..., Learner]:
    def make(**sections: dict[str, Any]) -> Learner:
        recipe = tiny_recipe(**sections)
        pixels = [load_pixels(select_samples(dataset, recipe.data, split), recipe.data) for split in ("train", "val")]
        return Learner(recipe, *pixels)

    return make


@pytest.mark.parametrize(
    ("schedule", "warmup", "expected"),
    [
        ("constant", 0, [1, 1, 1, 1, 1, 1, 1, 1]),
        ("constant", 1, [1 / 3, 2 / 3, 1, 1, 1, 1, 1, 1]),
        ("cosine", 0, [0.5 * (1 + math.cos(math.pi * step / 8)) for step in range(8)]),
        ("poly", 0, [(1 - step / 8) ** 0.9 for step in range(8)]),
        ("cosine", 2, [0.2, 0.4, 0.6, 0.8, *(0.5 * (1 + math.cos(math.pi * step / 4)) for step in range(4))]),
    ],
)
def test_the_learning_rate_follows_its_schedule(
    make_learner: Callable[..., Learner],
    monkeypatch: pytest.MonkeyPatch,
    schedule: str,
    warmup: float,
    expected: list[float],
) -> None:
    learner = make_learner(optimiser={"schedule": schedule, "warmup_epochs": warmup, "epochs": 4, "learning_rate": 0.5})
    monkeypatch.setattr(learner, "train_dataloader", lambda: range(2))  # two steps an epoch
    found = learner.configure_optimizers()
    optimiser, scheduler = found["optimizer"], found["lr_scheduler"]["scheduler"]
    rates = []
    for _ in range(8):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        scheduler.step()
    assert rates == pytest.approx([0.5 * factor for factor in expected])
    if schedule != "constant":
        assert optimiser.param_groups[0]["lr"] == pytest.approx(0, abs=1e-12)


def test_plateau_halves_the_rate_after_three_epochs_without_a_fall(make_learner: Callable[..., Learner]) -> None:
    found = make_learner(optimiser={"schedule": "plateau", "learning_rate": 0.8}).configure_optimizers()
    optimiser, schedule = found["optimizer"], found["lr_scheduler"]
    assert schedule["monitor"] == "val_loss"
    rates = []
    for loss in (1.0, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9):
        schedule["scheduler"].step(loss)
        rates.append(optimiser.param_groups[0]["lr"])
    assert rates == pytest.approx([0.8, 0.8, 0.8, 0.8, 0.4, 0.4, 0.4, 0.2])


@pytest.mark.parametrize("name", ["adam", "adamw", "nadam", "radam", "rmsprop", "sgd"])
def test_every_optimiser_takes_rate_and_decay_and_steps(make_learner: Callable[..., Learner], name: str) -> None:
    learner = make_learner(optimiser={"name": name, "learning_rate": 0.02, "weight_decay": 0.3, "schedule": "plateau"})
    optimiser = learner.configure_optimizers()["optimizer"]
    group = optimiser.param_groups[0]
    assert type(optimiser).__name__.lower() == name
    assert (group["lr"], group["weight_decay"]) == (0.02, 0.3)
    assert name != "sgd" or (group["momentum"], group["nesterov"]) == (0.99, True)
    images = torch.rand(2, 1, 64, 64)
    loss = learner.network(images).maps.square().mean()
    loss.backward()
    optimiser.step()
    assert learner.network(images).maps.square().mean() != loss


def test_target_weights_reach_the_loss_in_the_order_of_targets(make_learner: Callable[..., Learner]) -> None:
    assert make_learner(loss={"target_weights": {"lungs": 0.25}}).channel_weights.tolist() == [1.0, 0.25]
    turned = make_learner(data={"targets": ["lungs", "infection"]}, loss={"target_weights": {"lungs": 0.25}})
    assert turned.channel_weights.tolist() == [0.25, 1.0]


def test_channels_last_reaches_the_weights(make_learner: Callable[..., Learner]) -> None:
    learner = make_learner(optimiser={"channels_last": True})
    wide = [p for p in learner.network.parameters() if p.ndim == 4 and min(p.shape) > 1]
    assert wide
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in wide)


def test_what_the_initial_weights_know_of_missing_masks_is_kept(
    dataset: Dataset, tiny_recipe: Callable[..., Recipe]
) -> None:
    recipe = tiny_recipe(loss={"retention_weight": 2.0})
    samples = [replace(s, masks={"infection": s.masks["infection"]}) for s in dataset.select("train").samples]
    pixels = load_pixels(samples, recipe.data, complete=False)
    learner = Learner(recipe, pixels, pixels)
    batch = pixels.batch(torch.arange(4))
    images, masks = batch.images.float() / 255, batch.masks.float()
    learner.eval()
    learner.remember()
    with_retention = learner._step("train", images, masks, batch)
    lungs = learner.network(images).maps[:, 1].sigmoid()
    entropy = -(lungs * lungs.log() + (1 - lungs) * (1 - lungs).log()).mean()
    learner.initial = []
    assert with_retention.item() == pytest.approx(
        learner._step("train", images, masks, batch).item() + 2 * entropy.item()
    )
    # Masks that are there are learned, not kept; and the copy is no part of a checkpoint.
    learner.remember()
    whole = load_pixels(dataset.select("train").samples, recipe.data).batch(torch.arange(4))
    assert learner._forgotten(learner.network(images), images, whole).item() == 0
    assert not any("initial" in key for key in learner.state_dict())


def test_bfloat16_leaves_the_augmented_images_exact(
    dataset: Dataset, tiny_recipe: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny_recipe(augment={"storage": 1.0, "rotation": 10.0})
    pixels = load_pixels(select_samples(dataset, recipe.data, "train"), recipe.data)
    learner = Learner(recipe, pixels, pixels)
    monkeypatch.setattr(learner, "log", lambda *_, **__: None)
    learner.scores["train"].loss, learner.scores["train"].batches = torch.zeros(()), torch.ones(())
    seen: list[Tensor] = []
    monkeypatch.setattr(learner, "_step", lambda _, images, *rest: seen.append(images) or torch.zeros(()))
    for lower in (False, True):
        torch.manual_seed(4)
        with torch.autocast("cpu", torch.bfloat16, enabled=lower):
            learner.training_step(pixels.batch(torch.arange(8)), 0)
    assert seen[0].dtype == torch.float32 and torch.equal(*seen)
