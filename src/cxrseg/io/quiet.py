"""Keeping the chatter of pydicom and Pillow inside, since it may quote values of a patient's file."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

__all__ = ["quiet"]

_lock = threading.Lock()
_inside = 0
_undo = ExitStack()


@contextmanager
def quiet() -> Iterator[None]:
    """Ignore warnings that arise in pydicom and Pillow, and pydicom's log records, while the context is open.

    Nothing is muted for good: the last one out restores everything. Python's warning filters belong to the
    process, so threads that read at the same time share one change of them instead of undoing each other's.
    """
    global _inside  # noqa: PLW0603 - a count of open contexts, guarded by the lock
    with _lock:
        if _inside == 0:
            _enter()
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _undo.close()


def _enter() -> None:
    _undo.enter_context(warnings.catch_warnings())
    warnings.filterwarnings("ignore", module=r"(PIL|pydicom)\.")
    # A level, not a filter: it is inherited by pydicom's many child loggers, a filter is not.
    logger = logging.getLogger("pydicom")
    _undo.callback(logger.setLevel, logger.level)
    logger.setLevel(logging.CRITICAL + 1)
