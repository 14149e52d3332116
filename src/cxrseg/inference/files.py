"""Predict many files: read, segment and write in parallel, with a row for each; a killed run can be resumed."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from cxrseg.errors import ArgumentError, DiskFullError, ImageError, UnreadableImageError
from cxrseg.inference.input_files import find_inputs, input_root
from cxrseg.inference.input_sources import Input
from cxrseg.inference.journal import Journal
from cxrseg.inference.options import DICOM_TYPES, Options, settings_of
from cxrseg.inference.output_folder import JOURNAL, open_output
from cxrseg.inference.outputs import are_whole, empty_row, row_of, write_outputs
from cxrseg.inference.pixel_budget import PixelBudget, pixels_of
from cxrseg.inference.run_tables import RunSummary, manifest, summarise, write_statistics
from cxrseg.inference.segmenter import Segmenter
from cxrseg.io.patient_key import hashed
from cxrseg.io.quiet import quiet
from cxrseg.io.read import read_radiograph
from cxrseg.io.text import printable
from cxrseg.io.write import write_json

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

Row = Mapping[str, Any]

Done = tuple[Input, Any, Row]
"""A file, its stamp (see `Input.stamp`) before it was read, and its row."""

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
        summary: of all rows, including those of a run that was resumed.
        resumed: number of files of this run whose rows existed before.
        seconds: duration of this run.
        statistics: the CSV file.
        stems: name of each file with a row to the beginning of its outputs' names below the output folder.
        left_out: what was found and not used, in words, to its number.
    """

    summary: RunSummary
    resumed: int
    seconds: float
    statistics: Path
    left_out: Mapping[str, int]
    stems: Mapping[str, str]

    @property
    def counts(self) -> Mapping[str, int]:
        """'ok', 'refused' and 'failed' to the number of files."""
        return self.summary.counts


def predict_files(
    sources: Path | Sequence[Path],
    out: Path,
    options: Options,
    *,
    resume: bool = False,
    overwrite: bool = False,
    excel: bool = False,
    on_row: Callable[[Row, int, int], None] | None = None,
    work: Work | None = None,
) -> BatchResult:
    """Segment all images in files, folders and archives, and write masks, statistics and a manifest.

    Each of a few threads reads, segments and writes one file at a time, so that these steps overlap and memory does not
    grow with the number of files. Films of more than 20 megapixels wait for each other (`PixelBudget`). A file that is
    not a usable radiograph gets a row 'refused'; a file that could not be processed for another reason gets a row
    'failed'. Neither stops the run.

    Args:
        sources: an image, a folder, a zip archive or a DICOMDIR, or several; see `find_inputs`.
        out: the output folder; it is created where missing. Files in it that no run of cxrseg wrote are never touched.
        options: of the segmentation and of the output files.
        resume: keep the rows of an earlier run in `out`, except of files that failed, changed, or lack a whole mask.
        overwrite: remove the results of an earlier run in `out` first.
        excel: write statistics.csv with a byte order mark.
        on_row: called in this thread with (row, finished files, all files) after each file.
        work: how the files are processed: in a few threads of this process where None;
            `cxrseg.inference.ray.on_ray()` uses a Ray cluster.

    Raises:
        ArgumentError: both `resume` and `overwrite` are set.
        ImageError: there is no image.
        ModelFileError: a model file cannot be used.
        DiskFullError: the disk is full; finished files are kept, and `resume` continues.
        CxrsegError: `out` cannot be written, is used by another process, holds the results of an earlier run, or files
            of the user would be replaced; or the run that is to be resumed had other options.
        KeyboardInterrupt: Ctrl-C; statistics and manifest have been written for the finished files.
    """
    if resume and overwrite:
        raise ArgumentError("expected resume or overwrite, got both; one keeps what the other removes")
    started, clock = datetime.now(UTC), time.monotonic()
    work = work or Work("local", _on_threads)
    inputs, left_out = find_inputs(sources, out)
    segmenter = options.segmenter(streams=min(len(inputs), processors()))
    settings = settings_of(segmenter, options)
    with open_output(out, inputs, options.endings, settings, resume=resume, overwrite=overwrite) as journal:
        todo = [item for item in inputs if not _is_done(item, journal, out, segmenter, options)]
        finished = work.do(todo, out, segmenter, options)
        interrupted = _collect(finished, journal, options, on_row, len(inputs) - len(todo), len(inputs))
        names = _names(journal, inputs)
        write_statistics(out, lambda: journal.rows(names), excel=excel)
        stems = {name: entry.stem for name, entry in journal.entries().items()}
        found, kept = summarise(journal.rows(names)), len(inputs) - len(todo)
    result = BatchResult(found, kept, time.monotonic() - clock, out / "statistics.csv", left_out, stems)
    ended = "done" if interrupted is None else "interrupted"
    about = {"started": started.isoformat(timespec="seconds"), "ended": ended, "engine": work.name}
    write_json(out / "manifest.json", about | _about(result, sources) | manifest(options, segmenter))
    if interrupted is not None:
        raise interrupted
    return result


