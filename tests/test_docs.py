"""The commands and the Python examples of README and docs, run from top to bottom on phantoms."""

from __future__ import annotations

import re
import shlex
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import cxrseg
from cxrseg.cli import main
from cxrseg.phantom.generate import make_phantom
from cxrseg.run_folder import RunFolder
from cxrseg.training import recipe_file
from cxrseg.training.fit import Run
from cxrseg.training.recipe import Recipe
from made_films import make_film

ROOT = Path(__file__).resolve().parents[1]
DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# What was measured, in hours and on data that is not here; tests/cli/test_cli.py parses its commands.
DOCS.remove(ROOT / "docs" / "results.md")

NOT_RUN = {
    "cxrseg demo": "trains for minutes; tests/cli runs it with fewer images",
    "cxrseg data fetch": "downloads; tests/data/test_fetch.py runs it against a local server",
    "--engine ray": "needs a cluster; tests/inference/test_ray.py starts one",
    "cxrseg serve": "serves until it is stopped; tests/cli/test_serve.py starts one",
    "cxrseg node": "serves until it is stopped; tests/hospital/node start one",
    "cxrseg fit-check": "needs hundreds of films; tests/training/test_view_head.py fits one",
    "--processes": "tests/training/test_several_processes.py starts them",
    "-m cxrseg train": "torchrun: tests/training/test_several_processes.py starts it",
}
"""Part of a command to the reason why it is not run here."""


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", path.read_text(encoding="utf-8"), re.S)


def commands(path: Path) -> list[str]:
    """Every call of cxrseg in the shell blocks of a text."""
    lines = [line for block in blocks(path, "bash") for line in re.split(r"\n|&&", block.replace("\\\n", " "))]
    calls = [shlex.join(shlex.split(line.partition(" > ")[0], comments=True)) for line in lines]
    return [call for call in calls if re.match(r"(\S*/)?cxrseg |torchrun .* cxrseg ", call)]


