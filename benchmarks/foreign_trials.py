"""For foreign_use.py: what a trial is, and running cxrseg in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple
from warnings import catch_warnings, simplefilter

import numpy as np
from click.testing import CliRunner
from PIL import Image

import cxrseg as package
from cxrseg.cli import main
from cxrseg.phantom.generate import make_phantom

YES, REFUSED, WARNED, NO = "yes", "refused", "warned", "NO"
"""Right; a clear refusal; wrong or left out, but said; wrong, a traceback, or silence."""

Result = tuple[str, str]
"""What came, in words, and one of the four."""

_SECONDS = 240

_SOURCE = str(Path(str(package.__file__)).resolve().parents[1])
"""Where this cxrseg lies, for processes in other folders."""


class Trial(NamedTuple):
    """One way of using cxrseg: `run` gets an empty folder of its own."""

    kind: str
    name: str
    right: str
    run: Callable[[Path], Result]


class Ended(NamedTuple):
    """A process that has ended; `code` is None where it hung."""

    code: int | None
    out: str
    err: str

    @property
    def broken(self) -> str:
        """What no user should see, '' where there is none."""
        if self.code is None:
            return "hangs"
        if "Traceback (most recent call last)" in self.err:
            return f"traceback: {self.err.strip().splitlines()[-1][:90]}"
        return f"killed by signal {-self.code}" if self.code < 0 else ""

    @property
    def last(self) -> str:
        """The last line of what it complained of."""
        lines = [line for line in self.err.strip().splitlines() if line.strip()]
        return lines[-1][:110] if lines else ""


def python(*arguments: object, environment: Mapping[str, str] | None = None, folder: Path | None = None) -> Ended:
    """Run Python with these arguments; output that is not UTF-8 is shown with escapes."""
    try:
        done = subprocess.run(
            [sys.executable, *map(str, arguments)],
            capture_output=True,
            check=False,
            timeout=_SECONDS,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": _SOURCE, "PYTHONWARNINGS": "ignore", **(environment or {})},
        )
    except subprocess.TimeoutExpired:
        return Ended(None, "", "")
    return Ended(done.returncode, *(text.decode("utf-8", "backslashreplace") for text in (done.stdout, done.stderr)))


def cxrseg(*arguments: object, environment: Mapping[str, str] | None = None, folder: Path | None = None) -> Ended:
    """Run a command of cxrseg."""
    return python("-m", "cxrseg", *arguments, environment=environment, folder=folder)


def command(*arguments: object) -> Ended:
    """Run a command of cxrseg in this process: starting torch anew takes longer than a tiny training."""
    with catch_warnings():
        simplefilter("ignore")
        done = CliRunner().invoke(main, [str(one) for one in arguments])
    return Ended(done.exit_code, done.stdout, done.stderr)


def write_film(path: Path, seed: int = 0, side: int = 64, *, category: str = "COVID-19") -> Path:
    """A phantom as an image file of the kind that its name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(make_phantom(seed, category, side).image).save(path)
    return path


def write_mask(path: Path, seed: int = 0, side: int = 64, target: str = "infection") -> Path:
    """The mask of `write_film`, 0 and 255."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(getattr(make_phantom(seed, "COVID-19", side), target).astype(np.uint8) * 255).save(path)
    return path
