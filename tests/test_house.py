"""The rules of the house: floors, no circles, nothing heavy where it is not wanted, documented and small."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import pytest

import cxrseg

ROOT = Path(cxrseg.__file__).parent

FLOORS = [
    {"errors", "_version"},
    {"io"},
    {"preprocess", "model_file", "data", "measure", "show"},
    {"learn", "segment"},
    {"judge", "serve"},
    {"cli", "demo", "__main__"},
]
BESIDE = {("show", "data"), ("data", "measure"), ("demo", "cli"), ("cli", "demo"), ("__main__", "cli")}
"""Rooms of one floor that may use each other: (user, used)."""

TORCH = {"torch", "lightning", "kornia", "monai", "timm", "segmentation_models_pytorch", "torchmetrics"}
NEEDS_TORCH = {"cxrseg.inference.torch_engine", "cxrseg.inference.torch_operations"}
"""Outside of learn: for GPUs, imported when one is asked for."""

LINES, FUNCTION_LINES = 330, 50


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {name_of(path): path for path in sorted(ROOT.rglob("*.py"))}
ROOMS = [name for name in FILES if name != "cxrseg"]


@cache
def tree(name: str) -> ast.Module:
    return ast.parse(FILES[name].read_text(encoding="utf-8"))


def imported(name: str) -> Iterator[str]:
    """Every module that a module imports, also later, inside functions, and for type checkers."""
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports relatively"
            module = str(node.module)
            for alias in node.names:
                inner = f"{module}.{alias.name}"
                yield inner if inner in FILES else module


def room_of(name: str) -> str:
    return name.split(".")[1]


def floor_of(room: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if room in rooms)


def test_every_room_has_a_floor() -> None:
    assert {room_of(name) for name in ROOMS} <= set().union(*FLOORS)


@pytest.mark.parametrize("name", ROOMS)
def test_no_arrow_runs_up(name: str) -> None:
    room = room_of(name)
    wrong = []
    for other in imported(name):
        if other.partition(".")[0] != "cxrseg" or other == "cxrseg" or room_of(other) == room:
            continue
        below = floor_of(room_of(other)) < floor_of(room)
        if not below and (room, room_of(other)) not in BESIDE:
            wrong.append(other)
    assert wrong == []


@pytest.mark.parametrize("name", ROOMS)
def test_nobody_inside_uses_the_package_as_a_whole(name: str) -> None:
    assert "cxrseg" not in set(imported(name))


def test_there_is_no_circle() -> None:
    graph = {name: {other for other in imported(name) if other in FILES} for name in ROOMS}
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, " -> ".join((*way[way.index(name) :], name))
        if name not in done:
            for other in sorted(graph[name]):
                visit(other, (*way, name))
            done.add(name)

    for name in ROOMS:
        visit(name, ())


@pytest.mark.parametrize("name", [name for name in ROOMS if room_of(name) != "learn" and name not in NEEDS_TORCH])
def test_torch_stays_in_its_room(name: str) -> None:
    assert {other.partition(".")[0] for other in imported(name)} & TORCH == set()


def test_measure_needs_numpy_and_scipy_only() -> None:
    used = {other.partition(".")[0] for name in ROOMS if room_of(name) == "measure" for other in imported(name)}
    assert used - set(sys.stdlib_module_names) <= {"cxrseg", "numpy", "scipy"}


def loaded_by(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint('\\n'.join(sys.modules))"],
        capture_output=True,
        text=True,
        check=True,
    )
    return {line.partition(".")[0] for line in done.stdout.splitlines()}


def test_importing_cxrseg_loads_nothing_heavy() -> None:
    assert loaded_by("import cxrseg") & (TORCH | {"openvino", "numpy", "matplotlib"}) == set()


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["predict", "--help"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    code = f"import cxrseg.cli\ntry:\n    cxrseg.cli.main({arguments!r})\nexcept SystemExit:\n    pass"
    assert loaded_by(code) & (TORCH | {"openvino", "matplotlib"}) == set()


def test_judging_and_predicting_load_no_torch() -> None:
    light = [name for name in ROOMS if room_of(name) not in ("learn", "demo", "__main__") and name not in NEEDS_TORCH]
    code = "import " + ", ".join(light)
    assert loaded_by(code) & TORCH == set()


def listed(name: str) -> list[str] | None:
    """What __all__ spells out, or None where there is no such list."""
    for node in tree(name).body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
            found: list[str] = ast.literal_eval(node.value)  # type: ignore[attr-defined]
            return found
    return None


def holds_code(name: str) -> bool:
    return any(isinstance(node, ast.FunctionDef | ast.ClassDef) for node in tree(name).body)


@pytest.mark.parametrize("name", [name for name in FILES if holds_code(name)])
def test_all_is_spelt_out_and_sorted(name: str) -> None:
    found = listed(name)
    assert found is not None

    def key(word: str) -> tuple[int, str]:
        # As ruff and isort do: constants, classes, the rest.
        return (0 if word.isupper() else 1 if word[0].isupper() else 2), word

    assert found == sorted(found, key=key)
    assert len(set(found)) == len(found)


def documented_constants(name: str) -> set[str]:
    """Constants in a block of lines that has a docstring behind them or a comment above."""
    found = set()
    for block in FILES[name].read_text(encoding="utf-8").split("\n\n"):
        lines = block.strip().splitlines()
        if lines and (lines[0].startswith("# ") or lines[-1].endswith('"""')):
            found |= {word.strip() for line in lines for word in line.partition(" = ")[0].partition(":")[0].split(",")}
    return found


