"""What a fork, and the end of the program, wait for: what is being imported or loaded, and networks that compute."""

from __future__ import annotations

import atexit
import concurrent.futures.thread  # noqa: F401  # it registers functions for a fork: not while one waits for LOADING
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["LOADING", "computing"]

LOADING = threading.RLock()
"""Held while something is imported at its first use, such as OpenVINO, pydicom or a codec, or while a model is loaded.
Two threads that do so at once see a half-imported module, or wait for each other for ever; so does a child that is
forked meanwhile."""

_PATIENCE = 60.0
"""Seconds after which a fork or the end goes on although a network computes."""


class _Gate:
    """Threads compute inside; whoever closes it waits until all have left."""

    def __init__(self) -> None:
        self._entry, self._left = threading.RLock(), threading.Condition()
        self._inside = 0

    @contextmanager
    def inside(self) -> Iterator[None]:
        with self._entry, self._left:
            self._inside += 1
        try:
            yield
        finally:
            with self._left:
                self._inside -= 1
                self._left.notify_all()

    def close(self) -> None:
        self._entry.acquire()
        with self._left:
            self._left.wait_for(lambda: not self._inside, _PATIENCE)

    def open(self) -> None:
        self._entry.release()


_GATE = _Gate()

computing = _GATE.inside
"""A context around native code. A forked child would find its locks held by threads that it does not have, and a daemon
thread that returns from it to a program that has ended ends with signal 6."""


def _before_fork() -> None:
    LOADING.acquire()
    _GATE.close()


def _after_fork() -> None:
    _GATE.open()
    LOADING.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)
atexit.register(_GATE.close)
