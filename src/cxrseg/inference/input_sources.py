"""Images that are not simply files in folders: in zip archives, listed by a DICOMDIR, or in a list of the user."""

from __future__ import annotations

import codecs
import errno
import os
import shutil
import tempfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from cxrseg.data.pairs import natural_key
from cxrseg.errors import DiskFullError, ImageError, UnreadableImageError
from cxrseg.io.paths import is_file, is_folder
from cxrseg.io.read import IMAGE_SUFFIXES, is_image_start

__all__ = ["Input", "dicomdir_files", "is_archive", "is_dicomdir", "members", "read_list"]

_LARGEST = 2**31
"""Larger files are not unpacked from archives, in bytes."""

_DAMAGED = (OSError, EOFError, NotImplementedError, RuntimeError, ValueError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True, slots=True)
class Input:
    """One image to segment.

    Attributes:
        path: the file, or the archive that holds it.
        name: its path below what the user named, with '/', printable and distinct.
        stem: beginning of the names of its outputs below the output folder, see `written_stems`.
        member: its path in the archive, '' where it is a file.
        stated: size and checksum of the member.
    """

    path: Path
    name: str
    stem: str
    member: str = ""
    stated: tuple[int, int] | None = None

    def stamp(self) -> list[int] | None:
        """Size and time of modification, or size and checksum in an archive; None where they cannot be read."""
        if self.stated is not None:
            return list(self.stated)
        try:
            status = self.path.stat()
        except OSError:
            return None
        return [status.st_size, status.st_mtime_ns]

    @contextmanager
    def file(self) -> Iterator[Path]:
        """The file to read; a member of an archive is unpacked for that time.

        Raises:
            UnreadableImageError: the archive is damaged or encrypted.
        """
        if not self.member:
            yield self.path
            return
        with tempfile.TemporaryDirectory(prefix="cxrseg-") as folder:
            suffix = PurePosixPath(self.member).suffix.lower()
            path = Path(folder) / f"image{suffix if suffix in IMAGE_SUFFIXES else ''}"
            _unpack(self.path, self.member, path)
            yield path


def is_archive(path: Path) -> bool:
    """Whether a file is a zip archive, by its suffix."""
    return path.suffix.lower() == ".zip" and is_file(path)


def is_dicomdir(path: Path) -> bool:
    """Whether a file is the table of contents of a DICOM medium, which has this name by the standard."""
    return path.name.casefold() == "dicomdir" and is_file(path)


def members(path: Path, others: Counter[str]) -> list[tuple[str, str, tuple[int, int]]]:
    """The images in a zip archive in natural order.

    Args:
        path: the archive.
        others: what is left out is counted here.

    Returns:
        Of each its name in the archive, the same without anything that leads out of a folder, and size and checksum.

    Raises:
        ImageError: it cannot be opened.
    """
    try:
        archive = _opened(path, path.stat().st_mtime_ns)
    except _DAMAGED as error:
        raise ImageError(f"{path} cannot be opened as a zip archive: {error}") from error
    found = []
    for entry in archive.infolist():
        parts = PurePosixPath(entry.filename.replace("\\", "/")).parts
        if entry.is_dir() or any(map(_is_hidden, parts)):
            continue
        if PurePosixPath(entry.filename).name.casefold() == "dicomdir":
            others["DICOMDIR"] += 1
        elif is_image_start(entry.filename, _start(archive, entry)):
            inside = "/".join(part.replace(":", "_") for part in parts if part not in ("/", "..", "."))
            found.append((entry.filename, inside, (entry.file_size, entry.CRC)))
        else:
            others[PurePosixPath(entry.filename).suffix.lower() or "without suffix"] += 1
    return sorted(found, key=lambda one: natural_key(one[0]))


def dicomdir_files(path: Path) -> list[Path]:
    """The image files that a DICOMDIR lists; some may be missing.

    Raises:
        UnreadableImageError: it cannot be read.
    """
    import pydicom

    try:
        records = pydicom.dcmread(path, force=True).DirectoryRecordSequence
        listed = [_referenced(record) for record in records if record.get("DirectoryRecordType") == "IMAGE"]
    except Exception as error:  # pydicom raises nearly anything
        raise UnreadableImageError(f"{path} cannot be read as a DICOMDIR: {error}") from error
    return [_existing(path.parent, parts) for parts in dict.fromkeys(listed) if parts]


def read_list(path: Path) -> list[Path]:
    """The files that a text file lists, one a line; empty lines and lines that begin with # are left out.

    Quotes around a path are left out. UTF-16 with a byte order mark is understood, which PowerShell writes. Relative
    paths are below the current folder, or below the list's folder where nothing is there.

    Raises:
        ImageError: it cannot be read, or lists nothing.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ImageError(f"the list {path} cannot be read: {error.strerror or error}") from error
    lines = [line.strip() for line in _decoded(content).splitlines()]
    listed = [Path(_unquoted(line)) for line in lines if line and not line.startswith("#")]
    if not listed:
        raise ImageError(f"expected paths of images in {path}, one a line, found none")
    return [path.parent / one if not _exists(one) and _exists(path.parent / one) else one for one in listed]


def _decoded(content: bytes) -> str:
    """The text of a list; bytes that are not UTF-8 stay as they are in names of files."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16", "replace")
    return os.fsdecode(content.removeprefix(codecs.BOM_UTF8))


def _unquoted(line: str) -> str:
    return line[1:-1] if len(line) > 2 and line[0] == line[-1] and line[0] in "\"'" else line


def _referenced(record: Any) -> tuple[str, ...]:
    parts = record.get("ReferencedFileID") or ()
    parts = (parts,) if isinstance(parts, str) else tuple(map(str, parts))
    return () if any(part in ("", ".", "..") or "/" in part or "\\" in part for part in parts) else parts


def _existing(folder: Path, parts: tuple[str, ...]) -> Path:
    """The file as listed; some systems show the medium's names in lower case."""
    listed = folder.joinpath(*parts)
    lower = folder.joinpath(*(part.lower() for part in parts))
    return lower if not _exists(listed) and _exists(lower) else listed


def _exists(path: Path) -> bool:
    return is_file(path) or is_folder(path)


@lru_cache(maxsize=4)
def _opened(path: Path, changed: int) -> zipfile.ZipFile:
    """An archive, kept open, since reading its table of contents for each image would take too long."""
    return zipfile.ZipFile(path)


def _is_hidden(part: str) -> bool:
    return part.casefold() == "__macosx" or (part.startswith(".") and part not in (".", ".."))


def _start(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    if PurePosixPath(entry.filename).suffix.lower() in IMAGE_SUFFIXES:
        return b""
    try:
        with archive.open(entry) as file:
            return file.read(132)
    except _DAMAGED:
        return b""


def _unpack(archive: Path, member: str, path: Path) -> None:
    try:
        opened = _opened(archive, archive.stat().st_mtime_ns)
        entry = opened.getinfo(member)
        if entry.flag_bits & 1:
            raise UnreadableImageError(f"{member} in {archive.name} is encrypted; unpack the archive first")
        if entry.file_size > _LARGEST:
            raise UnreadableImageError(f"{member} in {archive.name} has {entry.file_size} bytes, more than {_LARGEST}")
        with opened.open(entry) as packed, path.open("wb") as file:
            shutil.copyfileobj(packed, file)
    except (KeyError, *_DAMAGED) as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFullError(
                f"the disk of {path.parent} is full; free some space, or set TMPDIR to another"
            ) from error
        raise UnreadableImageError(f"{member} in {archive.name} cannot be unpacked: {error}") from error
