"""Predict many files: read, segment and write in parallel, with a row for each; a killed run can be resumed."""

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
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from cxrseg._version import __version__
from cxrseg.errors import CxrsegError, DiskFullError, ImageError, UnreadableImageError
from cxrseg.inference.input_files import Input, find_inputs
from cxrseg.inference.journal import Journal
from cxrseg.inference.options import DICOM_TYPES, Options, settings_of
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
"""A file, its stamp (size and time of modification) before it was read, and its row."""

_Result = TypeVar("_Result")


class Work(NamedTuple):
    """A way to process files: in threads of this process, or on a cluster.

    name: for the manifest. do: processes files in any order: (files, output folder, models, options) to the finished
    files.
    """

    name: str
    do: Callable[[Sequence[Input], Path, Segmenter, Options], Iterator[Done]]


@dataclass(frozen=True)
class BatchResult:
    """The result of a run.

    Attributes:
        counts: 'ok', 'refused' and 'failed' to the number of files, including those of a run that was resumed.
        resumed: number of rows that existed before.
        seconds: duration of this run.
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

    Each of a few threads reads, segments and writes one file at a time, so that these steps overlap and memory does not
    grow with the number of files. A file that is not a usable radiograph gets a row 'refused'; a file that could not be
    processed for another reason gets a row 'failed'. Neither stops the run.

    Args:
        source: an image, or a folder; all folders below it are searched too.
        out: the output folder; it is created where missing.
        options: of the segmentation and of the output files.
        resume: keep the rows of an earlier run with the same options in `out`. Files that failed, and files that
            changed since then, are processed again.
        on_row: called in this thread with (row, finished files, all files) after each file.
        work: how the files are processed: in a few threads of this process where None;
            `cxrseg.inference.ray.on_ray()` uses a Ray cluster.

    Raises:
        ImageError: there is no image at `source`.
        ModelFileError: a model file cannot be used.
        DiskFullError: the disk is full; finished files are kept, and `resume` continues.
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
            # No file has the stamp None, so files that failed are processed again.
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
    """Process files in a few threads of this process, so that reading, segmenting and writing overlap."""
    if todo:
        workers = min(len(todo), processors() + 1)
        yield from _each(lambda item: predict_one(item, out, segmenter, options), todo, workers)


def predict_one(item: Input, out: Path, segmenter: Segmenter, options: Options) -> Done:
    """Process one file, from reading to writing; any error but a full disk becomes its row.

    Raises:
        DiskFullError: the disk is full.
    """
    return item, _stamp(item.path), _predict(item, out, segmenter, options)


def _predict(item: Input, out: Path, segmenter: Segmenter, options: Options) -> Row:
    """Read, segment and write one file; any error but a full disk becomes its row."""
    status = "failed"
    try:
        radiograph = read_radiograph(
            item.path, window=options.window, value_range=options.value_range, max_pixels=options.max_pixels
        )
        prediction = segmenter.segment(radiograph)
        write_outputs(
            out,
            item.stem,
            radiograph,
            prediction,
            masks="png" in options.output_types,
            save_probabilities=options.save_probabilities,
            preview=options.preview,
        )
        wanted = [kind for kind in DICOM_TYPES if kind in options.output_types]
        if wanted and options.write_objects is not None and prediction.status == "ok":
            options.write_objects(out, item.stem, item.path, radiograph, prediction, wanted)
        return row_of(item.name, radiograph, prediction)
    except DiskFullError:
        raise
    except ImageError as error:
        status = "failed" if isinstance(error, UnreadableImageError) else "refused"
        reason = str(error)
    except Exception as error:  # one file must not stop a run over thousands
        _log.debug("%s failed", item.path, exc_info=True)
        reason = f"{type(error).__name__}: {error}"
    write_outputs(out, item.stem, None, None)
    reason = " ".join(reason.replace(str(item.path), item.name).split())
    return empty_row(item.name, status, reason, segmenter.mark, segmenter.thresholds.get("infection"))


def _each(function: Callable[[Input], _Result], items: Iterable[Input], workers: int) -> Iterator[_Result]:
    """Results in the order in which they finish; at most two items for each thread are in progress at any time."""
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
        raise CxrsegError(f"{out} cannot be written ({error.strerror}); name another output folder") from error


def _stamp(path: Path) -> list[int] | None:
    """Size and time of modification, or None where they cannot be read."""
    try:
        status = path.stat()
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns]


def processors() -> int:
    """Number of processors that this process may use."""
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
        "options": options.as_json(),
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
    """Versions of the packages that were used."""
    modules = {name: sys.modules.get(name) for name in ("numpy", "openvino", "PIL", "pydicom", "ray", "scipy", "torch")}
    return {name: str(module.__version__) for name, module in modules.items() if module is not None}