@pytest.mark.parametrize("name", [name for name in FILES if listed(name)])
def test_every_public_name_is_documented(name: str) -> None:
    module = importlib.import_module(name)
    assert (module.__doc__ or "").strip()
    constants = documented_constants(name)
    bare = []
    for public in listed(name) or []:
        value = getattr(module, public)
        defined = getattr(value, "__module__", None)
        if isinstance(value, click.Command):
            documented = bool(value.help)
        elif callable(value) and isinstance(defined, str) and defined.startswith("cxrseg"):
            documented = bool((value.__doc__ or "").strip()) and not (value.__doc__ or "").startswith(f"{public}(")
        elif name == "cxrseg":
            documented = True  # the version
        else:
            documented = public in constants
        if not documented:
            bare.append(public)
    assert bare == []


def test_the_public_names_have_homes() -> None:
    homes = cxrseg._HOMES
    assert set(cxrseg.__all__) == {*homes, "__version__", "segment"}
    assert callable(cxrseg.segment)  # the room itself, see segment/__init__.py
    assert dir(cxrseg) == cxrseg.__all__
    for public, home in homes.items():
        assert public in (listed(f"cxrseg.{home}") or []), f"{public} is not in __all__ of {home}"
        assert getattr(cxrseg, public) is getattr(importlib.import_module(f"cxrseg.{home}"), public)


def test_the_public_names_are_the_same_for_type_checkers() -> None:
    checked = {
        alias.name: str(node.module).removeprefix("cxrseg.")
        for block in tree("cxrseg").body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert {public: checked.get(public) for public in cxrseg._HOMES} == cxrseg._HOMES


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'cxrseg' has no attribute 'nonesuch'"):
        cxrseg.nonesuch  # noqa: B018


def code_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring."""
    docstring = len((ast.get_docstring(node, clean=False) or "").splitlines())
    return (node.end_lineno or node.lineno) - node.lineno + 1 - docstring


@pytest.mark.parametrize("name", FILES)
def test_rooms_are_small(name: str) -> None:
    assert len(FILES[name].read_text(encoding="utf-8").splitlines()) <= LINES
    functions = [node for node in ast.walk(tree(name)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    long = {node.name: lines for node in functions if (lines := code_lines(node)) > FUNCTION_LINES}
    assert long == {}


@pytest.mark.parametrize("name", FILES)
def test_nothing_prints_and_nothing_mutes_warnings_at_import(name: str) -> None:
    calls = [node for node in ast.walk(tree(name)) if isinstance(node, ast.Call)]
    assert [node.lineno for node in calls if isinstance(node.func, ast.Name) and node.func.id == "print"] == []
    muted = [
        statement.lineno
        for statement in tree(name).body
        if isinstance(statement, ast.Expr) and "filterwarnings" in ast.unparse(statement)
    ]
    assert muted == []


def test_the_library_logs_into_the_void_unless_asked() -> None:
    import logging

    assert any(isinstance(handler, logging.NullHandler) for handler in logging.getLogger("cxrseg").handlers)


@pytest.mark.parametrize("name", sorted(path.stem for path in Path(__file__).parent.glob("test_*.py")))
def test_every_test_module_mirrors_a_module(name: str) -> None:
    modules = {module.rpartition(".")[2] for module in FILES}
    stem = name.removeprefix("test_")
    assert {stem, f"cli_{stem}"} & (modules | {"house", "docs", "shipped"})
