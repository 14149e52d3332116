"""Predict many files: read, segment and write in parallel, with a row for each; a killed run can be resumed."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cxrseg.errors import ArgumentError
from cxrseg.inference.input_files import find_inputs, input_root
from cxrseg.inference.input_sources import Input
from cxrseg.inference.journal import Journal
from cxrseg.inference.local import on_threads
from cxrseg.inference.options import Options, settings_of
from cxrseg.inference.output_folder import JOURNAL, open_output
from cxrseg.inference.outputs import are_whole
from cxrseg.inference.run_tables import RunSummary, manifest, summarise, write_statistics
from cxrseg.inference.segmenter import Segmenter
from cxrseg.inference.work import Done, Row, Work, processors
from cxrseg.io.patient_key import hashed
from cxrseg.io.text import printable
from cxrseg.io.write import write_json

__all__ = ["JOURNAL", "BatchResult", "Options", "predict_files"]


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
    sources: Path | str | Sequence[Path | str],
    out: Path | str,
    options: Options | None = None,
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
        options: of the segmentation and of the output files; the default options where None.
        resume: keep the rows of an earlier run in `out`, except of files that failed, changed, or lack a whole mask.
        overwrite: remove the results of an earlier run in `out` first.
        excel: write statistics.csv with a byte order mark.
        on_row: called in this thread with (row, finished files, all files) after each file.
        work: how the files are processed: in a few threads of this process where None;
            `cxrseg.inference.local.on_processes()` uses processes, `cxrseg.inference.ray.on_ray()` a Ray cluster.

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
    listed = [Path(one) for one in ([sources] if isinstance(sources, Path | str) else sources)]
    out, options, work = Path(out), options or Options(), work or on_threads()
    inputs, left_out = find_inputs(listed, out)
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
    write_json(out / "manifest.json", about | _about(result, listed) | manifest(options, segmenter))
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
    finally:
        if isinstance(finished, Generator):
            finished.close()  # in this thread, the only one that can restore the handlers of signals
    return None


def _about(result: BatchResult, sources: Sequence[Path]) -> dict[str, Any]:
    """What the manifest says of a run's inputs and results."""
    return {
        "note": "Research use only. Not for diagnosis.",
        "seconds": round(result.seconds, 3),
        "counts": dict(result.counts),
        "resumed": result.resumed,
        "other_files": dict(result.left_out),
        "input": printable(str(input_root(sources))),
        "inputs": [printable(str(one)) for one in sources],
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
