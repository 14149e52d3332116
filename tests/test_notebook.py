"""The example notebook, executed in a kernel as Jupyter does."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

import cxrseg

NOTEBOOK = Path(__file__).resolve().parents[1] / "docs" / "quickstart.ipynb"


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    place = tmp_path_factory.mktemp("notebook")
    # The kernel runs in another folder, and must use the same cxrseg as this process.
    env = os.environ | {"PYTHONPATH": str(Path(cxrseg.__file__).parents[1])}
    client = NotebookClient(notebook, timeout=240, kernel_name="python3", resources={"metadata": {"path": str(place)}})
    client.execute(env=env)
    assert (place / "outlines.png").is_file()
    return notebook


def test_it_is_stored_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert cell.cell_type == "markdown" or (cell.outputs == [] and cell.execution_count is None)
        assert not cell.get("attachments")


def outputs(notebook: Any, part: str) -> list[Any]:
    """The outputs of the one cell that contains `part`."""
    [cell] = [cell for cell in notebook.cells if cell.cell_type == "code" and part in cell.source]
    return list(cell.outputs)


def test_predictions_show_themselves(executed: Any) -> None:
    [shown] = outputs(executed, "phantom = ")
    assert "data:image/jpeg;base64," in shown.data["text/html"] and "Not for diagnosis" in shown.data["text/html"]
    assert shown.data["text/plain"].startswith("Prediction(ok, array, 512 x 512 pixels, infected ")
    [refused] = outputs(executed, "default_rng")
    assert "refused" in refused.data["text/html"] and refused.data["text/plain"].startswith("Prediction(refused")
    [picture] = outputs(executed, ".show(")
    assert "image/png" in picture.data


def test_its_figures_are_true(executed: Any) -> None:
    [dice] = outputs(executed, "Dice with the true mask")
    assert float(dice.text.split()[-1]) > 0.6
    [counts] = outputs(executed, "predict_files")
    assert counts.data["text/plain"].replace("mappingproxy(", "").startswith("{'ok': 5")
