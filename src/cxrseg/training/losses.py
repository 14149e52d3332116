"""Losses by name: each takes logits and masks, and returns one value per image and channel.

With one value per image and channel, a run can leave out the masks that an image does not have.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
import torch.nn.functional as F
from monai.losses import DiceLoss, FocalLoss
from torch import Tensor

from cxrseg.training.recipe import LossRecipe

__all__ = ["Loss", "build_loss", "evidence_loss", "masked_mean"]

Loss: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""(N, C, H, W) float32 logits and (N, C, H, W) float32 masks of 0 and 1 to (N, C) float32 losses."""


def build_loss(recipe: LossRecipe) -> Loss:
    """Build a loss.

    Args:
        recipe: name and parameters; see `LossRecipe` for sources.
    """
    parts = [_part(name, recipe) for name in recipe.name.split("+")]
    return lambda logits, masks: torch.stack([part(logits, masks) for part in parts]).sum(0)


def masked_mean(losses: Tensor, present: Tensor, weights: Tensor) -> Tensor:
    """Average losses over the masks that exist.

    Args:
        losses: (N, C) float32.
        present: (N, C) bool, False where an image lacks that mask.
        weights: (C,) or (N, C) float32, weight of each channel or mask.

    Returns:
        A scalar; 0 where no mask exists.
    """
    weighted = present * weights
    return (losses * weighted).sum() / weighted.sum().clamp(min=1e-12)


def evidence_loss(logits: Tensor, shown: Tensor, used: Tensor, recipe: LossRecipe) -> Tensor:
    """Whether an image shows an opacity anywhere: cross-entropy of its highest logits, as multiple-instance learning
    has it.

    Args:
        logits: (N, H, W) float32 of the opacity.
        shown: (N) bool, True where the image shows an opacity.
        used: (N) bool, False for images that are left out.
        recipe: how many pixels are the highest, and the probability asked for.

    Returns:
        A scalar, the mean over the used images; 0 where there is none.
    """
    pixels = logits.flatten(1)
    count = max(1, round(recipe.evidence_area * pixels.shape[1]))
    highest = pixels.topk(count, dim=1).values.mean(1)
    target = torch.where(shown, recipe.evidence_target, 1 - recipe.evidence_target)
    each = F.binary_cross_entropy_with_logits(highest, target, reduction="none")
    # Normal films are to show none at all: the mean of their highest may sink without limit.
    each = torch.where(shown, each, F.softplus(highest))
    return (each * used).sum() / used.sum().clamp(min=1)


def _part(name: str, recipe: LossRecipe) -> Loss:
    if name == "bce":
        weight = torch.tensor(recipe.positive_weight)
        return lambda logits, masks: F.binary_cross_entropy_with_logits(
            logits, masks, pos_weight=weight.to(logits.device), reduction="none"
        ).mean((2, 3))
    if name == "focal":
        return _focal(recipe)
    # MONAI's loss sums over the pixels: (N, C, 1, 1).
    dice = DiceLoss(sigmoid=True, reduction="none", smooth_nr=recipe.smooth, smooth_dr=recipe.smooth)
    return lambda logits, masks: dice(logits, masks).flatten(1)


def _focal(recipe: LossRecipe) -> Loss:
    focal = FocalLoss(gamma=recipe.gamma, reduction="none")

    def loss(logits: Tensor, masks: Tensor) -> Tensor:
        weighted: Tensor = focal(logits, masks) * (1 + (recipe.positive_weight - 1) * masks)
        return weighted.mean((2, 3))

    return loss
