"""The LightningModule: network, data, loss and optimiser."""

from __future__ import annotations

import math
from contextlib import nullcontext
from copy import deepcopy
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau
from torch.optim.swa_utils import update_bn

from cxrseg.data.sample import CATEGORIES
from cxrseg.training.augment import Augment
from cxrseg.training.batches import Batch, Batches, Pixels, SoftTargets, epoch_seed, shuffled
from cxrseg.training.checkpoints import choice
from cxrseg.training.depthwise import FastDepthwise
from cxrseg.training.distillation import Distillation
from cxrseg.training.losses import build_loss, evidence_loss, masked_mean
from cxrseg.training.networks import Found, Network, build_network
from cxrseg.training.recipe import OptimiserRecipe, Recipe
from cxrseg.training.scores import Scores

__all__ = ["Learner"]


class Learner(LightningModule):
    """The network of a recipe with its data, loss and optimiser.

    Args:
        recipe: all settings.
        train: training images.
        val: validation images.
        distillation: trained networks to learn from as well, or None.
    """

    channel_weights: Tensor

    def __init__(self, recipe: Recipe, train: Pixels, val: Pixels, distillation: Distillation | None = None) -> None:
        super().__init__()
        self.recipe = recipe
        self.distillation = distillation
        self.pixels = {"train": train, "val": val}
        self.network = build_network(recipe.network, recipe.data.targets)
        if recipe.optimiser.channels_last:
            self.network.to(memory_format=torch.channels_last)
        self.augment = Augment(recipe.augment)
        self.loss = build_loss(recipe.loss)
        self.initial: list[Network] = []  # in a list: no part of the checkpoints
        weights = [recipe.loss.target_weights.get(target, 1.0) for target in recipe.data.targets]
        self.register_buffer("channel_weights", torch.tensor(weights), persistent=False)
        self.scores = {"train": Scores(len(weights)), "val": Scores(len(weights))}

    def remember(self) -> None:
        """Keep a copy of the network as it is, for `LossRecipe.retention_weight`."""
        if self.recipe.loss.retention_weight:
            self.initial = [deepcopy(self.network).eval().requires_grad_(False)]

    def train_dataloader(self) -> Batches:
        """The batches of this epoch; Lightning calls this again for each epoch."""
        order = shuffled(len(self.pixels["train"]), self.recipe.seed, self.trainer.current_epoch)
        return self._batches("train", order)

    def val_dataloader(self) -> Batches:
        """All validation images, in order."""
        return self._batches("val", None)

    def _batches(self, split: str, order: Tensor | None) -> Batches:
        self.pixels[split] = self.pixels[split].to(self.device)  # a no-op after the first call
        return Batches(
            self.pixels[split],
            self.recipe.optimiser.batch_size,
            order,
            rank=self.trainer.global_rank,
            processes=self.trainer.world_size,
            drop_last=split == "train",
        )

    def on_fit_start(self) -> None:
        """Move the initial network to the device, and ask the networks that this one learns from."""
        for network in self.initial:
            network.to(self.device)
        if self.distillation:
            with self.trainer.precision_plugin.forward_context():
                self.pixels["train"] = self.distillation.soften(self.pixels["train"].to(self.device))

    def on_train_epoch_start(self) -> None:
        """Seed augmentation and dropout of this epoch."""
        torch.manual_seed(epoch_seed(self.recipe.seed, self.current_epoch, self.global_rank))
        self.scores["train"].to(self.device).reset()

    def on_validation_epoch_start(self) -> None:
        """Reset the scores, and recalibrate the batch norms of the weights (or their average) that are validated."""
        self.scores["val"].to(self.device).reset()
        if self.recipe.optimiser.batch_norm_recalibration and not self.trainer.sanity_checking:
            # The same images each time, so that a resumed run gives the same result.
            chosen = shuffled(len(self.pixels["train"]), self.recipe.seed, 0)[
                : self.recipe.optimiser.batch_norm_recalibration
            ]
            batches = Batches(self.pixels["train"], self.recipe.optimiser.batch_size, chosen)
            update_bn((batch.images.float() / 255 for batch in batches), self.network)

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """One step; logs the running loss, Dice and RMSE to the progress bar."""
        images, masks, soft_targets = batch.images.float() / 255, batch.masks.float(), batch.soft_targets
        if soft_targets is not None:
            masks = torch.cat([masks, soft_targets.maps.float() / 255], 1)
        with torch.autocast(self.device.type, enabled=False):
            images, masks = self.augment(images, masks)
        if soft_targets is not None:
            masks, maps = masks.chunk(2, 1)
            soft_targets = soft_targets._replace(maps=maps)
        loss = self._step("train", images, masks, batch, soft_targets)
        running = self.scores["train"]
        self.log("loss", running.loss / running.batches, prog_bar=True, logger=False)
        self.log("Dice", running.dice[0] / running.infected[0].clamp(min=1), prog_bar=True, logger=False)
        self.log(
            "RMSE",
            (running.squared_error[0] / running.pixels[0].clamp(min=1)).sqrt(),
            prog_bar=True,
            logger=False,
        )
        return loss

    def validation_step(self, batch: Batch, _: int) -> None:
        """Score one batch of validation images."""
        self._step("val", batch.images.float() / 255, batch.masks.float(), batch)

    def _step(
        self, split: str, images: Tensor, masks: Tensor, batch: Batch, soft_targets: SoftTargets | None = None
    ) -> Tensor:
        if self.recipe.optimiser.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        with FastDepthwise() if self._is_slow_in_bfloat16() else nullcontext():
            found = self.network(images)
        maps, scores = found.maps.float(), self.scores[split]
        with torch.autocast(self.device.type, enabled=False):
            loss = masked_mean(self.loss(maps, masks), batch.present, self.channel_weights)
            if found.categories is not None:
                logits = found.categories.float()
                loss = loss + self.recipe.loss.classification_weight * _mean_cross_entropy(logits, batch.categories)
                scores.update_categories(logits.detach(), batch.categories)
            if self.recipe.loss.evidence_weight:
                loss = loss + self.recipe.loss.evidence_weight * self._evidence(maps, batch)
            if self.initial and split == "train":
                loss = loss + self.recipe.loss.retention_weight * self._forgotten(found, images, batch)
            distance = 0.0 if soft_targets is None else self._distance(found, soft_targets, batch.real)
        with torch.no_grad():
            scores.update(loss.detach(), maps.detach(), masks, batch.present)
        return loss + self.recipe.loss.distillation_weight * distance

    def _evidence(self, maps: Tensor, batch: Batch) -> Tensor:
        """The loss of the opacity for normal images, and for images with an opacity but without a mask of it."""
        opacity = self.recipe.data.targets.index("opacity")
        normal = batch.categories == CATEGORIES.index("Normal")
        shown = (batch.categories >= 0) & ~normal & ~batch.present[:, opacity]
        return evidence_loss(maps[:, opacity], shown, shown | normal, self.recipe.loss)

    def _forgotten(self, found: Found, images: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy to what the initial weights say, where an image lacks a mask or a category."""
        with torch.no_grad():
            before: Found = self.initial[0](images)
        missing = batch.real[:, None] & ~batch.present
        each = F.binary_cross_entropy_with_logits(found.maps.float(), before.maps.float().sigmoid(), reduction="none")
        loss = masked_mean(each.mean((2, 3)), missing, self.channel_weights)
        if found.categories is None or before.categories is None:
            return loss
        unknown = batch.real & (batch.categories < 0)
        soft = before.categories.float().softmax(1)
        of_categories = F.cross_entropy(found.categories.float(), soft, reduction="none")
        sums = (of_categories * unknown).sum() / unknown.sum().clamp(min=1)
        return loss + self.recipe.loss.classification_weight * sums

    def _is_slow_in_bfloat16(self) -> bool:
        recipe = self.recipe.optimiser
        return self.device.type == "cpu" and recipe.precision == "bfloat16"

    def _distance(self, found: Found, soft_targets: SoftTargets, real: Tensor) -> Tensor:
        """Cross-entropy of the network's output to the soft targets."""
        each = F.binary_cross_entropy_with_logits(found.maps.float(), soft_targets.maps, reduction="none").mean((2, 3))
        loss = masked_mean(each, real[:, None].expand_as(each), self.channel_weights)
        if found.categories is None or soft_targets.categories is None:
            return loss
        of_categories = F.cross_entropy(found.categories.float(), soft_targets.categories, reduction="none")
        return loss + self.recipe.loss.classification_weight * (of_categories * real).sum() / real.sum().clamp(min=1)

    def on_validation_epoch_end(self) -> None:
        """Log the figures that select the best checkpoint and stop early."""
        if self.trainer.sanity_checking:
            return
        figures = self.scores["val"].figures()
        dice = figures["dice"][0]
        self.log("val_loss", figures["loss"][0], logger=False)
        # Rounded as in history.csv, so that the best row belongs to the best checkpoint.
        dice = 0.0 if math.isnan(dice) else round(dice, 6)
        self.log("val_dice", dice, prog_bar=True, logger=False)
        self.log("val_choice", choice(dice, round(figures["loss"][0], 6)), logger=False)

    def configure_optimizers(self) -> Any:
        """Optimiser and schedule by name."""
        recipe = self.recipe.optimiser
        optimiser = _optimiser(recipe, self.network)
        if recipe.schedule == "plateau":
            plateau = ReduceLROnPlateau(
                optimiser, factor=0.5, patience=2
            )  # PyTorch reduces the rate one epoch after its patience
            return {
                "optimizer": optimiser,
                "lr_scheduler": {"scheduler": plateau, "monitor": "val_loss", "interval": "epoch"},
            }
        steps = len(self.train_dataloader())
        schedule = _schedule(recipe, optimiser, steps)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _mean_cross_entropy(logits: Tensor, categories: Tensor) -> Tensor:
    """Mean over the images whose category is known; 0 where there is no such image."""
    known = (categories >= 0).sum().clamp(min=1)
    return F.cross_entropy(logits, categories, ignore_index=-1, reduction="sum") / known


def _optimiser(recipe: OptimiserRecipe, network: torch.nn.Module) -> Optimizer:
    options: dict[str, Any] = {"lr": recipe.learning_rate, "weight_decay": recipe.weight_decay}
    if recipe.name == "sgd":
        options |= {"momentum": 0.99, "nesterov": True}
    kinds = {
        "adam": "Adam",
        "adamw": "AdamW",
        "nadam": "NAdam",
        "radam": "RAdam",
        "rmsprop": "RMSprop",
        "sgd": "SGD",
    }
    optimiser: Optimizer = getattr(torch.optim, kinds[recipe.name])(network.parameters(), **options)
    return optimiser


def _schedule(recipe: OptimiserRecipe, optimiser: Optimizer, steps_an_epoch: int) -> LRScheduler:
    total = recipe.epochs * steps_an_epoch
    warm = recipe.warmup_epochs * steps_an_epoch

    def factor(step: int) -> float:
        if step < warm:
            return (step + 1) / (warm + 1)
        done = min((step - warm) / max(total - warm, 1), 1.0)
        if recipe.schedule == "cosine":
            return 0.5 * (1 + math.cos(math.pi * done))
        return float((1 - done) ** 0.9) if recipe.schedule == "poly" else 1.0

    return LambdaLR(optimiser, factor)
