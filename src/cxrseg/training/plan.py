"""What a run will do with a dataset: a recipe is brought to what there is, and each change is said in a line."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from cxrseg.data.sample import CATEGORIES, Dataset, Sample
from cxrseg.data.splits import hold_out, in_folds
from cxrseg.errors import DatasetError
from cxrseg.training.batches import select_samples
from cxrseg.training.recipe import Recipe

__all__ = ["VAL_FRACTION", "Plan", "plan_run"]

VAL_FRACTION = 0.2
"""Fraction of the training images that are held out where a dataset has no split 'val'."""


@dataclass(frozen=True)
class Plan:
    """A recipe and a dataset that fit each other.

    Attributes:
        recipe: the recipe, without targets of which the dataset has no mask.
        dataset: the dataset, with a split 'val'; for cross-validation, the first fold.
        notes: what was changed and why, a sentence each.
        folds: number of folds of a cross-validation, or None.
    """

    recipe: Recipe
    dataset: Dataset
    notes: list[str] = field(default_factory=list)
    folds: int | None = None

    def lines(self) -> list[str]:
        """What will be done, for a terminal."""
        data, optimiser = self.recipe.data, self.recipe.optimiser
        chosen = {split: select_samples(self.dataset, data, split) for split in ("train", "val")}
        every = [sample for samples in chosen.values() for sample in samples]
        masks = ", ".join(f"{target} {sum(_has(s, target) for s in every)}" for target in data.targets)
        height, width = data.size
        train, val = len(chosen["train"]), len(chosen["val"])
        batch = min(optimiser.batch_size, train)
        return [
            f"images   {train} for training, {val} for validation ({self.dataset.layout})"
            + (f", in the first of {self.folds} folds" if self.folds else ""),
            f"masks    {masks}",
            f"network  {self.recipe.network.encoder or self.recipe.network.name}, {height}x{width} pixels",
            f"epochs   {optimiser.epochs}, each of {train // batch} batches of {batch} images",
            *(f"note     {note}" for note in self.notes),
        ]


def plan_run(recipe: Recipe, dataset: Dataset, *, val_fraction: float | None = None, folds: int | None = None) -> Plan:
    """Adapt a recipe to a dataset of the user: hold out images for validation, and leave out what cannot be learned.

    Args:
        recipe: the recipe; targets without any mask, and a classification head without categories, are left out of it,
            unless `loss.retention_weight` keeps what the initial weights know of them.
        dataset: the dataset.
        val_fraction: fraction of the training images to hold out as 'val'; None: `VAL_FRACTION`, where there is no such
            split.
        folds: divide the images for cross-validation instead.

    Raises:
        DatasetError: no target of the recipe has a mask, or images cannot be held out.
    """
    notes = []
    if folds is not None:
        dataset = in_folds(dataset, folds, recipe.seed)[0]
    elif val_fraction is not None:
        dataset = hold_out(dataset, "val", val_fraction, recipe.seed)
    elif not any(sample.split == "val" for sample in dataset.samples):
        dataset = hold_out(dataset, "val", VAL_FRACTION, recipe.seed)
        notes.append(
            f"there is no split 'val': {VAL_FRACTION:.0%} of the training images are held out for validation "
            "(--val-fraction changes how many)"
        )
    samples = select_samples(dataset, recipe.data, "train")
    if not recipe.loss.retention_weight:
        recipe = _without_head(_without_missing(recipe, samples, dataset, notes), samples, notes)
    unused = sum(s.infection_is_by_definition and "infection" in s.masks for s in samples)
    if unused and recipe.data.non_covid == "lungs" and dataset.layout.startswith("folders"):
        notes.append(
            f"the infection masks of {unused} Non-COVID images are not used: in COVID-QU-Ex these are empty whatever "
            "the image shows (-s data.non_covid=background uses them)"
        )
    return Plan(recipe, dataset, notes, folds)


def _has(sample: Sample, target: str) -> bool:
    return target in sample.masks or (target == "opacity" and "infection" in sample.masks)


def _without_missing(recipe: Recipe, samples: Collection[Sample], dataset: Dataset, notes: list[str]) -> Recipe:
    """The recipe without the targets of which no training image has a mask."""
    kept = [target for target in recipe.data.targets if any(_has(sample, target) for sample in samples)]
    missing = [target for target in recipe.data.targets if target not in kept]
    if not missing:
        return recipe
    if not kept:
        there = sorted({target for sample in samples for target in sample.masks})
        raise DatasetError(
            f"{dataset.root} has no mask of {' or '.join(missing)}, which the recipe {recipe.name} is for; it has "
            f"masks of {', '.join(there)}: train for these with -s 'data.targets=[{', '.join(there)}]'"
        )
    changes: dict[str, dict[str, Any]] = {"data": {"targets": kept}}
    if not {"infection", "lungs"} <= set(kept):
        changes["network"] = {"within_lungs": False}
    changes["loss"] = {"target_weights": {k: v for k, v in recipe.loss.target_weights.items() if k in kept}}
    if "opacity" in missing:
        changes["loss"]["evidence_weight"] = 0.0
    notes.append(
        f"no image has a mask of {' or '.join(missing)}, so the model will not find "
        + ("the lungs, and results have no infected fraction of them" if "lungs" in missing else "any")
    )
    return _changed(recipe, changes)


def _without_head(recipe: Recipe, samples: Collection[Sample], notes: list[str]) -> Recipe:
    """The recipe without a classification head, where the dataset names fewer than two known categories."""
    known = {sample.category for sample in samples} & set(CATEGORIES)
    if not recipe.network.classification_head or len(known) > 1:
        return recipe
    notes.append(
        f"the images have {'one category' if known else 'no categories'} of COVID-QU-Ex, so the model will not "
        "classify images, and has no task 'covid19'"
    )
    changes: dict[str, dict[str, Any]] = {"network": {"classification_head": False}, "loss": {"evidence_weight": 0.0}}
    return _changed(recipe, changes)


def _changed(recipe: Recipe, changes: dict[str, dict[str, Any]]) -> Recipe:
    """Validated again, unlike `model_copy`."""
    values = recipe.model_dump(mode="json")
    for section, settings in changes.items():
        values[section].update(settings)
    return Recipe.model_validate(values)
