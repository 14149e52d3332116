"""The models, the queue and the upload: what the routes call."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from cxrseg.errors import ImageError, ModelFileError
from cxrseg.inference.engine import Engine
from cxrseg.inference.segmenter import TASKS, Segmenter
from cxrseg.io.radiograph import Radiograph
from cxrseg.io.read import IMAGE_SUFFIXES, read_radiograph, read_size
from cxrseg.model_file import shipped_model
from cxrseg.serve.batches import BatchedModel
from cxrseg.serve.problems import Problem
from cxrseg.serve.settings import ServeSettings
from cxrseg.serve.work import WorkQueue

__all__ = ["Service", "base_name"]


class Service:
    """One set of loaded models for all tasks and all requests.

    Args:
        settings: of the service.

    Raises:
        ModelFileError: a model file cannot be used, or does not support the task.
    """

    def __init__(self, settings: ServeSettings) -> None:
        self.settings = settings
        options = settings.options
        self._models = [
            BatchedModel(Engine(path, precision=options.precision, device=options.device), settings.workers)
            for path in options.models or (shipped_model(),)
        ]
        self.segmenters = {options.task: self._segmenter(options.task)}
        for task in TASKS:
            try:
                self.segmenters.setdefault(task, self._segmenter(task))
            except ModelFileError:  # the model has no classification head
                continue
        self.work = WorkQueue(settings.workers, settings.max_waiting, settings.timeout)
        self._uploads = tempfile.TemporaryDirectory(prefix="cxrseg-", ignore_cleanup_errors=True)

    def _segmenter(self, task: str) -> Segmenter:
        options = self.settings.options
        return Segmenter(self._models, options.threshold, tta=options.tta, force=options.force, task=task)

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
        """An upload as a file while the block runs; its name says nothing but the kind."""
        suffix = PurePosixPath(name).suffix.lower()
        path = Path(self._uploads.name) / f"{uuid.uuid4().hex}{suffix if suffix in IMAGE_SUFFIXES else ''}"
        try:
            with path.open("xb") as file:
                shutil.copyfileobj(content, file)
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
        try:
            height, width = read_size(path)
            if height * width > self.settings.options.max_pixels:
                limit = self.settings.options.max_pixels
                raise Problem(413, f"{name} has {width}x{height} pixels, more than {limit:,}; send a smaller image")
            return read_radiograph(path, window=window, value_range=value_range)
        except ImageError as error:
            raise Problem(422, " ".join(str(error).replace(str(path), name).split())) from None

    def close(self) -> None:
        """End the threads and remove the folder of uploads."""
        self.work.close()
        for model in self._models:
            model.close()
        self._uploads.cleanup()


def base_name(name: str | None) -> str:
    """The last part of an upload's name, whatever the system of the client; 'image' where there is none."""
    last = (name or "").replace("\\", "/").rpartition("/")[2]
    return "".join(letter for letter in last if letter.isprintable())[:200] or "image"
