"""The folder that the user named: its images, and which of them to correct next."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cxrseg.errors import ImageError
from cxrseg.inference.input_files import find_inputs
from cxrseg.inference.input_sources import Input
from cxrseg.inference.prediction import Prediction
from cxrseg.inference.segmenter import Segmenter
from cxrseg.io.radiograph import Radiograph
from cxrseg.io.system_faults import system_fault
from cxrseg.serve.corrections import content_mark

__all__ = ["Film", "Films", "Score", "uncertainty"]

_log = logging.getLogger(__name__)

_PAUSE = 0.2  # seconds between two looks at whether requests are in progress
_AGAIN = 5.0  # seconds between two looks at the folder


@dataclass(frozen=True)
class Score:
    """What is known of an image once it was segmented.

    Attributes:
        stamp: size and time of modification of the file that was read.
        mark: of its content, see `content_mark`.
        status: 'ok', 'refused' or 'failed'.
        reason: of the status.
        warnings: of the prediction.
        infected_fraction, extent_score: of the lungs, None where unknown.
        uncertainty: see `uncertainty`; None unless the status is 'ok'.
    """

    stamp: tuple[int, int]
    mark: str
    status: str
    reason: str = ""
    warnings: tuple[str, ...] = ()
    infected_fraction: float | None = None
    extent_score: int | None = None
    uncertainty: float | None = None


@dataclass(frozen=True)
class Film:
    """An image of the folder.

    Attributes:
        id: what a client calls it; made of the name, and says nothing of where the folder is.
        item: the file and its name below the folder.
        stamp: size and time of modification.
        score: None where it has not been segmented yet.
    """

    id: str
    item: Input
    stamp: tuple[int, int]
    score: Score | None = None


def uncertainty(prediction: Prediction) -> float | None:
    """How much a correction of this prediction would teach: the mean binary entropy of its probabilities in the lungs.

    Entropy is the usual measure of what a model is unsure of in active learning, as in MONAI Label's strategies. Only
    the lungs count, so that a large heart or a wide border does not.

    Returns:
        0 (every pixel is certain) to 1 bit (every pixel is as likely infected as not). It is that of the whole image
        where no lungs were found, and None where there is no map.
    """
    if "infection" not in prediction.probabilities:
        return None
    p = prediction.probabilities["infection"].astype(np.float64)
    if "lungs" in prediction.probabilities and (lungs := prediction.mask("lungs")).any():
        p = p[lungs]
    p = np.clip(p, 1e-7, 1 - 1e-7)
    return float(-(p * np.log2(p) + (1 - p) * np.log2(1 - p)).mean())


class Films:
    """The images of a folder. A thread segments them one by one while no request is in progress.

    Args:
        folder: its images, and those of all folders below it.
        keep: the folder of corrections, whose images are not listed; None for none.
        segmenter: the loaded models.
        read: reads the image of a path; what it raises makes the image 'failed'.
        busy: whether requests are in progress.
    """

    def __init__(
        self,
        folder: Path,
        keep: Path | None,
        segmenter: Segmenter,
        read: Callable[[Path, str], Radiograph],
        busy: Callable[[], bool],
    ) -> None:
        self._folder, self._keep = folder, keep
        self._segmenter, self._read, self._busy = segmenter, read, busy
        self._scores: dict[str, Score] = {}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._score_all, name="folder", daemon=True)
        self._thread.start()

    def list(self) -> list[Film]:
        """All images, in natural order of their names."""
        try:
            inputs = find_inputs(self._folder, self._keep or self._folder / ".cxrseg-none")[0]
        except ImageError:  # an empty folder
            return []
        base = self._folder.resolve()
        films = []
        for item in inputs:
            try:
                if item.path.resolve().is_relative_to(base):  # a link may lead elsewhere
                    status = item.path.stat()
                    films.append(self._film(item, (status.st_size, status.st_mtime_ns)))
            except OSError:  # removed meanwhile
                continue
        return films

    def find(self, wanted: str) -> Film | None:
        """The image with this id, None where there is none."""
        return next((film for film in self.list() if film.id == wanted), None)

    def next(self, corrected: Collection[str]) -> Film | None:
        """The most uncertain image that is not corrected; None where no such image has been segmented.

        Args:
            corrected: the `content_mark` of each image that is corrected.
        """
        ranked = [
            (film.score.uncertainty, film)
            for film in self.list()
            if film.score is not None and film.score.uncertainty is not None and film.score.mark not in corrected
        ]
        return max(ranked, key=lambda pair: pair[0])[1] if ranked else None

    def close(self) -> None:
        """End the thread after the image in progress."""
        self._stopped.set()
        self._thread.join()

    def _film(self, item: Input, stamp: tuple[int, int]) -> Film:
        key = hashlib.sha256(item.name.encode()).hexdigest()[:16]
        score = self._scores.get(key)
        return Film(key, item, stamp, score if score is not None and score.stamp == stamp else None)

    def _score_all(self) -> None:
        while not self._stopped.is_set():
            for film in self.list():
                if film.score is None:
                    while self._busy() and not self._stopped.wait(_PAUSE):
                        pass
                    if self._stopped.is_set():
                        return
                    self._scores[film.id] = self._score(film)
            self._stopped.wait(_AGAIN)

    def _score(self, film: Film) -> Score:
        mark = ""
        try:
            mark = content_mark(film.item.path)
            prediction = self._segmenter.segment(self._read(film.item.path, film.item.name))
        except Exception as error:  # one image must not stop the others
            _log.debug("%s failed", film.item.path, exc_info=True)
            fault = system_fault(error)
            reason = f"{film.item.name} {fault}" if fault else str(error) or type(error).__name__
            return Score(film.stamp, mark, "failed", reason)
        severity = prediction.severity
        return Score(
            film.stamp,
            mark,
            prediction.status,
            prediction.reason,
            prediction.warnings,
            None if severity is None else severity.infected_fraction,
            None if severity is None else severity.extent_score,
            uncertainty(prediction),
        )
