"""The node as a whole: starts its parts, watches over them, and ends them."""

from __future__ import annotations

import json
import logging
import os
import threading

from cxrseg.errors import CxrsegError
from cxrseg.hospital.node.files import NodeFiles
from cxrseg.hospital.node.metrics import NodeMetrics
from cxrseg.hospital.node.queue import Queue
from cxrseg.hospital.node.receiver import Receiver
from cxrseg.hospital.node.sender import Sender
from cxrseg.hospital.node.settings import NodeSettings
from cxrseg.hospital.node.worker import Worker
from cxrseg.inference.options import settings_of

__all__ = ["Node"]

_log = logging.getLogger(__name__)

_REMEMBERED = 90 * 24 * 3600.0
"""Seconds for which images that are done are remembered, so that they are not done twice."""

_HUNG = 3
"""Exit code of the process where an image takes too long."""


class Node:
    """A DICOM node.

    Args:
        settings: all of it.

    Raises:
        CxrsegError: the folder is another node's or cannot be written, a model cannot be used, a certificate cannot be
            read.
    """

    def __init__(self, settings: NodeSettings) -> None:
        self.settings = settings
        segmenter = settings.options.segmenter()
        self._files = NodeFiles(settings.folder)
        self._queue = Queue(self._files.queue)
        self._metrics = NodeMetrics(self._queue)
        self._senders = [
            Sender(destination, settings, self._files, self._queue, self._metrics)
            for destination in settings.destinations
        ]
        self._worker = Worker(settings, self._files, self._queue, self._metrics, segmenter, self._wake_senders)
        how = json.dumps([settings_of(segmenter, settings.options), settings.kinds], sort_keys=True).encode()
        self._receiver = Receiver(settings, self._files, self._queue, self._metrics, self._worker.wake, how)

    def run(self, stopped: threading.Event) -> None:
        """Serve until `stopped` is set; then end what is being done, and keep the rest for the next start.

        Raises:
            CxrsegError: an address is taken, or a part of the node has ended by itself.
        """
        settings = self.settings
        try:
            self._tidy()
            if settings.metrics is not None:
                self._metrics.serve(settings.metrics)
            self._receiver.start()
            for thread in (self._worker, *self._senders):
                thread.start()
            names = ", ".join(destination.name for destination in settings.destinations)
            _log.info("listening on %s as %s, sending to %s", settings.listen, settings.aet, names)
            while not stopped.wait(1.0):
                self._watch()
        finally:
            self._stop()

    def _tidy(self) -> None:
        """What the last run has left."""
        names = [destination.name for destination in self.settings.destinations]
        if dropped := self._queue.drop_destinations(names):
            _log.warning("%d objects given up, whose destination is not among %s", dropped, ", ".join(names))
        self._queue.forget(_REMEMBERED)
        open_names = self._queue.open_names()
        self._files.remove_all_but(open_names)
        if open_names:
            _log.info("going on with %d images of the last run", len(open_names))

    def _watch(self) -> None:
        if self._worker.busy_for() > self.settings.segment_timeout:
            _log.critical("an image takes more than %.0f s, ending the process", self.settings.segment_timeout)
            os._exit(_HUNG)  # a thread in native code cannot be ended; the image counts as tried
        for thread in (self._worker, *self._senders):
            if not thread.is_alive():
                raise CxrsegError(f"the node's {thread.name} has ended by itself; see the log, and start it again")

    def _wake_senders(self) -> None:
        for sender in self._senders:
            sender.wake()

    def _stop(self) -> None:
        self._receiver.stop()
        everything: list[Worker | Sender] = [self._worker, *self._senders]
        parts = [part for part in everything if part.is_alive()]
        for part in parts:
            part.stop()
        for part in parts:
            part.join(self.settings.timeout)
        self._metrics.close()
        self._queue.close()
        self._files.close()
        _log.info("stopped")
