"""A cache of compiled models on the disk, since compiling takes longer than predicting one image."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from cxrseg.errors import CxrsegError
from cxrseg.io.write import write_bytes
from cxrseg.model_file import ModelInfo

__all__ = ["cache_folder", "cached_files", "clear_cache", "read_compiled", "write_compiled"]

_log = logging.getLogger(__name__)

_KEPT = 4
"""Number of compiled models that are kept, of some 15 MB each; the least recently used are removed."""


def cache_folder() -> Path:
    """The folder of the cache: $CXRSEG_CACHE, or cxrseg in the platform's cache folder of the user.

    Raises:
        RuntimeError: the user has no home folder.
    """
    if named := os.environ.get("CXRSEG_CACHE"):
        return Path(named)
    folder = user_cache_path("cxrseg", appauthor=False)
    if not folder.is_absolute():  # platformdirs then returns '~/.cache/cxrseg', which must not become a folder here
        raise RuntimeError("the user has no home folder")
    return folder


def read_compiled(made_by: Sequence[str], load: Callable[[bytes], Any]) -> tuple[Any, ModelInfo] | None:
    """Read a compiled model from the cache.

    Args:
        made_by: all that the compiled model depends on.
        load: makes the compiled model from its bytes.

    Returns:
        The compiled model and the metadata of its model file, or None where it is not in the cache or not usable.
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
        _log.debug("the cached model cannot be used (%s); compiling it again", error)
        return None


def write_compiled(made_by: Sequence[str], info: ModelInfo, export: Callable[[], Any]) -> None:
    """Write a compiled model to the cache; where the folder cannot be written, nothing happens.

    Writing is atomic, so several processes can read and write at the same time.

    Args:
        made_by: all that the compiled model depends on.
        info: the metadata of the model file.
        export: returns the bytes of the compiled model.
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


def cached_files() -> list[Path]:
    """The files in the cache; RuntimeError where the user has no home folder."""
    folder = cache_folder()
    return sorted([*folder.glob("*.blob"), *folder.glob(".*.blob.*.part")])


def clear_cache() -> int:
    """Remove the cached files, which are made again when they are needed; returns their size in bytes."""
    size = 0
    for path in cached_files():
        size += path.stat().st_size
        path.unlink(missing_ok=True)
    return size


def _path(made_by: Sequence[str]) -> Path:
    """One file for each combination; RuntimeError where the user has no home folder."""
    return cache_folder() / f"{hashlib.sha256(json.dumps(made_by).encode()).hexdigest()[:32]}.blob"
