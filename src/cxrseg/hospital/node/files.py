"""The folder of a node: what was received, what was made, and the lock that keeps a second node out."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import IO

from cxrseg.errors import CxrsegError
from cxrseg.io.locks import lock
from cxrseg.io.paths import check_writable
from cxrseg.io.write import write_bytes

__all__ = ["NodeFiles"]


class NodeFiles:
    """The folder of a node.

    Args:
        folder: made where missing, for this user alone: it holds images of patients.

    Raises:
        CxrsegError: another node uses it, or it cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.queue = folder / "queue.sqlite"
        self._received, self._objects = folder / "received", folder / "objects"
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._received.mkdir(exist_ok=True, mode=0o700)
            self._objects.mkdir(exist_ok=True, mode=0o700)
            for one in (folder, self._received, self._objects):
                check_writable(one)
            self._lock = _locked(folder / "lock")
        except OSError as error:
            raise CxrsegError(
                f"{error.filename or folder} cannot be written ({error.strerror}); change its permissions, or choose "
                "another --folder"
            ) from error

    def close(self) -> None:
        """Let another node have the folder."""
        self._lock.close()

    def image(self, key: str) -> Path:
        """The file of a received image."""
        return self._received / f"{key}.dcm"

    def objects(self, key: str) -> Path:
        """The folder of an image's objects."""
        return self._objects / key

    def object(self, key: str, kind: str) -> Path:
        """The file of one of them."""
        return self.objects(key) / f"object_{kind.removeprefix('dicom_')}.dcm"

    def store(self, key: str, content: bytes) -> None:
        """Write a received image, so that it is on disk when this returns, also after a power cut."""
        path = self.image(key)
        write_bytes(path, content)
        handle = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(handle)  # the name too
        finally:
            os.close(handle)

    def remove(self, key: str) -> None:
        """Remove an image and its objects."""
        self.image(key).unlink(missing_ok=True)
        shutil.rmtree(self.objects(key), ignore_errors=True)

    def remove_all_but(self, kept: set[str]) -> None:
        """Remove what a killed node has left: half-written files, and images that were done with or never accepted."""
        for path in (*self._received.iterdir(), *self._objects.iterdir()):
            if path.name.removesuffix(".dcm") not in kept:
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def free(self) -> int:
        """Bytes that can still be written."""
        return shutil.disk_usage(self.folder).free


def _locked(path: Path) -> IO[str]:
    """An open file that is locked until it is closed."""
    file = path.open("w")
    try:
        lock(file, CxrsegError(f"another node works in {path.parent}; stop it, or choose another --folder"))
    except CxrsegError:
        file.close()
        raise
    return file
