"""A row for each file, kept as it comes, so that a killed run can go on where it stopped."""

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
"""Rows, and time, after which what was written is forced onto the disk."""

Row = Mapping[str, Any]


class Journal:
    """A file of one JSON object a line: the run's settings, then the rows in the order in which they are done.

    It is only ever added to, so whatever kills the process costs at most the last, half written line. Rows stay on
    the disk; what is kept in memory is where each of them begins. `add` may be called from many threads.

    Args:
        path: the file.
        settings: what the rows depend on.
        resume: keep the rows that are there; otherwise begin anew.

    Raises:
        CxrsegError: the rows that are there were made with other settings.
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
        """Whether there is a row of this file, made when it had this stamp (size and time of change)."""
        return stamp is not None and name in self._places and self._places[name][1] == stamp

    def add(self, name: str, stamp: Any, row: Row) -> None:
        """Add a row, in place of an earlier one of the same file.

        Args:
            name: the file's.
            stamp: a JSON value that changes when the file does; with None, the file is done again on resuming.
            row: the row, of JSON values.
        """
        with self._lock:
            self._places[name] = (self._write({"name": name, "stamp": stamp, "row": row}), stamp)
            self._unsynced += 1
            if self._unsynced >= _ROWS or time.monotonic() - self._synced_at >= _SECONDS:
                self._sync()

    def rows(self, names: Iterable[str]) -> Iterator[dict[str, Any]]:
        """The rows of these files, in this order, read one by one; files without a row are left out."""
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
            if value is None:  # cut short, and with it what follows
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
            f"expected the options of the run that is to be resumed in {path.parent}, but it had {listed}; "
            f"use the same, or leave out --resume to begin anew"
        )
