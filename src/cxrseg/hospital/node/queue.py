"""What a node still has to do, in a SQLite file: it survives a kill and a power cut, and nothing is done twice."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cxrseg.errors import CxrsegError

__all__ = ["Delivery", "Job", "Queue"]

_LONGEST_WAIT = 3600.0
"""Seconds; no object is put off for longer, so a later time is that of a clock that was wrong."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS images (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    instance TEXT NOT NULL,
    state TEXT NOT NULL,
    reason TEXT NOT NULL DEFAULT '',
    attempts INTEGER NOT NULL DEFAULT 0,
    received REAL NOT NULL,
    changed REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS images_by_state ON images (state, id);
CREATE TABLE IF NOT EXISTS deliveries (
    image INTEGER NOT NULL REFERENCES images (id) ON DELETE CASCADE,
    destination TEXT NOT NULL,
    kind TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'waiting',
    attempts INTEGER NOT NULL DEFAULT 0,
    due REAL NOT NULL DEFAULT 0,
    reason TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (image, destination, kind)
);
CREATE INDEX IF NOT EXISTS deliveries_by_state ON deliveries (destination, state, due);
"""
_VERSION = 1

_OPEN = ("waiting", "made")
"""States of an image for which there is something to do. 'waiting': on disk; 'made': its objects are on disk too."""

_AGAIN = ("failed", "undelivered")
"""States that a peer may end by sending the image once more."""


@dataclass(frozen=True)
class Job:
    """An image to be segmented.

    Attributes:
        id: in the queue.
        key: names its file and its objects: a hash of the file as received and of how it is segmented.
        instance: its SOP Instance UID.
        attempts: number of starts, including this one.
        received: when, in seconds since 1970.
    """

    id: int
    key: str
    instance: str
    attempts: int
    received: float


@dataclass(frozen=True)
class Delivery:
    """Objects of one image that are due at one destination."""

    job: Job
    kinds: tuple[str, ...]


class Queue:
    """The queue of one node. Every change is on disk before a method returns; threads may share it.

    Args:
        path: the SQLite file, made where missing.

    Raises:
        CxrsegError: the file is not a queue, or of a newer version.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        try:
            self._base = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._base.execute("PRAGMA journal_mode = WAL")
            self._base.execute("PRAGMA synchronous = FULL")  # NORMAL may lose the last changes in a power cut
            self._base.execute("PRAGMA foreign_keys = ON")
            version = self._base.execute("PRAGMA user_version").fetchone()[0]
            if version > _VERSION:
                raise CxrsegError(f"{path} was written by a newer cxrseg; update, or choose another folder")
            self._base.executescript(_SCHEMA)
            self._base.execute(f"PRAGMA user_version = {_VERSION}")
        except sqlite3.DatabaseError as error:
            closed = error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)
            what = "cannot be written" if closed else "is not a queue of cxrseg"
            advice = "change its permissions" if closed else "move it away"
            raise CxrsegError(f"{path} {what} ({error}); {advice}, or choose another folder") from error

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._base.close()

    def add(self, key: str, instance: str) -> bool:
        """Add an image whose file is on disk.

        Returns:
            False where it is known already, and nothing new is to be done.
        """
        now = time.time()
        with self._lock, self._base:
            self._base.execute("BEGIN IMMEDIATE")
            found = self._base.execute("SELECT id, state FROM images WHERE key = ?", (key,)).fetchone()
            if found is None:
                self._base.execute(
                    "INSERT INTO images (key, instance, state, received, changed) VALUES (?, ?, 'waiting', ?, ?)",
                    (key, instance, now, now),
                )
                return True
            if found[1] not in _AGAIN:
                return False
            self._base.execute("DELETE FROM deliveries WHERE image = ?", (found[0],))
            self._base.execute(
                "UPDATE images SET state = 'waiting', reason = '', attempts = 0, received = ?, changed = ? "
                "WHERE id = ?",
                (now, now, found[0]),
            )
            return True

    def wants(self, key: str) -> bool:
        """Whether `add` would put this image into the queue: it is not known, or may be tried again."""
        with self._lock:
            found = self._base.execute("SELECT state FROM images WHERE key = ?", (key,)).fetchone()
        return found is None or found[0] in _AGAIN

    def open_names(self) -> set[str]:
        """The keys of all images for which something is still to be done."""
        with self._lock:
            found = self._base.execute("SELECT key FROM images WHERE state IN (?, ?)", _OPEN).fetchall()
        return {key for (key,) in found}

    def next_job(self) -> Job | None:
        """The image that has waited longest, None where there is none; counts as an attempt, also if it kills us."""
        with self._lock, self._base:
            self._base.execute("BEGIN IMMEDIATE")
            found = self._base.execute(
                "SELECT id, key, instance, attempts + 1, received FROM images WHERE state = 'waiting' "
                "ORDER BY id LIMIT 1"
            ).fetchone()
            if found is None:
                return None
            self._base.execute("UPDATE images SET attempts = attempts + 1 WHERE id = ?", (found[0],))
            return Job(*found)

    def put_back(self, job: Job) -> None:
        """Record that an image was started and not finished, without a fault of the image."""
        with self._lock:
            self._base.execute("UPDATE images SET attempts = attempts - 1 WHERE id = ?", (job.id,))

    def finish(self, job: Job, state: str, reason: str = "") -> None:
        """End an image for which no objects are made.

        Args:
            job: the image.
            state: 'refused' (not a usable frontal radiograph), 'ignored' (made by cxrseg) or 'failed'.
            reason: why.
        """
        with self._lock:
            self._base.execute(
                "UPDATE images SET state = ?, reason = ?, changed = ? WHERE id = ?",
                (state, reason, time.time(), job.id),
            )

    def made(self, job: Job, destinations: Sequence[str], kinds: Sequence[str]) -> None:
        """Note that an image's objects are on disk, and are to be delivered."""
        rows = [(job.id, destination, kind) for destination in destinations for kind in kinds]
        with self._lock, self._base:
            self._base.execute("BEGIN IMMEDIATE")
            self._base.executemany("INSERT OR IGNORE INTO deliveries (image, destination, kind) VALUES (?, ?, ?)", rows)
            self._base.execute("UPDATE images SET state = 'made', changed = ? WHERE id = ?", (time.time(), job.id))

    def next_delivery(self, destination: str) -> Delivery | None:
        """The image that was received first of those of which objects are due now at a destination."""
        now = time.time()
        too_late = now + _LONGEST_WAIT  # it was put there before the clock was set back
        with self._lock:
            found = self._base.execute(
                "SELECT i.id, i.key, i.instance, i.attempts, i.received "
                "FROM deliveries d JOIN images i ON i.id = d.image "
                "WHERE d.destination = ? AND d.state = 'waiting' AND (d.due <= ? OR d.due > ?) ORDER BY i.id LIMIT 1",
                (destination, now, too_late),
            ).fetchone()
            if found is None:
                return None
            kinds = self._base.execute(
                "SELECT kind FROM deliveries "
                "WHERE image = ? AND destination = ? AND state = 'waiting' AND (due <= ? OR due > ?)",
                (found[0], destination, now, too_late),
            ).fetchall()
        return Delivery(Job(*found), tuple(kind for (kind,) in kinds))

    def delivered(self, job: Job, destination: str, kind: str) -> bool:
        """Note that a destination has taken an object; True where nothing of this image is left to do."""
        return self._settle(job, destination, kind, "sent", "")

    def gave_up(self, job: Job, destination: str, kind: str, reason: str) -> bool:
        """Note that an object is not offered again; True where nothing of this image is left to do."""
        return self._settle(job, destination, kind, "undelivered", reason)

    def postpone(self, job: Job, destination: str, kind: str, reason: str, pause: Callable[[int], float]) -> int:
        """Note that a destination has refused an object.

        Args:
            job: the image.
            destination: which one.
            kind: of object.
            reason: why.
            pause: number of tries so far to the seconds until the next.

        Returns:
            The number of tries so far.
        """
        where = (job.id, destination, kind)
        with self._lock, self._base:
            self._base.execute("BEGIN IMMEDIATE")
            found = self._base.execute(
                "SELECT attempts FROM deliveries WHERE image = ? AND destination = ? AND kind = ?", where
            ).fetchone()
            tries = int(found[0]) + 1
            self._base.execute(
                "UPDATE deliveries SET attempts = ?, due = ?, reason = ? "
                "WHERE image = ? AND destination = ? AND kind = ?",
                (tries, time.time() + pause(tries), reason, *where),
            )
        return tries

    def counts(self) -> dict[str, int]:
        """State to number of images."""
        with self._lock:
            return dict(self._base.execute("SELECT state, COUNT(*) FROM images GROUP BY state").fetchall())

    def oldest_open(self) -> float | None:
        """When the image that is open for longest was received, in seconds since 1970; None where all is done."""
        with self._lock:
            found = self._base.execute("SELECT MIN(received) FROM images WHERE state IN (?, ?)", _OPEN).fetchone()
        return None if found[0] is None else float(found[0])

    def forget(self, older_than: float) -> list[str]:
        """Remove the rows of images that were done with more than `older_than` seconds ago; gives their keys."""
        limit = time.time() - older_than
        with self._lock, self._base:
            self._base.execute("BEGIN IMMEDIATE")
            gone = self._base.execute(
                "DELETE FROM images WHERE state NOT IN (?, ?) AND changed < ? RETURNING key", (*_OPEN, limit)
            ).fetchall()
        return [key for (key,) in gone]

    def drop_destinations(self, kept: Sequence[str]) -> int:
        """Give up what waits for destinations that the node has no more; gives the number of objects."""
        marks = ", ".join("?" * len(kept))
        with self._lock:
            left = self._base.execute(
                "SELECT image, destination, kind FROM deliveries "
                f"WHERE state = 'waiting' AND destination NOT IN ({marks})",
                tuple(kept),
            ).fetchall()
        for image, destination, kind in left:
            self._settle(
                Job(image, "", "", 0, 0), destination, kind, "undelivered", "no destination of this node any more"
            )
        return len(left)

    def _settle(self, job: Job, destination: str, kind: str, state: str, reason: str) -> bool:
        with self._lock, self._base:
            self._base.execute("BEGIN IMMEDIATE")
            self._base.execute(
                "UPDATE deliveries SET state = ?, reason = ?, attempts = attempts + 1 "
                "WHERE image = ? AND destination = ? AND kind = ?",
                (state, reason, job.id, destination, kind),
            )
            states = {
                found
                for (found,) in self._base.execute("SELECT state FROM deliveries WHERE image = ?", (job.id,)).fetchall()
            }
            if "waiting" in states:
                return False
            self._base.execute(
                "UPDATE images SET state = ?, changed = ? WHERE id = ?",
                ("undelivered" if "undelivered" in states else "sent", time.time(), job.id),
            )
        return True
