"""Each command whose disk fills up says which disk, and what to do: --resume only where the command has it."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from cxrseg.cli import main
from cxrseg.training.fit import Run
from made_disk import fill, small_disk

COMMANDS = {
    "evaluate": "cxrseg evaluate {run}/model.onnx --dataset {data} --split val -o {full}/new",
    "report": "cxrseg report {run} --dataset {data} -o {full}/page.html",
    "data check": "cxrseg data check {data} -o {full}/new",
    "data phantom": "cxrseg data phantom {full}/new --size 64",
    "predict": "cxrseg predict -i {data} -o {full}/new -m {run} --force",
}
CAN_RESUME = {"predict"}


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """A disk with 4 kilobytes left, too few for any result."""
    with small_disk(tmp_path / "full", 512) as folder:
        fill(folder, but=4096)
        yield folder


@pytest.mark.parametrize("name", COMMANDS)
def test_a_full_disk_is_named_with_what_to_do(
    name: str, tmp_path: Path, full: Path, tiny_run: Run, phantoms: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXRSEG_CACHE", str(tmp_path / "cache"))
    run = tmp_path / "run"
    shutil.copytree(tiny_run.folder.root, run)
    places = {"run": run, "data": phantoms, "full": full}
    result = CliRunner().invoke(main, shlex.split(COMMANDS[name].format(**places))[1:], prog_name="cxrseg")
    assert result.exit_code == 3, result.output
    message = " ".join(result.output.split())
    assert str(full) in message and "free some space" in message and "run the same command again" in message
    assert ("--resume" in message) == (name in CAN_RESUME), message
    assert "Traceback" not in message
    assert not [path for path in full.rglob("*") if path.name.endswith(".part")]
