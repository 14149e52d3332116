"""The images in a file or folder that the user names, and the names of their output files."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from cxrseg.data.pairs import natural_key
from cxrseg.errors import ImageError
from cxrseg.io.read import IMAGE_SUFFIXES, is_image

__all__ = ["Input", "find_inputs"]

_JUNK = frozenset({"__macosx", "desktop.ini", "thumbs.db"})
_MASK_FOLDERS = frozenset({"ground-truths", "infection masks", "lung masks", "masks"})
"""Folders, in lower case, in which datasets keep masks beside their images; they are skipped."""


@dataclass(frozen=True)
class Input:
    """One image to segment.

    Attributes:
        path: the file.
        name: its path below the folder that the user named, with '/'; or the name of the file that the user named.
        stem: beginning of the names of its outputs below the output folder, such as 'sub/name': `name` without its
            suffix, or with it where another input differs only in the suffix.
    """

    path: Path
    name: str
    stem: str


def find_inputs(source: Path, out: Path) -> tuple[list[Input], Counter[str]]:
    """Find the images in a folder and all folders below it, in natural order.

    Hidden files and folders are skipped, and so are the output folder and a dataset's folders of masks. A file without
    the suffix of an image is opened to see whether it is DICOM, or any image where it has no suffix.

    Args:
        source: a file, which is used whatever its suffix, or a folder.
        out: the output folder.

    Returns:
        The images, and the number of other files by suffix.

    Raises:
        ImageError: there is no such file or folder, the folder has no image, or it is the output folder.
    """
    if source.is_dir():
        if _same(source, out):
            raise ImageError(f"the input folder {source} is also the output folder; name another output folder")
        others: Counter[str] = Counter()
        names = [entry.relative_to(source).as_posix() for entry in _images(source, out, set(), others)]
        if not names:
            kinds = ", ".join(f"{count} {ending}" for ending, count in others.items()) or "nothing"
            raise ImageError(f"expected images in {source} ({', '.join(IMAGE_SUFFIXES)}, or DICOM), found {kinds}")
        return [Input(source / name, _text(name), _text(stem)) for name, stem in _stems(names).items()], others
    if not source.exists():
        raise ImageError(f"expected an image or a folder of images at {source}, found none")
    name = _text(source.name)
    return [Input(source, name, _without_ending(name))], Counter()


def _images(folder: Path, out: Path, above: set[tuple[int, int]], others: Counter[str]) -> Iterator[Path]:
    status = folder.stat()
    here = (status.st_dev, status.st_ino)
    if here in above:  # a link to a folder above
        return
    entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    folders = []
    for entry in sorted(entries, key=lambda entry: natural_key(entry.name)):
        if entry.name.casefold() in _JUNK:
            continue
        if entry.is_dir():
            folders.append(entry)
        elif is_image(entry):
            yield entry
        else:
            others[entry.suffix.lower() or "without suffix"] += 1
    for entry in folders:
        if entry.name.casefold() in _MASK_FOLDERS:
            others[f"in {entry.name}"] += sum(1 for _ in entry.iterdir())
        elif not _same(entry, out):
            yield from _images(entry, out, above | {here}, others)


def _stems(names: list[str]) -> dict[str, str]:
    """Name to the stem of its outputs; names whose stems would be equal, also ignoring case, keep their suffix."""
    stems = {name: _without_ending(name) for name in names}
    while True:
        counts = Counter(stem.casefold() for stem in stems.values())
        # A stem may equal another input's full name: a.png and a.jpg keep their suffix, then a.png.png must too.
        clashing = [name for name, stem in stems.items() if counts[stem.casefold()] > 1 and stem != name]
        if not clashing:
            return stems
        stems.update(zip(clashing, clashing, strict=True))


def _without_ending(name: str) -> str:
    path = PurePosixPath(name)
    # A DICOM file without a suffix may be named after a UID, which contains dots.
    return str(path.with_suffix("")) if path.suffix.lower() in IMAGE_SUFFIXES else name


def _text(name: str) -> str:
    """A name that can be written as UTF-8, also where the file system has other bytes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace") if os.sep == "/" else name


def _same(one: Path, other: Path) -> bool:
    return other.exists() and one.samefile(other)
