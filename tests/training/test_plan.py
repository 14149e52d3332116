"""What a run does with images of one's own: what is left out of the recipe, what is held out, and what is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from cxrseg.data.sample import Dataset, Sample
from cxrseg.errors import DatasetError
from cxrseg.training.plan import plan_run
from cxrseg.training.recipe_file import load_recipe


def own(
    masks: tuple[str, ...], categories: tuple[str | None, ...] = (None,), splits: tuple[str, ...] = ("train",)
) -> Dataset:
    """Ten images of each split and category, whose files are never read."""
    samples = tuple(
        Sample(f"{split}/{kind}/{number}", split, kind, Path(f"{number}.png"), {mask: Path("m.png") for mask in masks})
        for split in splits
        for kind in categories
        for number in range(10)
    )
    return Dataset(Path("mine"), "folders of images and masks", samples)


def test_without_lungs_split_and_categories_all_is_left_out_that_needs_them() -> None:
    plan = plan_run(load_recipe("cxrseg"), own(("infection",)))
    assert plan.recipe.data.targets == ("infection", "opacity")
    network = plan.recipe.network
    assert (network.within_lungs, network.classification_head, plan.recipe.loss.evidence_weight) == (False, False, 0.0)
    assert plan.dataset.describe() in ("train 8, val 2", "val 2, train 8")
    text = "\n".join(plan.lines())
    assert "8 for training, 2 for validation (folders of images and masks)" in text
    assert "masks    infection 10, opacity 10\n" in text
    assert "no split 'val': 20% of the training images are held out" in text and "--val-fraction" in text
    assert "no image has a mask of lungs" in text and "no infected fraction" in text
    assert "no categories of COVID-QU-Ex" in text


def test_where_all_is_there_the_recipe_stays() -> None:
    recipe = load_recipe("cxrseg")
    plan = plan_run(recipe, own(("infection", "lungs"), ("COVID-19", "Normal"), ("train", "val")))
    assert plan.recipe == recipe
    assert plan.notes == []


def test_one_category_is_nothing_to_classify() -> None:
    plan = plan_run(load_recipe("cxrseg"), own(("infection", "lungs"), ("COVID-19",)))
    assert plan.recipe.data.targets == ("infection", "opacity", "lungs")
    assert not plan.recipe.network.classification_head
    assert any("one category" in note for note in plan.notes)


def test_finetune_keeps_what_it_knows_of_masks_that_are_missing() -> None:
    recipe = load_recipe("finetune")
    assert plan_run(recipe, own(("infection",))).recipe == recipe


def test_the_settings_of_targets_that_are_left_out_go_with_them() -> None:
    recipe = load_recipe("cxrseg", ["loss.target_weights={infection: 2, lungs: 0.5}"])
    assert plan_run(recipe, own(("infection",))).recipe.loss.target_weights == {"infection": 2.0}
    lungs = plan_run(recipe, own(("lungs",), ("COVID-19", "Normal")))
    assert lungs.recipe.data.targets == ("lungs",)
    assert lungs.recipe.loss.evidence_weight == 0
    assert any("mask of infection or opacity, so the model will not find any" in note for note in lungs.notes)


def test_without_any_mask_of_the_recipe_the_option_that_helps_is_named() -> None:
    with pytest.raises(DatasetError, match=r"no mask of infection.*masks of lungs.*-s 'data.targets=\[lungs\]'"):
        plan_run(load_recipe("baseline-unet"), own(("lungs",), ("COVID-19",)))


def test_masks_of_other_pneumonias_that_are_not_used_are_named() -> None:
    dataset = own(("infection", "lungs"), ("COVID-19", "Non-COVID"))
    assert any(
        "masks of 8 Non-COVID images are not used" in note for note in plan_run(load_recipe("cxrseg"), dataset).notes
    )
    used = plan_run(load_recipe("cxrseg", ["data.non_covid=background"]), dataset)
    assert not any("Non-COVID" in note for note in used.notes)


def test_folds_and_fractions_are_as_asked() -> None:
    assert (
        len(plan_run(load_recipe("cxrseg"), own(("infection",)), val_fraction=0.3).dataset.select("val").samples) == 3
    )
    plan = plan_run(load_recipe("cxrseg"), own(("infection",), splits=("train", "val", "test")), folds=4)
    assert "15 for training, 5 for validation (folders of images and masks), in the first of 4 folds" in plan.lines()[0]
    assert not any("held out" in note for note in plan.notes)
