"""What can go wrong in a run: full disks, too little memory, devices and datasets that do not fit."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch

from cxrseg.data.sample import Dataset
from cxrseg.errors import DatasetError, DiskFullError, OutOfMemoryError, RecipeError, TrainingError
from cxrseg.run_folder import RunFolder
from cxrseg.training.checkpoints import AtomicCheckpoints, read_checkpoint
from cxrseg.training.fit import Run, train
from cxrseg.training.recipe import Recipe
from made_disk import fill
from made_disk import small_disk as small_disk_at
from made_runs import EVERYTHING, Rows, checkpoint, differing


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 16 MB."""
    with small_disk_at(tmp_path / "disk", 16 * 1024) as folder:
        yield folder


def test_a_disk_that_fills_up_inside_a_checkpoint_is_named(small_disk: Path) -> None:
    path = small_disk / "last.ckpt"
    files = AtomicCheckpoints()
    files.save_checkpoint({"state_dict": {"weight": torch.ones(4)}}, path)
    before = path.read_bytes()
    filler = fill(small_disk, but=2**20)  # room for the beginning only
    big = {"state_dict": {name: torch.randn(2**17) for name in "abcdefgh"}}
    with pytest.raises(DiskFullError, match=r"no room left on the disk of .*last\.ckpt"):
        files.save_checkpoint(big, path)
    assert path.read_bytes() == before
    assert sorted(small_disk.iterdir()) == [filler, path]
    filler.unlink()
    files.save_checkpoint(big, path)
    assert read_checkpoint(path)["state_dict"]["h"].shape == (2**17,)


def test_a_checkpoint_that_could_run_a_program_is_refused_without_torchs_advice(tmp_path: Path) -> None:
    torch.save({"state_dict": {"weight": os.system}}, tmp_path / "evil.ckpt")
    (tmp_path / "text.ckpt").write_text("hello")
    for name in ("evil.ckpt", "text.ckpt"):
        with pytest.raises(TrainingError, match=rf"{name} is not a checkpoint of cxrseg") as caught:
            read_checkpoint(tmp_path / name)
        assert "weights_only" not in str(caught.value)


@pytest.mark.parametrize("full_in", [1, 3])
def test_a_full_disk_is_named_and_the_last_good_checkpoint_stands(
    small_disk: Path,
    dataset: Dataset,
    tiny_recipe: Callable[..., Recipe],
    unbroken: Run,
    unfinished: None,
    full_in: int,
) -> None:
    recipe, folder = tiny_recipe(**EVERYTHING), RunFolder(small_disk / "run")

    def on_epoch(row: dict[str, float | None]) -> None:
        if row["epoch"] == full_in:
            fill(small_disk)

    with pytest.raises(DiskFullError, match=r"no room left on the disk of .*checkpoints.*free some space"):
        train(recipe, dataset, folder.root, device="cpu", on_epoch=on_epoch)
    if full_in > 1:
        assert checkpoint(folder.last)["epoch"] + 1 == full_in - 1
    (small_disk / "filler").unlink()
    train(recipe, dataset, folder.root, resume=True, device="cpu")
    assert differing(folder.last, unbroken.folder.last) == []


def test_a_batch_too_big_for_memory_is_refused_before_the_first_step(
    tmp_path: Path,
    dataset: Dataset,
    tiny_recipe: Callable[..., Recipe],
    monkeypatch: pytest.MonkeyPatch,
    unfinished: None,
) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=20_000_000))
    rows: Rows = []
    with pytest.raises(OutOfMemoryError, match="a batch of 512 images of 64x64 needs at least") as caught:
        train(tiny_recipe(optimiser={"batch_size": 512}), dataset, tmp_path / "run", device="cpu", on_epoch=rows.append)
    assert rows == []
    fits = int(str(caught.value).partition("set optimiser.batch_size to ")[2].split()[0])
    run = train(tiny_recipe(optimiser={"batch_size": fits, "epochs": 1}), dataset, tmp_path / "run", device="cpu")
    assert len(run.history) == 1


