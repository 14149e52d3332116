"""Saving corrected masks as a dataset that `cxrseg train` and `cxrseg data check` read as it is."""

from __future__ import annotations

import errno
import hashlib
import shutil
import tempfile
import threading
import unicodedata
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cxrseg.errors import CxrsegError, DiskFullError
from cxrseg.io.locks import lock
from cxrseg.io.paths import check_writable
from cxrseg.io.radiograph import Radiograph
from cxrseg.io.read import IMAGE_SUFFIXES, is_dicom
from cxrseg.io.write import write_atomic, write_mask

__all__ = ["Corrections", "Saved", "content_mark", "safe_stem"]

_Mask = npt.NDArray[np.bool_]

_FOLDERS = {"image": "images", "infection": "infection masks", "lungs": "lung masks"}
_KINDS = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg", b"II": ".tif", b"MM": ".tif", b"BM": ".bmp", b"RIFF": ".webp"}
_WRITTEN, _SAVED = ".written-", ".saved-"
"""Beginnings of the names of folders that hold a correction while it is written, and while its files are moved."""

_MARK = 12  # hexadecimal digits of the content's hash in a name
_LONGEST = 80


class Saved(NamedTuple):
    """Where a correction was saved: paths below the folder, with '/'."""

    image: str
    infection: str
    lungs: str


class Corrections:
    """A folder of corrected images: images/, infection masks/ and lung masks/.

    A name ends with a part of the hash of the image's content, so that two images with one name do not meet, and an
    image that is corrected again replaces its first correction. The folder is locked until it is closed: two services
    could remove each other's files.

    The files of a correction are written into a hidden folder, which then gets another name in one step: from there on
    the correction is saved, and its files are moved to their places, by the next start where the process is killed
    meanwhile. So no pair is ever made of two corrections, and no mask is left without its image.

    Args:
        folder: made where missing.

    Raises:
        CxrsegError: it cannot be written, or another service saves into it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        try:
            for name in _FOLDERS.values():
                inside = folder / name
                inside.mkdir(parents=True, exist_ok=True)
                check_writable(inside)
            self._locked = (folder / ".lock").open("ab")
            try:
                taken = f"another service saves corrections into {folder}; stop it, or give another --keep"
                lock(self._locked, CxrsegError(taken))
                self._finish()
            except BaseException:
                self._locked.close()
                raise
        except OSError as error:
            raise CxrsegError(
                f"{error.filename or folder} cannot be written ({error.strerror}); change its permissions, or give "
                "another --keep"
            ) from error

    def _finish(self) -> None:
        """Remove what an interrupted save had not saved, and move what it had to its place."""
        for unfinished in self.folder.glob(f"{_WRITTEN}*"):
            shutil.rmtree(unfinished)
        for saved in self.folder.glob(f"{_SAVED}*"):
            self._put_in_place(saved)

    def close(self) -> None:
        """Let another service have the folder."""
        self._locked.close()

    def marks(self) -> set[str]:
        """The `content_mark` of every image that is saved."""
        return {path.stem.rpartition("-")[2] for path in self._images()}

    def save(self, name: str, image: Path, radiograph: Radiograph, infection: _Mask, lungs: _Mask) -> Saved:
        """Save an image with its masks.

        Args:
            name: of the image, as the client named it; it decides nothing but the beginning of the files' names.
            image: the file.
            radiograph: what was read from it.
            infection, lungs: (H, W) bool, on the radiograph's pixels.

        Raises:
            DiskFullError: the disk is full.
            CxrsegError: the folder cannot be written.
        """
        mark = content_mark(image)
        with self._lock:
            known = [path for path in self._images() if path.stem.endswith(f"-{mark}")]
            target = known[0] if known else self._path("image", f"{safe_stem(name)}-{mark}{_suffix(image)}")
            masks = {"infection": infection, "lungs": lungs}
            paths = {kind: self._path(kind, f"{target.stem}.png") for kind in masks}
            try:
                self._finish()  # a save that could not move its files must not replace those of this one later
                beside = self._new_folder()
                try:
                    for kind, mask in masks.items():
                        write_mask(beside / _FOLDERS[kind] / paths[kind].name, radiograph.to_file(mask))
                    if not known:
                        with image.open("rb") as content:
                            copied = beside / _FOLDERS["image"] / target.name
                            write_atomic(copied, lambda file: shutil.copyfileobj(content, file))
                except BaseException:
                    shutil.rmtree(beside, ignore_errors=True)
                    raise
                self._put_in_place(beside.rename(self.folder / beside.name.replace(_WRITTEN, _SAVED)))
            except OSError as error:
                raise CxrsegError(
                    f"{self.folder} cannot be written ({error.strerror}); check its permissions and its disk, and save "
                    "the correction again"
                ) from error
        return Saved(*(path.relative_to(self.folder).as_posix() for path in (target, *paths.values())))

    def _new_folder(self) -> Path:
        try:
            return Path(tempfile.mkdtemp(prefix=_WRITTEN, dir=self.folder))
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise DiskFullError(f"no room left on the disk of {self.folder}; free some space") from error

    def _put_in_place(self, saved: Path) -> None:
        """Move the files of a saved correction to where they belong; those that are there already were moved before."""
        for kind in _FOLDERS.values():
            for file in (saved / kind).glob("*"):
                file.replace(self.folder / kind / file.name)
        shutil.rmtree(saved)

    def _images(self) -> list[Path]:
        return [path for path in (self.folder / _FOLDERS["image"]).iterdir() if not path.name.startswith(".")]

    def _path(self, kind: str, name: str) -> Path:
        return self.folder / _FOLDERS[kind] / name


def content_mark(image: Path) -> str:
    """What tells the content of an image from others: the beginning of its SHA-256, in hexadecimal."""
    with image.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:_MARK]


def safe_stem(name: str) -> str:
    """A file's name without its ending, of which nothing can lead elsewhere; 'image' where nothing is left.

    Letters and digits of any script stay, and spaces, '.', '-' and '_' between them.
    """
    last = unicodedata.normalize("NFC", name.replace("\\", "/").rpartition("/")[2])
    path = PurePosixPath(last)
    stem = last[: -len(path.suffix)] if path.suffix.lower() in IMAGE_SUFFIXES else last
    kept = "".join(letter if letter.isalnum() or letter in " .-_()" else "_" for letter in stem)
    while len(kept.encode()) > _LONGEST:
        kept = kept[:-1]
    return kept.strip(" .") or "image"


def _suffix(image: Path) -> str:
    """The ending for an image that can be read, by its content."""
    if is_dicom(image):
        return ".dcm"
    with image.open("rb") as file:
        start = file.read(4)
    return next(suffix for mark, suffix in _KINDS.items() if start.startswith(mark))
