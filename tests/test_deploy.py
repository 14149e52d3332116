"""What stands in deploy/ and the Dockerfile: linted, and in step with the commands."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from cxrseg.cli import main

ROOT = Path(__file__).resolve().parents[1]


def test_the_dockerfile_is_clean() -> None:
    linter = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    if linter is None:
        pytest.skip("needs hadolint")
    done = subprocess.run([linter, str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False)
    assert done.stdout == "" and done.returncode == 0


def test_the_unit_is_valid(tmp_path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("needs systemd-analyze")
    unit = tmp_path / "cxrseg-node.service"
    text = (ROOT / "deploy" / "cxrseg-node.service").read_text()
    unit.write_text(text.replace("/opt/cxrseg/bin/cxrseg", sys.executable))  # it must exist
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_compose_file_uses_options_that_there_are() -> None:
    services = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())["services"]
    command = services["cxrseg"]["command"]
    options = CliRunner().invoke(main, ["node", "--help"]).output
    assert command[0] == "node" and all(argument.partition("=")[0] in options for argument in command[1:])
    assert all(port.startswith("127.0.0.1:") for port in services["orthanc"]["ports"])
    mounted = services["orthanc"]["volumes"][0].partition(":")[0]
    assert (ROOT / "deploy" / mounted).is_file()
