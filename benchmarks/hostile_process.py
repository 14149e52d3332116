"""For hostile_files.py: a command of cxrseg as a process that is watched, and what came of it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Self

import psutil

ANSWERED, REFUSED, FAILED = "answered", "refused", "failed"
LONGEST = 120.0  # seconds of the processor that a file may take: four times what is allowed
PATIENCE = 1200.0  # seconds without an answer, on a machine that may be busy with other things


class Outcome(NamedTuple):
    """What became of a file: one of ANSWERED, REFUSED and FAILED.

    The seconds are those of the processor that the command used from when the file was sent to its answer, for this
    file and what it did beside: at most what the file took, whatever else runs on the machine.
    """

    kind: str
    what: str
    seconds: float
    why: str = ""


@dataclass
class Found:
    """What came of one interface.

    Attributes:
        outcomes: one for each file.
        ended: how the process ended, or that it still ran.
        megabytes: the largest memory of the process and its children.
        processes: how many these were at most.
        outside: files that appeared outside of the output folder.
        log: what the process has printed.
    """

    outcomes: list[Outcome] = field(default_factory=list)
    ended: str = ""
    megabytes: float = 0.0
    processes: int = 1
    outside: list[str] = field(default_factory=list)
    log: str = ""


class Running:
    """A command of cxrseg in a folder of its own, whose memory and whose files outside of `out` are watched.

    Args:
        folder: where it runs, with its temporary files and its home; it is made.
        arguments: of the command.
    """

    def __init__(self, folder: Path, *arguments: object) -> None:
        self.folder, self.found = folder, Found()
        self.out, self.log = folder / "out", folder.with_suffix(".log")
        for name in ("home", "tmp"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        self._before, self._clock = self._files(), 0.0
        places = {"HOME": folder / "home", "TMPDIR": folder / "tmp", "CXRSEG_CACHE": folder.with_suffix(".cache")}
        places["XDG_STATE_HOME"] = folder.with_suffix(".state")  # holds the key of `patient_id`
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "cxrseg", *map(str, arguments)],
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env={**os.environ, **{name: str(place) for name, place in places.items()}},
            )
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()

    def clock(self) -> float:
        """Seconds of the processor that it and its children have used."""
        with suppress(psutil.Error):
            process = psutil.Process(self.process.pid)
            ended = process.cpu_times()
            used = ended.children_user + ended.children_system
            for each in (process, *process.children(recursive=True)):
                times = each.cpu_times()
                used += times.user + times.system
            self._clock = max(self._clock, used)
        return self._clock

    def text(self) -> str:
        """What it has printed until now."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Until it prints something."""
        while self.process.poll() is None:
            if match := re.search(pattern, self.text()):
                return match
            time.sleep(0.05)
        raise SystemExit(f"{self.process.args} has ended:\n{self.text()}")

    def end(self) -> Found:
        """End it where it still runs, and say what is left."""
        alive = self.process.poll() is None
        self.process.terminate()
        try:
            code: int | str = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = f"{self.process.wait()}, killed"
        self._thread.join()
        self.found.ended = f"{'still ran, then ' if alive else ''}exit {code}"
        self.found.outside = sorted(self._files() - self._before)
        self.found.log = self.text()
        return self.found

    def _watch(self) -> None:
        """The largest memory: the system's own record of the process, and the sum with its children."""
        process = psutil.Process(self.process.pid)
        while self.process.poll() is None:
            try:
                peak = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text())
                family = [process, *process.children(recursive=True)]
                self.found.processes = max(self.found.processes, len(family))
                with_children = sum(each.memory_info().rss for each in family)
                now = max(int(peak[1]) * 1024 if peak else 0, with_children)
                self.found.megabytes = max(self.found.megabytes, now / 1e6)
            except (OSError, psutil.Error):
                pass
            time.sleep(0.05)

    def _files(self) -> set[str]:
        """Files below the folder that are not results, and those in the system's folder that a name points to."""
        below = {os.fsencode(path).decode("utf-8", "backslashreplace") for path in self.folder.rglob("*")}
        out = str(self.out)
        other = {str(path) for path in (Path("/tmp/outside"), self.folder.parent / "outside") if path.exists()}
        return {path for path in below if path != out and not path.startswith(f"{out}/")} | other
