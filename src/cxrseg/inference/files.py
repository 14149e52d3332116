"""Many files: read, segment and write side by side, a row for each, and going on where a killed run stopped."""

from __future__ import annotations

import json
import logging
import os
import platform
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from cxrseg._version import __version__
from cxrseg.errors import CxrsegError, DiskFullError, ImageError, UnreadableImageError
from cxrseg.inference.inputs import Input, find_inputs
from cxrseg.inference.journal import Journal
from cxrseg.inference.options import Options, settings_of
from cxrseg.inference.outputs import COLUMNS, empty_row, outputs_of, row_of, write_outputs
from cxrseg.inference.segmenter import Segmenter
from cxrseg.io.read import read_radiograph
from cxrseg.io.write import remove_parts, write_atomic, write_csv, write_json

__all__ = [
    "JOURNAL",
    "BatchResult",
    "Done",
    "Options",
    "Work",
    "predict_files",
    "predict_one",
    "processors",
]

_log = logging.getLogger(__name__)

JOURNAL = ".journal.jsonl"
"""Name of the file in the output folder that `resume` reads."""

_IN_ALL = ("manifest.json", "statistics.csv", "statistics.json")

Row = Mapping[str, Any]

Done = tuple[Input, Any, Row]
"""A file, its stamp (size and time of change) from before it was read, and its row."""

_Result = TypeVar("_Result")


class Work(NamedTuple):
    """Who does the files.

    name: as the manifest says it. do: does files, in any order: (files, output folder, models, options) to what is
    done, as it comes.
    """

    name: str
    do: Callable[[Sequence[Input], Path, Segmenter, Options], Iterator[Done]]


@dataclass(frozen=True)
class BatchResult:
    """What a run came to.

    Attributes:
        counts: 'ok', 'refused' and 'failed' to the number of files, also those done before a resumed run.
        resumed: how many rows were there already.
        seconds: how long this run took.
        statistics: the CSV file.
    """

    counts: Mapping[str, int]
    resumed: int
    seconds: float
    statistics: Path


def predict_files(
    source: Path,
    out: Path,
    options: Options,
    *,
    resume: bool = False,
    on_row: Callable[[Row, int, int], None] | None = None,
    work: Work | None = None,
) -> BatchResult:
    """Segment a file, or all images in a folder, and write masks, statistics and a manifest.

    Each of a few threads takes one file at a time through reading, segmenting and writing, so that these overlap and
    memory does not grow with the number of files. A file that is no usable radiograph gets a row 'refused', one that
    could not be processed for another reason a row 'failed'; neither stops the others.

    Args:
        source: an image, or a folder that is searched with all folders below it.
        out: a folder, made where missing.
        options: how, and what is written.
        resume: keep the rows that an earlier run with the same options left in `out`. Files that failed, and files
            that changed since, are done again.
        on_row: called in this thread with (row, files done, files in all) after each file.
        work: who does the files: a few threads of this process where None; `cxrseg.inference.ray.on_ray()` takes a
            Ray cluster.

    Raises:
        ImageError: there is no image at `source`.
        ModelFileError: a model file cannot be used.
        DiskFullError: no room was left; what was written stands, and `resume` goes on.
        CxrsegError: `out` cannot be written, or holds a run with other options that is to be resumed.
    """
    started, clock = datetime.now(UTC), time.monotonic()
    work = work or Work("local", _on_threads)
    inputs, others = find_inputs(source, out)
    segmenter = options.segmenter(streams=min(len(inputs), processors()))
    with _opened(out, segmenter, options, resume) as journal:
        todo = [item for item in inputs if not journal.has(item.name, _stamp(item.path))]
        resumed = done = len(inputs) - len(todo)
        if resume:
            remove_parts(path for item in todo for path in outputs_of(out, item.stem))
            remove_parts(out / name for name in _IN_ALL)
        for item, stamp, row in work.do(todo, out, segmenter, options):
            # None is no file's stamp, so that what failed is done again.
            journal.add(item.name, None if row["status"] == "failed" else stamp, row)
            done += 1
            if on_row is not None:
                on_row(row, done, len(inputs))
        names = [item.name for item in inputs]
        counts = Counter(str(row["status"]) for row in journal.rows(names))
        write_csv(out / "statistics.csv", COLUMNS, map(_flat, journal.rows(names)))
        _write_rows(out / "statistics.json", journal.rows(names))
    seconds = time.monotonic() - clock
    result = BatchResult(
        {status: counts[status] for status in ("ok", "refused", "failed")}, resumed, seconds, out / "statistics.csv"
    )
    write_json(out / "manifest.json", _manifest(source, options, segmenter, work.name, result, started, others))
    return result


