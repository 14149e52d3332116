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


class WorkQueue:
    """Does the work of requests in a few threads.

    Args:
        workers: number of threads.
        most: number of calls that may be in progress or waiting.
        timeout: seconds after which a call is given up.
    """

    def __init__(self, workers: int, most: int, timeout: float) -> None:
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="request")
        self._workers, self._most, self._timeout = workers, most, timeout
        self._lock = threading.Lock()
        self._open = 0
        self._seconds = 0.1

    @property
    def open(self) -> int:
        """Number of calls in progress or waiting."""
        return self._open

    async def do(self, function: Callable[..., _Value], *args: Any) -> _Value:
        """Call a function in one of the threads, and wait for its value.

        Raises:
            Problem: 429 where too much is waiting; 503 where the value is not there in time.
        """
        with self._lock:
            if self._open >= self._most:
                raise Problem(
                    429,
                    f"{self._open} requests are waiting, which is the most; try again later",
                    {"Retry-After": str(self._retry_after())},
                )
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
                {"Retry-After": str(self._retry_after())},
            ) from None

    def close(self) -> None:
        """Drop what waits, and end after what is in progress."""
        self._pool.shutdown(cancel_futures=True)

    def _timed(self, function: Callable[..., _Value], *args: Any) -> _Value:
        began = time.monotonic()
        try:
            return function(*args)
        finally:
            self._seconds += 0.1 * (time.monotonic() - began - self._seconds)

    def _leave(self, _: Future[Any] | None = None) -> None:
        with self._lock:
            self._open -= 1

    def _retry_after(self) -> int:
        """Seconds until what waits now will be done, at least 1, from the mean time of the last calls."""
        return max(1, math.ceil(self._open * self._seconds / self._workers))
