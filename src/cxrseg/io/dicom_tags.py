"""What a DICOM data set says beside its pixels, read with tolerance; what had to be guessed becomes a warning."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Iterator

from pydicom.datadict import dictionary_description, dictionary_VR
from pydicom.dataset import Dataset

from cxrseg.errors import ImageError

__all__ = ["Tags", "identifiers", "public_tags"]

_TEXT_TAGS = {
    "anatomic_region": ("AnatomicRegionSequence", "CodeMeaning"),
    "body_part": ("BodyPartExamined",),
    "image_laterality": ("ImageLaterality",),
    "laterality": ("Laterality",),
    "modality": ("Modality",),
    "patient_orientation": ("PatientOrientation",),
    "patient_position": ("PatientPosition",),
    "photometric_interpretation": ("PhotometricInterpretation",),
    "presentation_intent": ("PresentationIntentType",),
    "view": ("ViewCodeSequence", "CodeMeaning"),
    "view_position": ("ViewPosition",),
}
_IDENTIFIERS = {
    "patient_id": "PatientID",
    "study_date": "StudyDate",
    "study_uid": "StudyInstanceUID",
    "series_uid": "SeriesInstanceUID",
    "sop_uid": "SOPInstanceUID",
}

# Codes and code meanings; anything longer or stranger is not what the attribute is for, and is dropped.
_HARMLESS = re.compile(r"[A-Za-z0-9 _/\\().-]{1,64}")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_COMMA = re.compile(r"[+-]?(?P<whole>\d*),(?P<part>\d+)([eE][+-]?\d+)?")

# Enhanced objects keep these in functional groups: in a sequence of one item, shared or of the frame.
_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
_MACROS = (
    "FrameVOILUTSequence",
    "PixelMeasuresSequence",
    "PixelValueTransformationSequence",
    "FrameAnatomySequence",
    "FramePixelDataPropertiesSequence",
    "XRayFramePixelDataPropertiesSequence",
    "XAXRFFrameCharacteristicsSequence",
    "FieldOfViewSequence",
    "PatientOrientationInFrameSequence",
)


class Tags:
    """A data set, or an item of one of its sequences, asked for values.

    Args:
        data: the data set. Attributes that it lacks are looked for in its functional groups.
        warnings: where what was malformed is noted; shared with the items.
    """

    def __init__(self, data: Dataset, warnings: list[str] | None = None) -> None:
        self.data = data
        self.warnings: list[str] = [] if warnings is None else warnings

    def warn(self, text: str) -> None:
        """Note something that a reader of the result should know, once."""
        if text not in self.warnings:
            self.warnings.append(text)

    def __contains__(self, keyword: str) -> bool:
        return keyword in self._holder(keyword)

    def stated(self, keyword: str) -> bool:
        """Whether there is an attribute, and it is not empty."""
        try:
            return self._holder(keyword).get_item(keyword).value not in (None, "", b"")
        except Exception:  # pydicom converts values when they are asked for, and raises nearly anything
            return False

    def text(self, keyword: str) -> str:
        """A short text attribute in capitals without accents, '' where it is absent, malformed or more than a code."""
        try:
            value = self._holder(keyword).get(keyword)
            parts = [value] if isinstance(value, str) else list(value) if isinstance(value, Iterable) else []
            joined = _as_written("\\".join(str(part).strip("\0 ") for part in parts))
        except Exception:  # as above
            return ""
        joined = unicodedata.normalize("NFKD", joined).encode("ascii", "ignore").decode()
        return joined.upper() if _HARMLESS.fullmatch(joined) else ""

    def numbers(self, keyword: str, *, gaps: bool = False) -> tuple[float, ...]:
        """A numeric attribute's values, () where it is absent or empty.

        A decimal comma is understood, which is a warning. What is not a finite number is a warning too, and gives ().

        Args:
            keyword: the attribute.
            gaps: where only some values are malformed, give NaN in their place.
        """
        values = self._numbers(keyword)
        if all(map(math.isfinite, values)):
            return values
        self.warn(f"{_name(keyword)} of the file is not a finite number, and was not used")
        return values if gaps and any(map(math.isfinite, values)) else ()

    def unusable(self, keyword: str) -> bool:
        """Whether an attribute has values, and none of them is a finite number."""
        values = self._numbers(keyword)
        return bool(values) and not any(map(math.isfinite, values))

    def integer(self, keyword: str) -> int | None:
        """A single whole number, None where it is absent or malformed, which is a warning."""
        values = self.numbers(keyword)
        if not values:
            return None
        if len(values) != 1 or not values[0].is_integer():
            self.warn(f"{_name(keyword)} is not a single whole number and was not used")
            return None
        return int(values[0])

    def count(self, keyword: str) -> int | None:
        """A whole number that the pixels cannot be decoded without, None where it is absent.

        Raises:
            ImageError: it is malformed.
        """
        values = self._numbers(keyword)
        if len(values) > 1 or not all(value.is_integer() for value in values):
            raise ImageError(f"has a {_name(keyword)} that is not a whole number; export it again")
        return int(values[0]) if values else None

    def item(self, keyword: str, index: int = 0) -> Tags | None:
        """One item of a sequence attribute, None where there is none."""
        try:
            found = self._holder(keyword).get(keyword)[index]
        except Exception:  # as above
            return None
        return Tags(found, self.warnings) if isinstance(found, Dataset) else None

    def raw(self, keyword: str) -> bytes | None:
        """An attribute's value where it is bytes, else None."""
        try:
            value = self._holder(keyword).get(keyword)
        except Exception:  # as above
            return None
        return value if isinstance(value, bytes) else None

    def _numbers(self, keyword: str) -> tuple[float, ...]:
        """All values, NaN where one is not a number, () where there is none."""
        return tuple(self._number(keyword, part) for part in self._parts(keyword))

    def _parts(self, keyword: str) -> list[object]:
        """The values as pydicom converts them, or as texts where it cannot."""
        holder = self._holder(keyword)
        if keyword not in holder:
            return []
        try:
            value = holder.get(keyword)
        except Exception:  # as above
            stored = holder.get_item(keyword).value
            if dictionary_VR(keyword) not in ("DS", "IS") or not isinstance(stored, bytes):
                return [None]
            value = stored.decode("ascii", "replace").split("\\")
        several = isinstance(value, Iterable) and not isinstance(value, str | bytes)
        parts = list(value) if several else [value]
        return [] if all(part is None or part == "" for part in parts) else parts

    def _number(self, keyword: str, part: object) -> float:
        if not isinstance(part, str):
            try:
                return float(part)  # type: ignore[arg-type]
            except (TypeError, ValueError, OverflowError):
                return math.nan
        text = part.strip("\0 ")
        if _NUMBER.fullmatch(text):
            return float(text)
        comma = _COMMA.fullmatch(text)
        # '2,600' may mean 2600 as well as 2.6: only where it can be nothing else is a comma a decimal one.
        if comma is None or (len(comma["part"]) == 3 and len(comma["whole"].lstrip("0")) in (1, 2, 3)):
            return math.nan
        value = float(text.replace(",", "."))
        self.warn(f"{_name(keyword)} of the file has a decimal comma; {text} was read as {value:g}")
        return value

    def _holder(self, keyword: str) -> Dataset:
        """The data set itself, or the functional group in which it keeps an attribute."""
        if keyword in self.data or not any(group in self.data for group in _GROUPS):
            return self.data
        return next((macro for macro in self._macros() if keyword in macro), self.data)

    def _macros(self) -> Iterator[Dataset]:
        for group in _GROUPS:
            try:
                items = self.data.get(group) or []
                groups = [items[0]] if len(items) else []
            except Exception:  # as above
                continue
            for one in groups:
                yield one
                for name in _MACROS:
                    if name in one and len(one[name].value):
                        yield one[name].value[0]


