"""Folders that are deep, linked in circles or not readable: a batch does what can be done, and names the rest."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cxrseg.inference.files import Options, predict_files
from cxrseg.inference.input_files import find_inputs
from made_batches import draw
from made_rights import run_with_rights

LEVELS = 1200


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXRSEG_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def rows_of(out: Path) -> dict[str, dict[str, Any]]:
    return {row["path"]: row for row in json.loads((out / "statistics.json").read_text(encoding="utf-8"))}


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[Path]:
    """A folder that is removed by a program that can: `shutil.rmtree` calls itself, up to Python's limit."""
    if shutil.which("rm") is None:
        pytest.skip("this system has no rm")
    folder = tmp_path / "deep"
    folder.mkdir()
    yield folder
    subprocess.run(["rm", "-rf", str(folder)], check=True)


def nest(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make 1,200 folders of this name in each other, with a film in the last; paths may be too long for the system."""
    film = draw(folder / "a.png").read_bytes()
    with monkeypatch.context() as patch:
        patch.chdir(folder)
        for _ in range(LEVELS):
            os.mkdir(name)  # noqa: PTH102
            patch.chdir(name)
        Path("b.png").write_bytes(film)


def test_1200_nested_folders(deep: Path, options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    nest(deep / "in", "d", monkeypatch)
    result = predict_files(deep / "in", deep / "out", options)
    assert result.counts["ok"] == 2 and not result.left_out
    name = "d/" * LEVELS + "b.png"
    assert set(rows_of(deep / "out")) == {"a.png", name}
    assert predict_files(deep / "in", deep / "out", options, resume=True).resumed == 2
    far = deep / "/".join(["out" * 80] * 9)  # below it, the paths of the outputs are too long
    for settings in ({}, {"resume": True}, {"overwrite": True}):
        assert predict_files(deep / "in", far, options, **settings).counts == {"ok": 1, "refused": 0, "failed": 1}
    assert "File name too long" in rows_of(far)[name]["reason"]


def test_folders_whose_path_is_too_long_are_named(
    deep: Path, options: Options, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    nest(deep / "in", "deep", monkeypatch)
    for settings in ({}, {"resume": True}, {"overwrite": True}):
        result = predict_files(deep / "in", deep / "out", options, **settings)
        assert result.counts == {"ok": 1, "refused": 0, "failed": 0}
        assert result.left_out == {"folders that cannot be read": 1}
        assert "cannot be read: File name too long" in caplog.text


def test_nine_folders_that_are_linked_to_each_other(options: Options, tmp_path: Path) -> None:
    folders = [tmp_path / "in" / f"f{number}" for number in range(9)]
    for number, folder in enumerate(folders):
        draw(folder / f"x{number}.png")
        for other in range(9):
            (folder / f"to{other}").symlink_to(folders[other], target_is_directory=True)
    (tmp_path / "in" / "itself").symlink_to(tmp_path / "in" / "itself")
    inputs, left_out = find_inputs(tmp_path / "in", tmp_path / "out")
    assert [one.name for one in inputs] == [f"f{number}/x{number}.png" for number in range(9)]
    assert left_out == {"without suffix": 1}


def test_what_may_not_be_read_does_not_stop_the_others(options: Options, tmp_path: Path) -> None:
    films = tmp_path / "films"
    for name in ("good/a.png", "good/secret.png", "unreadable/b.png", "closed/c.png", "closed/sub/d.png"):
        draw(films / name)
    (tmp_path / "list.txt").write_text("films/unreadable/b.png\nfilms/closed/sub/d.png\n")
    rights = {films / "good" / "secret.png": 0, films / "unreadable": 0, films / "closed": 0o444}
    try:
        for path, right in rights.items():
            path.chmod(right)
        command = ("predict", "-i", "films", "@list.txt", "-o", "out", "-m", options.models[0])
        done = run_with_rights(*command, cwd=tmp_path)
    finally:
        for path in rights:
            path.chmod(0o755)
    assert done.returncode == 1, done.stderr
    assert "unreadable cannot be read" in done.stderr and "sub cannot be read" in done.stderr
    rows = rows_of(tmp_path / "out")
    denied = {"good/secret.png", "unreadable/b.png", "closed/c.png", "closed/sub/d.png"}
    assert {name: row["status"] for name, row in rows.items()} == {
        "films/good/a.png": "ok",
        **{f"films/{name}": "failed" for name in denied},
    }
    assert all("may not be read" in rows[f"films/{name}"]["reason"] for name in denied)
    again = run_with_rights(*command, "--resume", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert {row["status"] for row in rows_of(tmp_path / "out").values()} == {"ok"}


def test_an_output_folder_without_the_right_to_write_is_named(options: Options, tmp_path: Path) -> None:
    draw(tmp_path / "a.png")
    (tmp_path / "out").mkdir(mode=0o555)
    done = run_with_rights("predict", "a.png", "-o", "out", "-m", options.models[0], cwd=tmp_path)
    assert done.returncode == 3
    assert done.stderr == "Error: out cannot be written (Permission denied); name another output folder\n"
