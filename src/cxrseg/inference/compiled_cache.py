"""Compiled models kept between calls, since compiling takes longer than the prediction of one image."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cxrseg.errors import CxrsegError
from cxrseg.io.write import write_bytes
from cxrseg.model_file import ModelInfo

__all__ = ["cache_folder", "read_compiled", "write_compiled"]

_log = logging.getLogger(__name__)

_KEPT = 8
"""How many compiled models stay; the ones unused for longest are removed."""


def cache_folder() -> Path:
    """Where compiled models are kept: $CXRSEG_CACHE, or cxrseg in the platform's folder for a user's caches."""
    if named := os.environ.get("CXRSEG_CACHE"):
        return Path(named)
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "cxrseg"


def read_compiled(made_by: Sequence[str], load: Callable[[bytes], Any]) -> tuple[Any, ModelInfo] | None:
    """Take a compiled model from the cache.

    Args:
        made_by: all that the compiled model depends on.
        load: makes the compiled model from its bytes.

    Returns:
        The compiled model and what its file says about itself, or None where it is not cached or not usable.
    """
    try:
        path = _path(made_by)
        head, _, blob = path.read_bytes().partition(b"\n")
        values = json.loads(head)
        if values["bytes"] != len(blob):
            return None
        info = ModelInfo.from_json(values["info"], path)
        loaded = load(blob)
        path.touch()
        return loaded, info
    except FileNotFoundError:
        return None
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, CxrsegError) as error:
        _log.debug("the cached model cannot be used (%s); compiling it anew", error)
        return None


def write_compiled(made_by: Sequence[str], info: ModelInfo, export: Callable[[], Any]) -> None:
    """Put a compiled model into the cache; where the folder cannot be written, nothing happens.

    Files appear whole or not at all, so that processes may read and write at the same time.

    Args:
        made_by: all that the compiled model depends on.
        info: what the model file says about itself.
        export: gives the compiled model's bytes.
    """
    try:
        path = _path(made_by)
        exported = export()
        blob = exported if isinstance(exported, bytes) else exported.getvalue()
        head = json.dumps({"bytes": len(blob), "info": info.to_json()}).encode()
        write_bytes(path, head + b"\n" + blob)
        others = sorted(path.parent.glob("*.blob"), key=lambda other: other.stat().st_mtime, reverse=True)
        for old in others[_KEPT:]:
            old.unlink(missing_ok=True)
    except (OSError, RuntimeError, CxrsegError) as error:
        _log.debug("the compiled model is not cached (%s)", error)


def _path(made_by: Sequence[str]) -> Path:
    """One file for each combination; RuntimeError where the user has no home."""
    return cache_folder() / f"{hashlib.sha256(json.dumps(made_by).encode()).hexdigest()[:32]}.blob"
