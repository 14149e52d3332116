"""The figures of an epoch."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric

__all__ = ["Scores"]


class Scores(Metric):
    """Loss, RMSE, Dice and IoU of one epoch, summed over batches and processes.

    RMSE is Eq. 1 of the reports: the root of the mean, over all pixels of all images, of (probability - mask)^2. Dice
    and IoU are means per image at probability 0.5 over the images whose mask is not empty. Accuracy is the fraction of
    images whose category the classification head predicts correctly.

    Args:
        channels: number of output channels.
    """

    full_state_update = False
    loss: Tensor
    batches: Tensor
    squared_error: Tensor
    pixels: Tensor
    dice: Tensor
    iou: Tensor
    infected: Tensor
    right: Tensor
    classified: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        for name in ("loss", "batches", "right", "classified"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        for name in ("squared_error", "pixels", "dice", "iou", "infected"):
            self.add_state(name, torch.zeros(channels, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, loss: Tensor, logits: Tensor, masks: Tensor, present: Tensor) -> None:
        """Add a batch: a scalar, two (N, C, H, W) float32, and (N, C) bool."""
        errors = (logits.sigmoid() - masks).square().sum((2, 3)).double()
        marked = (logits > 0).float()
        both = (marked * masks).sum((2, 3)).double()
        either = (marked + masks).sum((2, 3)).double()
        counted = present & (masks.amax((2, 3)) > 0)
        self.loss += loss.double()
        self.batches += 1
        self.squared_error += (errors * present).sum(0)
        self.pixels += present.sum(0) * masks.shape[2] * masks.shape[3]
        self.dice += (2 * both / either.clamp(min=1) * counted).sum(0)
        self.iou += (both / (either - both).clamp(min=1) * counted).sum(0)
        self.infected += counted.sum(0)

    def update_categories(self, logits: Tensor, categories: Tensor) -> None:
        """Add a batch of the classification head: (N, K) float32, and (N) int64 with -1 where the category is not
        known."""
        self.right += (logits.argmax(1) == categories).sum()
        self.classified += (categories >= 0).sum()

    def compute(self) -> dict[str, Tensor]:
        """'loss', 'accuracy', and (C) values of 'rmse', 'dice', 'iou'; nan where there was nothing to measure."""
        return {
            "loss": self.loss / self.batches,
            "rmse": (self.squared_error / self.pixels).sqrt(),
            "dice": self.dice / self.infected,
            "iou": self.iou / self.infected,
            "accuracy": self.right / self.classified,
        }

    def figures(self) -> dict[str, list[float]]:
        """The same over all processes, as plain numbers: one for each channel, one loss and accuracy."""
        # torchmetrics turns a tensor of one value into a scalar.
        return {name: values.reshape(-1).tolist() for name, values in self.compute().items()}
