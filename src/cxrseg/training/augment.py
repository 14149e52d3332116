"""Data augmentation of batches on the device, with kornia."""

from __future__ import annotations

from typing import Any

import kornia.augmentation as K
import torch
from torch import Tensor, nn

from cxrseg.training.appearance import AppearanceExchange
from cxrseg.training.recipe import AugmentRecipe
from cxrseg.training.storage import StorageChanges

__all__ = ["Augment"]


class Augment(nn.Module):
    """Augments images and their masks together; random numbers come from torch's global generator.

    Args:
        recipe: kinds and strengths of the augmentation.
    """

    def __init__(self, recipe: AugmentRecipe) -> None:
        super().__init__()
        # Before films are moved: the empty corners that moving leaves have no look.
        self.appearance = AppearanceExchange(recipe.appearance) if recipe.appearance else nn.Identity()
        geometry = list(_geometry(recipe))
        self.geometry = K.AugmentationSequential(*geometry, data_keys=["input", "mask"]) if geometry else None
        self.border = recipe.border
        self.intensity = nn.Sequential(*_intensity(recipe))

    @torch.no_grad()
    def forward(self, images: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """Augment a batch.

        Args:
            images: (N, 1, H, W) float32 in [0, 1].
            masks: (N, C, H, W) float32, 0 or 1, or probabilities.

        Returns:
            Images in [0, 1] and masks of the same values, of the same shapes. What moves in from outside is black, or
            with the probability `recipe.border` of one gray value drawn at random, and no mask.
        """
        images = self.appearance(images)
        if self.geometry is None:
            return self.intensity(images).clamp(0, 1), masks
        inside = torch.ones_like(images)
        images, moved = self.geometry(images, torch.cat([masks, inside], 1))
        masks, inside = moved[:, :-1], moved[:, -1:]
        images = self.intensity(images).clamp(0, 1)
        count = len(images)
        # Black, white or gray: borders come in all of them.
        level = torch.rand(count, 1, 1, 1, device=images.device).mul(3).sub(1).clamp(0, 1)
        level = level * (torch.rand(count, 1, 1, 1, device=images.device) < self.border)
        return images * inside + level * (1 - inside), masks


def _geometry(recipe: AugmentRecipe) -> list[Any]:
    steps: list[Any] = []
    if recipe.flip:
        steps.append(K.RandomHorizontalFlip(p=recipe.flip))
    if recipe.rotation or recipe.scale or recipe.shift:
        steps.append(
            K.RandomAffine(
                degrees=recipe.rotation,
                translate=(recipe.shift, recipe.shift),
                scale=(1 - recipe.scale, 1 + recipe.scale),
                p=1.0,
            )
        )
    return steps


def _intensity(recipe: AugmentRecipe) -> list[Any]:
    steps: list[Any] = []
    if recipe.gamma:
        # Symmetric around 1: an exponent of 2 is as likely as one of 1/2.
        darker = K.RandomGamma((1.0, 1 + recipe.gamma), p=1.0)
        lighter = K.RandomGamma((1 / (1 + recipe.gamma), 1.0), p=1.0)
        steps.append(K.AugmentationSequential(darker, lighter, data_keys=["input"], random_apply=1))
    if recipe.contrast:
        steps.append(K.RandomContrast((1 - recipe.contrast, 1 + recipe.contrast), p=1.0))
    if recipe.brightness:
        steps.append(K.RandomBrightness((1 - recipe.brightness, 1 + recipe.brightness), p=1.0))
    if recipe.invert:
        steps.append(K.RandomInvert(p=recipe.invert))
    if recipe.blur:
        side = 2 * int(2 * recipe.blur + 0.5) + 1
        steps.append(K.RandomGaussianBlur((side, side), (0.1, max(recipe.blur, 0.11)), p=0.25))
    if recipe.noise:
        steps.append(K.RandomGaussianNoise(std=recipe.noise, p=0.5))
    if recipe.cutout:
        steps.append(K.RandomErasing((0.02, 0.10), p=recipe.cutout))
    if recipe.storage:
        steps.append(StorageChanges(recipe.storage))
    return steps
