"""A service on a free port of this machine, with a model whose answers are known."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import numpy as np
import uvicorn
from PIL import Image

from cxrseg.serve.app import create_app
from cxrseg.serve.run import listen
from cxrseg.serve.service import Service
from cxrseg.serve.settings import ServeSettings


@contextmanager
def serving(**settings: Any) -> Iterator[tuple[httpx.Client, Service]]:
    """Start a service, and give a client and the service itself."""
    given = ServeSettings(**{"port": 0, **settings})
    with listen(given) as listener:
        service = Service(given)
        server = uvicorn.Server(uvicorn.Config(create_app(service), log_level="critical"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            address = f"http://127.0.0.1:{listener.getsockname()[1]}"
            with httpx.Client(base_url=address, timeout=60, trust_env=False) as client:
                yield client, service
        finally:
            server.should_exit = True
            thread.join()
            service.close()


def png(values: np.ndarray) -> bytes:
    """(H, W) of uint8, or of bool or float in [0, 1], as a gray PNG file."""
    file = io.BytesIO()
    pixels = values if values.dtype == np.uint8 else np.rint(values * np.float64(255)).astype(np.uint8)
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def pixels_of(content: bytes) -> np.ndarray:
    """The pixels of a PNG file, as they are stored."""
    return np.asarray(Image.open(io.BytesIO(content)))
