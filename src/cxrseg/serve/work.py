"""The queue of requests: a few threads, a limit to what waits, and a limit to how long."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from cxrseg.serve.problems import Problem

__all__ = ["WorkQueue"]

_Value = TypeVar("_Value")


_LONGEST_WAIT = 0.5
"""Of the timeout: a call that would probably wait longer is refused at once. If all calls waited until just before the
timeout, most would be given up while they are worked on, and that work would be lost."""


class WorkQueue:
    """Does the work of requests in a few threads.

    Calls are refused where more than `most` are open, or where those that are open will probably take more than half of
    `timeout`, by the mean time of the last calls. While a thread is free, no call is refused.

    Args:
        workers: number of threads.
        most: number of calls that may be in progress or waiting.
        timeout: seconds after which a call is given up.
    """

    def __init__(self, workers: int, most: int, timeout: float) -> None:
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="request")
        self._workers, self._most, self._timeout = workers, most, timeout
        self._lock = threading.Lock()
        self._open = self._done = 0
        self._seconds = 0.0

    @property
    def open(self) -> int:
        """Number of calls in progress or waiting."""
        return self._open

    def check(self) -> None:
        """Refuse what would wait for too long if it came now.

        Raises:
            Problem: 429.
        """
        wait = self._wait()
        if self._open >= self._most:
            reason = "which is the most"
        elif self._open >= self._workers and wait > _LONGEST_WAIT * self._timeout:
            reason = f"and will take about {wait:.0f} s, too long for a timeout of {self._timeout:g} s"
        else:
            return
        raise Problem(
            429, f"{self._open} requests are waiting, {reason}; try again later", {"Retry-After": self._retry_after()}
        )

    async def do(self, function: Callable[..., _Value], *args: Any) -> _Value:
        """Call a function in one of the threads, and wait for its value.

        Raises:
            Problem: 429 where too much is waiting; 503 where the value is not there in time.
        """
        with self._lock:
            self.check()
            self._open += 1
        try:
            future = self._pool.submit(self._timed, function, *args)
        except RuntimeError:  # the pool is closed
            self._leave()
            raise Problem(503, "the service is being stopped") from None
        future.add_done_callback(self._leave)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), self._timeout)
        except TimeoutError:
            raise Problem(
                503,
                f"no answer within {self._timeout:g} s; try again later, or send a smaller image",
                {"Retry-After": self._retry_after()},
            ) from None

    def close(self) -> None:
        """Drop what waits, and end after what is in progress."""
        self._pool.shutdown(cancel_futures=True)

    def _timed(self, function: Callable[..., _Value], *args: Any) -> _Value:
        began = time.monotonic()
        try:
            return function(*args)
        finally:
            with self._lock:
                self._done += 1
                # The mean of the first ten calls, then of about the last ten.
                self._seconds += max(0.1, 1 / self._done) * (time.monotonic() - began - self._seconds)

    def _leave(self, _: Future[Any] | None = None) -> None:
        with self._lock:
            self._open -= 1

    def _wait(self) -> float:
        """Seconds that what is open now will take, by the mean time of the last calls."""
        return self._open * self._seconds / self._workers

    def _retry_after(self) -> str:
        """Whole seconds until what waits now will be done, at least 1."""
        return str(max(1, math.ceil(self._wait())))
