"""A limit to the pixels that threads or processes hold at once, so that large films do not fill the memory."""

from __future__ import annotations

import ctypes
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

from cxrseg.errors import ImageError
from cxrseg.io.read import read_size

__all__ = ["PIXELS_A_THREAD", "Budget", "OneLargeFilm", "PixelBudget", "pixels_of"]

PIXELS_A_THREAD = 20_000_000
"""Pixels for each thread: the largest digital radiographs have so many, so only larger films ever wait."""


class Budget(Protocol):
    """What a film's pixels are taken from before it is read."""

    def hold(self, pixels: int) -> AbstractContextManager[None]:
        """Wait until so many pixels may be held, and hold them while the block runs."""
        ...


class OneLargeFilm:
    """Processes, one film at a time in each, take turns with films of more than `PIXELS_A_THREAD`.

    Args:
        lock: that the processes share.
    """

    def __init__(self, lock: AbstractContextManager[Any]) -> None:
        self._lock = lock

    @contextmanager
    def hold(self, pixels: int) -> Iterator[None]:
        """Wait for the other processes' large film where this one is large, and hold it while the block runs."""
        if pixels <= PIXELS_A_THREAD:
            yield
            return
        with self._lock:
            try:
                yield
            finally:
                _return_memory()


class PixelBudget:
    """Threads take pixels for a film before they read it, and give them back when they are done with it.

    They are served in the order in which they come, so that a large film is not passed by small ones for ever. A film
    with more pixels than the whole budget takes all of it: it is processed alone. A thread must not take pixels twice.

    Args:
        threads: number of threads that share the budget.
        each: pixels for each of them.
    """

    def __init__(self, threads: int, each: int = PIXELS_A_THREAD) -> None:
        self._all = self._free = threads * each
        self._changed = threading.Condition()
        self._queue: deque[object] = deque()

    @contextmanager
    def hold(self, pixels: int) -> Iterator[None]:
        """Wait until so many pixels are free, and hold them while the block runs."""
        wanted, place = min(pixels, self._all), object()
        with self._changed:
            self._queue.append(place)
            try:
                self._changed.wait_for(lambda: self._queue[0] is place and wanted <= self._free)
                self._free -= wanted
            finally:
                self._queue.remove(place)
                self._changed.notify_all()
        try:
            yield
        finally:
            if pixels > PIXELS_A_THREAD:
                _return_memory()
            with self._changed:
                self._free += wanted
                self._changed.notify_all()


def pixels_of(path: Path) -> int:
    """Number of pixels of an image by its header; 0 where that cannot be read, which reading the image then tells."""
    try:
        height, width = read_size(path)
    except ImageError:
        return 0
    return height * width


def _return_memory() -> None:
    """Give freed memory back to the system: on Linux, what a thread has freed is otherwise kept for that thread."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):  # other C libraries do not need it, or have no such function
        return
