"""Handling a signal for a while."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["handled"]


@contextmanager
def handled(number: int, handler: Any) -> Iterator[None]:
    """While the block runs, a signal has this handler; processes that are started meanwhile inherit an ignored one.

    Nothing changes where the block runs in another thread than the main one: only that can set handlers, and gets
    signals.

    Args:
        number: such as `signal.SIGINT`.
        handler: as for `signal.signal`.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)
