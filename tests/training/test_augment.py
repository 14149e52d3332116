from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import Tensor

from cxrseg.training.augment import Augment
from cxrseg.training.recipe import AugmentRecipe

ALL = {
    "flip": 0.5,
    "rotation": 15.0,
    "scale": 0.15,
    "shift": 0.08,
    "brightness": 0.1,
    "contrast": 0.25,
    "gamma": 0.4,
    "noise": 0.05,
    "blur": 1.5,
    "cutout": 0.5,
    "invert": 0.5,
}
GEOMETRY = {"flip": {"flip": 1.0}, "rotation": {"rotation": 40.0}, "scale": {"scale": 0.3}, "shift": {"shift": 0.15}}
GEOMETRY["all"] = {key: value for part in GEOMETRY.values() for key, value in part.items()}
INTENSITY = {key: {key: value} for key, value in ALL.items() if key not in GEOMETRY}


def squares(count: int = 16, side: int = 64) -> tuple[Tensor, Tensor]:
    """Black images with a bright square a little off the middle; two masks: the square, and the upper half of it."""
    images, masks = torch.zeros(count, 1, side, side), torch.zeros(count, 2, side, side)
    images[..., 20:44, 24:50] = 1
    masks[:, 0, 20:44, 24:50] = 1
    masks[:, 1, 20:32, 24:50] = 1
    return images, masks


