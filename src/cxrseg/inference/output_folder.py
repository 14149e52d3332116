"""The output folder of a run: what in it is cxrseg's own, and may be replaced, and what is not."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cxrseg.errors import CxrsegError
from cxrseg.inference.input_sources import Input
from cxrseg.inference.journal import Journal, read_claims
from cxrseg.inference.output_names import ENDINGS, IN_ALL, without_ending
from cxrseg.io.paths import is_file, is_link
from cxrseg.io.write import remove_parts

__all__ = ["JOURNAL", "earlier_outputs", "open_output"]

JOURNAL = ".journal.jsonl"
"""Name of the file in the output folder that `resume` reads."""

_Claims = Mapping[tuple[str, ...], set[str]]


@contextmanager
def open_output(
    out: Path,
    inputs: Sequence[Input],
    endings: Sequence[str],
    settings: Mapping[str, Any],
    *,
    resume: bool = False,
    overwrite: bool = False,
) -> Iterator[Journal]:
    """Open the journal of an output folder, and claim the files that the run is about to write.

    Args:
        out: the folder; it is created where missing.
        inputs: of the run.
        endings: of all files that may be written for each.
        settings: all that the rows depend on.
        resume: continue the run in the folder.
        overwrite: remove all files of the run in the folder, and nothing else, and start again.

    Raises:
        CxrsegError: the folder cannot be written; holds another run, and neither `resume` nor `overwrite` is set; is
            used by another process; or holds files of the user where the run would write.
    """
    is_new = not (out / JOURNAL).exists()
    try:
        journal = Journal(out / JOURNAL)
    except OSError as error:
        raise CxrsegError(f"{out} cannot be written ({error.strerror}); name another output folder") from error
    with journal:
        try:
            _prepare(out, journal, inputs, endings, settings, resume, overwrite)
        except CxrsegError:
            if is_new:
                journal.remove()
            raise
        yield journal


def _prepare(
    out: Path,
    journal: Journal,
    inputs: Sequence[Input],
    endings: Sequence[str],
    settings: Mapping[str, Any],
    resume: bool,
    overwrite: bool,
) -> None:
    stated = _stated_claims(out) if journal.settings is None else None
    holds_run = journal.settings is not None or stated is not None
    claims = dict(journal.claims if stated is None else stated)
    if holds_run and not resume and not overwrite:
        raise CxrsegError(
            f"{out} holds the results of an earlier run; continue it with --resume, replace it with --overwrite, or "
            f"name another output folder"
        )
    if resume:
        journal.compare(settings)
    _refuse_foreign(out, inputs, endings, lambda stem, ending: _in(claims, stem, ending), holds_run)
    if overwrite:
        _remove(out, claims)
    if journal.settings is None or overwrite:
        journal.start(settings)
    if resume:
        _forget_replaced(out, journal, inputs)
        remove_parts(out / f"{item.stem}{ending}" for item in inputs for ending in endings)
        remove_parts(out / name for name in IN_ALL)
    journal.claim((item.stem for item in inputs), endings)


def _forget_replaced(out: Path, journal: Journal, inputs: Sequence[Input]) -> None:
    """Drop rows of an earlier run whose outputs get other names or belong to another image now, or that are not ok.

    Rows of images that are not among the inputs stay where they are ok, since their outputs stay too.
    """
    names = {item.name: item.stem for item in inputs}
    stems = set(names.values())
    for name, entry in journal.entries().items():
        if name in names and entry.stem == names[name]:
            continue
        if name not in names and entry.ok and entry.stem not in stems:
            continue
        journal.forget(name)
        if entry.stem not in stems:
            for ending in ENDINGS:
                if journal.claimed(entry.stem, ending):
                    _unlink(out / f"{entry.stem}{ending}")


def _refuse_foreign(
    out: Path, inputs: Sequence[Input], endings: Sequence[str], is_ours: Callable[[str, str], bool], holds_run: bool
) -> None:
    """Raise CxrsegError where the run would write over a file that no run has claimed."""
    foreign = [] if holds_run else [name for name in IN_ALL if os.path.lexists(out / name)]
    filled: dict[Path, bool] = {}
    for item in inputs:
        folder = (out / item.stem).parent
        if folder not in filled:
            filled[folder] = _is_filled(folder)
        if filled[folder]:
            targets = (f"{item.stem}{ending}" for ending in endings if not is_ours(item.stem, ending))
            foreign += [target for target in targets if os.path.lexists(out / target)]
    if foreign:
        others = f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""
        raise CxrsegError(
            f"{out / foreign[0]}{others} would be replaced, but no run of cxrseg wrote it; name another output folder"
        )


def _is_filled(folder: Path) -> bool:
    """Whether there may be files in a folder other than the journal."""
    try:
        return any(name != JOURNAL for name in os.listdir(folder))  # noqa: PTH208
    except PermissionError:
        return True
    except OSError:  # it is missing, a file, or its path is too long
        return False


def _remove(out: Path, claims: _Claims) -> None:
    """Remove all claimed files, and the folders that are empty then."""
    folders: set[Path] = set()
    for endings, stems in claims.items():
        for stem in stems:
            folders.update((out / stem).relative_to(out).parents)
            for ending in endings:
                _unlink(out / f"{stem}{ending}")
    for name in IN_ALL:
        _unlink(out / name)
    for folder in sorted(folders - {Path()}, key=lambda folder: len(folder.parts), reverse=True):
        try:
            (out / folder).rmdir()
        except OSError:  # not empty: it holds files of the user
            continue


def _unlink(path: Path) -> None:
    if is_link(path) or is_file(path):
        path.unlink(missing_ok=True)


def earlier_outputs(folder: Path) -> Callable[[str], bool] | None:
    """Tell which files in a folder an earlier run wrote: a function of a path below it, with '/'.

    None where the folder is not an output folder. Where the journal is missing, manifest and statistics tell.
    """
    claims = read_claims(folder / JOURNAL) if is_file(folder / JOURNAL) else None
    if claims is None:
        claims = _stated_claims(folder)
    if claims is None:
        return None
    found: _Claims = claims

    def is_output(name: str) -> bool:
        if name in IN_ALL:
            return True
        return any(name.endswith(end) and _in(found, name.removesuffix(end), end) for end in ENDINGS)

    return is_output


def _stated_claims(folder: Path) -> dict[tuple[str, ...], set[str]] | None:
    """What manifest.json and statistics.json of a run say that it wrote; None where they are not of a run."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        if not isinstance(manifest, dict) or not {"counts", "engine", "models", "thresholds"} <= manifest.keys():
            return None
        rows = json.loads((folder / "statistics.json").read_text(encoding="utf-8"))
        stems = {stem for row in rows if row["status"] == "ok" for stem in (row["path"], without_ending(row["path"]))}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return {ENDINGS: stems}


def _in(claims: _Claims, stem: str, ending: str) -> bool:
    return any(ending in endings and stem in stems for endings, stems in claims.items())
