"""Delivers objects to one destination, until it has taken them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Protocol

import requests
from dicomweb_client import DICOMwebClient
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.association import Association

from cxrseg.errors import CxrsegError
from cxrseg.hospital.node.files import NodeFiles
from cxrseg.hospital.node.metrics import NodeMetrics
from cxrseg.hospital.node.queue import Delivery, Job, Queue
from cxrseg.hospital.node.settings import Destination, NodeSettings
from cxrseg.hospital.node.tls import client_context

__all__ = ["Sender", "UnreachableError", "make_transport"]

_log = logging.getLogger(__name__)

_SOP_CLASSES = (
    "1.2.840.10008.5.1.4.1.1.66.4",  # Segmentation
    "1.2.840.10008.5.1.4.1.1.88.33",  # Comprehensive SR
    "1.2.840.10008.5.1.4.1.1.7",  # Secondary Capture
)
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 300.0
"""Seconds between two tries to reach a destination that does not answer: doubled each time. It is tried for ever."""

_REFUSED_PAUSE, _REFUSED_TRIES = 5.0, 10
"""Seconds until an object is offered again that a destination has refused, doubled each time; then it is given up."""

_IDLE = 1.0


class UnreachableError(CxrsegError):
    """A destination does not answer, or takes no association; nothing is known about the objects."""


class Transport(Protocol):
    """How objects get to a destination."""

    def send(self, objects: Mapping[str, Dataset]) -> Iterator[tuple[str, str]]:
        """Send objects one after another.

        Args:
            objects: kind to object.

        Yields:
            After each: its kind, and '' where it was taken, or the reason why not.

        Raises:
            UnreachableError: the destination does not answer, or no more.
        """


class _Store:
    """C-STORE, one association for the objects of an image."""

    def __init__(self, destination: Destination, settings: NodeSettings) -> None:
        assert destination.address is not None
        self._destination, self._address = destination, destination.address
        self._entity = AE(ae_title=settings.aet)
        for sop_class in _SOP_CLASSES:
            self._entity.add_requested_context(sop_class, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
        self._entity.connection_timeout = self._entity.acse_timeout = settings.timeout
        self._entity.dimse_timeout = self._entity.network_timeout = settings.timeout
        self._tls = None if settings.tls is None else (client_context(settings.tls), self._address.host)

    def send(self, objects: Mapping[str, Dataset]) -> Iterator[tuple[str, str]]:
        association = self._entity.associate(
            self._address.host, self._address.port, ae_title=self._destination.aet, tls_args=self._tls
        )
        if not association.is_established:
            why = "it rejects the association" if association.is_rejected else "it does not answer"
            raise UnreachableError(f"{self._destination.name}: {why}")
        try:
            for kind, made in objects.items():
                yield kind, self._answer(association, made)
        finally:
            if association.is_established:
                association.release()

    def _answer(self, association: Association, made: Dataset) -> str:
        try:
            status = association.send_c_store(made)
        except ValueError as error:  # it does not accept this kind of object
            return str(error)
        except RuntimeError:
            status = Dataset()
        if "Status" not in status:
            raise UnreachableError(f"{self._destination.name}: the association broke")
        code = int(status.Status)
        return "" if code == 0 or code >> 12 == 0xB else f"status 0x{code:04X}"  # 0xBxxx: stored, with a warning


class _Stow:
    """STOW-RS, one request for each object, so that each has its own answer."""

    def __init__(self, destination: Destination, settings: NodeSettings) -> None:
        self._name = destination.name
        self._session = _Session(settings.timeout)
        if settings.tls is not None:
            self._session.cert = (str(settings.tls.certificate), str(settings.tls.key))
            self._session.verify = str(settings.tls.authority)
        self._client = DICOMwebClient(destination.url, session=self._session)
        self._client.set_http_retry_params(retry=False)

    def send(self, objects: Mapping[str, Dataset]) -> Iterator[tuple[str, str]]:
        for kind, made in objects.items():
            yield kind, self._answer(made)

    def _answer(self, made: Dataset) -> str:
        try:
            answer = self._client.store_instances([made])
        except requests.HTTPError as error:
            code = 0 if error.response is None else error.response.status_code
            if code in (401, 403, 404) or code >= 500:  # about the server, not about the object
                raise UnreachableError(f"{self._name}: HTTP {code}") from None
            return f"HTTP {code}"
        except requests.RequestException as error:
            raise UnreachableError(f"{self._name}: {type(error).__name__}") from None
        failed = answer.get("FailedSOPSequence")
        return f"failure reason 0x{int(failed[0].FailureReason):04X}" if failed else ""


class _Session(requests.Session):
    """Never waits for ever."""

    def __init__(self, timeout: float) -> None:
        super().__init__()
        self._timeout = timeout

    def request(self, *arguments: object, **options: object) -> requests.Response:
        """As requests does, with a timeout."""
        options.setdefault("timeout", self._timeout)
        return super().request(*arguments, **options)  # type: ignore[arg-type]


def make_transport(destination: Destination, settings: NodeSettings) -> Transport:
    """The transport of a destination: STOW-RS for a URL, else C-STORE."""
    return _Stow(destination, settings) if destination.url else _Store(destination, settings)


class Sender(threading.Thread):
    """Takes what is due at one destination from the queue and delivers it.

    Args:
        destination: whose.
        settings: of the node.
        files: where the objects are.
        queue: what is due.
        metrics: what is counted.
    """

    def __init__(
        self, destination: Destination, settings: NodeSettings, files: NodeFiles, queue: Queue, metrics: NodeMetrics
    ) -> None:
        super().__init__(name=f"sender {destination.name}", daemon=True)
        self._name, self._files, self._queue, self._metrics = destination.name, files, queue, metrics
        self._transport = make_transport(destination, settings)
        self._wake, self._stopped = threading.Event(), threading.Event()

    def wake(self) -> None:
        """Something is due."""
        self._wake.set()

    def stop(self) -> None:
        """End after the object on its way."""
        self._stopped.set()
        self._wake.set()

    def run(self) -> None:
        """Deliver until stopped."""
        pause = _FIRST_PAUSE
        while not self._stopped.is_set():
            self._wake.clear()
            delivery = self._queue.next_delivery(self._name)
            if delivery is None:
                self._wake.wait(_IDLE)
                continue
            try:
                self._deliver(delivery)
                pause = _FIRST_PAUSE
            except Exception as error:  # whatever a peer or the network does, the next try may go well
                known = isinstance(error, UnreachableError)
                _log.warning("%s; trying again in %.0f s", error, pause, exc_info=None if known else error)
                self._metrics.send_errors.labels(self._name).inc()
                self._stopped.wait(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)

    def _deliver(self, delivery: Delivery) -> None:
        job, objects, taken = delivery.job, {}, []
        for kind in delivery.kinds:
            try:
                objects[kind] = dcmread(self._files.object(job.key, kind))
            except (OSError, InvalidDicomError) as error:
                self._settled(job, self._give_up(job, kind, f"its file cannot be read ({type(error).__name__})"))
        if not objects:
            return
        for kind, reason in self._transport.send(objects):
            if reason:
                self._refused(job, kind, reason)
                continue
            self._settled(job, self._queue.delivered(job, self._name, kind))
            self._metrics.sent.labels(self._name, kind).inc()
            taken.append(kind)
        if taken:
            _log.info("image %s: %s delivered to %s", job.instance, ", ".join(taken), self._name)

    def _settled(self, job: Job, last: bool) -> None:
        """Clear away where nothing of an image is left to do."""
        if last:
            self._files.remove(job.key)
            self._metrics.whole.observe(max(0.0, time.time() - job.received))

    def _refused(self, job: Job, kind: str, reason: str) -> None:
        self._metrics.send_errors.labels(self._name).inc()
        tries = self._queue.postpone(job, self._name, kind, reason, _pause)
        if tries >= _REFUSED_TRIES:
            self._settled(job, self._give_up(job, kind, f"{reason}, {tries} times"))
            return
        message = "image %s: %s refuses %s (%s), offered again in %.0f s"
        _log.warning(message, job.instance, self._name, kind, reason, _pause(tries))

    def _give_up(self, job: Job, kind: str, reason: str) -> bool:
        _log.error("image %s: %s for %s given up: %s", job.instance, kind, self._name, reason)
        return self._queue.gave_up(job, self._name, kind, reason)


def _pause(tries: int) -> float:
    return float(_REFUSED_PAUSE * 2 ** (tries - 1))
