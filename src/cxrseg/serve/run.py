"""Listening, and ending tidily."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable
from typing import Any

import uvicorn

from cxrseg.errors import CxrsegError
from cxrseg.io.signals import handled
from cxrseg.serve.app import create_app
from cxrseg.serve.service import Service
from cxrseg.serve.settings import ServeSettings

__all__ = ["listen", "serve"]

_WAITING = 2048
"""Connections that may wait, as uvicorn has it."""


def serve(settings: ServeSettings, ready: Callable[[str], object] = lambda _: None) -> None:
    """Serve until the process gets SIGINT or SIGTERM.

    Args:
        settings: of the service.
        ready: called with the address, such as 'http://127.0.0.1:8000/', once requests are answered.

    Raises:
        CxrsegError: the port is in use, or the address does not exist; or the folder of corrections cannot be
            written, or is another service's.
        ModelFileError: a model file cannot be used.
    """
    listener = listen(settings)
    host, port = listener.getsockname()[:2]
    with listener:
        service = Service(settings)
        shown = f"[{host}]" if ":" in host else host
        try:
            config = uvicorn.Config(
                create_app(service), log_level="warning", server_header=False, timeout_graceful_shutdown=10
            )
            server = _Server(config, lambda: ready(f"http://{shown}:{port}/"))
            # uvicorn raises the signal once more when it has ended; it must not end the process with an error.
            with handled(signal.SIGINT, _ignore), handled(signal.SIGTERM, _ignore):
                server.run(sockets=[listener])
        finally:
            service.close()


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ready: Callable[[], object]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()


def _ignore(*_: Any) -> None:
    """A handler that does nothing."""


def listen(settings: ServeSettings) -> socket.socket:
    """A socket that listens at the address of the settings.

    Connections wait from here on until the service answers them. A socket that is bound only would refuse them, and
    would let a second service bind to the same port.

    Raises:
        CxrsegError: the port is in use, or the address does not exist.
    """
    host, port = settings.host, settings.port
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
            listener.listen(_WAITING)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise CxrsegError(
            f"{host}:{port} cannot be listened on ({error.strerror or error}); choose another --port or --host"
        ) from error
    return listener
