"""Shared by many tests: a tiny phantom dataset, tiny recipes, and one tiny trained run."""

from __future__ import annotations

import os

# Before anything imports numpy or torch: tiny tensors gain nothing from threads, and lose where cores are shared.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from cxrseg.data.layout import open_dataset
from cxrseg.data.sample import Dataset
from cxrseg.phantom.generate import write_phantoms

if TYPE_CHECKING:
    from torch import nn

    from cxrseg.training.fit import Run
    from cxrseg.training.recipe import Recipe

COUNTS = {
    "train": {"COVID-19": 8, "Non-COVID": 4, "Normal": 4},
    "val": {"COVID-19": 4, "Non-COVID": 1, "Normal": 1},
    "test": {"COVID-19": 3, "Non-COVID": 1, "Normal": 2},
}

TINY: dict[str, dict[str, Any]] = {
    "data": {"size": 64, "targets": ["infection", "lungs"]},
    "network": {"features": 4},
    "loss": {"name": "bce+dice"},
    "augment": {},
    "optimiser": {"epochs": 2, "learning_rate": 0.01},
}


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 28 phantoms of 64 pixels, in the layout of COVID-QU-Ex."""
    return write_phantoms(tmp_path_factory.mktemp("phantoms"), COUNTS, size=64)


@pytest.fixture(scope="session")
def dataset(phantoms: Path) -> Dataset:
    """The 28 phantoms: 16 to train on, 6 to validate, 6 to test."""
    return open_dataset(phantoms)


@pytest.fixture(scope="session")
def tiny_recipe() -> Callable[..., Recipe]:
    """Makes a recipe of seconds; its arguments are sections with the settings to change."""
    from cxrseg.training.recipe import Recipe

    def make(seed: int = 0, **sections: dict[str, Any]) -> Recipe:
        values = {section: {**settings, **sections.get(section, {})} for section, settings in TINY.items()}
        return Recipe.model_validate({"name": "tiny", "seed": seed, **values})

    return make


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory, dataset: Dataset, tiny_recipe: Callable[..., Recipe]) -> Run:
    """One run of two epochs, with everything that a run leaves behind."""
    from cxrseg.training.fit import train

    return train(tiny_recipe(), dataset, tmp_path_factory.mktemp("runs") / "tiny", device="cpu")


@pytest.fixture
def write_sample(tmp_path: Path) -> Callable[..., None]:
    """Writes one image with its masks into tmp_path/data, laid out as COVID-QU-Ex; masks of None are left out."""

    def write(
        name: str,
        image: npt.NDArray[Any] | Image.Image,
        infection: npt.NDArray[np.bool_] | None,
        lungs: npt.NDArray[np.bool_] | None,
        split: str = "Test",
        category: str = "COVID-19",
    ) -> None:
        folder = tmp_path / "data" / split / category
        drawn = image if isinstance(image, Image.Image) else Image.fromarray(image)
        files = {"images": drawn}
        for kind, mask in (("infection masks", infection), ("lung masks", lungs)):
            if mask is not None:
                files[kind] = Image.fromarray(mask.astype(np.uint8) * 255)
        for kind, file in files.items():
            (folder / kind).mkdir(parents=True, exist_ok=True)
            file.save(folder / kind / f"{name}.png")

    return write


@pytest.fixture(scope="session")
def bright_model(
    tmp_path_factory: pytest.TempPathFactory, dataset: Dataset, tiny_recipe: Callable[..., Recipe]
) -> Path:
    """A model file whose answer is known: infection is where a pixel is brighter than 0.5, lungs where darker."""
    import torch

    from cxrseg.training.export import export_model
    from cxrseg.training.networks import Found

    class Bright(torch.nn.Module):
        def forward(self, pixels: torch.Tensor) -> Found:
            return Found(torch.cat([pixels - 0.5, 0.5 - pixels], 1) * 200, None)

    network: nn.Module = Bright()
    path = tmp_path_factory.mktemp("models") / "bright.onnx"
    export_model(path, network, tiny_recipe(), dataset, {})
    return path


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Compiled models go to a folder of the tests."""
    os.environ["CXRSEG_CACHE"] = str(tmp_path_factory.mktemp("cache"))
