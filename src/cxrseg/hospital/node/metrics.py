"""What a node tells Prometheus."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from cxrseg.errors import CxrsegError
from cxrseg.hospital.node.queue import Queue
from cxrseg.hospital.node.settings import Address

__all__ = ["NodeMetrics"]

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class NodeMetrics:
    """Counters of this process, and gauges read from the queue.

    Args:
        queue: whose length is told.
    """

    def __init__(self, queue: Queue) -> None:
        self._server: Any = None
        self.registry = CollectorRegistry()
        registry = self.registry
        self.received = Counter(
            "cxrseg_images_received",
            "Images accepted by C-STORE, by whether they were new",
            ["which"],
            registry=registry,
        )
        self.not_accepted = Counter(
            "cxrseg_images_not_accepted", "Images answered with an error, or aborted", registry=registry
        )
        self.rejected = Counter("cxrseg_associations_rejected", "Associations rejected", registry=registry)
        self.done = Counter(
            "cxrseg_images_done", "Images segmented, refused, ignored or failed", ["state"], registry=registry
        )
        self.seconds = Histogram(
            "cxrseg_segment_seconds",
            "From reading an image to its objects on disk",
            registry=registry,
            buckets=_SECONDS,
        )
        self.sent = Counter("cxrseg_objects_sent", "Objects delivered", ["destination", "kind"], registry=registry)
        self.send_errors = Counter(
            "cxrseg_send_errors",
            "Objects or connections that a destination did not take",
            ["destination"],
            registry=registry,
        )
        self.whole = Histogram(
            "cxrseg_answer_seconds",
            "From receiving an image to its last object delivered",
            registry=registry,
            buckets=(1, 2.5, 5, 10, 30, 60, 300, 3600),
        )
        registry.register(_Gauges(queue))

    def serve(self, address: Address) -> None:
        """Answer GET /metrics, in a thread of its own.

        Raises:
            CxrsegError: the address is taken.
        """
        try:
            self._server, _ = start_http_server(address.port, address.host, self.registry)
        except OSError as error:
            raise CxrsegError(
                f"{address} cannot be listened on ({error.strerror or error}); choose another --metrics"
            ) from error

    def close(self) -> None:
        """Answer no more."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()


class _Gauges(Collector):
    """The queue at the moment of the question."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The gauges."""
        images = GaugeMetricFamily("cxrseg_queue_images", "Images known to the queue, by state", labels=["state"])
        counts = {"waiting": 0, "made": 0, **self._queue.counts()}
        for state, count in counts.items():
            images.add_metric([state], count)
        yield images
        oldest = self._queue.oldest_open()
        age = 0.0 if oldest is None else max(0.0, time.time() - oldest)
        yield GaugeMetricFamily("cxrseg_queue_oldest_seconds", "How long the oldest open image has waited", value=age)
