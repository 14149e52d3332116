"""What is installed, and what may be in a file that cxrseg opens."""

from __future__ import annotations

import ast
import os
import pickle
import re
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import cxrseg
from cxrseg.errors import CxrsegError
from cxrseg.inference.segmenter import Segmenter

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = SETTINGS["project"]["optional-dependencies"]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
UNPICKLE = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


def wanted(extras: tuple[str, ...]) -> list[Requirement]:
    """What pyproject.toml asks for, with the extras that one names of another."""
    found = [Requirement(text) for text in SETTINGS["project"]["dependencies"]]
    for extra in extras:
        for one in map(Requirement, EXTRAS[extra]):
            found += wanted(tuple(one.extras)) if one.name == "cxrseg" else [one]
    return found


def locked() -> dict[str, list[str]]:
    """Package to its versions for different systems."""
    text = (ROOT / "requirements" / "ci.txt").read_text(encoding="utf-8")
    versions: dict[str, list[str]] = {}
    for name, version in re.findall(r"^([\w.-]+)(?:\[[^]]*\])?==([^\s;]+)", text, re.M):
        versions.setdefault(canonicalize_name(name), []).append(version)
    return versions


def test_the_lock_file_has_every_requirement_in_its_range() -> None:
    versions = locked()
    missing = []
    for one in wanted(("all", "docs", "test")):
        if one.marker is not None and not one.marker.evaluate(dict(default_environment())):
            continue
        if not any(one.specifier.contains(version) for version in versions.get(canonicalize_name(one.name), [])):
            missing.append(str(one))
    assert missing == [], "make requirements/ci.txt again with the command at its beginning"


@pytest.mark.parametrize("name", ["ci", "release"])
def test_a_lock_file_has_checksums_and_names_no_server(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    entries = re.split(r"\n(?=[A-Za-z0-9])", re.sub(r"^#.*\n", "", text, flags=re.M))
    assert len(entries) > 20
    assert [entry for entry in entries if "--hash=sha256:" not in entry] == []
    assert "://" not in text and "--index" not in text and "--find-links" not in text


def calls(tree: ast.AST) -> list[ast.Call]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call)]


def settings_of(call: ast.Call) -> dict[str, Any]:
    return {word.arg: getattr(word.value, "value", None) for word in call.keywords if word.arg}


def test_no_code_of_ours_reads_a_pickle() -> None:
    """No module imports a reader of pickles, and the two functions that may read one are told not to."""
    found = []
    checked = {"load": 0, "fit": 0}
    for path in SOURCES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found += [f"{path.name}: {name}" for name in names if name.partition(".")[0] in UNPICKLE]
        for call in calls(tree):
            name, given = ast.unparse(call.func), settings_of(call)
            if name == "torch.load" or name.endswith("load_from_checkpoint"):
                checked["load"] += 1
                found += [f"{path.name}: {name}"] if given.get("weights_only") is not True else []
            if name == "np.load":
                found += [f"{path.name}: {name}"] if given.get("allow_pickle") is not False else []
            if name == "trainer.fit":
                checked["fit"] += 1
                found += [f"{path.name}: {name}"] if given.get("weights_only") is not True else []
            if name in ("np.fromregex", "yaml.unsafe_load", "yaml.full_load", "pd.read_pickle", "eval", "exec"):
                found.append(f"{path.name}: {name}")
    assert found == []
    assert checked["load"] >= 2 and checked["fit"] >= 1  # else this test looks at nothing


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def test_a_pickle_is_not_run_whatever_it_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXRSEG_CACHE", str(tmp_path / "cache"))
    bomb = tmp_path / "exploded"
    content = pickle.dumps(Bomb(bomb))
    for name in ("model.onnx", "film.png", "film.dcm", "film.tif", "film.jpg", "film", "data.npz", "data.npy"):
        (tmp_path / name).write_bytes(content)
    np.save(tmp_path / "object.npy", np.array([Bomb(bomb)], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "object.npz", train_images=np.array([Bomb(bomb)], dtype=object), allow_pickle=True)
    with pytest.raises(CxrsegError, match=r"model\.onnx"):
        Segmenter(tmp_path / "model.onnx")
    for name in ("film.png", "film.dcm", "film.tif", "film.jpg", "film", "object.npy"):
        with pytest.raises(CxrsegError, match=name):
            cxrseg.read_radiograph(tmp_path / name)
    for name in ("data.npz", "object.npz"):
        with pytest.raises(CxrsegError, match=name):
            cxrseg.open_dataset(tmp_path / name)
    assert not bomb.exists()


def test_the_audit_that_is_advised_is_the_one_of_the_workflow() -> None:
    steps = yaml.safe_load((ROOT / ".github" / "workflows" / "audit.yml").read_text(encoding="utf-8"))
    commands = [step["run"] for step in steps["jobs"]["pip-audit"]["steps"] if "run" in step]
    told = " ".join((ROOT / "SECURITY.md").read_text(encoding="utf-8").split())
    assert f"`{commands[-1].partition(' --ignore-vuln')[0]}`" in told
    assert commands[-1].startswith("pip-audit --requirement requirements/ci.txt")


def test_workflows_are_complete_and_their_rights_are_named() -> None:
    """What a parser can tell; actionlint tells more."""
    paths = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
    assert [path.stem for path in paths] == ["audit", "ci", "release"]
    for path in paths:
        flow = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert flow[True] and flow["permissions"] == {"contents": "read"}, path.name  # YAML 1.1 reads "on" as true
        for name, job in flow["jobs"].items():
            assert job["runs-on"] and job["timeout-minutes"], f"{path.name}: {name}"
            assert all(("uses" in step) != ("run" in step) for step in job["steps"]), f"{path.name}: {name}"
            assert set(job.get("needs", "").split()) <= flow["jobs"].keys(), f"{path.name}: {name}"
            scripts = [word for step in job["steps"] for word in re.findall(r"[\w./]+/[\w.]+", step.get("run", ""))]
            ours = [word for word in scripts if word.startswith(("requirements/", "src/", ".ci/"))]
            assert [word for word in ours if not (ROOT / word).exists()] == [], f"{path.name}: {name}"
