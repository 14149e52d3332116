"""TLS: both sides show a certificate of the authority, or there is no association."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme

from cxrseg.errors import CxrsegError
from cxrseg.hospital.node.settings import Tls
from cxrseg.hospital.node.tls import client_context, server_context
from made_films import make_film
from made_models import chest
from made_node import archive, running, settings_for, store, wait_for


def certificates(folder: Path, authority: trustme.CA, name: str) -> Tls:
    made = authority.issue_cert("127.0.0.1")
    paths = Tls(*(folder / f"{name}_{part}.pem" for part in ("certificate", "key", "authority")))
    made.cert_chain_pems[0].write_to_path(paths.certificate)
    made.private_key_pem.write_to_path(paths.key)
    authority.cert_pem.write_to_path(paths.authority)
    return paths


def test_both_directions_are_encrypted_and_strangers_are_turned_away(tmp_path: Path) -> None:
    authority, other = trustme.CA(), trustme.CA()
    node_tls, peer_tls = (certificates(tmp_path, authority, name) for name in ("node", "peer"))
    stranger = certificates(tmp_path, other, "stranger")
    stranger = Tls(stranger.certificate, stranger.key, node_tls.authority)  # trusts the node, is not trusted by it
    film = make_film(tmp_path / "film.dcm", chest((128, 128))[0])
    with (
        archive(tls=server_context(peer_tls)) as (destination, got),
        running(settings_for(tmp_path / "node", destination, tls=node_tls, kinds=("dicom_sr",))) as node,
    ):
        port = node.settings.listen.port
        assert store(port, [film]) == []  # in the clear
        assert store(port, [film], tls=(client_context(stranger), "127.0.0.1")) == []
        assert store(port, [film], tls=(client_context(peer_tls), "127.0.0.1")) == [0]
        wait_for(lambda: node._queue.counts() == {"sent": 1}, "sent")
    assert [made.Modality for made in got] == ["SR"]


def test_files_that_do_not_fit_are_named(tmp_path: Path) -> None:
    one, other = (certificates(tmp_path, trustme.CA(), name) for name in ("one", "other"))
    with pytest.raises(CxrsegError, match=r"expected PEM files .* got .*one_certificate\.pem, .*other_key\.pem"):
        server_context(Tls(one.certificate, other.key, one.authority))
    with pytest.raises(CxrsegError, match="No such file"):
        client_context(Tls(tmp_path / "none.pem", one.key, one.authority))
    assert client_context(one).verify_mode == ssl.CERT_REQUIRED
