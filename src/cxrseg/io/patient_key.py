"""Keys that stand for patients in tables: the same for one patient, and useless to others."""

from __future__ import annotations

import hmac
import logging
import os
import secrets
from functools import cache
from pathlib import Path

__all__ = ["hashed"]

_log = logging.getLogger(__name__)


def hashed(patient: str) -> str:
    """A key for a patient: always the same for this user, and useless to others.

    A plain hash could be reversed by trying all patient numbers of a hospital; this one is keyed by a secret
    that is made once, below ~/.local/state, and is readable by this user only. Where that folder cannot be written, the
    secret lasts as long as the process, with a warning.
    """
    base = os.environ.get("XDG_STATE_HOME")
    return hmac.new(_secret(Path(base) if base else None), patient.encode("utf-8", "replace"), "sha256").hexdigest()[
        :12
    ]


@cache
def _secret(base: Path | None) -> bytes:
    fresh = secrets.token_bytes(32)
    try:
        path = (base or Path.home() / ".local" / "state") / "cxrseg" / "patient-key"
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(fresh)
        except FileExistsError:
            pass
        return path.read_bytes() or fresh
    except (OSError, RuntimeError) as error:
        _log.warning("the key for patient identifiers cannot be kept (%s): another run will give other keys", error)
        return fresh
