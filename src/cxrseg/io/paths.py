"""What paths lead to, also where they are too long or lead through folders that may not be read."""

from __future__ import annotations

import errno
import os
from pathlib import Path

__all__ = ["JUNK", "check_writable", "is_file", "is_folder", "is_link", "visible_entries"]

JUNK = frozenset({"__macosx", "desktop.ini", "thumbs.db"})
"""Names, in lower case, of what operating systems put into folders."""


def is_file(path: Path) -> bool:
    """`Path.is_file` without its errors."""
    return os.path.isfile(path)  # noqa: PTH113


def is_folder(path: Path) -> bool:
    """`Path.is_dir` without its errors."""
    return os.path.isdir(path)  # noqa: PTH112


def is_link(path: Path) -> bool:
    """`Path.is_symlink` without its errors."""
    return os.path.islink(path)  # noqa: PTH114


def check_writable(folder: Path) -> None:
    """Raise PermissionError, with the folder's name, where its files may not be listed, read and written."""
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(folder))


def visible_entries(folder: Path | str) -> tuple[list[str], list[str]]:
    """Names of the files and of the folders in a folder, without hidden ones and `JUNK`, in any order.

    A link that cannot be followed counts as a file.

    Raises:
        OSError: the folder cannot be read.
    """
    files: list[str] = []
    folders: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith(".") and entry.name.casefold() not in JUNK:
                (folders if _is_folder(entry) else files).append(entry.name)
    return files, folders


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False
