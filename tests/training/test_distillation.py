from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from cxrseg.cli import main
from cxrseg.data.sample import CATEGORIES, Dataset
from cxrseg.errors import TrainingError
from cxrseg.training.batches import Batch, Pixels, SoftTargets, load_pixels, select_samples
from cxrseg.training.checkpoints import load_weights, read_checkpoint
from cxrseg.training.distillation import EVIDENCE, LARGEST_SHIFT, Distillation, fit_to_categories
from cxrseg.training.fit import Run, train
from cxrseg.training.lightning_module import Learner
from cxrseg.training.networks import build_network
from cxrseg.training.recipe import Recipe


@pytest.fixture(scope="module")
def other_run(tmp_path_factory: pytest.TempPathFactory, dataset: Dataset, tiny_recipe: Callable[..., Recipe]) -> Run:
    recipe = tiny_recipe(seed=5, network={"features": 6}, optimiser={"epochs": 1, "learning_rate": 0.01})
    return train(recipe, dataset, tmp_path_factory.mktemp("runs") / "other", device="cpu")


def probabilities(run: Run, recipe: Recipe, features: int, images: torch.Tensor) -> torch.Tensor:
    network = build_network(recipe.network.model_copy(update={"features": features}), recipe.data.targets).eval()
    load_weights(network, run.folder.root)
    with torch.no_grad():
        found: torch.Tensor = network(images).maps.sigmoid()
    return found


def as_floats(batch: Batch) -> SoftTargets:
    """The soft targets as a step gets them."""
    assert batch.soft_targets is not None
    return batch.soft_targets._replace(maps=batch.soft_targets.maps / 255)


def test_soft_targets_are_the_mean_of_the_networks_probabilities(
    dataset: Dataset, tiny_run: Run, other_run: Run, tiny_recipe: Callable[..., Recipe]
) -> None:
    recipe = tiny_recipe()
    pixels = load_pixels(select_samples(dataset, recipe.data, "train"), recipe.data)
    soft = Distillation([tiny_run.folder.root, other_run.folder.root], recipe).soften(pixels).soft_targets
    assert soft is not None
    ill = pixels.categories != CATEGORIES.index("Normal")
    images = pixels.images[ill].float() / 255
    each = [probabilities(tiny_run, recipe, 4, images), probabilities(other_run, recipe, 6, images)]
    torch.testing.assert_close(soft.maps[ill] / 255, (each[0] + each[1]) / 2, atol=0.5 / 255, rtol=0)
    assert not torch.allclose(each[0], each[1], atol=1e-2)
    assert soft.categories is None


def test_soft_targets_do_not_contradict_the_category(dataset: Dataset, tiny_recipe: Callable[..., Recipe]) -> None:
    recipe = tiny_recipe(data={"targets": ["infection", "opacity", "lungs"]})
    pixels = load_pixels(select_samples(dataset, recipe.data, "train"), recipe.data)
    batch = pixels.batch(torch.tensor([0, 0, 0, 0]))
    numbers = [CATEGORIES.index(name) for name in ("Normal", "Non-COVID", "Non-COVID", "COVID-19")]
    present = torch.tensor([[True, shown, True] for shown in (True, False, False, True)])
    batch = batch._replace(categories=torch.tensor(numbers), present=present)
    torch.manual_seed(0)
    maps = 0.2 * torch.rand(4, 3, 64, 64)
    maps[2] *= 0.02  # hardly anything seen
    normal, other, faint, covid = fit_to_categories(maps, batch, recipe)
    assert torch.equal(covid, maps[3])
    assert not normal[:2].any() and torch.equal(normal[2], maps[0, 2])
    assert torch.equal(other[::2], maps[1, ::2])
    highest = other[1].flatten().topk(round(0.02 * 64 * 64)).values
    assert highest.logit().mean().sigmoid().item() == pytest.approx(EVIDENCE, abs=1e-4)
    assert torch.equal(other[1].flatten().argsort(), maps[1, 1].flatten().argsort())
    assert faint[1].max().logit() - maps[2, 1].max().logit() == pytest.approx(LARGEST_SHIFT, abs=1e-4)


