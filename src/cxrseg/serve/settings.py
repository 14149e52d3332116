"""Settings of the HTTP service."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from cxrseg.errors import CxrsegError
from cxrseg.inference.options import Options
from cxrseg.inference.work import processors

__all__ = ["LOOPBACK", "ServeSettings"]

LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""Addresses that only this machine can reach."""


@dataclass(frozen=True)
class ServeSettings:
    """Settings of the HTTP service; wrong ones are refused where they are made.

    Attributes:
        host: address to listen on.
        port: port to listen on; 0 takes a free one.
        options: models, task, threshold, device and `max_pixels` of the segmentation; the rest is not used.
        token: what a client must send as `Authorization: Bearer TOKEN`; None where none is asked for.
        folder: whose images `GET /v1/images` lists and `GET /v1/next` ranks; None for no folder.
        keep: the folder where corrections are saved; None where nothing is saved.
        max_bytes: largest body of a request.
        max_waiting: how many requests may be in progress or waiting; more are answered with 429.
        timeout: seconds from the arrival of a request to its answer; 429 where those that wait will take more than half
            of it.
        workers: threads that read images and make answers; a batch has at most so many images.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    options: Options = field(default_factory=Options)
    token: str | None = None
    folder: Path | None = None
    keep: Path | None = None
    max_bytes: int = 64 * 2**20
    max_waiting: int = 100
    timeout: float = 60.0
    workers: int = field(default_factory=lambda: processors() + 2)

    def __post_init__(self) -> None:
        if self.token is None and self.host not in LOOPBACK:
            raise CxrsegError(
                f"{self.host} can be reached from other machines, and without a token anyone there could use the "
                f"service; give --token, or --host 127.0.0.1"
            )
        if self.token is not None and not re.fullmatch(r"[!-~]+", self.token):
            raise CxrsegError("expected a token of letters, digits and signs of ASCII, without spaces")
        if self.folder is not None and not self.folder.is_dir():
            raise CxrsegError(f"expected a folder of images at {self.folder}, found none; give another --folder")
        if self.folder is not None and not os.access(self.folder, os.R_OK | os.X_OK):
            raise CxrsegError(f"{self.folder} may not be read; change its permissions, or give another --folder")
        if self.folder is not None and self.keep is not None and self.folder.resolve() == self.keep.resolve():
            raise CxrsegError(f"{self.folder} is the folder of the images; give another --keep for the corrections")
