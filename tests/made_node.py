"""A node, a peer that sends to it, and one that takes what it sends: for tests."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.presentation import StoragePresentationContexts, build_context

from cxrseg.hospital.node.service import Node
from cxrseg.hospital.node.settings import Address, Destination, NodeSettings
from cxrseg.inference.options import Options
from made_models import hand_model

_PORTS = itertools.count(20_000 + 1_000 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")))


def free_port() -> int:
    """A port that nobody takes before the test does: of this worker, and below those that a system gives to clients."""
    for port in _PORTS:
        with socket.socket() as one, contextlib.suppress(OSError):
            one.bind(("127.0.0.1", port))
            return port
    raise AssertionError  # the count has no end


def wait_for(true: Callable[[], Any], what: str, seconds: float = 60.0) -> Any:
    """Ask until it is true; a test fails where it never is."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := true():
            return value
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds:.0f} s: {what}")


def listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def settings_for(folder: Path, *destinations: Destination, **changes: Any) -> NodeSettings:
    """A node on a free port of this machine, with a model whose answers are known."""
    model = folder.parent / "hand.onnx"
    if not model.exists():
        hand_model(model)
    values: dict[str, Any] = {
        "listen": Address("127.0.0.1", free_port()),
        "options": Options((model,)),
        "min_free_bytes": 0,
        "timeout": 10.0,
    }
    return NodeSettings(folder, destinations, **{**values, **changes})


@contextmanager
def running(settings: NodeSettings) -> Iterator[Node]:
    """A node in threads of this process."""
    node, stopped = Node(settings), threading.Event()
    thread = threading.Thread(target=node.run, args=(stopped,))
    thread.start()
    try:
        # Not by connecting, which would take up an association until it times out.
        wait_for(lambda: node._receiver._server is not None, "the node listens")
        yield node
    finally:
        stopped.set()
        thread.join()


def store(
    port: int,
    files: Sequence[Path],
    called: str = "CXRSEG",
    calling: str = "SENDER",
    tls: Any = None,
    timeout: float = 30.0,
) -> list[int | None]:
    """C-STORE files to a node; status of each, None where there was no answer; [] where it takes no association."""
    entity = AE(ae_title=calling)
    entity.acse_timeout = entity.dimse_timeout = timeout
    connections: list[Any] = []
    # pynetdicom does not close the socket of a connection that the other side broke.
    opened = (evt.EVT_CONN_OPEN, lambda event: connections.append(event.assoc.dul.socket.socket))
    data = [dcmread(path) for path in files]
    for one in data:
        context = build_context(one.SOPClassUID, one.file_meta.TransferSyntaxUID)
        if context not in entity.requested_contexts:
            entity.add_requested_context(one.SOPClassUID, one.file_meta.TransferSyntaxUID)
    association = entity.associate("127.0.0.1", port, ae_title=called, tls_args=tls, evt_handlers=[opened])
    try:
        found: list[int | None] = []
        if association.is_established:
            for one in data:
                status = association.send_c_store(one) if association.is_established else Dataset()
                found.append(status.Status if "Status" in status else None)
        if association.is_established:
            association.release()
        return found
    finally:
        for connection in connections:
            connection.close()


@contextmanager
def archive(
    port: int | None = None, answer: Callable[[Dataset], int] = lambda _: 0, tls: Any = None
) -> Iterator[tuple[Destination, list[Dataset]]]:
    """A DICOM node that takes everything: as a destination, and what it got; `answer` gives each object's status."""
    got: list[Dataset] = []

    def take(event: Any) -> int:
        data = event.dataset
        data.file_meta = event.file_meta
        status = answer(data)
        if status == 0:
            got.append(data)
        return status

    port = port or free_port()
    entity = AE(ae_title="ARCHIVE")
    entity.supported_contexts = StoragePresentationContexts
    server = entity.start_server(
        ("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, take)], ssl_context=tls
    )
    try:
        yield Destination(f"ARCHIVE@127.0.0.1:{port}", "ARCHIVE", Address("127.0.0.1", port)), got
    finally:
        server.shutdown()
