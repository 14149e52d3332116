"""Losses by name: each takes logits and masks, and returns one value per image and channel.

With one value per image and channel, a run can leave out the masks that an image does not have.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
import torch.nn.functional as F
from monai.losses import DiceLoss, FocalLoss, TverskyLoss
from torch import Tensor

from cxrseg.training.recipe import LossRecipe

__all__ = ["Loss", "build_loss", "evidence_loss", "masked_mean", "small_mask_weights"]

_LARGE = 0.1
"""Fraction of the image from which a mask is not small."""

Loss: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""(N, C, H, W) float32 logits and (N, C, H, W) float32 masks of 0 and 1 to (N, C) float32 losses."""


def build_loss(recipe: LossRecipe) -> Loss:
    """Build a loss.

    Args:
        recipe: name and parameters; see `LossRecipe` for sources.
    """
    parts = [_part(name, recipe) for name in _parts_of(recipe.name)]
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


def small_mask_weights(masks: Tensor, weight: float) -> Tensor:
    """Weights of masks by size: `weight` for a very small one, linear up to a tenth of the image, 1 above; 1 if empty.

    Args:
        masks: (N, C, H, W) float32, 0 or 1.
        weight: above 0; 1 gives all masks the same weight.

    Returns:
        (N, C) float32.
    """
    fraction = masks.mean((2, 3))
    return 1 + (weight - 1) * (1 - fraction / _LARGE).clamp(min=0) * (fraction > 0)


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


def _parts_of(name: str) -> list[str]:
    return [name] if name == "focal-tversky" else name.split("+")


def _part(name: str, recipe: LossRecipe) -> Loss:
    if name == "bce":
        weight = torch.tensor(recipe.positive_weight)
        return lambda logits, masks: F.binary_cross_entropy_with_logits(
            logits, masks, pos_weight=weight.to(logits.device), reduction="none"
        ).mean((2, 3))
    if name == "focal":
        return _focal(recipe)
    if name == "boundary":
        return lambda logits, masks: _boundary(logits.sigmoid(), masks, recipe.smooth)
    if name == "dice":
        return _overlap(DiceLoss(sigmoid=True, reduction="none", smooth_nr=recipe.smooth, smooth_dr=recipe.smooth))
    tversky = _overlap(
        TverskyLoss(
            sigmoid=True,
            alpha=recipe.false_positive_weight,
            beta=recipe.false_negative_weight,
            reduction="none",
            smooth_nr=recipe.smooth,
            smooth_dr=recipe.smooth,
        )
    )
    if name == "tversky":
        return tversky
    # The clamp keeps the gradient of the root finite where the overlap is perfect.
    return lambda logits, masks: tversky(logits, masks).clamp(min=1e-6) ** (1 / recipe.gamma)


def _boundary(probabilities: Tensor, masks: Tensor, smooth: float) -> Tensor:
    found, true = _border(probabilities), _border(masks)
    precision = _fraction_near(found, true, smooth)
    recall = _fraction_near(true, found, smooth)
    return 1 - 2 * precision * recall / (precision + recall)


def _border(masks: Tensor) -> Tensor:
    """The soft border of a mask, one pixel wide: (N, C, H, W) (Eq. 5 of the paper)."""
    outside = 1 - masks
    return F.max_pool2d(outside, 3, 1, 1) - outside


def _fraction_near(border: Tensor, other: Tensor, smooth: float) -> Tensor:
    """Fraction of a border that is at most 2 pixels from the other one: (N, C) (Eq. 6 and 7)."""
    near = F.max_pool2d(other, 5, 1, 2)
    return ((border * near).sum((2, 3)) + smooth) / (border.sum((2, 3)) + smooth)


def _focal(recipe: LossRecipe) -> Loss:
    focal = FocalLoss(gamma=recipe.gamma, reduction="none")

    def loss(logits: Tensor, masks: Tensor) -> Tensor:
        weighted: Tensor = focal(logits, masks) * (1 + (recipe.positive_weight - 1) * masks)
        return weighted.mean((2, 3))

    return loss


def _overlap(loss: torch.nn.Module) -> Loss:
    """A MONAI loss, which sums over the pixels: (N, C, 1, 1) to (N, C)."""
    return lambda logits, masks: loss(logits, masks).flatten(1)
