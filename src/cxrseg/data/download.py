"""Downloading one file: resumed after an interruption, verified, and never incomplete under its final name."""

from __future__ import annotations

import errno
import hashlib
import http.client
import logging
import os
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from cxrseg._version import __version__
from cxrseg.errors import DiskFullError, DownloadError

__all__ = ["Progress", "disk_full", "download"]

Progress = Callable[[int, int | None], object]
"""Called with the downloaded bytes and all bytes (None where the server does not say)."""

_log = logging.getLogger(__name__)

_CHUNK = 1 << 20
_TIMEOUT_S = 60.0
_PAUSES_S = (1.0, 2.0, 5.0, 10.0)
_WORTH_RETRYING = frozenset({408, 425, 429, 500, 502, 503, 504})
_RANGE_NOT_SATISFIABLE = 416


class _BrokenError(Exception):
    """The connection failed, and a retry may help."""


def download(url: str, path: Path, md5: str, progress: Progress | None = None) -> Path:
    """Download a file and verify it; `NAME.part` of an interrupted call is resumed.

    A file that exists already with the right checksum is not downloaded again. A broken connection is resumed, until
    five attempts in a row receive nothing; the received bytes are kept for the next call.

    Args:
        url: http or https.
        path: the file to write; its folder is created where missing.
        md5: the published MD5, hex.
        progress: called after each piece.

    Returns:
        `path`.

    Raises:
        DownloadError: the server cannot be reached or refuses, or the checksum is wrong.
        DiskFullError: the disk is full.
    """
    if path.is_file():
        if _md5(path) == md5:
            return path
        _log.warning("%s has another checksum than %s; downloading it again", path, url)
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        resumed = part.exists()
        _complete(url, part, progress)
        if resumed and _md5(part) != md5:
            _log.warning("%s was resumed and has another checksum than %s; downloading it from the start", part, url)
            part.unlink()
            _complete(url, part, progress)
        if (found := _md5(part)) != md5:
            part.unlink()
            raise DownloadError(
                f"{url} sent a wrong file: expected MD5 {md5}, got {found}. Try again later; if the error stays, a "
                "proxy may answer instead of the server, or the file was changed there"
            )
        part.replace(path)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise disk_full(path.parent) from error
        raise DownloadError(f"{path} cannot be written: {error.strerror or error}") from error
    return path


def disk_full(folder: Path, needed: int | None = None) -> DiskFullError:
    """The error for a full disk; `needed` is in bytes."""
    need = f"free {needed / 1e6:,.0f} MB" if needed else "free some space"
    return DiskFullError(f"no space left on the disk of {folder} for the download; {need}, then run it again")


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _complete(url: str, part: Path, progress: Progress | None) -> None:
    """Download the rest of `part`, also where the connection breaks several times."""
    failures = 0
    while True:
        before = _length(part)
        try:
            _fetch_rest(url, part, progress)
            return
        except _BrokenError as error:
            failures = 0 if _length(part) > before else failures + 1
            if failures > len(_PAUSES_S):
                raise DownloadError(
                    f"{url} cannot be downloaded: {error}. Check the network (and the proxy settings), then run it "
                    f"again; it continues after the {_length(part):,} bytes in {part}"
                ) from error
            _log.info("%s: %s; trying again", url, error)
            time.sleep(_PAUSES_S[max(failures - 1, 0)])


def _fetch_rest(url: str, part: Path, progress: Progress | None) -> None:
    """One request for the missing bytes of `part`."""
    start = _length(part)
    reply = _ask(url, start)
    if reply is None:
        return
    with reply:
        start = _range_start(reply)  # 0 where the server sends the whole file although a part was requested
        length = reply.headers["Content-Length"]
        missing = int(length) if length else None
        if missing is not None and missing > (free := shutil.disk_usage(part.parent).free):
            raise disk_full(part.parent, missing - free)
        _append(reply, part, start, missing, progress)


def _ask(url: str, start: int) -> http.client.HTTPResponse | None:
    """The server's reply with the bytes from `start`, or None where it says that there are no more."""
    headers = {"User-Agent": f"cxrseg/{__version__}", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        request = urllib.request.Request(url, headers=headers)
        reply: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == _RANGE_NOT_SATISFIABLE and start:
            return None  # complete, or longer than the file: the checksum will show it
        answer = f"the server answers {error.code} {error.reason}"
        if error.code in _WORTH_RETRYING:
            raise _BrokenError(answer) from error
        raise DownloadError(f"{url} cannot be downloaded: {answer}; check the address") from error
    except ValueError as error:
        raise DownloadError(f"{url} is not a valid address: {error}") from error
    except (OSError, http.client.HTTPException) as error:
        raise _BrokenError(str(getattr(error, "reason", error)) or type(error).__name__) from error
    return reply


def _append(
    reply: http.client.HTTPResponse, part: Path, start: int, missing: int | None, progress: Progress | None
) -> None:
    done, total = start, None if missing is None else start + missing
    with part.open("r+b" if start else "wb") as file:
        if start:
            file.seek(start)
            file.truncate()
        while piece := _read(reply):
            file.write(piece)
            done += len(piece)
            if progress:
                progress(done, total)
        file.flush()
        os.fsync(file.fileno())
    if total is not None and done < total:
        raise _BrokenError(f"the connection broke after {done:,} of {total:,} bytes")


def _read(reply: http.client.HTTPResponse) -> bytes:
    try:
        return reply.read(_CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise _BrokenError(f"the connection broke ({error or type(error).__name__})") from error


def _range_start(reply: http.client.HTTPResponse) -> int:
    found = re.match(r"bytes (\d+)-", reply.headers.get("Content-Range", ""))
    return int(found[1]) if found else 0


def _length(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0
