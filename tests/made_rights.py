"""Processes that the rights of files hold for, also where the tests run as root."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_ROOTS_OWN = "-dac_override,-dac_read_search"


def with_rights(*arguments: object) -> list[str]:
    """The command line of `cxrseg` in a process that may not read or write what its user may not.

    The test is skipped where that cannot be had.
    """
    command = [sys.executable, "-m", "cxrseg", *map(str, arguments)]
    if os.name != "posix":
        pytest.skip("this system has no rights of this kind")
    if os.geteuid() == 0:  # root may read anything, but for these capabilities
        setpriv = shutil.which("setpriv")
        if setpriv is None:
            pytest.skip("root may read anything, and there is no setpriv")
        command = [setpriv, "--bounding-set", _ROOTS_OWN, *command]
    return command


def run_with_rights(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run `with_rights` to its end."""
    return subprocess.run(with_rights(*arguments), cwd=cwd, capture_output=True, text=True, check=False, timeout=120)
