from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cxrseg.data.layout import open_dataset
from cxrseg.data.sample import Dataset, Sample
from cxrseg.errors import DatasetError
from cxrseg.preprocessing import content_box, mask_to_input, to_input
from cxrseg.training.batches import Batches, Pixels, epoch_seed, load_pixels, select_samples, shuffled
from cxrseg.training.recipe import DataRecipe


def numbered(count: int) -> Pixels:
    """Images whose pixels all are their number; two masks, the second absent from every third image."""
    images = torch.arange(count, dtype=torch.uint8)[:, None, None, None].expand(count, 1, 4, 4).clone()
    present = torch.ones(count, 2, dtype=torch.bool)
    present[::3, 1] = False
    return Pixels(
        tuple(map(str, range(count))),
        images,
        torch.ones(count, 2, 4, 4, dtype=torch.uint8),
        present,
        torch.arange(count) % 3,
    )


def seen(batches: Batches) -> list[list[int]]:
    """Numbers of the images of each batch, without those that only fill it up."""
    return [
        [int(image[0, 0, 0]) for image, there in zip(batch.images, batch.present, strict=True) if there[0]]
        for batch in batches
    ]


def recipe(**settings: Any) -> DataRecipe:
    return DataRecipe.model_validate({"size": 64, "targets": ["infection", "lungs"], **settings})


