"""The images in the files, folders and archives that the user names, and the names of their output files."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from cxrseg.data.pairs import in_order
from cxrseg.errors import ImageError
from cxrseg.inference.input_sources import Input, dicomdir_files, is_archive, is_dicomdir, members
from cxrseg.inference.output_folder import earlier_outputs
from cxrseg.inference.output_names import written_names, written_stems
from cxrseg.io.paths import is_folder, is_link, visible_entries
from cxrseg.io.read import IMAGE_SUFFIXES, is_image

__all__ = ["find_inputs", "input_root"]

_log = logging.getLogger(__name__)

_EarlierRun = tuple[Path, Callable[[str], bool]]


class _Found(NamedTuple):
    """An image: its file, its path for results, and where it is in an archive, with its size and checksum there."""

    path: Path
    shown: str
    member: str = ""
    stated: tuple[int, int] | None = None


def find_inputs(sources: Path | Sequence[Path], out: Path) -> tuple[list[Input], Counter[str]]:
    """Find the images in files, folders, zip archives and DICOMDIR files, in natural order.

    All folders below a folder are searched. Left out are hidden files and folders, the output folder, what earlier
    runs wrote, a dataset's folders of masks, and archives inside folders. A file without the suffix of an image is
    opened to see whether it is DICOM, or any image where it has no suffix.

    Args:
        sources: one or several. A file is used whatever its suffix. Where there are several, one that is missing is an
            image that cannot be read; one that is given twice is used once.
        out: the output folder.

    Returns:
        The images, and what was left out with its number, in words.

    Raises:
        ImageError: there is no image, the only source is missing, or one is the output folder.
    """
    listed = [sources] if isinstance(sources, Path) else list(sources)
    others: Counter[str] = Counter()
    found: dict[tuple[str, str], _Found] = {}
    for source, label in zip(listed, _labels(listed), strict=True):
        if len(listed) == 1 and not os.path.lexists(source):
            raise ImageError(f"expected an image or a folder of images at {source}, found none")
        for one in _images_of(source, label, out, others):
            key = (os.path.abspath(one.path), one.member)  # noqa: PTH100  # links stay as they are
            if key in found:
                others["given twice"] += 1
            found.setdefault(key, one)
    if not found:
        kinds = ", ".join(f"{count} {kind}" for kind, count in others.items()) or "nothing"
        where = ", ".join(map(str, listed[:3])) + (", ..." if len(listed) > 3 else "")
        raise ImageError(f"expected images in {where} ({', '.join(IMAGE_SUFFIXES)}, or DICOM), found {kinds}")
    names = written_names([one.shown for one in found.values()])
    stems = written_stems(names)
    images = [
        Input(one.path, name, stem, one.member, one.stated)
        for one, name, stem in zip(found.values(), names, stems, strict=True)
    ]
    return images, others


def input_root(sources: Path | Sequence[Path]) -> Path:
    """The folder to which the names of images are relative; for a single file, that file."""
    if isinstance(sources, Path):
        return sources
    return sources[0] if len(sources) == 1 else _common(sources) or Path(os.sep)


def _labels(sources: Sequence[Path]) -> list[str]:
    """What comes before the name of each source's images: '' for one source, else its path below all their parents."""
    if len(sources) == 1:
        return [""]
    common = _common(sources)
    if common is None:  # several drives of Windows
        return [Path(os.path.abspath(one)).as_posix().replace(":", "") for one in sources]  # noqa: PTH100
    return [Path(os.path.abspath(one)).relative_to(common).as_posix() for one in sources]  # noqa: PTH100


def _common(sources: Sequence[Path]) -> Path | None:
    try:
        return Path(os.path.commonpath([Path(os.path.abspath(one)).parent for one in sources]))  # noqa: PTH100
    except ValueError:
        return None


def _images_of(source: Path, label: str, out: Path, others: Counter[str]) -> Iterator[_Found]:
    if is_folder(source):
        if _same(source, out):
            raise ImageError(f"the input folder {source} is also the output folder; name another output folder")
        for path in _images_below(source, out, others):
            yield _Found(path, _joined(label, path.relative_to(source).as_posix()))
    elif is_archive(source):
        for member, inside, stated in members(source, others):
            yield _Found(source, _joined(label, inside), member, stated)
    elif is_dicomdir(source):
        above = label.rpartition("/")[0]
        for path in dicomdir_files(source):
            yield _Found(path, _joined(above, path.relative_to(source.parent).as_posix()))
    else:
        yield _Found(source, label or source.name)


def _images_below(source: Path, out: Path, others: Counter[str]) -> Iterator[Path]:
    """The images in a folder, then those in each folder inside it; a folder is searched once, whatever links to it."""
    root = source.resolve()
    waiting: list[tuple[Path, list[_EarlierRun]]] = [(source, [])]
    seen: set[tuple[int, int]] = set()
    while waiting:
        folder, runs = waiting.pop()
        try:
            status = folder.stat()
            files, folders = (in_order(folder, names) for names in visible_entries(folder))
        except OSError as error:
            if folder == source:
                raise ImageError(f"{source} cannot be read: {error.strerror or error}") from error
            _log.warning("%s cannot be read: %s", folder, error.strerror or error)
            others["folders that cannot be read"] += 1
            continue
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        if is_output := earlier_outputs(folder):
            runs = [*runs, (folder, is_output)]
        yield from _usable(files, runs, others)
        kept = [entry for entry in folders if not _left_out(entry, folders, root, out, others)]
        waiting += [(entry, runs) for entry in reversed(kept)]


def _usable(files: Sequence[Path], runs: Sequence[_EarlierRun], others: Counter[str]) -> Iterator[Path]:
    for file in files:
        written_by = [run for run, is_output in runs if is_output(file.relative_to(run).as_posix())]
        if written_by:
            others[f"results of an earlier run in {written_by[0].name}"] += 1
        elif is_dicomdir(file):
            others["DICOMDIR"] += 1
        elif is_image(file):
            yield file
        else:
            others[file.suffix.lower() or "without suffix"] += 1


def _left_out(folder: Path, beside: Sequence[Path], root: Path, out: Path, others: Counter[str]) -> bool:
    """Whether a folder is not searched; what is in it is counted."""
    if _same(folder, out):
        others["files in the output folder"] += _count(folder)
        return True
    if is_link(folder) and folder.resolve().is_relative_to(root):  # it is searched where it is
        return True
    if _holds_masks(folder, beside):
        others[f"in {folder.name}"] += _count(folder)
        return True
    return False


def _holds_masks(folder: Path, beside: Sequence[Path]) -> bool:
    """Whether a folder holds a dataset's masks: its name says so, or it is named for a target and is beside images."""
    from cxrseg.data.folders import folder_role  # here, since it takes long to import

    role = folder_role(folder)
    if role in (None, "images"):
        return False
    name = folder.name.casefold()
    return "mask" in name or "truth" in name or any(folder_role(other) == "images" for other in beside)


def _count(folder: Path) -> int:
    try:
        return sum(1 for _ in folder.iterdir())
    except OSError:
        return 0


def _joined(above: str, name: str) -> str:
    return f"{above}/{name}" if above else name


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False