def _on_threads(todo: Sequence[Input], out: Path, segmenter: Segmenter, options: Options) -> Iterator[Done]:
    """Do files in a few threads of this process, so that reading, segmenting and writing overlap."""
    if todo:
        workers = min(len(todo), processors() + 1)
        yield from _each(lambda item: predict_one(item, out, segmenter, options), todo, workers)


def predict_one(item: Input, out: Path, segmenter: Segmenter, options: Options) -> Done:
    """Do one file, from reading to writing; whatever goes wrong becomes its row.

    Raises:
        DiskFullError: no room was left.
    """
    return item, _stamp(item.path), _predict(item, out, segmenter, options)


def _predict(item: Input, out: Path, segmenter: Segmenter, options: Options) -> Row:
    """One file from reading to writing; whatever goes wrong becomes its row, but for a full disk."""
    status = "failed"
    try:
        radiograph = read_radiograph(item.path)
        prediction = segmenter.segment(radiograph)
        write_outputs(
            out,
            item.stem,
            radiograph,
            prediction,
            save_probabilities=options.save_probabilities,
            preview=options.preview,
        )
        return row_of(item.name, radiograph, prediction)
    except DiskFullError:
        raise
    except ImageError as error:
        status = "failed" if isinstance(error, UnreadableImageError) else "refused"
        reason = str(error)
    except Exception as error:  # one file must not end a run over thousands
        _log.debug("%s failed", item.path, exc_info=True)
        reason = f"{type(error).__name__}: {error}"
    write_outputs(out, item.stem, None, None)
    reason = " ".join(reason.replace(str(item.path), item.name).split())
    return empty_row(item.name, status, reason, segmenter.mark, segmenter.thresholds.get("infection"))


def _each(function: Callable[[Input], _Result], items: Iterable[Input], workers: int) -> Iterator[_Result]:
    """Results as they come; no more than two items for each thread are on their way at any time."""
    waiting: set[Future[_Result]] = set()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                if len(waiting) >= 2 * workers:
                    done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    yield from (future.result() for future in done)
                waiting.add(pool.submit(function, item))
            while waiting:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        finally:
            pool.shutdown(cancel_futures=True)


def _opened(out: Path, segmenter: Segmenter, options: Options, resume: bool) -> Journal:
    try:
        return Journal(out / JOURNAL, settings_of(segmenter, options), resume=resume)
    except OSError as error:
        raise CxrsegError(f"{out} cannot be written ({error.strerror}); choose another output folder") from error


def _stamp(path: Path) -> list[int] | None:
    """Size and time of change, or None where the file cannot be looked at."""
    try:
        status = path.stat()
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns]


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _flat(row: Row) -> Row:
    return {**row, **{column: "; ".join(row[column]) for column in ("warnings", "steps")}}


def _write_rows(path: Path, rows: Iterable[Row]) -> None:
    """A JSON array, row by row."""

    def write(file: Any) -> None:
        separator = "[\n"
        for row in rows:
            file.write((separator + json.dumps(row, ensure_ascii=False)).encode())
            separator = ",\n"
        file.write(b"\n]\n")

    write_atomic(path, write)


def _manifest(
    source: Path,
    options: Options,
    segmenter: Segmenter,
    engine: str,
    result: BatchResult,
    started: datetime,
    others: Mapping[str, int],
) -> dict[str, Any]:
    return {
        "note": "Research use only. Not for diagnosis.",
        "started": started.isoformat(timespec="seconds"),
        "seconds": round(result.seconds, 3),
        "counts": dict(result.counts),
        "resumed": result.resumed,
        "other_files": dict(others),
        "input": str(source),
        "engine": engine,
        "options": {**asdict(options), "models": [str(model) for model in options.models]},
        "models": [
            {
                "name": engine.info.name,
                "version": engine.info.version,
                "sha256": engine.sha256,
                "channels": list(engine.info.channels),
                "computes_with": engine.precision,
                "licence": engine.info.licence,
            }
            for engine in segmenter.engines
        ],
        "thresholds": segmenter.thresholds,
        "versions": {"cxrseg": __version__, "python": platform.python_version(), **_versions()},
    }


def _versions() -> dict[str, str]:
    """Of the packages that took part, where they did."""
    modules = {name: sys.modules.get(name) for name in ("numpy", "openvino", "PIL", "pydicom", "ray", "scipy", "torch")}
    return {name: str(module.__version__) for name, module in modules.items() if module is not None}
