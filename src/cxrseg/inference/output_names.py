"""Names of files in results, and the beginnings of their outputs' names: distinct, printable and short enough."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath

from cxrseg.io.read import IMAGE_SUFFIXES
from cxrseg.io.text import printable

__all__ = ["ENDINGS", "IN_ALL", "PAGE", "without_ending", "written_names", "written_stems"]

ENDINGS = (
    *("_infection.png", "_lungs.png", "_probability.png", "_preview.png", "_preview.svg", "_preview.pdf"),
    *("_thumbnail.jpg", "_seg.dcm", "_sr.dcm", "_sc.dcm"),
)
"""What follows the stem in the name of each file that may be written for an image."""

PAGE = "page.html"

IN_ALL = ("manifest.json", "statistics.csv", "statistics.json", PAGE)
"""Files of a whole run, in the output folder itself."""

_BYTES = 255
"""The longest name of a file, in bytes of UTF-8."""


def written_names(paths: Sequence[str]) -> list[str]:
    """Each path as text that can be written anywhere; no two are equal.

    Args:
        paths: paths below one folder, with '/', as the operating system gives them.
    """
    names = [printable(path) for path in paths]
    counts = Counter(names)
    made: dict[str, None] = {}
    for name, path in zip(names, paths, strict=True):
        chosen = name if counts[name] == 1 or name == path else f"{name}~{_digest(path)}"
        while chosen in made:
            chosen += "~"
        made[chosen] = None
    return list(made)


def written_stems(names: Sequence[str]) -> list[str]:
    """The beginning of the names of each file's outputs: its name without the image's suffix.

    The suffix stays where two stems would be equal, also ignoring case, or where an output would be named like a
    folder. What is too long for a file system is cut and gets a digest.

    Args:
        names: distinct, see `written_names`.
    """
    # 0: without the suffix, 1: the whole name, 2: with a digest
    level = {name: int(without_ending(name) == name) for name in names}
    made = {name: _shortened(without_ending(name)) for name in names}
    while clashing := _clashing(made, level):
        for name in clashing:
            level[name] += 1
            made[name] = _shortened(name if level[name] == 1 else f"{name}~{_digest(name)}")
    return [made[name] for name in names]


def _clashing(made: Mapping[str, str], level: Mapping[str, int]) -> list[str]:
    """Names that must have another stem: of equal ones those without suffix, or else all but the first."""
    alike: dict[str, list[str]] = {}
    for name, stem in made.items():
        alike.setdefault(_key(stem), []).append(name)
    blocked = _blocked(made.values())
    found = [name for key in blocked & alike.keys() for name in alike[key] if level[name] < 2]
    for group in alike.values():
        if len(group) > 1:
            # A stem may equal another input's full name: a.png and a.jpg keep their suffix, then a.png.png must too.
            found += [name for name in group if level[name] == 0] or [name for name in group[1:] if level[name] == 1]
    return list(dict.fromkeys(found))


def without_ending(name: str) -> str:
    """A name without the suffix of an image; a DICOM file without a suffix may be named after a UID, with dots."""
    path = PurePosixPath(name)
    return str(path.with_suffix("")) if path.suffix.lower() in IMAGE_SUFFIXES else name


def _blocked(stems: Iterable[str]) -> set[str]:
    """Keys of stems of which an output would be named like a folder that is needed."""
    folders = {_key(str(folder)) for stem in stems for folder in PurePosixPath(stem).parents}
    return {folder.removesuffix(end) for folder in folders for end in ENDINGS if folder.endswith(end)}


def _shortened(stem: str) -> str:
    """The stem with every part short enough, and no folder named like a file of the run."""
    *folders, last = stem.split("/")
    if folders and folders[0].casefold() in IN_ALL:
        folders[0] += "~"
    longest = max(map(len, ENDINGS))
    return "/".join([*(_cut(part, _BYTES) for part in folders), _cut(last, _BYTES - longest)])


def _cut(part: str, size: int) -> str:
    content = part.encode("utf-8", "surrogatepass")
    if len(content) <= size:
        return part
    return f"{content[: size - 9].decode('utf-8', 'ignore')}~{_digest(part)}"


def _digest(text: str) -> str:
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:8]


def _key(stem: str) -> str:
    """Equal for names that are the same file on a file system that ignores case or the encoding of accents."""
    return unicodedata.normalize("NFC", stem).casefold()