def phantom_like(count: int = 16, side: int = 64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    images = torch.rand(count, 1, side, side, generator=generator)
    return images, (torch.rand(count, 2, side, side, generator=generator) > 0.5).float()


def varied(settings: dict[str, float], images: Tensor, masks: Tensor, seed: int = 0) -> tuple[Tensor, Tensor]:
    torch.manual_seed(seed)
    found: tuple[Tensor, Tensor] = Augment(AugmentRecipe.model_validate(settings))(images, masks)
    return found


def iou(a: Tensor, b: Tensor) -> Tensor:
    """(N), over all pixels of each image."""
    return ((a & b).sum((-2, -1)) / (a | b).sum((-2, -1))).flatten()


def test_off_by_default() -> None:
    images, masks = phantom_like()
    found = varied({}, images, masks)
    assert torch.equal(found[0], images)
    assert torch.equal(found[1], masks)


@pytest.mark.parametrize("name", GEOMETRY)
def test_image_and_masks_move_together(name: str) -> None:
    images, masks = squares()
    moved, mask = varied(GEOMETRY[name], images, masks)
    overlap = iou(moved[:, 0] >= 0.5, mask[:, 0] == 1)
    assert (overlap > 0.9).all()
    assert (mask[:, 1] <= mask[:, 0]).all()  # the second mask went the same way
    before = iou(moved[:, 0] >= 0.5, masks[:, 0] == 1)
    assert (before < 0.9).sum() >= len(images) // 2  # and far enough for this to mean something


def test_a_flip_is_left_to_right_and_exact() -> None:
    images, masks = phantom_like()
    flipped, mask = varied({"flip": 1.0}, images, masks)
    torch.testing.assert_close(flipped, images.flip(-1))
    assert torch.equal(mask, masks.flip(-1))


def test_a_fraction_of_the_images_is_flipped() -> None:
    images, masks = phantom_like(64)
    _, mask = varied({"flip": 0.5}, images, masks)
    same = (mask == masks).flatten(1).all(1).sum().item()
    assert 16 <= same <= 48


@pytest.mark.parametrize("name", INTENSITY)
def test_intensity_leaves_the_masks_and_changes_the_images(name: str) -> None:
    images, masks = phantom_like()
    changed, mask = varied({name: 1.0 if name == "cutout" else ALL[name]}, images, masks)
    assert torch.equal(mask, masks)
    assert not torch.equal(changed, images)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("make", [squares, phantom_like])
def test_values_stay_in_range_and_masks_binary(seed: int, make: object) -> None:
    images, masks = make()  # type: ignore[operator]
    wild = {**ALL, "brightness": 1.0, "contrast": 0.9, "gamma": 3.0, "noise": 0.8, "rotation": 180.0}
    found, mask = varied(wild, images, masks, seed)
    assert found.shape == images.shape
    assert mask.shape == masks.shape
    assert found.dtype == mask.dtype == torch.float32
    assert 0 <= found.min() <= found.max() <= 1
    assert found.isfinite().all()
    assert set(mask.unique().tolist()) <= {0.0, 1.0}


def test_what_moves_in_from_outside_is_black_and_no_mask() -> None:
    images, masks = torch.ones(8, 1, 64, 64), torch.ones(8, 1, 64, 64)
    moved, mask = varied({"rotation": 45.0}, images, masks, 1)
    assert (moved[..., 0, 0] < 0.5).any()
    assert ((moved[:, 0] >= 0.5) == (mask[:, 0] == 1)).float().mean() > 0.99


def test_borders_are_black_white_and_gray_where_asked_for() -> None:
    images, masks = torch.full((64, 1, 32, 32), 0.5), torch.ones(64, 1, 32, 32)
    moved, mask = varied({"rotation": 45.0, "border": 1.0}, images, masks, 1)
    corners = moved[..., 0, 0][mask[..., 0, 0] == 0]
    assert (corners == 0).any() and ((corners > 0.6) & (corners <= 1)).any()
    assert corners.unique().numel() > 5


def test_each_image_is_varied_in_its_own_way() -> None:
    images, masks = squares()
    moved, _ = varied({"rotation": 30.0, "brightness": 0.3}, images, masks)
    assert len({image.numpy().tobytes() for image in moved}) == len(images)


def test_gamma_goes_both_ways() -> None:
    images = torch.full((64, 1, 8, 8), 0.5)
    masks = torch.zeros_like(images)
    means = torch.cat([varied({"gamma": 1.0}, images, masks, seed)[0].mean((1, 2, 3)) for seed in range(8)])
    assert means.min() >= 0.25 - 1e-4  # 0.5 ** 2
    assert means.max() <= 0.5**0.5 + 1e-4
    assert means.min() < 0.3
    assert means.max() > 0.65


@pytest.mark.parametrize(("name", "low", "high"), [("brightness", 0.3, 0.7), ("contrast", 0.4, 0.6)])
def test_the_largest_change_is_kept_to(name: str, low: float, high: float) -> None:
    images = torch.full((64, 1, 8, 8), 0.5)
    found, _ = varied({name: 0.2}, images, torch.zeros_like(images))
    assert low - 1e-5 <= found.min() < low + 0.25 * (0.5 - low)
    assert high + 1e-5 >= found.max() > high - 0.25 * (high - 0.5)


def test_cutout_blacks_out_its_fraction() -> None:
    images = torch.ones(64, 1, 64, 64)
    found, _ = varied({"cutout": 1.0}, images, torch.zeros_like(images))
    fraction = (found == 0).float().mean((1, 2, 3))
    assert 0.015 < fraction.min() <= fraction.max() < 0.11


def test_a_fraction_of_the_images_is_inverted() -> None:
    images, masks = phantom_like(64)
    found, _ = varied({"invert": 0.5}, images, masks)
    turned = (found == 1 - images).flatten(1).all(1)
    assert ((found == images).flatten(1).all(1) | turned).all()
    assert 16 <= turned.sum() <= 48


def test_the_seed_and_nothing_else_decides() -> None:
    images, masks = phantom_like()
    one = varied(ALL, images, masks, 7)
    random.seed(99)
    np.random.seed(99)
    two = varied(ALL, images, masks, 7)
    other = varied(ALL, images, masks, 8)
    assert torch.equal(one[0], two[0])
    assert torch.equal(one[1], two[1])
    assert not torch.equal(one[0], other[0])


def test_the_given_batch_is_left_as_it_was() -> None:
    images, masks = phantom_like()
    before = images.clone(), masks.clone()
    varied(ALL, images, masks)
    assert torch.equal(images, before[0])
    assert torch.equal(masks, before[1])
