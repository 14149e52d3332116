from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from cxrseg.cli import main
from cxrseg.data.sample import Dataset
from cxrseg.errors import TrainingError
from cxrseg.training.batches import load_pixels, select_samples
from cxrseg.training.distillation import Distillation
from cxrseg.training.finish import load_weights, read_checkpoint
from cxrseg.training.fit import Run, train
from cxrseg.training.lightning_module import Learner
from cxrseg.training.networks import build_network
from cxrseg.training.recipe import Recipe


@pytest.fixture(scope="module")
def other_run(tmp_path_factory: pytest.TempPathFactory, dataset: Dataset, tiny_recipe: Callable[..., Recipe]) -> Run:
    recipe = tiny_recipe(seed=5, network={"features": 6}, optimiser={"epochs": 1, "learning_rate": 0.01})
    return train(recipe, dataset, tmp_path_factory.mktemp("teachers") / "other", device="cpu")


def probabilities(run: Run, recipe: Recipe, features: int, images: torch.Tensor) -> torch.Tensor:
    network = build_network(recipe.network.model_copy(update={"features": features}), recipe.data.targets).eval()
    load_weights(network, run.folder.root)
    with torch.no_grad():
        found: torch.Tensor = network(images).maps.sigmoid()
    return found


def test_teachers_say_the_mean_of_what_their_runs_find(
    tiny_run: Run, other_run: Run, tiny_recipe: Callable[..., Recipe]
) -> None:
    recipe = tiny_recipe()
    images = torch.rand(2, 1, 64, 64)
    soft_targets = Distillation([tiny_run.folder.root, other_run.folder.root], recipe)(images)
    each = [probabilities(tiny_run, recipe, 4, images), probabilities(other_run, recipe, 6, images)]
    torch.testing.assert_close(soft_targets.maps, (each[0] + each[1]) / 2)
    assert not torch.allclose(each[0], each[1], atol=1e-3)
    assert soft_targets.categories is None


def test_a_run_with_a_teacher_learns_from_it_and_keeps_none_of_its_weights(
    tmp_path: Path, dataset: Dataset, tiny_run: Run, tiny_recipe: Callable[..., Recipe]
) -> None:
    recipe = tiny_recipe(seed=9, optimiser={"epochs": 1, "learning_rate": 0.01})
    alone = train(recipe, dataset, tmp_path / "alone", device="cpu")
    taught = train(recipe, dataset, tmp_path / "taught", distill_from=[tiny_run.folder.root], device="cpu")
    ours, theirs = (read_checkpoint(run.folder.best)["state_dict"] for run in (taught, alone))
    assert list(ours) == list(theirs)
    assert any(not torch.equal(ours[key], theirs[key]) for key in ours)
    assert (tiny_run.folder.root.name) in taught.folder.manifest.read_text(encoding="utf-8")


def test_resume_with_other_teachers_is_refused(
    tmp_path: Path, dataset: Dataset, tiny_run: Run, other_run: Run, tiny_recipe: Callable[..., Recipe]
) -> None:
    recipe = tiny_recipe(optimiser={"epochs": 1})
    given = [tiny_run.folder.root]
    first = train(recipe, dataset, tmp_path / "run", teachers=given, device="cpu")
    assert train(recipe, dataset, tmp_path / "run", teachers=given, resume=True, device="cpu").history == first.history
    for others in ([], [other_run.folder.root], [*given, other_run.folder.root]):
        with pytest.raises(TrainingError, match="other teachers"):
            train(recipe, dataset, tmp_path / "run", teachers=others, resume=True, device="cpu")


@pytest.mark.parametrize(("weight", "learns"), [(1.0, True), (0.0, False)])
def test_a_teacher_gives_masks_to_images_that_have_none(
    dataset: Dataset, tiny_run: Run, tiny_recipe: Callable[..., Recipe], weight: float, learns: bool
) -> None:
    recipe = tiny_recipe(seed=3, loss={"name": "bce", "distillation_weight": weight})
    pixels = load_pixels(select_samples(dataset, recipe.data, "train"), recipe.data)
    learner = Learner(recipe, pixels, pixels, Distillation([tiny_run.folder.root], recipe))
    batch = pixels.batch(torch.arange(4))
    bare = batch._replace(present=torch.zeros_like(batch.present))
    learner._step("train", batch.images.float() / 255, batch.masks.float(), bare).backward()
    slopes = [parameter.grad for parameter in learner.network.parameters() if parameter.grad is not None]
    assert any((slope != 0).any() for slope in slopes) == learns