@pytest.fixture
def place(
    tmp_path: Path,
    phantoms: Path,
    tiny_run: Run,
    tiny_recipe: Callable[..., Recipe],
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A folder with the files that the examples name, in which a training takes seconds."""
    for name in ("covid-qu-ex", "datasets/COVID-QU-Ex", "DATASET"):
        shutil.copytree(phantoms, tmp_path / name)
    of_one_kind = next(folder for folder in sorted(phantoms.rglob("COVID-19")) if folder.parent.name == "Train")
    for name, kind in (("images", "images"), ("masks", "infection masks")):
        shutil.copytree(of_one_kind / kind, tmp_path / "mine" / name)
    shutil.copytree(tmp_path / "mine", tmp_path / "corrections")  # as the viewer saves them
    for name in ("mine", "other", "one"):
        shutil.copytree(tiny_run.folder.root, tmp_path / "runs" / name)
    films = [make_phantom(seed, "COVID-19", 64).image.astype("float32") / 255 for seed in range(2)]
    for name in ("chest.dcm", "images/one.dcm", "study/one.dcm", "films/one.dcm"):
        make_film(tmp_path / name, films[0])
    make_film(tmp_path / "films" / "two.dcm", films[1], AcquisitionDate="20200408", StudyDate="20200408")
    (tmp_path / "table.csv").write_text("file,patient,day\none.dcm,1,0\ntwo.dcm,1,7\n")
    (tmp_path / "ablation.csv").write_text("recipe,Dice\none,0.5\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("PIL.ImageShow.show", lambda picture: True)  # opens no window

    real = recipe_file.load_recipe

    def load_tiny(name: str | Path, overrides: tuple[str, ...] = ()) -> Recipe:
        return tiny_recipe(optimiser={"epochs": 1}).model_copy(update={"name": real(name, overrides).name})

    def finish(run: Run, *_: Any) -> None:  # export and figures: the tests of training have them
        shutil.copy(tiny_run.folder.model, RunFolder(run.folder.root).model)

    monkeypatch.setattr("cxrseg.training.recipe_file.load_recipe", load_tiny)
    monkeypatch.setattr("cxrseg.training.fit._finish", finish)
    return tmp_path


def run(command: str) -> None:
    words = [
        name
        for word in shlex.split(command)[1:]
        for name in (sorted(map(str, Path().glob(word))) if "*" in word else [word])
    ]
    result = CliRunner().invoke(main, words, prog_name="cxrseg")
    # `data check` ends with 1 where it finds something, and phantoms have small islands.
    allowed = (0, 1) if command.startswith("cxrseg data check") else (0,)
    assert result.exit_code in allowed, f"{command}\n{result.output}\n{result.exception!r}"


def prepare(path: Path, place: Path) -> None:
    """Make what a text takes as given beyond the files of `place`."""
    if path.name == "auditing.md":
        run("cxrseg data check mine -o audit")
    if path.name == "predicting.md":
        with zipfile.ZipFile(place / "export.zip", "w") as archive:
            archive.write(place / "films" / "one.dcm", "one.dcm")
    if path.name == "evaluating.md":
        run("cxrseg evaluate runs/other/model.onnx --dataset covid-qu-ex -o unet-val")
        run("cxrseg predict -i covid-qu-ex -o results -m runs/other/model.onnx --force")
    if path.name == "training.md":
        (place / "mine.yaml").write_text(recipe_file.load_recipe("baseline-unet").to_yaml(), encoding="utf-8")
    if path.name in ("README.md", "api.md", "auditing.md", "training.md"):
        shutil.rmtree(place / "runs" / "mine")


@pytest.mark.parametrize("path", [path for path in DOCS if commands(path)], ids=lambda path: path.name)
def test_commands(path: Path, place: Path) -> None:
    chosen = [call for call in commands(path) if not any(part in call for part in NOT_RUN)]
    prepare(path, place)
    for call in chosen:
        if call.startswith("cxrseg predict"):  # each is an example of its own
            shutil.rmtree(place / "results", ignore_errors=True)
        # After two epochs of training, the input check sees no lungs.
        run(f"{call} --force" if "-m runs/" in call else call)


@pytest.mark.parametrize("path", [path for path in DOCS if blocks(path, "python")], ids=lambda path: path.name)
def test_python_examples(path: Path, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepare(path, place)
    names: dict[str, Any] = {}
    for block in blocks(path, "python"):
        exec(compile(block, str(path), "exec"), names)
    assert capsys.readouterr().out


OTHER_PROGRAMS = {
    "python3 -m venv": ".ci/run installs as README says; tests/test_build.py installs the wheel",
    "pip install": "the same",
    ".venv/bin/": "the tests and checks themselves; .ci/run runs them",
    "sudo apt-get": ".ci/run installs what is missing",
    "cat > orthanc.json": "tests/hospital/node/test_node_orthanc.py writes such a file",
    "Orthanc ": "tests/hospital/node/test_node_orthanc.py starts one",
    "curl --data-binary": "tests/hospital/node/test_node_orthanc.py sends films to the same address of Orthanc",
    "docker ": "tests/test_deploy.py checks the Dockerfile; there is no Docker where these tests run",
    "curl -F": "tests/cli/test_serve.py sends these requests",
    "export RAY_worker_niceness": "a setting of Ray for the benchmark after it",
    "python benchmarks/": "test_benchmarks_have_the_options_that_are_named; benchmarks take minutes to hours",
}
"""Beginning of a command of another program to where it is run, or why not."""


def test_every_other_command_has_a_reason() -> None:
    lines = []
    for path in [*DOCS, ROOT / "CONTRIBUTING.md", ROOT / "docs" / "results.md"]:
        for block in blocks(path, "bash"):
            whole = block.replace("\\\n", " ")
            text = re.sub(r"<<'(\w+)'\n.*?\n *\1\n", "\n", whole, flags=re.S)  # without the contents of files
            lines += [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    others = [line for line in lines if not re.match(r"(\S*/)?cxrseg |torchrun .* cxrseg ", line)]
    assert [line for line in others if not line.startswith(tuple(OTHER_PROGRAMS))] == []
    assert [start for start in OTHER_PROGRAMS if not any(line.startswith(start) for line in others)] == []


def test_benchmarks_have_the_options_that_are_named() -> None:
    found = 0
    for path in [*DOCS, ROOT / "docs" / "results.md"]:
        text = path.read_text(encoding="utf-8").replace("\\\n", " ")
        for name, rest in re.findall(r"python (benchmarks/\w+\.py)([^`\n]*)", text):
            program = (ROOT / name).read_text(encoding="utf-8")
            options = re.findall(r"(?<!\S)--?[a-z][\w-]*", rest.partition("#")[0])
            assert [one for one in options if f'"{one}"' not in program] == [], f"{path.name}: {name}{rest}"
            found += 1
    assert found > 10


def test_every_reason_is_needed() -> None:
    calls = [call for path in DOCS for call in commands(path)]
    assert [part for part in NOT_RUN if not any(part in call for call in calls)] == []


def test_the_api_page_lists_all_public_names() -> None:
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \|", text, re.M) == [name for name in cxrseg.__all__ if name != "__version__"]
    examples = "\n".join(blocks(ROOT / "docs" / "api.md", "python"))
    functions = [name for name in cxrseg.__all__ if name[0].islower()]
    assert [name for name in functions if f"cxrseg.{name}(" not in examples] == []
