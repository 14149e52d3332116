"""The models, the queue and the folders: what the routes call."""

from __future__ import annotations

import errno
import io
import json
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from fastapi.responses import Response

from cxrseg.errors import ImageError, ModelFileError
from cxrseg.inference.engine import Engine
from cxrseg.inference.pixel_budget import PixelBudget
from cxrseg.inference.prediction import Prediction
from cxrseg.inference.segmenter import Segmenter
from cxrseg.inference.tasks import TASKS
from cxrseg.io.radiograph import Radiograph
from cxrseg.io.read import IMAGE_SUFFIXES, read_radiograph, read_size
from cxrseg.model_file import shipped_model
from cxrseg.serve.batches import BatchedModel
from cxrseg.serve.corrections import Corrections
from cxrseg.serve.folder import Films
from cxrseg.serve.metrics import ServeMetrics
from cxrseg.serve.problems import Problem
from cxrseg.serve.settings import ServeSettings
from cxrseg.serve.work import WorkQueue

__all__ = ["DICOM", "Service", "base_name", "json_answer"]

DICOM = "application/dicom"
"""The media type of a DICOM file."""


class Service:
    """One set of loaded models for all tasks and all requests.

    Args:
        settings: of the service.

    Raises:
        ModelFileError: a model file cannot be used, or does not support the task.
        CxrsegError: the folder of corrections cannot be written, or is another service's.
    """

    def __init__(self, settings: ServeSettings) -> None:
        self.settings = settings
        self.metrics = ServeMetrics()
        options = settings.options
        on_batch = self.metrics.batches.observe
        with ExitStack() as on_error:
            self.corrections = None if settings.keep is None else Corrections(settings.keep)
            if self.corrections is not None:
                on_error.callback(self.corrections.close)
            self._models = [
                BatchedModel(
                    Engine(path, precision=options.precision, device=options.device), settings.workers, on_batch
                )
                for path in options.models or (shipped_model(),)
            ]
            self.segmenters = {options.task: self._segmenter(options.task)}
            on_error.pop_all()
        for task in TASKS:
            try:
                self.segmenters.setdefault(task, self._segmenter(task))
            except ModelFileError:  # the model has no classification head
                continue
        self._budget = PixelBudget(settings.workers)
        self.work = WorkQueue(settings.workers, settings.max_waiting, settings.timeout)
        self.metrics.waiting.set_function(lambda: self.work.open)
        self.films: Films | None = None
        if settings.folder is not None:
            segmenter = self.segmenters[options.task]
            self.films = Films(settings.folder, settings.keep, segmenter, self.read, lambda: self.work.open > 0)
        self._folder = tempfile.TemporaryDirectory(prefix="cxrseg-", ignore_cleanup_errors=True)

    def _segmenter(self, task: str) -> Segmenter:
        options = self.settings.options
        return Segmenter(self._models, options.threshold, tta=options.tta, force=options.force, task=task)

    @property
    def uploads(self) -> Path:
        """The folder of the files that are being read; only this user may look into it."""
        return Path(self._folder.name)

    def segmenter(self, task: str | None) -> tuple[str, Segmenter]:
        """A task's name and its segmenter; None for the default task.

        Raises:
            Problem: 422 where the model does not support the task.
        """
        task = task or self.settings.options.task
        if task not in self.segmenters:
            raise Problem(422, f"the model supports the tasks {', '.join(self.segmenters)}, not {task}")
        return task, self.segmenters[task]

    @contextmanager
    def saved(self, content: BinaryIO, name: str) -> Iterator[Path]:
        """An upload as a file while the block runs; its name says nothing but the kind.

        Raises:
            Problem: 507 where the disk is full.
        """
        suffix = PurePosixPath(name).suffix.lower()
        path = self.uploads / f"{uuid.uuid4().hex}{suffix if suffix in IMAGE_SUFFIXES else ''}"
        try:
            try:
                with path.open("xb") as file:
                    shutil.copyfileobj(content, file)
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                where = f"the disk of {self.uploads.parent} is full"
                raise Problem(
                    507, f"{where}; free some space there, or start the service with another TMPDIR"
                ) from None
            yield path
        finally:
            path.unlink(missing_ok=True)

    def read(
        self, path: Path, name: str, *, value_range: tuple[float, float] | None = None, window: int = 0
    ) -> Radiograph:
        """Read an image.

        Args:
            path: the file.
            name: what a problem calls it.
            value_range, window: as for `cxrseg.io.read.read_radiograph`.

        Raises:
            Problem: 413 where it has too many pixels, 422 where it cannot be used.
        """
        self.check_size(path, name)  # also of an image of the folder, which is read without `held`
        try:
            limit = self.settings.options.max_pixels
            return read_radiograph(path, window=window, value_range=value_range, max_pixels=limit)
        except ImageError as error:
            raise Problem(422, _reason(error, path, name)) from None

    @contextmanager
    def held(self, path: Path, name: str) -> Iterator[None]:
        """Hold the pixels of an image while the block runs: requests with large films wait for each other.

        Raises:
            Problem: as for `check_size`.
        """
        with self._budget.hold(self.check_size(path, name)):
            yield

    def check_size(self, path: Path, name: str) -> int:
        """The number of pixels of an image, by its header.

        Raises:
            Problem: 413 where it has too many pixels, 422 where it is not an image.
        """
        try:
            height, width = read_size(path)
        except ImageError as error:
            raise Problem(422, _reason(error, path, name)) from None
        limit = self.settings.options.max_pixels
        if height * width > limit:
            raise Problem(413, f"{name} has {width}x{height} pixels, more than {limit:,}; send a smaller image")
        return height * width

    def seg_of(
        self, path: Path, name: str, radiograph: Radiograph, prediction: Prediction, *, corrected: bool = False
    ) -> Response:
        """The answer with a DICOM SEG; arguments as for `cxrseg.hospital.objects.make_objects`.

        Raises:
            Problem: 422 where the image is not a DICOM file or lacks what a SEG must refer to, 501 where this
                installation cannot write one.
        """
        try:
            from cxrseg.hospital.objects import make_objects
        except ModuleNotFoundError:
            raise Problem(501, "DICOM SEG needs another part of cxrseg: pip install 'cxrseg[hospital]'") from None
        try:
            made = make_objects(path, radiograph, prediction, ["dicom_seg"], corrected=corrected)["dicom_seg"]
        except ImageError as error:
            raise Problem(422, _reason(error, path, name)) from None
        content = io.BytesIO()
        made.save_as(content, enforce_file_format=True)
        return Response(content.getvalue(), media_type=DICOM)

    def close(self) -> None:
        """End the threads, remove the folder of uploads, and let another service have the folder of corrections."""
        if self.films is not None:
            self.films.close()
        self.work.close()
        for model in self._models:
            model.close()
        self._folder.cleanup()
        if self.corrections is not None:
            self.corrections.close()


def json_answer(value: Any) -> Response:
    """The answer with a value that is JSON already; checking megabytes of pictures against a schema would take long."""
    return Response(json.dumps(value, ensure_ascii=False), media_type="application/json")


def _reason(error: Exception, path: Path, name: str) -> str:
    """An error's message in one line, with the client's name of the file in place of ours."""
    return " ".join(str(error).replace(str(path), name).split())


def base_name(name: str | None) -> str:
    """The last part of an upload's name, whatever the system of the client; 'image' where there is none."""
    last = (name or "").replace("\\", "/").rpartition("/")[2]
    return "".join(letter for letter in last if letter.isprintable())[:200] or "image"
