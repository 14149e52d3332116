from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch

from cxrseg.training.losses import build_loss, evidence_loss, masked_mean
from cxrseg.training.recipe import LossRecipe

Array = npt.NDArray[np.float64]
NAMES = ["bce", "dice", "bce+dice", "focal", "dice+focal"]
EVEN = torch.ones(2)


def example(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Three images of two channels; the second image has an empty mask, the third a full one."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(3, 2, 9, 7, generator=generator)
    masks = (torch.rand(3, 2, 9, 7, generator=generator) > 0.6).float()
    masks[1], masks[2] = 0, 1
    return logits, masks


def bce(p: Array, y: Array, weight: float) -> Array:
    return (-(weight * y * np.log(p) + (1 - y) * np.log(1 - p))).mean((2, 3))


def focal(p: Array, y: Array, gamma: float, weight: float) -> Array:
    right = np.where(y == 1, p, 1 - p)
    return ((1 - right) ** gamma * -np.log(right) * np.where(y == 1, weight, 1)).mean((2, 3))


def dice(p: Array, y: Array, smooth: float) -> Array:
    return 1 - (2 * (p * y).sum((2, 3)) + smooth) / (p.sum((2, 3)) + y.sum((2, 3)) + smooth)


FORMULAE: dict[str, Callable[[Array, Array, LossRecipe], Array]] = {
    "bce": lambda p, y, r: bce(p, y, r.positive_weight),
    "dice": lambda p, y, r: dice(p, y, r.smooth),
    "bce+dice": lambda p, y, r: bce(p, y, r.positive_weight) + dice(p, y, r.smooth),
    "focal": lambda p, y, r: focal(p, y, r.gamma, r.positive_weight),
    "dice+focal": lambda p, y, r: dice(p, y, r.smooth) + focal(p, y, r.gamma, r.positive_weight),
}
SETTINGS = [
    {},
    {"positive_weight": 3.0, "gamma": 4 / 3, "smooth": 0.01},
]


def test_every_loss_has_a_formula_here() -> None:
    assert sorted(FORMULAE) == sorted(NAMES)


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("name", NAMES)
def test_a_loss_is_its_formula_for_each_image_and_channel(name: str, settings: dict[str, float]) -> None:
    recipe = LossRecipe.model_validate({"name": name, **settings})
    logits, masks = example()
    found = build_loss(recipe)(logits, masks)
    probability = 1 / (1 + np.exp(-logits.double().numpy()))
    expected = FORMULAE[name](probability, masks.double().numpy(), recipe)
    assert found.shape == (3, 2)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("name", NAMES)
def test_a_better_answer_costs_less_and_a_perfect_one_next_to_nothing(name: str) -> None:
    loss = build_loss(LossRecipe.model_validate({"name": name}))
    _, masks = example()
    answers = [(2 * masks - 1) * scale for scale in (-4, 0, 4, 40)]
    costs = [loss(answer, masks).mean().item() for answer in answers]
    assert costs == sorted(costs, reverse=True)
    assert costs[-1] < 2e-3


@pytest.mark.parametrize("name", NAMES)
def test_the_gradient_is_finite_everywhere(name: str) -> None:
    loss = build_loss(LossRecipe.model_validate({"name": name}))
    _, masks = example()
    for scale in (0, 40, -40):
        logits = ((2 * masks - 1) * scale).requires_grad_()
        loss(logits, masks).sum().backward()
        assert logits.grad is not None
        assert logits.grad.isfinite().all()


# Dice has no slope without a mask.
@pytest.mark.parametrize("name", [name for name in NAMES if name != "dice"])
def test_an_empty_mask_teaches_to_mark_nothing(name: str) -> None:
    logits = torch.zeros(1, 1, 8, 8, requires_grad=True)
    build_loss(LossRecipe.model_validate({"name": name}))(logits, torch.zeros(1, 1, 8, 8)).sum().backward()
    assert logits.grad is not None
    assert (logits.grad > 0).all()


@pytest.mark.parametrize("name", ["bce", "focal", "bce+dice", "dice+focal"])
def test_the_positive_weight_acts_on_mask_pixels_only(name: str) -> None:
    logits, masks = example()

    def slope(weight: float) -> torch.Tensor:
        given = logits.clone().requires_grad_()
        build_loss(LossRecipe.model_validate({"name": name, "positive_weight": weight}))(given, masks).sum().backward()
        assert given.grad is not None
        return given.grad

    one, five = slope(1), slope(5)
    inside = masks == 1
    torch.testing.assert_close(one[~inside], five[~inside])
    assert (five[inside] <= one[inside]).all()  # pulls harder towards the mask
    assert five[inside].sum() < 2 * one[inside].sum()


def test_the_mean_leaves_absent_masks_out() -> None:
    losses = torch.tensor([[1.0, 10.0], [3.0, 1000.0]])
    present = torch.tensor([[True, True], [True, False]])
    assert masked_mean(losses, present, EVEN).item() == pytest.approx((1 + 10 + 3) / 3)


@pytest.mark.parametrize("name", NAMES)
def test_an_absent_mask_has_no_gradient_and_does_not_matter(name: str) -> None:
    loss = build_loss(LossRecipe.model_validate({"name": name}))
    logits, masks = example()
    present = torch.tensor([[True, False], [True, True], [False, True]])

    def run(masks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        given = logits.clone().requires_grad_()
        value = masked_mean(loss(given, masks), present, EVEN)
        value.backward()
        assert given.grad is not None
        return value, given.grad

    value, gradient = run(masks)
    assert (gradient[~present] == 0).all()
    assert (gradient[present] != 0).flatten(1).any(1).all()
    turned = masks.clone()
    turned[~present] = 1 - turned[~present]
    assert run(turned)[0] == value


def test_nothing_present_is_zero_with_zero_gradient() -> None:
    losses = torch.ones(2, 2, requires_grad=True)
    value = masked_mean(losses, torch.zeros(2, 2, dtype=torch.bool), EVEN)
    value.backward()
    assert value.item() == 0
    assert losses.grad is not None
    assert (losses.grad == 0).all()


def test_target_weights_act() -> None:
    losses = torch.tensor([[1.0, 10.0]])
    present = torch.tensor([[True, True]])
    assert masked_mean(losses, present, torch.tensor([3.0, 1.0])).item() == pytest.approx((3 * 1 + 10) / 4)
    assert masked_mean(losses, present, torch.tensor([1.0, 0.0])).item() == pytest.approx(1)


def test_evidence_pulls_the_highest_logits_up_where_an_opacity_is_shown_and_down_in_normal_films() -> None:
    recipe = LossRecipe(evidence_weight=1.0, evidence_area=0.25, evidence_target=0.9)
    logits = torch.zeros(3, 4, 4, requires_grad=True)
    with torch.no_grad():
        logits[:, 0] = 1.0  # a quarter of the pixels, the highest
    shown, judged = torch.tensor([True, False, True]), torch.tensor([True, True, False])
    evidence_loss(logits, shown, judged, recipe).backward()
    assert logits.grad is not None
    assert (logits.grad[0, 0] < 0).all() and (logits.grad[1, 0] > 0).all()
    assert not logits.grad[:, 1:].any() and not logits.grad[2].any()


def test_evidence_is_satisfied_at_its_target_and_zero_without_images() -> None:
    recipe = LossRecipe(evidence_weight=1.0, evidence_area=1.0, evidence_target=0.9)
    logits = torch.full((1, 4, 4), math.log(9), requires_grad=True)
    one = torch.tensor([True])
    evidence_loss(logits, one, one, recipe).backward()
    assert logits.grad is not None and logits.grad.abs().max() < 1e-6
    assert evidence_loss(logits, one, ~one, recipe) == 0
