"""A row for each finished file, saved at once, so that a killed run can continue where it stopped."""

from __future__ import annotations

import errno
import json
import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple, Self

from cxrseg.errors import CxrsegError, DiskFullError
from cxrseg.io.locks import lock

__all__ = ["Entry", "Journal", "LockedError", "read_claims"]

_ROWS, _SECONDS = 64, 5.0
"""Number of rows, and time, after which the file is flushed to the disk."""

_STEMS = 500
"""Number of stems on one line of claims."""

Row = Mapping[str, Any]


class LockedError(CxrsegError):
    """Another process uses the journal."""


class Entry(NamedTuple):
    """Where a row is in the file, the stamp and the stem of its image, and whether its status is ok."""

    place: int
    stamp: Any
    stem: str
    ok: bool


class Journal:
    """A file with one JSON object a line: the settings of the run, then what it claims, then its rows as they finish.

    Lines are only appended, so a killed process loses at most the last, incomplete line. Rows stay on the disk; memory
    holds only the position of each. `add` may be called from several threads.

    The file is locked while it is open, so that no two processes write into one output folder. A claim says which
    files a run is about to write, before it writes them: nothing else in the folder is ever replaced or removed.

    Args:
        path: the file.

    Attributes:
        settings: the first line, all that the rows depend on; None where the file is new or empty.
        claims: endings of files to the stems of the images whose outputs have them.

    Raises:
        LockedError: another process has it open.
        CxrsegError: the file was not written by cxrseg.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.settings: dict[str, Any] | None = None
        self.claims: dict[tuple[str, ...], set[str]] = {}
        self._mutex = threading.Lock()
        self._entries: dict[str, Entry] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666), "r+b")
        try:
            what_to_do = "wait until it has ended, or name another output folder"
            lock(self._file, LockedError(f"another run of cxrseg is writing into {path.parent}; {what_to_do}"))
            self._read()
        except BaseException:
            self._file.close()
            raise
        self._unsynced, self._synced_at = 0, time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with self._mutex:
            if self._file.closed:
                return
            try:
                self._sync()
                self._file.close()  # it writes again what a full disk did not take
            except OSError as fault:
                if error is None:
                    raise self._fault(fault) from fault

    def compare(self, settings: Row) -> None:
        """Raise CxrsegError where the rows were made with other settings."""
        settings, found = json.loads(json.dumps(settings)), self.settings or settings
        changed = [key for key in {**found, **settings} if found.get(key) != settings.get(key)]
        if changed:
            listed = ", ".join(f"{key} {found.get(key)} (now {settings.get(key)})" for key in changed)
            raise CxrsegError(
                f"the run in {self.path.parent} had other options: {listed}; use the same to resume it, start again "
                f"with --overwrite, or name another output folder"
            )

    def start(self, settings: Row) -> None:
        """Drop all rows and claims, and begin with these settings."""
        with self._mutex:
            self._file.seek(0)
            self._file.truncate()
            self._entries, self.claims = {}, {}
            self.settings = json.loads(json.dumps(settings))
            self._write(settings)

    def remove(self) -> None:
        """Remove the file of a run that could not start."""
        self._file.close()
        self.path.unlink(missing_ok=True)

    def claim(self, stems: Iterable[str], endings: Sequence[str]) -> None:
        """Note, before they are written, that the files STEM + ENDING are this run's."""
        with self._mutex:
            known = self.claims.setdefault(tuple(endings), set())
            fresh = [stem for stem in stems if stem not in known]
            for start in range(0, len(fresh), _STEMS):
                self._write({"endings": list(endings), "stems": fresh[start : start + _STEMS]})
            known.update(fresh)
            self._sync()

    def claimed(self, stem: str, ending: str) -> bool:
        """Whether the file STEM + ENDING is a run's of this journal."""
        return any(ending in endings and stem in stems for endings, stems in self.claims.items())

    def entries(self) -> dict[str, Entry]:
        """Name of each file with a row, in the order in which they finished."""
        return dict(self._entries)

    def entry(self, name: str) -> Entry:
        """Of a file with a row."""
        return self._entries[name]

    def forget(self, name: str) -> None:
        """Leave out a row; it stays on the disk."""
        self._entries.pop(name, None)

    def has(self, name: str, stem: str, stamp: Any) -> bool:
        """Whether there is a row for this file with this stem and stamp (size and time of modification)."""
        entry = self._entries.get(name)
        return stamp is not None and entry is not None and (entry.stamp, entry.stem) == (stamp, stem)

    def add(self, name: str, stem: str, stamp: Any, row: Row) -> None:
        """Add a row; it replaces an earlier row of the same file.

        Args:
            name: of the file.
            stem: of its outputs.
            stamp: a JSON value that changes with the file; None means that a resumed run processes the file again.
            row: JSON values.

        Raises:
            DiskFullError: the disk is full.
        """
        with self._mutex:
            place = self._write({"name": name, "stem": stem, "stamp": stamp, "row": row})
            self._entries[name] = Entry(place, stamp, stem, row.get("status") == "ok")
            self._unsynced += 1
            if self._unsynced >= _ROWS or time.monotonic() - self._synced_at >= _SECONDS:
                self._sync()

    def rows(self, names: Iterable[str]) -> Iterator[dict[str, Any]]:
        """The rows of these files in this order, read one by one; files without a row are skipped."""
        for name in names:
            if name in self._entries:
                with self._mutex:
                    self._file.seek(self._entries[name].place)
                    line = self._file.readline()
                row: dict[str, Any] = json.loads(line)["row"]
                yield row

    def _write(self, value: Row) -> int:
        try:
            place = self._file.seek(0, os.SEEK_END)
            self._file.write(json.dumps(value, ensure_ascii=False).encode() + b"\n")
            self._file.flush()
        except OSError as error:
            raise self._fault(error) from error
        return place

    def _fault(self, error: OSError) -> OSError | DiskFullError:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            return error
        return DiskFullError(f"the disk of {self.path} is full; free some space (finished files are kept)")

    def _sync(self) -> None:
        try:
            os.fsync(self._file.fileno())
        except OSError as error:  # storage in a network tells of a full disk only now
            raise self._fault(error) from error
        self._unsynced, self._synced_at = 0, time.monotonic()

    def _read(self) -> None:
        place = 0
        for line, value in _values(self._file):
            if value is None and place == 0 and line.endswith(b"\n"):
                raise CxrsegError(f"{self.path} was not written by cxrseg; name another output folder")
            if value is None:  # incomplete; what follows is dropped too
                break
            if place == 0:
                self.settings = value
            elif "stems" in value:
                self.claims.setdefault(tuple(value["endings"]), set()).update(value["stems"])
            else:
                ok = value["row"].get("status") == "ok"
                self._entries[value["name"]] = Entry(place, value["stamp"], value["stem"], ok)
            place += len(line)
        if self.settings is not None and "cxrseg" not in self.settings:
            raise CxrsegError(f"{self.path} was not written by cxrseg; name another output folder")
        self._file.seek(place)
        self._file.truncate()


def read_claims(path: Path) -> dict[tuple[str, ...], set[str]] | None:
    """The `claims` of a journal, without opening it for writing; None where the file is no journal of cxrseg."""
    claims: dict[tuple[str, ...], set[str]] = {}
    try:
        with path.open("rb") as file:
            for number, (_, value) in enumerate(_values(file)):
                if value is None or (number == 0 and "cxrseg" not in value):
                    return claims if number else None
                if "stems" in value:
                    claims.setdefault(tuple(value["endings"]), set()).update(value["stems"])
    except (OSError, KeyError, TypeError):
        return None
    return claims


def _values(file: BinaryIO) -> Iterator[tuple[bytes, dict[str, Any] | None]]:
    """Each line and its JSON object, None where it is none or is not complete."""
    for line in file:
        try:
            value = json.loads(line) if line.endswith(b"\n") else None
        except ValueError:
            value = None
        yield line, value if isinstance(value, dict) else None