def test_images_that_only_fill_up_are_not_taught(
    dataset: Dataset, tiny_run: Run, tiny_recipe: Callable[..., Recipe]
) -> None:
    recipe = tiny_recipe(seed=3)
    pixels = load_pixels(select_samples(dataset, recipe.data, "train"), recipe.data)
    learner = Learner(recipe, pixels, pixels)
    teachers = Distillation([tiny_run.folder.root], recipe)
    learner.eval()

    def distance(indices: list[int]) -> float:
        batch = pixels.batch(torch.tensor(indices))
        images = batch.images.float() / 255
        return learner._distance(learner.network(images), teachers(images), batch.real).item()

    assert distance([3, 4, -1]) == pytest.approx(distance([3, 4]))
    assert distance([3, 4, 0]) != pytest.approx(distance([3, 4]))


@pytest.fixture(scope="module")
def judging_recipe(tiny_recipe: Callable[..., Recipe]) -> Recipe:
    network = {
        "name": "smp/unet",
        "encoder": "resnet18",
        "classification_head": True,
        "decoder_channels": [8, 8, 8, 8, 8],
    }
    return tiny_recipe(network=network, optimiser={"epochs": 1, "learning_rate": 0.01})


def test_teachers_judge_the_whole_image_too(
    tmp_path: Path, phantoms: Path, dataset: Dataset, judging_recipe: Recipe
) -> None:
    (tmp_path / "recipe.yaml").write_text(judging_recipe.to_yaml(), encoding="utf-8")
    given = ["train", str(tmp_path / "recipe.yaml"), "--dataset", str(phantoms), "-d", "cpu", "-q"]
    first, second = tmp_path / "first", tmp_path / "second"
    assert CliRunner().invoke(main, [*given, "-o", str(first)]).exit_code == 0
    taught = CliRunner().invoke(main, [*given, "-o", str(second), "--distill-from", str(first)])
    assert taught.exit_code == 0, taught.output
    soft_targets = Distillation([first, second], judging_recipe)(torch.rand(2, 1, 64, 64))
    assert soft_targets.categories is not None
    torch.testing.assert_close(soft_targets.categories.sum(1), torch.ones(2))
    pixels = load_pixels(select_samples(dataset, judging_recipe.data, "train"), judging_recipe.data)
    learner = Learner(judging_recipe, pixels, pixels, Distillation([first], judging_recipe))
    batch = pixels.batch(torch.arange(4))
    unknown = batch._replace(categories=torch.full((4,), -1))
    learner._step("train", batch.images.float() / 255, batch.masks.float(), unknown).backward()
    head = learner.network.head
    assert head is not None
    assert all((parameter.grad != 0).any() for parameter in head.parameters())  # the teacher alone knows a category


def test_a_folder_without_a_run_cannot_teach(tmp_path: Path, tiny_recipe: Callable[..., Recipe]) -> None:
    with pytest.raises(TrainingError, match=r"finished run with model\.onnx"):
        Distillation([tmp_path], tiny_recipe())


def test_a_run_of_another_size_cannot_teach(tiny_run: Run, tiny_recipe: Callable[..., Recipe]) -> None:
    with pytest.raises(TrainingError, match="sees images of 64x64, and cannot teach a network that sees 96x96"):
        Distillation([tiny_run.folder.root], tiny_recipe(data={"size": 96}))


def test_a_run_of_other_targets_cannot_teach(tiny_run: Run, tiny_recipe: Callable[..., Recipe]) -> None:
    with pytest.raises(TrainingError, match="finds infection, lungs, and cannot teach infection"):
        Distillation([tiny_run.folder.root], tiny_recipe(data={"targets": ["infection"]}))
