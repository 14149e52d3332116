"""TLS for DICOM (PS3.15 B.9): both sides show a certificate that the hospital's authority has signed."""

from __future__ import annotations

import ssl

from cxrseg.errors import CxrsegError
from cxrseg.hospital.node.settings import Tls

__all__ = ["client_context", "server_context"]


def server_context(tls: Tls) -> ssl.SSLContext:
    """For accepting: a peer without a certificate of the authority is rejected.

    Raises:
        CxrsegError: a file is missing, is not PEM, or the key does not belong to the certificate.
    """
    return _loaded(ssl.Purpose.CLIENT_AUTH, tls)


def client_context(tls: Tls) -> ssl.SSLContext:
    """For sending: the peer's certificate must be of the authority, and name the host that was dialled.

    Raises:
        CxrsegError: as `server_context`.
    """
    return _loaded(ssl.Purpose.SERVER_AUTH, tls)


def _loaded(purpose: ssl.Purpose, tls: Tls) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(purpose, cafile=str(tls.authority))
        context.load_cert_chain(tls.certificate, tls.key)
    except (OSError, ssl.SSLError) as error:
        raise CxrsegError(
            f"expected PEM files of a certificate, its key and an authority, got {tls.certificate}, {tls.key} and "
            f"{tls.authority} ({error.strerror or error})"
        ) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    return context
