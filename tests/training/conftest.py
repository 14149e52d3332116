"""Shared by the tests of whole runs."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cxrseg.data.sample import Dataset
from cxrseg.training.fit import Run, train
from cxrseg.training.recipe import Recipe
from made_runs import EVERYTHING


@pytest.fixture
def unfinished(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the end of the runs out, export and figures: they take longer than tiny runs, and have their own test."""
    monkeypatch.setattr("cxrseg.training.fit._finish", lambda *_: None)


@pytest.fixture(scope="session")
def unbroken(tmp_path_factory: pytest.TempPathFactory, dataset: Dataset, tiny_recipe: Callable[..., Recipe]) -> Run:
    """A run of eight epochs with all that draws random numbers, to compare broken ones with."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cxrseg.training.fit._finish", lambda *_: None)
        return train(tiny_recipe(**EVERYTHING), dataset, tmp_path_factory.mktemp("unbroken") / "run", device="cpu")