def _is_done(item: Input, journal: Journal, out: Path, segmenter: Segmenter, options: Options) -> bool:
    """Whether an earlier run has a row for this file as it is now, and all masks that belong to the row."""
    has_row = journal.has(item.name, item.stem, item.stamp())
    return has_row and (not journal.entry(item.name).ok or are_whole(out, item.stem, segmenter.thresholds, options))


def _collect(
    finished: Iterator[Done],
    journal: Journal,
    options: Options,
    on_row: Callable[[Row, int, int], None] | None,
    before: int,
    total: int,
) -> KeyboardInterrupt | None:
    """Keep the row of each finished file; returns Ctrl-C, after which the rows that are there are still written."""
    try:
        for count, (item, stamp, raw) in enumerate(finished, start=before + 1):
            row = _without_identity(raw, options)
            # No file has the stamp None, so files that failed are processed again.
            journal.add(item.name, item.stem, None if row["status"] == "failed" else stamp, row)
            if on_row is not None:
                on_row(row, count, total)
    except KeyboardInterrupt as error:
        return error
    return None


def _about(result: BatchResult, sources: Path | Sequence[Path]) -> dict[str, Any]:
    """What the manifest says of a run's inputs and results."""
    return {
        "note": "Research use only. Not for diagnosis.",
        "seconds": round(result.seconds, 3),
        "counts": dict(result.counts),
        "resumed": result.resumed,
        "other_files": dict(result.left_out),
        "input": printable(str(input_root(sources))),
        "inputs": [printable(str(one)) for one in ([sources] if isinstance(sources, Path) else sources)],
    }


def _names(journal: Journal, inputs: Sequence[Input]) -> list[str]:
    """Names of all rows: those of the inputs in their order, then those of earlier files that are not among them."""
    names = dict.fromkeys(item.name for item in inputs)
    return [*names, *(name for name in journal.entries() if name not in names)]


def _without_identity(row: Row, options: Options) -> Row:
    """The row with a key for the patient. It is made in this process: machines of a cluster have other secrets."""
    if options.identities or not row.get("patient_id"):
        return row
    return {**row, "patient_id": hashed(row["patient_id"])}


def _on_threads(todo: Sequence[Input], out: Path, segmenter: Segmenter, options: Options) -> Iterator[Done]:
    """Process files in a few threads of this process, so that reading, segmenting and writing overlap."""
    if todo:
        workers = min(len(todo), processors() + 1)
        budget = PixelBudget(workers)
        with quiet():  # once, instead of for each file
            yield from _each(lambda item: predict_one(item, out, segmenter, options, budget), todo, workers)


def predict_one(
    item: Input, out: Path, segmenter: Segmenter, options: Options, budget: PixelBudget | None = None
) -> Done:
    """Process one file, from reading to writing; any error but a full disk becomes its row.

    Args:
        item: the file.
        out: the output folder.
        segmenter: the loaded models.
        options: which files are written.
        budget: of the pixels that the threads of this process hold; None where no other thread reads files.

    Raises:
        DiskFullError: the disk is full.
    """
    return item, item.stamp(), _predict(item, out, segmenter, options, budget or PixelBudget(1))


def _predict(item: Input, out: Path, segmenter: Segmenter, options: Options, budget: PixelBudget) -> Row:
    """Read, segment and write one file; any error but a full disk becomes its row."""
    status, path = "failed", item.path
    try:
        with item.file() as path, budget.hold(pixels_of(path)):
            return _segment(item, path, out, segmenter, options)
    except DiskFullError:
        raise
    except ImageError as error:
        status = "failed" if isinstance(error, UnreadableImageError) else "refused"
        reason = str(error)
    except Exception as error:  # one file must not stop a run over thousands
        _log.error("%s: unexpected %s: %s", item.name, type(error).__name__, printable(str(error)))
        _log.debug("%s failed", item.name, exc_info=True)
        reason = f"{type(error).__name__}: {error}"
    try:
        write_outputs(out, item.stem, None, None, options)
    except OSError as error:
        reason += f"; the files of an earlier run cannot be removed ({error.strerror or error})"
    reason = " ".join(reason.replace(str(path), item.name).split())
    return empty_row(item.name, status, reason, segmenter.mark, segmenter.thresholds.get("infection"))


def _segment(item: Input, path: Path, out: Path, segmenter: Segmenter, options: Options) -> Row:
    radiograph = read_radiograph(
        path, window=options.window, value_range=options.value_range, max_pixels=options.max_pixels
    )
    prediction = segmenter.segment(radiograph)
    write_outputs(out, item.stem, radiograph, prediction, options)
    wanted = [kind for kind in DICOM_TYPES if kind in options.output_types]
    if wanted and options.write_objects is not None and prediction.status == "ok":
        options.write_objects(out, item.stem, path, radiograph, prediction, wanted)
    return row_of(item.name, radiograph, prediction, identities=True)  # see `_without_identity`


def _each(function: Callable[[Input], _Result], items: Iterable[Input], workers: int) -> Iterator[_Result]:
    """Results in the order in which they finish; at most two items for each thread are in progress at any time.

    After Ctrl-C the items in progress are finished, and their results come before the KeyboardInterrupt.
    """
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
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)
            yield from (future.result() for future in waiting if not future.cancelled() and future.exception() is None)
            raise
        finally:
            pool.shutdown(cancel_futures=True)


def processors() -> int:
    """Number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
