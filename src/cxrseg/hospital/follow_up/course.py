"""The films of one patient in order, and the changes between them that are larger than the noise."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from cxrseg.errors import CxrsegError
from cxrseg.hospital.follow_up.films import Film
from cxrseg.hospital.follow_up.repeatability import band, deviations
from cxrseg.inference.prediction import Prediction
from cxrseg.inference.segmenter import Segmenter
from cxrseg.io.radiograph import Radiograph
from cxrseg.io.read import read_radiograph

__all__ = ["Course", "Measured", "follow"]


@dataclass(frozen=True, eq=False)
class Measured:
    """One film and what was measured on it.

    Attributes:
        film: which.
        radiograph: its pixels.
        prediction: what was found.
        deviations: each measure's standard deviation over variants of the film, see
            `cxrseg.hospital.follow_up.repeatability`.
    """

    film: Film
    radiograph: Radiograph
    prediction: Prediction
    deviations: dict[str, float]

    def value(self, measure: str) -> float | None:
        """A measure, None where it is not known."""
        severity = self.prediction.severity
        return None if severity is None else getattr(severity, measure)

    def margin(self, measure: str) -> float:
        """Half the width of the band around this film's own value: noise of one film, not of a difference."""
        return band(measure, self.deviations[measure], self.deviations[measure]) / 2**0.5

    def saturation(self, measure: str) -> str:
        """'top' or 'bottom' where a further change that exceeds the noise would leave [0, 1]; '' elsewhere."""
        value = self.value(measure)
        if value is None:
            return ""
        width = band(measure, self.deviations[measure], self.deviations[measure])
        return "top" if value + width > 1 else "bottom" if value - width < 0 else ""


@dataclass(frozen=True, eq=False)
class Course:
    """The films of one patient, by time; those that could not be used, with the reason."""

    patient: str
    films: Sequence[Measured]
    refused: Sequence[tuple[Film, str]] = field(default_factory=tuple)

    def change(self, measure: str, number: int, since: int) -> dict[str, Any]:
        """How a measure has changed from film `since` to film `number`.

        Returns:
            'difference', 'band' (both None where a value is not known), and 'verdict': 'rise', 'fall', 'within noise'
            or 'not known'.
        """
        first, second = self.films[since], self.films[number]
        before, after = first.value(measure), second.value(measure)
        if before is None or after is None:
            return {"difference": None, "band": None, "verdict": "not known"}
        width = band(measure, first.deviations[measure], second.deviations[measure])
        difference = after - before
        verdict = "within noise" if abs(difference) <= width else "rise" if difference > 0 else "fall"
        return {"difference": difference, "band": width, "verdict": verdict}


def follow(
    films: Sequence[Film], segmenter: Segmenter, on_film: Callable[[Film, str], None] | None = None
) -> Iterator[Course]:
    """Measure films, patient by patient, so that only one patient's pixels are in memory.

    Args:
        films: by patient and time, see `cxrseg.hospital.follow_up.films.read_films`.
        segmenter: measures them; what it refuses (a lateral, say) takes no part in the course.
        on_film: called after each film with '' or the reason why it takes no part.
    """
    for patient, own in groupby(films, key=lambda film: film.patient):
        measured: list[Measured] = []
        refused: list[tuple[Film, str]] = []
        for film in own:
            found = _measure(film, segmenter)
            if isinstance(found, Measured):
                measured.append(found)
            else:
                refused.append((film, found))
            if on_film is not None:
                on_film(film, "" if isinstance(found, Measured) else found)
        yield Course(patient, measured, refused)


def _measure(film: Film, segmenter: Segmenter) -> Measured | str:
    """A film's measures, or why there are none."""
    try:
        radiograph = read_radiograph(film.path)
        prediction = segmenter.segment(radiograph)
    except CxrsegError as error:
        return str(error).replace(str(film.path), "the file")
    if prediction.status == "refused":
        return prediction.reason
    if prediction.severity is None or prediction.severity.infected_fraction is None:
        return "no lungs were found"
    return Measured(film, radiograph, prediction, deviations(segmenter, radiograph, prediction.severity))
