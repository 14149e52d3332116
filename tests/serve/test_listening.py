from __future__ import annotations

import socket

import pytest

from cxrseg.errors import CxrsegError
from cxrseg.serve.run import listen
from cxrseg.serve.settings import ServeSettings


def test_a_connection_waits_while_the_service_starts() -> None:
    with listen(ServeSettings(port=0)) as listener, socket.create_connection(listener.getsockname(), timeout=30):
        pass  # refused, if the socket were bound only


def test_two_services_that_start_at_once_do_not_get_the_same_port() -> None:
    with listen(ServeSettings(port=0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(CxrsegError, match=f"127.0.0.1:{port} cannot be listened on .* --port"):
            listen(ServeSettings(port=port))
