"""The work on one file: read, segment and write it, in this process or in another."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from cxrseg.errors import CxrsegError, DiskFullError, ImageError, UnreadableImageError
from cxrseg.inference.input_sources import Input
from cxrseg.inference.options import DICOM_TYPES, Options, settings_of
from cxrseg.inference.outputs import empty_row, row_of, write_outputs
from cxrseg.inference.pixel_budget import Budget, PixelBudget, pixels_of
from cxrseg.inference.segmenter import Segmenter
from cxrseg.io.read import read_radiograph
from cxrseg.io.text import printable

__all__ = ["Done", "Row", "Work", "Worker", "predict_one", "processors"]

_log = logging.getLogger(__name__)

Row: TypeAlias = Mapping[str, Any]
"""A value for each of `cxrseg.inference.outputs.COLUMNS`."""

Done: TypeAlias = tuple[Input, Any, Row]
"""A file, its stamp (see `Input.stamp`) before it was read, and its row."""


class Work(NamedTuple):
    """A way to process files: in threads or processes of this machine, or on a cluster.

    name: for the manifest. do: processes files in any order: (files, output folder, models, options) to the finished
    files.
    """

    name: str
    do: Callable[[Sequence[Input], Path, Segmenter, Options], Iterator[Done]]


class Worker:
    """Processes files in another process than the one that started the run; it loads the models at the first file.

    Args:
        out: the output folder.
        options: of the run.
        settings: all that the rows depend on, in the process that started the run.
        budget: of the pixels that this process holds; None where no other process shares its memory.
    """

    def __init__(self, out: Path, options: Options, settings: Mapping[str, Any], budget: Budget | None = None) -> None:
        self._out, self._options, self._settings, self._budget = out, options, settings, budget
        self._segmenter: Segmenter | None = None

    def predict(self, item: Input) -> Done:
        """Process one file; see `predict_one`.

        Raises:
            CxrsegError: the disk is full, or this process has other models or another version of cxrseg.
        """
        if self._segmenter is None:
            self._segmenter = self._loaded()
        return predict_one(item, self._out, self._segmenter, self._options, self._budget)

    def _loaded(self) -> Segmenter:
        segmenter = self._options.segmenter(streams=0)
        found = settings_of(segmenter, self._options)
        other = [
            f"{key} {found[key]} (not {self._settings[key]})" for key in found if found[key] != self._settings[key]
        ]
        if other:
            raise CxrsegError(
                f"this worker has other settings than the process that started the run: {', '.join(other)}; install "
                f"the same cxrseg and models everywhere, and use --precision float32 where only some processors "
                f"support bfloat16"
            )
        return segmenter


def predict_one(item: Input, out: Path, segmenter: Segmenter, options: Options, budget: Budget | None = None) -> Done:
    """Process one file, from reading to writing; any error but a full disk becomes its row.

    Args:
        item: the file.
        out: the output folder.
        segmenter: the loaded models.
        options: which files are written.
        budget: of the pixels that the threads or processes of a run hold; None where nothing else reads files.

    Raises:
        DiskFullError: the disk is full.
    """
    return item, item.stamp(), _predict(item, out, segmenter, options, budget or PixelBudget(1))


def _predict(item: Input, out: Path, segmenter: Segmenter, options: Options, budget: Budget) -> Row:
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


def processors() -> int:
    """Number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
