"""Handling a signal for a while."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

__all__ = ["handled", "postponed"]


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


@contextmanager
def postponed(*numbers: int) -> Iterator[threading.Event]:
    """While the block runs, the first of these signals only sets the event; what it does comes after the block.

    A second one is handled at once. Signals that are ignored, or end the process without Python's doing, stay so.

    Args:
        numbers: such as `signal.SIGINT`, whose handler raises KeyboardInterrupt.
    """
    came = threading.Event()
    first: list[int] = []
    handlers = {number: handler for number in numbers if callable(handler := signal.getsignal(number))}

    def note(number: int, frame: Any) -> None:
        if came.is_set():
            handlers[number](number, frame)
        first.append(number)
        came.set()

    with ExitStack() as stack:
        for number in handlers:
            stack.enter_context(handled(number, note))
        yield came
    if first:
        handlers[first[0]](first[0], None)
