"""A lock on a file, by which one process keeps others out of a folder."""

from __future__ import annotations

import errno
import sys
from typing import IO, Any

from cxrseg.errors import CxrsegError

__all__ = ["lock"]


def lock(file: IO[Any], taken: CxrsegError) -> None:
    """Lock an open file until it is closed, also against other machines where the file system supports that.

    The system unlocks it when the process ends, however it ends.

    Args:
        file: open for writing.
        taken: raised where another process has locked the file.
    """
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(2**40)  # beyond what is ever written: the locked byte cannot be read by others
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            file.seek(0)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            return  # this file system has no locks
        raise taken from error
