"""What the service tells Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

__all__ = ["ServeMetrics"]

_SECONDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class ServeMetrics:
    """Counters of this process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "cxrseg_requests", "Requests, by route and status", ["method", "route", "status"], registry=self._registry
        )
        self.seconds = Histogram(
            "cxrseg_request_seconds",
            "From the arrival of a request to the end of its answer",
            ["route"],
            registry=self._registry,
            buckets=_SECONDS,
        )
        self.images = Counter("cxrseg_images", "Images segmented, by status", ["status"], registry=self._registry)
        self.batches = Histogram(
            "cxrseg_batch_images", "Images in a batch", registry=self._registry, buckets=(1, 2, 3, 4, 8, 16)
        )
        self.waiting = Gauge("cxrseg_requests_waiting", "Requests in progress or waiting", registry=self._registry)
        self.corrections = Counter("cxrseg_corrections", "Corrections saved", registry=self._registry)

    def as_text(self) -> bytes:
        """All of them, in the format of Prometheus."""
        return generate_latest(self._registry)
