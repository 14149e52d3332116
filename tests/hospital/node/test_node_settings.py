"""What a node is told: addresses, destinations, names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cxrseg.errors import CxrsegError
from cxrseg.hospital.node.settings import Address, Destination, NodeSettings, parse_address, parse_destination

ARCHIVE = Destination("ARCHIVE@pacs:104", "ARCHIVE", Address("pacs", 104))


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [("11112", "127.0.0.1", 11112), ("0.0.0.0:104", "0.0.0.0", 104), ("[::1]:104", "::1", 104), ("pacs:1", "pacs", 1)],
)
def test_addresses(text: str, host: str, port: int) -> None:
    assert parse_address(text) == Address(host, port)


@pytest.mark.parametrize("text", ["", "pacs", "pacs:", "pacs:0", "pacs:65536", "pacs:-1"])
def test_wrong_addresses(text: str) -> None:
    with pytest.raises(CxrsegError, match="expected a port"):
        parse_address(text)


def test_destinations() -> None:
    assert parse_destination("ARCHIVE@pacs:104") == ARCHIVE
    assert parse_destination("https://pacs/dicom-web/").url == "https://pacs/dicom-web"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("pacs:104", "expected AET@host:port"),
        ("A@pacs", "expected a port"),
        ("SEVENTEEN_LETTERS@pacs:104", "expected an AE title"),
        ("https://me:secret@pacs/dicom-web", r"got one for pacs; put them into ~/\.netrc"),
    ],
)
def test_wrong_destinations(text: str, reason: str) -> None:
    with pytest.raises(CxrsegError, match=reason) as raised:
        parse_destination(text)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"destinations": ()}, "expected a destination"),
        ({"destinations": (ARCHIVE, ARCHIVE)}, "each destination once"),
        ({"aet": "A B"}, "expected an AE title"),
        ({"accept_from": ("",)}, "expected an AE title"),
        ({"kinds": ("png",)}, "expected objects among"),
    ],
)
def test_wrong_settings(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(CxrsegError, match=reason):
        NodeSettings(**{"folder": Path("x"), "destinations": (ARCHIVE,), **changes})
