"""Accepts images by C-STORE, and says so only after they are on disk."""

from __future__ import annotations

import hashlib
import logging
import sqlite3
import threading
from collections.abc import Callable
from typing import Any

from pynetdicom import AE, evt
from pynetdicom.events import Event
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # made when the module is loaded
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    SecondaryCaptureImageStorage,
    Verification,
)

from cxrseg.errors import CxrsegError, DiskFullError
from cxrseg.hospital.node.files import NodeFiles
from cxrseg.hospital.node.metrics import NodeMetrics
from cxrseg.hospital.node.queue import Queue
from cxrseg.hospital.node.settings import NodeSettings
from cxrseg.hospital.node.tls import server_context
from cxrseg.io.dicom_layout import TRANSFER_SYNTAXES

__all__ = ["Receiver"]

_log = logging.getLogger(__name__)

_ACCEPTED = (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    SecondaryCaptureImageStorage,
)

_SUCCESS, _OUT_OF_RESOURCES, _CANNOT_UNDERSTAND = 0x0000, 0xA700, 0xC000
_PDU_BYTES = 128 * 1024


class Receiver:
    """The listening side of a node.

    Args:
        settings: where to listen, and the limits.
        files: where images are put.
        queue: where they are entered.
        metrics: what is counted.
        wake: called after an image was entered.
        how: all that an image's objects depend on besides the image: with another model, an image that was sent before
            is another piece of work.
    """

    def __init__(
        self,
        settings: NodeSettings,
        files: NodeFiles,
        queue: Queue,
        metrics: NodeMetrics,
        wake: Callable[[], None],
        how: bytes,
    ) -> None:
        self._settings, self._files, self._queue, self._metrics, self._wake = settings, files, queue, metrics, wake
        self._how, self._lock = how, threading.Lock()
        self._server: Any = None

    def start(self) -> None:
        """Listen, in threads of its own.

        Raises:
            CxrsegError: the address is taken, or the certificates cannot be used.
        """
        settings = self._settings
        entity = AE(ae_title=settings.aet)
        entity.add_supported_context(Verification)
        for sop_class in _ACCEPTED:
            entity.add_supported_context(sop_class, list(TRANSFER_SYNTAXES))
        entity.require_called_aet = True
        entity.require_calling_aet = list(settings.accept_from)
        entity.maximum_associations = settings.max_associations
        entity.maximum_pdu_size = _PDU_BYTES
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = settings.timeout
        try:
            self._server = entity.start_server(
                (settings.listen.host, settings.listen.port),
                block=False,
                ssl_context=None if settings.tls is None else server_context(settings.tls),
                evt_handlers=[
                    (evt.EVT_C_ECHO, self._echo),
                    (evt.EVT_C_STORE, self._store),
                    (evt.EVT_PDU_RECV, self._limit),
                    (evt.EVT_REJECTED, self._rejected),
                ],
            )
        except OSError as error:
            raise CxrsegError(
                f"{settings.listen} cannot be listened on ({error.strerror or error}); choose another --listen"
            ) from error

    def stop(self) -> None:
        """Close all associations and listen no more."""
        if self._server is not None:
            self._server.shutdown()

    def _echo(self, event: Event) -> int:
        _log.info("C-ECHO from %s", event.assoc.requestor.ae_title)
        return _SUCCESS

    def _store(self, event: Event) -> int:
        peer, instance = event.assoc.requestor.ae_title, str(getattr(event.request, "AffectedSOPInstanceUID", ""))
        try:
            status = self._accept(event.encoded_dataset(), instance, peer)
        except (DiskFullError, sqlite3.OperationalError) as error:
            _log.error("image %s from %s not accepted: %s", instance, peer, error)
            status = _OUT_OF_RESOURCES
        except Exception:  # the peer gets an answer, and keeps the image
            _log.exception("image %s from %s not accepted", instance, peer)
            status = _CANNOT_UNDERSTAND
        if status != _SUCCESS:
            self._metrics.not_accepted.inc()
        return status

    def _accept(self, content: bytes, instance: str, peer: str) -> int:
        free = self._files.free()
        if free - len(content) < self._settings.min_free_bytes:
            raise DiskFullError(f"{free // 2**20} MiB free in {self._files.folder}, fewer than the node keeps free")
        key = hashlib.sha256(self._how + content).hexdigest()
        with self._lock:  # the same image may come on two associations at once
            if not self._queue.wants(key):
                _log.info("image %s from %s: known already, nothing to do", instance, peer)
                self._metrics.received.labels("known").inc()
                return _SUCCESS
            self._files.store(key, content)
            self._queue.add(key, instance)
        _log.info("image %s from %s: received, %.1f MB", instance, peer, len(content) / 1e6)
        self._metrics.received.labels("new").inc()
        self._wake()
        return _SUCCESS

    def _limit(self, event: Event) -> None:
        """Abort an association that sends more than one image may have; it is held in memory until it is whole."""
        message = event.assoc.dimse.message
        if message is None or message.data_set is None or message.data_set.tell() <= self._settings.max_bytes:
            return
        peer, limit = event.assoc.requestor.ae_title, self._settings.max_bytes
        _log.error("association with %s aborted: an image of more than %d MB (--max-mb)", peer, limit // 10**6)
        self._metrics.not_accepted.inc()
        message.data_set.truncate(0)
        event.assoc.abort()

    def _rejected(self, event: Event) -> None:
        """Counted and named; pynetdicom has told the peer why."""
        request = event.assoc.requestor.primitive
        called = "" if request is None else request.called_ae_title
        _log.warning("association of %s, which called %s, rejected", event.assoc.requestor.ae_title, called)
        self._metrics.rejected.inc()
