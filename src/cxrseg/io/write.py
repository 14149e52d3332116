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
import struct
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from cxrseg.errors import DiskFullError

__all__ = [
    "RESULT_MARK",
    "is_whole_png",
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


def write_atomic(path: Path, write: Callable[[BinaryIO], object], *, sync: bool = True) -> None:
    """Write a file as a whole or not at all, also when the process is killed.

    Args:
        path: the file to make or replace; its folder is made where missing.
        write: called once with the open binary file.
        sync: wait until the file is on the disk, so that it is whole after a power failure too.

    Raises:
        DiskFullError: no room was left; what stood at `path` before still stands.
    """
    beside = path.with_name(f".{_beginning(path.name)}.{_token()}.part")
    try:
        with _new_file(beside) as file:
            write(file)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        beside.replace(path)
    except BaseException as error:
        beside.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFullError(
                f"no room left on the disk of {path.parent} to write {path.name}; "
                f"free some space (what was written before is intact)"
            ) from error
        raise


def _new_file(path: Path) -> BinaryIO:
    """An open file, whose folder is made where missing."""
    try:
        return path.open("wb")
    except FileNotFoundError:
        _make_folder(path.parent)
        return path.open("wb")


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it, however many: `Path.mkdir` calls itself for each, up to Python's limit."""
    missing = list(takewhile(lambda one: not one.exists(), (folder, *folder.parents)))
    for one in reversed(missing):
        one.mkdir(exist_ok=True)


def remove_parts(paths: Iterable[Path]) -> None:
    """Remove what processes that were killed have left of these files, beside them."""
    wanted: dict[Path, set[str]] = {}
    for path in paths:
        wanted.setdefault(path.parent, set()).add(_beginning(path.name))
    for folder, names in wanted.items():
        try:
            parts = list(folder.glob(".*.*.part"))
        except OSError:  # its path is too long, or it may not be read: nothing was written there
            continue
        for part in parts:
            if part.name[1:].rsplit(".", 2)[0] in names:
                part.unlink(missing_ok=True)


def _beginning(name: str) -> str:
    """What the temporary name of a file begins with: its name, or a digest where that would be too long."""
    return name if len(os.fsencode(name)) < 160 else hashlib.sha256(os.fsencode(name)).hexdigest()


def _token() -> str:
    """Different for every file that is being written, also by other machines on shared storage; without dots."""
    return f"{_host()}-{os.getpid()}-{secrets.token_hex(4)}"


@cache
def _host() -> str:
    return re.sub(r"[^A-Za-z0-9-]+", "-", socket.gethostname())[:24]


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


def write_png(path: Path, image: Image.Image, *, sync: bool = True) -> None:
    """Write a result as a PNG, atomically. It carries the mark by which `cxrseg.io.raster` knows results of cxrseg."""
    text = PngInfo()
    text.add_text("Software", RESULT_MARK)
    write_atomic(path, lambda file: image.save(file, "PNG", compress_level=1, pnginfo=text), sync=sync)


def write_mask(path: Path, mask: npt.NDArray[np.bool_], *, sync: bool = True) -> None:
    """Write an (H, W) boolean mask as an 8-bit PNG of 0 and 255, marked as `write_png` marks it, atomically.

    `sync` is as for `write_atomic`.
    """
    content = _mask_png(mask)
    write_atomic(path, lambda file: file.write(content), sync=sync)


def is_whole_png(path: Path) -> bool:
    """Whether a PNG that `write_mask` or `write_probability` wrote is there to its end."""
    try:
        with path.open("rb") as file:
            file.seek(-len(_PNG_END), os.SEEK_END)
            return file.read() == _PNG_END
    except OSError:
        return False


def _mask_png(mask: npt.NDArray[np.bool_]) -> bytes:
    """An (H, W) mask as a PNG: several times faster than Pillow, which looks for a filter for each row and for repeated
    strings, where runs of equal bytes are all that there is."""
    height, width = mask.shape
    rows = np.zeros((height, 1 + width), np.uint8)  # each row begins with the number of its filter, 0 for none
    np.multiply(mask, 255, out=rows[:, 1:], casting="unsafe")
    packer = zlib.compressobj(1, strategy=zlib.Z_RLE)
    packed = packer.compress(rows.tobytes()) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)  # 8 bits, gray
    mark = _chunk(b"tEXt", b"Software\0" + RESULT_MARK.encode())
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + mark + _chunk(b"IDAT", packed) + _PNG_END


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


_PNG_END = _chunk(b"IEND", b"")


def write_probability(path: Path, probability: npt.NDArray[np.float32], *, sync: bool = True) -> None:
    """Write an (H, W) probability map in [0, 1] as a 16-bit PNG, 65535 times the probability, atomically."""
    write_png(path, Image.fromarray(np.rint(probability * 65535.0).astype(np.uint16)), sync=sync)