def square(size: int = 64) -> Any:
    mask = np.zeros((size, size), bool)
    mask[size // 4 : size // 2, size // 4 : size // 2] = True
    return mask


def test_the_order_depends_on_seed_and_epoch_only() -> None:
    torch.manual_seed(1)
    one = shuffled(50, 3, 4)
    torch.manual_seed(2)
    torch.rand(7)
    assert torch.equal(shuffled(50, 3, 4), one)
    assert sorted(one.tolist()) == list(range(50))
    assert not torch.equal(shuffled(50, 3, 5), one)
    assert not torch.equal(shuffled(50, 4, 4), one)


def test_the_order_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    shuffled(50, 3, 4)
    assert torch.equal(torch.rand(3), expected)


def test_each_run_epoch_and_process_has_its_own_seed() -> None:
    seeds = [epoch_seed(seed, epoch, rank) for seed in range(20) for epoch in range(40) for rank in range(8)]
    assert len(set(seeds)) == len(seeds)
    assert 0 <= epoch_seed(2**32 - 1, 10_000, 999) < 2**63


def test_every_image_comes_once_an_epoch() -> None:
    batches = Batches(numbered(10), 4, shuffled(10, 0, 0))
    found = seen(batches)
    assert [len(batch) for batch in found] == [4, 4, 2]
    assert len(batches) == 3
    assert list(chain.from_iterable(found)) == shuffled(10, 0, 0).tolist()
    assert seen(batches) == found  # it may be gone through again


def test_without_an_order_images_come_in_theirs() -> None:
    assert seen(Batches(numbered(5), 2)) == [[0, 1], [2, 3], [4]]


@pytest.mark.parametrize(("count", "batch", "sizes"), [(10, 4, [4, 4]), (8, 4, [4, 4]), (3, 4, [3]), (4, 4, [4])])
def test_the_last_batch_is_left_out_where_it_is_not_full(count: int, batch: int, sizes: list[int]) -> None:
    batches = Batches(numbered(count), batch, drop_last=True)
    assert [len(found) for found in seen(batches)] == sizes
    assert len(batches) == len(sizes)


@pytest.mark.parametrize(("count", "batch", "processes"), [(10, 4, 2), (9, 3, 2), (11, 4, 3), (5, 1, 2), (7, 8, 4)])
def test_processes_together_see_every_image_once(count: int, batch: int, processes: int) -> None:
    order = shuffled(count, 1, 1)
    ranks = [Batches(numbered(count), batch, order, rank=rank, processes=processes) for rank in range(processes)]
    assert len({len(batches) for batches in ranks}) == 1
    single = seen(Batches(numbered(count), batch, order))
    for step, parts in enumerate(zip(*(seen(batches) for batches in ranks), strict=True)):
        assert sorted(chain.from_iterable(parts)) == sorted(single[step])  # the same images in the same step
    for batches in zip(*ranks, strict=True):
        assert len({len(batch.images) for batch in batches}) == 1  # so that no process waits for another


def test_an_index_of_minus_one_has_nothing_present() -> None:
    batch = numbered(3).batch(torch.tensor([2, -1]))
    assert batch.images[0, 0, 0, 0] == 2
    assert batch.present.tolist() == [[True, True], [False, False]]


def test_the_masks_that_an_image_lacks_are_absent() -> None:
    assert numbered(4).batch(torch.arange(4)).present[:, 1].tolist() == [False, True, True, False]


def test_pixels_are_the_images_and_masks_as_preprocessed(dataset: Dataset) -> None:
    samples = select_samples(dataset, recipe(), "val")
    pixels = load_pixels(samples, recipe(targets=["lungs", "infection"], size=[32, 96]))
    assert pixels.images.dtype == pixels.masks.dtype == torch.uint8
    assert pixels.images.shape == (len(samples), 1, 32, 96)
    assert pixels.masks.shape == (len(samples), 2, 32, 96)
    assert pixels.names == tuple(sample.name for sample in samples)
    for sample, image, masks in zip(samples, pixels.images, pixels.masks, strict=True):
        film = sample.read_image().pixels
        box = content_box(film)
        expected = to_input(film[box], (32, 96))
        assert np.abs(image[0].numpy() / 255 - expected).max() <= 0.5 / 255 + 1e-6
        for channel, target in enumerate(("lungs", "infection")):
            mask = sample.read_mask(target)
            assert mask is not None
            assert np.array_equal(masks[channel].numpy(), mask_to_input(mask[box], (32, 96)))
    assert pixels.masks.max() == 1


def test_eight_bit_images_of_the_right_size_are_kept_exactly(dataset: Dataset) -> None:
    samples = select_samples(dataset, recipe(), "val")
    pixels = load_pixels(samples, recipe())
    exact = 0
    for sample, image in zip(samples, pixels.images, strict=True):
        assert isinstance(sample.image, Path)
        with Image.open(sample.image) as stored:
            if content_box(sample.read_image().pixels) != (slice(0, 64), slice(0, 64)):
                continue
            exact += 1
            assert np.array_equal(image[0].numpy(), np.asarray(stored))
    assert exact


@pytest.mark.parametrize(
    ("non_covid", "images", "infection", "lungs"),
    [("background", 6, True, True), ("lungs", 6, False, True), ("out", 5, None, None)],
)
def test_what_non_covid_images_teach(
    dataset: Dataset, non_covid: str, images: int, infection: bool | None, lungs: bool | None
) -> None:
    samples = select_samples(dataset, recipe(non_covid=non_covid), "val")
    pixels = load_pixels(samples, recipe(non_covid=non_covid))
    assert len(pixels) == images
    chosen = [index for index, sample in enumerate(samples) if sample.category == "Non-COVID"]
    assert pixels.present[chosen].tolist() == ([] if infection is None else [[infection, lungs]])
    others = [index for index in range(images) if index not in chosen]
    assert pixels.present[others].all()


def test_only_the_recipes_categories_take_part(dataset: Dataset) -> None:
    samples = select_samples(dataset, recipe(categories=["COVID-19"]), "train")
    assert {sample.category for sample in samples} == {"COVID-19"}
    assert len(samples) == 8


def test_images_without_a_category_always_take_part(dataset: Dataset) -> None:
    bare = tuple(Sample(s.name, s.split, None, s.image, s.masks) for s in dataset.samples)
    found = select_samples(Dataset(dataset.root, "own", bare), recipe(categories=["COVID-19"], non_covid="out"), "val")
    assert len(found) == 6


def test_a_split_that_is_missing_is_named(dataset: Dataset) -> None:
    with pytest.raises(DatasetError, match=r"no split 'val' .*hold_out"):
        select_samples(dataset.select("train"), recipe(), "val")
    with pytest.raises(DatasetError, match=r"split train.*it has: val COVID-19 4"):
        select_samples(dataset.select("val"), recipe(), "train")


def test_a_recipe_that_leaves_every_image_out_is_refused(dataset: Dataset) -> None:
    with pytest.raises(DatasetError, match="non_covid"):
        select_samples(dataset, recipe(categories=["Non-COVID"], non_covid="out"), "val")


def test_all_broken_files_are_listed_at_once(tmp_path: Path, write_sample: Callable[..., None]) -> None:
    for number in range(4):
        write_sample(f"covid_{number}", np.zeros((64, 64), np.uint8), square(), square())
    dataset = open_dataset(tmp_path / "data")
    folder = tmp_path / "data" / "Test" / "COVID-19"
    for path in (folder / "images" / "covid_1.png", folder / "lung masks" / "covid_3.png"):
        path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DatasetError, match="2 of 4 images cannot be used") as caught:
        load_pixels(dataset.samples, recipe())
    assert len(caught.value.faults) == 2
    assert "covid_1.png" in caught.value.faults[0]
    assert "covid_3.png" in caught.value.faults[1]


