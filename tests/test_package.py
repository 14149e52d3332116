"""The package as a whole: its public names, what importing it loads, and the size of its parts.

Layers and imports are contracts of import-linter, in pyproject.toml; `lint-imports` checks them.
"""

from __future__ import annotations

import ast
import importlib
import logging
import subprocess
import sys
from pathlib import Path

import pytest

import cxrseg

ROOT = Path(cxrseg.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
BENCHMARKS = sorted((Path(__file__).resolve().parents[1] / "benchmarks").glob("*.py"))
HEAVY = {"torch", "lightning", "kornia", "monai", "timm", "segmentation_models_pytorch", "torchmetrics"}
MODULE_LINES, FUNCTION_LINES = 300, 50


def loaded_by(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint('\\n'.join(sys.modules))"],
        capture_output=True,
        text=True,
        check=True,
    )
    return {line.partition(".")[0] for line in done.stdout.splitlines()}


def test_importing_cxrseg_loads_nothing_heavy() -> None:
    assert loaded_by("import cxrseg") & (HEAVY | {"openvino", "numpy", "matplotlib"}) == set()


def test_prediction_of_files_loads_no_scipy() -> None:
    """Its import would take a third of the command's start."""
    assert "scipy" not in loaded_by("import cxrseg.inference.files")


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["predict", "--help"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    code = f"import cxrseg.cli\ntry:\n    cxrseg.cli.main({arguments!r})\nexcept SystemExit:\n    pass"
    assert loaded_by(code) & (HEAVY | {"openvino", "matplotlib"}) == set()


def test_prediction_and_evaluation_load_no_torch() -> None:
    modules = "cxrseg.inference.files, cxrseg.evaluation.evaluate, cxrseg.report.report, cxrseg.run_folder"
    assert loaded_by(f"import {modules}") & HEAVY == set()


def test_every_public_name_can_be_imported() -> None:
    assert set(cxrseg.__all__) == {*cxrseg._MODULES, "__version__"}
    assert dir(cxrseg) == cxrseg.__all__
    for public, module_name in cxrseg._MODULES.items():
        module = importlib.import_module(f"cxrseg.{module_name}")
        assert public in module.__all__
        assert getattr(cxrseg, public) is getattr(module, public)


def test_importing_a_module_does_not_hide_the_function_of_its_name() -> None:
    importlib.import_module("cxrseg.inference.segment")
    assert callable(cxrseg.segment)


def test_type_checkers_see_the_same_public_names() -> None:
    tree = ast.parse((ROOT / "__init__.py").read_text(encoding="utf-8"))
    imports = [node for block in tree.body if isinstance(block, ast.If) for node in block.body]
    seen = {
        alias.name: str(node.module).removeprefix("cxrseg.")
        for node in imports
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == cxrseg._MODULES


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'cxrseg' has no attribute 'nonesuch'"):
        cxrseg.nonesuch  # noqa: B018


def test_the_library_logs_nowhere_unless_asked() -> None:
    assert any(isinstance(handler, logging.NullHandler) for handler in logging.getLogger("cxrseg").handlers)


def test_modules_and_functions_are_small() -> None:
    long = []
    for path in [*FILES, *BENCHMARKS]:
        text = path.read_text(encoding="utf-8")
        if len(text.splitlines()) > MODULE_LINES:
            long.append(f"{path.name}: {len(text.splitlines())} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                docstring = len((ast.get_docstring(node, clean=False) or "").splitlines())
                lines = (node.end_lineno or node.lineno) - node.lineno + 1 - docstring
                if lines > FUNCTION_LINES:
                    long.append(f"{path.name}: {node.name} has {lines} lines")
    assert long == []
