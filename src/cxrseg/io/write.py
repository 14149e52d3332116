"""Writing that cannot leave half a file: write beside, then rename."""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import json
import os
import re
import secrets
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from cxrseg.errors import DiskFullError

__all__ = [
    "RESULT_MARK",
    "remove_parts",
    "write_atomic",
    "write_bytes",
    "write_csv",
    "write_json",
    "write_mask",
    "write_png",
    "write_probability",
]

RESULT_MARK = "cxrseg"
"""What the files of results name as the software that wrote them; such a file is never read as a radiograph."""


def write_atomic(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file as a whole or not at all, also when the process is killed.

    Args:
        path: the file to make or replace; its folder is made where missing.
        write: called once with the open binary file.

    Raises:
        DiskFullError: no room was left; what stood at `path` before still stands.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{_beginning(path.name)}.{_token()}.part")
    try:
        with beside.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFullError(
                f"no room left on the disk of {path.parent} to write {path.name}; "
                f"free some space (what was written before is intact)"
            ) from error
        raise
    finally:
        beside.unlink(missing_ok=True)


def remove_parts(paths: Iterable[Path]) -> None:
    """Remove what processes that were killed have left of these files, beside them."""
    wanted: dict[Path, set[str]] = {}
    for path in paths:
        wanted.setdefault(path.parent, set()).add(_beginning(path.name))
    for folder, names in wanted.items():
        for part in folder.glob(".*.*.part"):
            if part.name[1:].rsplit(".", 2)[0] in names:
                part.unlink(missing_ok=True)


def _beginning(name: str) -> str:
    """What the temporary name of a file begins with: its name, or a digest where that would be too long."""
    return name if len(os.fsencode(name)) < 160 else hashlib.sha256(os.fsencode(name)).hexdigest()


def _token() -> str:
    """Different for every file that is being written, also by other machines on shared storage; without dots."""
    host = re.sub(r"[^A-Za-z0-9-]+", "-", socket.gethostname())[:24]
    return f"{host}-{os.getpid()}-{secrets.token_hex(4)}"


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` atomically."""
    write_atomic(path, lambda file: file.write(data))


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON (UTF-8), atomically; bytes of file names that are not UTF-8 become escapes."""
    write_bytes(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace"))


def write_csv(
    path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]], *, byte_order_mark: bool = False
) -> None:
    """Write `rows` as CSV with a header, atomically; a missing or None value is an empty cell."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_bytes(path, text.getvalue().encode("utf-8-sig" if byte_order_mark else "utf-8", "backslashreplace"))


def write_png(path: Path, image: Image.Image) -> None:
    """Write a result as a PNG, atomically. It carries the mark by which `cxrseg.io.raster` knows results of cxrseg."""
    text = PngInfo()
    text.add_text("Software", RESULT_MARK)
    write_atomic(path, lambda file: image.save(file, "PNG", compress_level=1, pnginfo=text))


def write_mask(path: Path, mask: npt.NDArray[np.bool_]) -> None:
    """Write an (H, W) boolean mask as an 8-bit PNG of 0 and 255, atomically."""
    write_png(path, Image.fromarray(mask.astype(np.uint8) * 255))


def write_probability(path: Path, probability: npt.NDArray[np.float32]) -> None:
    """Write an (H, W) probability map in [0, 1] as a 16-bit PNG, 65535 times the probability, atomically."""
    write_png(path, Image.fromarray(np.rint(probability * 65535.0).astype(np.uint16)))
