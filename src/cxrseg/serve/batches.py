"""Running the images of several requests through a model together."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future

import numpy as np
import numpy.typing as npt

from cxrseg.inference.engine import LoadedModel, Result

__all__ = ["BatchedModel"]

_Pixels = npt.NDArray[np.float32]
_Call = tuple[_Pixels, "Future[Result]"]


class BatchedModel:
    """A loaded model for many threads: the calls that arrive while it is busy become one batch.

    A thread of its own runs the model. It does not wait for more calls than have arrived, so that batches cost a single
    request no time.

    Args:
        model: the model.
        largest: number of calls in the largest batch.
        on_batch: called with the number of calls of each batch.

    Attributes:
        sha256, info, precision: of the model.
    """

    def __init__(self, model: LoadedModel, largest: int, on_batch: Callable[[int], object] = lambda _: None) -> None:
        self.sha256, self.info, self.precision = model.sha256, model.info, model.precision
        self._model, self._largest, self._on_batch = model, largest, on_batch
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="batches", daemon=True)
        self._thread.start()

    def run(self, pixels: _Pixels) -> Result:
        """(N, H, W) float32 in [0, 1] of the model's input size to its output; waits for it."""
        answer: Future[Result] = Future()
        self._calls.put((pixels, answer))
        return answer.result()

    @property
    def waiting(self) -> int:
        """Number of calls that have not begun."""
        return self._calls.qsize()

    def close(self) -> None:
        """End the thread after the calls that are waiting."""
        self._calls.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            batch = [call]
            while len(batch) < self._largest and not self._calls.empty():
                more = self._calls.get()
                if more is None:
                    self._calls.put(None)
                    break
                batch.append(more)
            self._on_batch(len(batch))
            self._run(batch)

    def _run(self, batch: list[_Call]) -> None:
        try:
            ends = np.cumsum([len(pixels) for pixels, _ in batch])[:-1]
            result = self._model.run(np.concatenate([pixels for pixels, _ in batch]))
            parts = [[None] * len(batch) if values is None else np.split(values, ends) for values in result]
        except BaseException as error:
            for _, answer in batch:
                answer.set_exception(error)
            return
        for (_, answer), *values in zip(batch, *parts, strict=True):
            answer.set_result(Result(*values))