def test_a_target_that_no_image_has_is_an_error(dataset: Dataset) -> None:
    bare = [Sample(s.name, s.split, s.category, s.image, {"lungs": s.masks["lungs"]}) for s in dataset.samples]
    with pytest.raises(DatasetError, match=r"has a mask of infection, .*data\.targets"):
        load_pixels(bare, recipe())
    only_lungs = load_pixels(bare, recipe(targets=["lungs"]))
    assert only_lungs.present.all()


def test_a_target_that_some_images_have_is_none(dataset: Dataset) -> None:
    first, *others = dataset.select("val").samples
    bare = [first, *(Sample(s.name, s.split, s.category, s.image, {"lungs": s.masks["lungs"]}) for s in others)]
    assert load_pixels(bare, recipe()).present[:, 0].tolist() == [True] + [False] * 5


def test_colour_transparency_and_16_bits_are_read(tmp_path: Path, write_sample: Callable[..., None]) -> None:
    ramp = np.tile(np.arange(64, dtype=np.uint8) * 4, (64, 1))
    rgba = np.dstack([ramp, ramp, ramp, np.full_like(ramp, 128)])
    kinds = {
        "covid_1": Image.fromarray(ramp),
        "covid_2": Image.fromarray(rgba),
        "covid_3": Image.fromarray(ramp.astype(np.uint16) * 257),
        "covid_4": Image.fromarray(ramp).convert("P"),
    }
    for name, image in kinds.items():
        write_sample(name, image, square(), square())
    pixels = load_pixels(open_dataset(tmp_path / "data").samples, recipe())
    assert len(pixels) == 4
    for image in pixels.images:
        assert (image[0].int() - torch.from_numpy(ramp).int()).abs().max() <= 1


def test_opacity_is_its_own_mask_or_an_infection_that_leaves_some_lung_out(
    tmp_path: Path, write_sample: Callable[..., None]
) -> None:
    lungs = np.ones((64, 64), bool)
    write_sample("part", np.zeros((64, 64), np.uint8), square(), lungs, "Train")
    write_sample("whole", np.zeros((64, 64), np.uint8), lungs, lungs, "Train")
    write_sample("none", np.zeros((64, 64), np.uint8), lungs & False, lungs, "Train", "Normal")
    write_sample("other", np.zeros((64, 64), np.uint8), lungs & False, lungs, "Train", "Non-COVID")
    samples = open_dataset(tmp_path / "data").samples
    pixels = load_pixels(samples, recipe(targets=["infection", "opacity", "lungs"]))
    found = {
        name.split("/")[-1]: (bool(there), int(mask.sum()))
        for name, there, mask in zip(pixels.names, pixels.present[:, 1], pixels.masks[:, 1], strict=True)
    }
    assert found == {"part": (True, 256), "whole": (False, 0), "none": (True, 0), "other": (False, 0)}
    own = tmp_path / "own.png"
    Image.fromarray(square().astype(np.uint8) * 255).save(own)
    whole = next(sample for sample in samples if sample.name.endswith("whole"))
    drawn = replace(whole, masks={**whole.masks, "opacity": own})
    assert load_pixels([drawn], recipe(targets=["opacity", "lungs"])).masks[0, 0].sum() == 256
