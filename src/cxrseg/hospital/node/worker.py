"""Segments received images one after another, and writes their objects to the disk."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

from cxrseg.errors import DiskFullError, ImageError
from cxrseg.hospital.node.files import NodeFiles
from cxrseg.hospital.node.metrics import NodeMetrics
from cxrseg.hospital.node.queue import Job, Queue
from cxrseg.hospital.node.settings import NodeSettings
from cxrseg.hospital.objects import write_objects
from cxrseg.inference.segmenter import Segmenter
from cxrseg.io.dicom_open import read_dicom_header
from cxrseg.io.quiet import quiet
from cxrseg.io.read import read_radiograph

__all__ = ["Worker"]

_log = logging.getLogger(__name__)

_TRIES = 3
"""Number of attempts for an image: an image on which the process dies each time must not block the queue forever."""

_IDLE, _FULL_PAUSE = 1.0, 10.0


class Worker(threading.Thread):
    """Takes images from the queue.

    Args:
        settings: of the node.
        files: where the images are, and the objects go.
        queue: what waits.
        metrics: what is counted.
        segmenter: the loaded models.
        made: called after objects of an image are on disk.
    """

    def __init__(
        self,
        settings: NodeSettings,
        files: NodeFiles,
        queue: Queue,
        metrics: NodeMetrics,
        segmenter: Segmenter,
        made: Callable[[], None],
    ) -> None:
        super().__init__(name="worker", daemon=True)
        self._settings, self._files, self._queue, self._metrics = settings, files, queue, metrics
        self._segmenter, self._made = segmenter, made
        self._wake, self._stopped = threading.Event(), threading.Event()
        self._began: float | None = None

    def wake(self) -> None:
        """Something waits."""
        self._wake.set()

    def stop(self) -> None:
        """End after the image that is being segmented."""
        self._stopped.set()
        self._wake.set()

    def busy_for(self) -> float:
        """Seconds since the start of the image in progress; 0 where there is none."""
        began = self._began
        return 0.0 if began is None else time.monotonic() - began

    def run(self) -> None:
        """Segment until stopped."""
        while not self._stopped.is_set():
            try:
                self._next()
            except sqlite3.OperationalError as error:  # the queue's own disk is full, or does not answer
                _log.error("the queue cannot be written: %s", error)
                self._stopped.wait(_FULL_PAUSE)

    def _next(self) -> None:
        """Segment the next image, or wait for one."""
        self._wake.clear()
        job = self._queue.next_job()
        if job is None:
            self._wake.wait(_IDLE)
            return
        self._began = time.monotonic()
        try:
            self._do(job)
        except (DiskFullError, sqlite3.OperationalError) as error:  # not the image's fault
            _log.error("image %s waits: %s", job.instance, error)
            self._began = None
            self._stopped.wait(_FULL_PAUSE)
            self._put_back(job)
        finally:
            self._began = None

    def _put_back(self, job: Job) -> None:
        """Let an image wait again, without counting the try; the queue may be on the disk that is full."""
        while not self._stopped.is_set():
            try:
                self._queue.put_back(job)
                return
            except sqlite3.OperationalError:
                self._stopped.wait(_FULL_PAUSE)

    def _do(self, job: Job) -> None:
        began = time.monotonic()
        if job.attempts > _TRIES:
            self._finish(job, "failed", f"started {_TRIES} times, and the process died each time")
            return
        path = self._files.image(job.key)
        try:
            if _made_by_cxrseg(path):
                self._finish(job, "ignored", "made by cxrseg")
                return
            radiograph = read_radiograph(path, max_pixels=self._settings.options.max_pixels)
            prediction = self._segmenter.segment(radiograph)
            if prediction.status == "refused":
                self._finish(job, "refused", prediction.reason)
                return
            folder = self._files.objects(job.key)
            write_objects(folder, "object", path, radiograph, prediction, self._settings.kinds)
        except ImageError as error:
            self._finish(job, "refused", str(error).replace(str(path), "the image"))
            return
        except DiskFullError:
            raise
        except Exception as error:  # one image must not stop the others
            _log.debug("image %s failed", job.instance, exc_info=True)
            self._finish(job, "failed", f"{type(error).__name__}: {error}")
            return
        names = [destination.name for destination in self._settings.destinations]
        self._queue.made(job, names, self._settings.kinds)
        seconds = time.monotonic() - began
        self._metrics.seconds.observe(seconds)
        self._metrics.done.labels("ok").inc()
        _log.info("image %s: segmented in %.2f s", job.instance, seconds)
        self._made()

    def _finish(self, job: Job, state: str, reason: str) -> None:
        self._queue.finish(job, state, reason)
        self._files.remove(job.key)
        self._metrics.done.labels(state).inc()
        _log.log(logging.ERROR if state == "failed" else logging.INFO, "image %s: %s: %s", job.instance, state, reason)


def _made_by_cxrseg(path: Path) -> bool:
    """A PACS may send what it got from this node back to it, and a picture of a chest is one to be segmented, too."""
    with quiet():
        try:
            return str(read_dicom_header(path).get("Manufacturer") or "") == "cxrseg"
        except Exception:  # pydicom raises nearly anything; reading it as an image says what is wrong
            return False
