"""Predict files in threads or in processes of this machine."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from itertools import islice
from logging.handlers import QueueHandler, QueueListener
from multiprocessing import connection, parent_process
from multiprocessing.context import SpawnContext, SpawnProcess
from pathlib import Path
from typing import Any, TypeVar

from cxrseg.errors import CxrsegError
from cxrseg.inference.input_sources import Input
from cxrseg.inference.options import Options, settings_of
from cxrseg.inference.pixel_budget import OneLargeFilm, PixelBudget
from cxrseg.inference.segmenter import Segmenter
from cxrseg.inference.work import Done, Work, Worker, predict_one, processors
from cxrseg.io.quiet import quiet
from cxrseg.io.signals import handled, postponed

__all__ = ["on_processes", "on_threads"]

FEWEST = 1000
"""From so many files on, processes are faster than threads, although each must load the models first."""

_GROUP = 8
"""Files that a process takes at a time."""

_LOGGER = "cxrseg"

_INTERRUPTING = signal.SIGINT, signal.SIGTERM
_PAUSE = 0.2
"""Seconds after which such a signal is noticed at the latest."""

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def on_threads() -> Work:
    """Make `predict_files` use a few threads of this process, so that reading, segmenting and writing overlap."""
    return Work("local", _on_threads)


def on_processes(fewest: int = FEWEST) -> Work:
    """Make `predict_files` use a process for each processor: pass the result as `work`.

    Python runs one thread of a process at a time, so that threads wait for each other where a file takes only
    milliseconds. As with `multiprocessing`, a script that uses this must start its work below
    `if __name__ == "__main__":`.

    Args:
        fewest: with fewer files, or on a GPU, threads are used.

    Raises:
        CxrsegError: (during the run) a process was killed, such as for want of memory.
    """

    def work(todo: Sequence[Input], out: Path, segmenter: Segmenter, options: Options) -> Iterator[Done]:
        many = len(todo) >= fewest and options.device == "cpu" and processors() > 1
        return (_on_processes if many else _on_threads)(todo, out, segmenter, options)

    return Work("local", work)


def _on_threads(todo: Sequence[Input], out: Path, segmenter: Segmenter, options: Options) -> Iterator[Done]:
    if not todo:
        return
    workers = min(len(todo), processors() + 1)
    budget = PixelBudget(workers)
    # Quiet once, instead of for each file.
    with quiet(), postponed(*_INTERRUPTING) as stop, ThreadPoolExecutor(workers) as pool:
        yield from _each(pool, lambda item: predict_one(item, out, segmenter, options, budget), todo, workers, stop)


def _on_processes(todo: Sequence[Input], out: Path, segmenter: Segmenter, options: Options) -> Iterator[Done]:
    groups = [todo[start : start + _GROUP] for start in range(0, len(todo), _GROUP)]
    workers = min(len(groups), processors())
    context = _Context()
    records = context.Queue()
    listener = QueueListener(records, _Relay())
    about = out, options, settings_of(segmenter, options), context.Lock(), records, logging.getLogger(_LOGGER).level
    with (
        postponed(*_INTERRUPTING) as stop,
        ExitStack() as stack,
        ProcessPoolExecutor(workers, context, _start, about) as pool,
    ):
        listener.start()
        stack.callback(listener.stop)
        try:
            for group in _each(pool, _predict, groups, workers, stop):
                yield from group
        except BrokenProcessPool as error:
            raise CxrsegError(
                "a process of this run ended early: it ran out of memory, a decoder crashed, or the script that "
                "started the run has no 'if __name__ == \"__main__\":'; finished files are kept, continue with "
                "--resume, and with --engine ray if a file does this each time"
            ) from error


def _each(
    pool: Executor, function: Callable[[_Item], _Result], items: Iterable[_Item], workers: int, stop: threading.Event
) -> Iterator[_Result]:
    """Results in the order in which they finish; at most two items for each worker are in progress at any time.

    When `stop` is set, the items in progress are finished, and their results are the last.
    """
    waiting: set[Future[_Result]] = set()
    rest = iter(items)
    try:
        while not stop.is_set():
            waiting |= {pool.submit(function, item) for item in islice(rest, 2 * workers - len(waiting))}
            if not waiting:
                return
            done, waiting = wait(waiting, _PAUSE, FIRST_COMPLETED)
            yield from (future.result() for future in done)
        pool.shutdown(cancel_futures=True)
        yield from (future.result() for future in waiting if not future.cancelled() and future.exception() is None)
    finally:
        pool.shutdown(cancel_futures=True)


class _Process(SpawnProcess):
    """One that Ctrl-C does not end, not even while it starts: it ends the run in the process that started it alone."""

    def start(self) -> None:
        with handled(signal.SIGINT, signal.SIG_IGN):
            super().start()


class _Context(SpawnContext):
    """A pool starts each of its processes when it has work for it."""

    Process = _Process


class _Relay(logging.Handler):
    """Passes log records of the processes to the loggers of this one."""

    def emit(self, record: logging.LogRecord) -> None:
        logging.getLogger(record.name).handle(record)


_worker: Worker
"""Of this process, where it is one of a pool."""


def _start(out: Path, options: Options, settings: Mapping[str, Any], lock: Any, records: Any, level: int) -> None:
    """What each process of the pool begins with."""
    global _worker  # noqa: PLW0603 - a pool hands its initialiser's work to later calls in no other way
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Windows does not inherit it
    threading.Thread(target=_end_with_parent, daemon=True).start()
    logging.getLogger(_LOGGER).addHandler(QueueHandler(records))
    logging.getLogger(_LOGGER).setLevel(level)
    _worker = Worker(out, options, settings, OneLargeFilm(lock))


def _predict(items: Sequence[Input]) -> list[Done]:
    with quiet():
        return [_worker.predict(item) for item in items]


def _end_with_parent() -> None:
    """End this process when the one that started it was killed: it would wait for files for ever."""
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)