@pytest.mark.usefixtures("unfinished")
@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
)
def test_memory_that_runs_out_later_is_named(
    tmp_path: Path,
    dataset: Dataset,
    tiny_recipe: Callable[..., Recipe],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("cxrseg.training.lightning_module.Learner.training_step", fail)
    with pytest.raises(OutOfMemoryError, match=r"a batch of 8 images of 64x64 .*optimiser\.batch"):
        train(tiny_recipe(), dataset, tmp_path / "run", device="cpu")


@pytest.mark.usefixtures("unfinished")
def test_a_loss_that_is_no_number_ends_the_run(
    tmp_path: Path, dataset: Dataset, tiny_recipe: Callable[..., Recipe]
) -> None:
    wild = tiny_recipe(optimiser={"learning_rate": 1e38, "name": "sgd", "epochs": 3})
    with pytest.raises(TrainingError, match=r"nan or infinite in epoch \d; use a smaller optimiser\.learning_rate"):
        train(wild, dataset, tmp_path / "run", device="cpu")


@pytest.mark.parametrize(
    ("device", "settings", "expected"),
    [
        ("tpu", {}, "got 'tpu'"),
        ("cpu:1", {}, "got 'cpu:1'"),
        ("gpu:x", {}, "got 'gpu:x'"),
        ("cpu", {"precision": "float16"}, "float16 needs a GPU"),
    ],
)
def test_a_device_that_cannot_be_used_is_refused(
    tmp_path: Path,
    dataset: Dataset,
    tiny_recipe: Callable[..., Recipe],
    device: str,
    settings: dict[str, Any],
    expected: str,
) -> None:
    with pytest.raises(TrainingError, match=expected):
        train(tiny_recipe(optimiser=settings), dataset, tmp_path / "run", device=device)
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_an_error(
    tmp_path: Path, dataset: Dataset, tiny_recipe: Callable[..., Recipe]
) -> None:
    with pytest.raises(TrainingError, match="finds no GPU that it can use; use -d cpu"):
        train(tiny_recipe(), dataset, tmp_path / "run", device="gpu")


def test_a_dataset_that_lacks_a_split_leaves_no_folder(
    tmp_path: Path, dataset: Dataset, tiny_recipe: Callable[..., Recipe]
) -> None:
    with pytest.raises(DatasetError, match="val"):
        train(tiny_recipe(), dataset.select("train"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_network_that_cannot_be_built_leaves_no_folder(
    tmp_path: Path, dataset: Dataset, tiny_recipe: Callable[..., Recipe]
) -> None:
    with pytest.raises(RecipeError, match="no network 'unett'"):
        train(tiny_recipe(network={"name": "unett"}), dataset, tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"optimiser": {"batch_size": 1}, "data": {"size": 32}, "network": {"name": "smp/pspnet"}}, "batch_size to 2"),
        ({"network": {"name": "smp/unet", "decoder_channels": [16, 8, 8], "decoder_stride": 4}}, None),
        ({"network": {"name": "smp/unet", "decoder_channels": [8], "decoder_stride": 4}}, "cannot build|leaves out 2"),
        ({"network": {"name": "smp/unet", "decoder_channels": [8] * 7}}, "decoder_channels"),
        ({"network": {"name": "smp/fpn", "decoder_channels": [8, 8]}}, "decoder_channels"),
    ],
)
@pytest.mark.usefixtures("unfinished")
def test_settings_that_do_not_fit_each_other_are_named(
    tmp_path: Path,
    dataset: Dataset,
    tiny_recipe: Callable[..., Recipe],
    settings: dict[str, dict[str, Any]],
    expected: str | None,
) -> None:
    network = {"features": 4, "encoder": "tu-tf_efficientnet_lite0", **settings["network"]}
    recipe = tiny_recipe(
        **{**settings, "network": network, "optimiser": {"epochs": 1, **settings.get("optimiser", {})}}
    )
    few = replace(dataset, samples=tuple(s for n, s in enumerate(dataset.samples) if n % 4 == 0 or s.split != "train"))
    if expected is None:
        train(recipe, few, tmp_path / "run", device="cpu")
        return
    with pytest.raises(RecipeError, match=expected):
        train(recipe, few, tmp_path / "run", device="cpu")
    assert not (tmp_path / "run" / "recipe.yaml").exists()