def _as_written(text: str) -> str:
    """A code of letters beyond ASCII, which the standard forbids: pydicom takes UTF-8 for Latin 1."""
    try:
        return text if text.isascii() else text.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return text


def _name(keyword: str) -> str:
    """An attribute's name as the standard writes it, such as 'Window Center'."""
    return str(dictionary_description(keyword))


def public_tags(tags: Tags) -> dict[str, str]:
    """The attributes that tell whether this is a frontal chest radiograph; absent ones have no entry.

    Keys: 'anatomic_region', 'body_part', 'image_laterality', 'laterality', 'modality', 'patient_orientation',
    'patient_position', 'photometric_interpretation', 'presentation_intent', 'view', 'view_position'. Values
    are codes and code meanings in capitals, at most 64 plain characters; free text, names and identifiers are
    never read.
    """
    found = {}
    for key, (*sequences, keyword) in _TEXT_TAGS.items():
        holder: Tags | None = tags
        for sequence in sequences:
            holder = holder.item(sequence) if holder is not None else None
        value = holder.text(keyword) if holder is not None else ""
        if value:
            found[key] = value
    return found


def identifiers(tags: Tags) -> dict[str, str]:
    """What tells files of one patient, study and series apart; absent ones have no entry.

    Keys: 'patient_id', 'study_date' (YYYYMMDD), 'study_uid', 'series_uid', 'sop_uid'.
    """
    found = {}
    for key, keyword in _IDENTIFIERS.items():
        try:
            value = str(tags.data.get(keyword) or "").strip("\0 ")
        except Exception:  # as above
            continue
        if value:
            found[key] = value
    return found
