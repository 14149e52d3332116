"""Keeping the warnings of highdicom, pydicom and Pillow inside, since they may quote values of a patient's file."""

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
    """Ignore warnings of highdicom, pydicom and Pillow, and log records of the first two, while the context is open.

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
    warnings.filterwarnings("ignore", module=r"(PIL|highdicom|pydicom)\.")
    # A level, not a filter: it is inherited by their many child loggers, a filter is not.
    for name in ("highdicom", "pydicom"):
        logger = logging.getLogger(name)
        _undo.callback(logger.setLevel, logger.level)
        logger.setLevel(logging.CRITICAL + 1)
