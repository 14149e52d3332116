"""What a node is told, checked where it is made."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from cxrseg.errors import CxrsegError
from cxrseg.inference.options import DICOM_TYPES, Options

__all__ = ["Address", "Destination", "NodeSettings", "Tls", "parse_address", "parse_destination", "state_folder"]

_AE_TITLE = re.compile(r"[\x21-\x5b\x5d-\x7e]{1,16}")
_NAMED = re.compile(r"(?P<aet>[^@]+)@(?P<address>.+)")


@dataclass(frozen=True)
class Address:
    """A host and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Destination:
    """Where objects go: a DICOM node by C-STORE, or a DICOMweb server by STOW-RS.

    Attributes:
        name: as the user wrote it; the same name is the same destination after a restart.
        aet: AE title of a DICOM node, '' for DICOMweb.
        address: of a DICOM node, None for DICOMweb.
        url: of a DICOMweb server, such as 'https://pacs/dicom-web', '' for a DICOM node.
    """

    name: str
    aet: str = ""
    address: Address | None = None
    url: str = ""


@dataclass(frozen=True)
class Tls:
    """Certificates of a node, PEM files.

    Attributes:
        certificate: this node's certificate chain.
        key: its private key.
        authority: who must have signed the other side's certificate. A peer without one is rejected.
    """

    certificate: Path
    key: Path
    authority: Path


@dataclass(frozen=True)
class NodeSettings:
    """All settings of a node.

    Attributes:
        folder: received images, made objects and the queue; only this node's user may read it.
        destinations: where objects go.
        listen: where associations are accepted.
        aet: this node's AE title; a peer must call it by this name.
        accept_from: AE titles that may call; () for any.
        kinds: which of `cxrseg.inference.options.DICOM_TYPES` are made.
        options: how images are segmented.
        tls: for both directions of C-STORE; None for none.
        metrics: where Prometheus may ask; None for nowhere.
        max_associations: more at the same time are rejected.
        max_bytes: of one image; an association that sends more is aborted.
        min_free_bytes: below this free space no image is accepted.
        timeout: seconds of silence after which an association is closed.
        segment_timeout: seconds after which an image that is being segmented is given up, and the node ends with an
            error, for the system to start it again.
    """

    folder: Path
    destinations: tuple[Destination, ...]
    listen: Address = Address("127.0.0.1", 11112)
    aet: str = "CXRSEG"
    accept_from: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ("dicom_seg", "dicom_sr")
    options: Options = field(default_factory=Options)
    tls: Tls | None = None
    metrics: Address | None = None
    max_associations: int = 10
    max_bytes: int = 128 * 2**20
    min_free_bytes: int = 2**30
    timeout: float = 30.0
    segment_timeout: float = 300.0

    def __post_init__(self) -> None:
        for title in (self.aet, *self.accept_from):
            _check_title(title)
        if not self.destinations:
            raise CxrsegError("expected a destination, got none: --send AET@host:port or --send https://host/dicom-web")
        names = [destination.name for destination in self.destinations]
        if len(set(names)) < len(names):
            raise CxrsegError(f"expected each destination once, got {', '.join(names)}")
        if not self.kinds or set(self.kinds) - set(DICOM_TYPES):
            raise CxrsegError(f"expected objects among {', '.join(DICOM_TYPES)}, got {', '.join(self.kinds) or 'none'}")


def parse_address(text: str, default_host: str = "127.0.0.1") -> Address:
    """Read 'PORT', 'HOST:PORT' or '[IPv6]:PORT'.

    Raises:
        CxrsegError: it is none of these.
    """
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise CxrsegError(f"expected a port, or host:port, got {text!r}")
    return Address(host or default_host, int(port))


def parse_destination(text: str) -> Destination:
    """Read 'AET@host:port' or the URL of a DICOMweb server.

    Raises:
        CxrsegError: it is neither, or the URL holds a password, which process lists and logs would show.
    """
    if text.startswith(("http://", "https://")):
        parts = urlsplit(text)
        if parts.username or parts.password:
            raise CxrsegError(
                f"expected a URL without a user and a password, got one for {parts.hostname}; put them into ~/.netrc"
            )
        return Destination(text.rstrip("/"), url=text.rstrip("/"))
    found = _NAMED.fullmatch(text)
    if found is None:
        raise CxrsegError(f"expected AET@host:port or http(s)://host/path, got {text!r}")
    _check_title(found["aet"])
    return Destination(text, found["aet"], parse_address(found["address"]))


def state_folder() -> Path:
    """Where a node keeps its queue unless told otherwise: $XDG_STATE_HOME/cxrseg/node, or below ~/.local/state."""
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "cxrseg" / "node"


def _check_title(title: str) -> None:
    if not _AE_TITLE.fullmatch(title):
        raise CxrsegError(f"expected an AE title of 1 to 16 characters without blanks and backslashes, got {title!r}")
