"""A row for each finished file, saved at once, so that a killed run can continue where it stopped."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cxrseg.errors import CxrsegError

__all__ = ["Journal"]

_ROWS, _SECONDS = 64, 5.0
"""Number of rows, and time, after which the file is flushed to the disk."""

Row = Mapping[str, Any]


class Journal:
    """A file with one JSON object a line: the settings of the run, then the rows in the order in which they finish.

    Lines are only appended, so a killed process loses at most the last, incomplete line. Rows stay on the disk; memory
    holds only the position of each. `add` may be called from several threads.

    Args:
        path: the file.
        settings: all that the rows depend on.
        resume: keep the rows of the file; otherwise it is replaced.

    Raises:
        CxrsegError: the rows of the file were made with other settings.
    """

    def __init__(self, path: Path, settings: Row, *, resume: bool) -> None:
        self._lock = threading.Lock()
        self._places: dict[str, tuple[int, Any]] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("r+b" if resume and path.exists() else "w+b")
        try:
            self._read(path, settings)
        except BaseException:
            self._file.close()
            raise
        self._unsynced, self._synced_at = 0, time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with self._lock:
            self._sync()
            self._file.close()

    def has(self, name: str, stamp: Any) -> bool:
        """Whether there is a row for this file with this stamp (size and time of modification)."""
        return stamp is not None and name in self._places and self._places[name][1] == stamp

    def add(self, name: str, stamp: Any, row: Row) -> None:
        """Add a row; it replaces an earlier row of the same file.

        Args:
            name: of the file.
            stamp: a JSON value that changes with the file; None means that a resumed run processes the file again.
            row: JSON values.
        """
        with self._lock:
            self._places[name] = (self._write({"name": name, "stamp": stamp, "row": row}), stamp)
            self._unsynced += 1
            if self._unsynced >= _ROWS or time.monotonic() - self._synced_at >= _SECONDS:
                self._sync()

    def rows(self, names: Iterable[str]) -> Iterator[dict[str, Any]]:
        """The rows of these files in this order, read one by one; files without a row are skipped."""
        for name in names:
            if name in self._places:
                with self._lock:
                    self._file.seek(self._places[name][0])
                    line = self._file.readline()
                row: dict[str, Any] = json.loads(line)["row"]
                yield row

    def _write(self, value: Row) -> int:
        place = self._file.seek(0, os.SEEK_END)
        self._file.write(json.dumps(value, ensure_ascii=False).encode() + b"\n")
        self._file.flush()
        return place

    def _sync(self) -> None:
        os.fsync(self._file.fileno())
        self._unsynced, self._synced_at = 0, time.monotonic()

    def _read(self, path: Path, settings: Row) -> None:
        settings = json.loads(json.dumps(settings))
        place = 0
        for line in self._file:
            value = _parsed(line)
            if value is None:  # incomplete; what follows is dropped too
                break
            if place == 0:
                _compare(path, value, settings)
            else:
                self._places[value["name"]] = (place, value["stamp"])
            place += len(line)
        self._file.seek(place)
        self._file.truncate()
        if place == 0:
            self._write(settings)


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _compare(path: Path, found: Row, settings: Row) -> None:
    changed = [key for key in {**found, **settings} if found.get(key) != settings.get(key)]
    if changed:
        listed = ", ".join(f"{key} {found.get(key)} (now {settings.get(key)})" for key in changed)
        raise CxrsegError(
            f"the run in {path.parent} had other options: {listed}; use the same to resume it, or start again without "
            f"--resume"
        )