def test_soft_masks_move_with_the_image(
    dataset: Dataset, tiny_run: Run, tiny_recipe: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny_recipe(augment={"flip": 1.0})
    pixels = load_pixels(select_samples(dataset, recipe.data, "train"), recipe.data)
    learner = Learner(recipe, pixels, pixels)
    batch = Distillation([tiny_run.folder.root], recipe).soften(pixels).batch(torch.arange(4))
    assert batch.soft_targets is not None
    seen = {}
    monkeypatch.setattr(learner, "log", lambda *_, **__: None)
    monkeypatch.setattr(learner, "_step", lambda *given: seen.update(enumerate(given)) or torch.zeros(()))
    learner.scores["train"].loss, learner.scores["train"].batches = torch.zeros(()), torch.ones(())
    learner.training_step(batch, 0)
    assert torch.equal(seen[1], batch.images.flip(3) / 255)
    assert torch.equal(seen[2], batch.masks.flip(3).float())
    assert torch.equal(seen[4].maps, batch.soft_targets.maps.flip(3) / 255)


def test_a_distilled_run_differs_and_its_checkpoint_has_no_other_weights(
    tmp_path: Path, dataset: Dataset, tiny_run: Run, tiny_recipe: Callable[..., Recipe]
) -> None:
    recipe = tiny_recipe(seed=9, optimiser={"epochs": 1, "learning_rate": 0.01})
    alone = train(recipe, dataset, tmp_path / "alone", device="cpu")
    distilled = train(recipe, dataset, tmp_path / "distilled", distill_from=[tiny_run.folder.root], device="cpu")
    ours, theirs = (read_checkpoint(run.folder.best)["state_dict"] for run in (distilled, alone))
    assert list(ours) == list(theirs)
    assert any(not torch.equal(ours[key], theirs[key]) for key in ours)
    assert (tiny_run.folder.root.name) in distilled.folder.manifest.read_text(encoding="utf-8")


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_trained_networks_compute_with_the_precision_of_the_recipe(
    tmp_path: Path,
    dataset: Dataset,
    tiny_run: Run,
    tiny_recipe: Callable[..., Recipe],
    monkeypatch: pytest.MonkeyPatch,
    precision: str,
) -> None:
    seen, soften = [], Distillation.soften

    def watched(self: Distillation, pixels: Pixels) -> Pixels:
        seen.append("bfloat16" if torch.is_autocast_enabled("cpu") else "float32")
        return soften(self, pixels)

    monkeypatch.setattr(Distillation, "soften", watched)
    recipe = tiny_recipe(optimiser={"epochs": 1, "precision": precision})
    train(recipe, dataset, tmp_path / "run", distill_from=[tiny_run.folder.root], device="cpu")
    assert seen == [precision]


def test_resuming_with_other_models_to_distill_from_is_an_error(
    tmp_path: Path, dataset: Dataset, tiny_run: Run, other_run: Run, tiny_recipe: Callable[..., Recipe]
) -> None:
    recipe = tiny_recipe(optimiser={"epochs": 1})
    given = [tiny_run.folder.root]
    first = train(recipe, dataset, tmp_path / "run", distill_from=given, device="cpu")
    again = train(recipe, dataset, tmp_path / "run", distill_from=given, resume=True, device="cpu")
    assert again.history == first.history
    for others in ([], [other_run.folder.root], [*given, other_run.folder.root]):
        with pytest.raises(TrainingError, match="other models"):
            train(recipe, dataset, tmp_path / "run", distill_from=others, resume=True, device="cpu")


@pytest.mark.parametrize(("weight", "learns"), [(1.0, True), (0.0, False)])
def test_distillation_gives_soft_masks_to_images_without_masks(
    dataset: Dataset, tiny_run: Run, tiny_recipe: Callable[..., Recipe], weight: float, learns: bool
) -> None:
    recipe = tiny_recipe(seed=3, loss={"name": "bce", "distillation_weight": weight})
    pixels = load_pixels(select_samples(dataset, recipe.data, "train"), recipe.data)
    learner = Learner(recipe, pixels, pixels)
    batch = Distillation([tiny_run.folder.root], recipe).soften(pixels).batch(torch.arange(4))
    bare = batch._replace(present=torch.zeros_like(batch.present))
    learner._step("train", batch.images.float() / 255, batch.masks.float(), bare, as_floats(batch)).backward()
    slopes = [parameter.grad for parameter in learner.network.parameters() if parameter.grad is not None]
    assert any((slope != 0).any() for slope in slopes) == learns


def test_images_that_only_fill_the_batch_are_not_counted(
    dataset: Dataset, tiny_run: Run, tiny_recipe: Callable[..., Recipe]
) -> None:
    recipe = tiny_recipe(seed=3)
    pixels = load_pixels(select_samples(dataset, recipe.data, "train"), recipe.data)
    learner = Learner(recipe, pixels, pixels)
    softened = Distillation([tiny_run.folder.root], recipe).soften(pixels)
    learner.eval()

    def distance(indices: list[int]) -> float:
        batch = softened.batch(torch.tensor(indices))
        return learner._distance(learner.network(batch.images.float() / 255), as_floats(batch), batch.real).item()

    assert distance([3, 4, -1]) == pytest.approx(distance([3, 4]))
    assert distance([3, 4, 0]) != pytest.approx(distance([3, 4]))


@pytest.fixture(scope="module")
def classifying_recipe(tiny_recipe: Callable[..., Recipe]) -> Recipe:
    network = {
        "name": "smp/unet",
        "encoder": "resnet18",
        "classification_head": True,
        "decoder_channels": [8, 8, 8, 8, 8],
    }
    return tiny_recipe(network=network, optimiser={"epochs": 1, "learning_rate": 0.01})


def test_categories_are_distilled_too(
    tmp_path: Path, phantoms: Path, dataset: Dataset, classifying_recipe: Recipe
) -> None:
    (tmp_path / "recipe.yaml").write_text(classifying_recipe.to_yaml(), encoding="utf-8")
    given = ["train", str(tmp_path / "recipe.yaml"), "--dataset", str(phantoms), "-d", "cpu"]
    first, second = tmp_path / "first", tmp_path / "second"
    alone = CliRunner().invoke(main, [*given, "-o", str(first)])
    assert alone.exit_code == 0 and "--distill-from" not in alone.output
    distilled = CliRunner().invoke(main, [*given, "-o", str(second), "--distill-from", str(first)])
    assert distilled.exit_code == 0 and "the networks of --distill-from see all images first" in distilled.output
    pixels = load_pixels(select_samples(dataset, classifying_recipe.data, "train"), classifying_recipe.data)
    batch = Distillation([first, second], classifying_recipe).soften(pixels).batch(torch.arange(4))
    soft_targets = as_floats(batch)
    assert soft_targets.categories is not None
    torch.testing.assert_close(soft_targets.categories.sum(1), torch.ones(4))
    learner = Learner(classifying_recipe, pixels, pixels)
    unknown = batch._replace(categories=torch.full((4,), -1))
    learner._step("train", batch.images.float() / 255, batch.masks.float(), unknown, soft_targets).backward()
    head = learner.network.head
    assert head is not None
    assert all((parameter.grad != 0).any() for parameter in head.parameters())  # only the soft targets have a category


def test_a_folder_without_a_run_is_an_error(tmp_path: Path, tiny_recipe: Callable[..., Recipe]) -> None:
    with pytest.raises(TrainingError, match=r"finished run with model\.onnx"):
        Distillation([tmp_path], tiny_recipe())


def test_a_run_of_another_size_is_an_error(tiny_run: Run, tiny_recipe: Callable[..., Recipe]) -> None:
    with pytest.raises(TrainingError, match="trained on images of 64x64, and this recipe uses 96x96"):
        Distillation([tiny_run.folder.root], tiny_recipe(data={"size": 96}))


def test_a_run_of_other_targets_is_an_error(tiny_run: Run, tiny_recipe: Callable[..., Recipe]) -> None:
    with pytest.raises(TrainingError, match="trained for infection, lungs, and this recipe is for infection"):
        Distillation([tiny_run.folder.root], tiny_recipe(data={"targets": ["infection"]}))
