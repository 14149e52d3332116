"""Ranges for int8 are kept in the model file only where int8 costs next to nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from cxrseg.data.sample import Dataset
from cxrseg.evaluation import int8_ranges
from cxrseg.evaluation.calibrate import fit
from cxrseg.inference.engine import Engine
from cxrseg.inference.int8 import has_exact_int8
from cxrseg.model_file import read_model
from cxrseg.training.fit import Run

pytestmark = pytest.mark.skipif(not has_exact_int8(), reason="this processor has no exact int8 (VNNI or AMX)")


def test_fitting_measures_them_and_says_what_int8_costs(tmp_path: Path, tiny_run: Run, dataset: Dataset) -> None:
    fitted = fit(tiny_run.folder.model, dataset.select("val"), tmp_path / "fitted.onnx")
    assert len(fitted.int8_ranges) > 3
    assert fitted.fitted_on is not None and abs(fitted.fitted_on["int8_cost"]) <= int8_ranges.LARGEST_COST
    assert read_model(tmp_path / "fitted.onnx")[1] == fitted
    assert Engine(tmp_path / "fitted.onnx", precision="int8").precision == "int8"


def test_where_int8_costs_too_much_there_are_none(
    tmp_path: Path, tiny_run: Run, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(int8_ranges, "LARGEST_COST", -1.0)
    fitted = fit(tiny_run.folder.model, dataset.select("val"), tmp_path / "fitted.onnx")
    assert fitted.int8_ranges == {}
    assert fitted.fitted_on is not None and "int8_cost" in fitted.fitted_on
