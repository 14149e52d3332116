"""What may stand in the metadata of a model file. A file may come from anywhere, and its channels become file names."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["parse_metadata"]

_MAX_CHARACTERS = 1_000_000
_MAX_DEPTH = 32
_MAX_SIDE = 4096
_MAX_NAMES = 64


def parse_metadata(text: str) -> dict[str, Any]:
    """Read and check the metadata's JSON.

    Returns:
        The JSON object. Each field of `cxrseg.model_file.ModelInfo` that it has is of the right type and range; other
        fields are as they are.

    Raises:
        ValueError: says which field is wrong, what was expected and what was found.
    """
    if len(text) > _MAX_CHARACTERS:
        raise ValueError(f"expected at most {_MAX_CHARACTERS} characters, got {len(text)}")
    try:
        values = json.loads(text)
    except RecursionError:
        raise ValueError("its JSON is nested too deeply") from None
    if not isinstance(values, dict):
        raise ValueError(f"expected a JSON object, got {_shown(values)}")
    if _too_deep(values):
        raise ValueError(f"expected at most {_MAX_DEPTH} levels in the JSON, got more")
    missing = {"format", "name", "channels", "size", "normalisation"} - values.keys()
    if missing:
        raise ValueError(f"{', '.join(sorted(missing))} is missing")
    for field, (is_valid, expected) in _RULES.items():
        if field in values and not is_valid(values[field]):
            raise ValueError(f"expected {field} to be {expected}, got {_shown(values[field])}")
    return values


def _number(low: float, high: float) -> Callable[[Any], bool]:
    """Whether a value is a number strictly between two others."""
    return lambda value: (
        isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and low < value < high
    )


def _whole(low: int, high: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _names(pattern: str, fewest: int) -> Callable[[Any], bool]:
    """Whether a value is a list of different names."""
    return lambda value: (
        isinstance(value, list)
        and fewest <= len(value) <= _MAX_NAMES
        and all(isinstance(name, str) and re.fullmatch(pattern, name, re.ASCII) for name in value)
        and len(set(value)) == len(value)
    )


def _text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= 10_000 and (value.replace("\n", " ").isprintable())


def _is_size(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_whole(1, _MAX_SIDE), value))


def _is_normalisation(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and _number(-math.inf, math.inf)(value.get("mean"))
        and _number(0, math.inf)(value.get("std"))
    )


def _are_ranges(value: Any) -> bool:
    """Whether a value maps names to pairs of a lower and a higher number."""
    return isinstance(value, dict) and all(
        isinstance(pair, list) and len(pair) == 2 and all(map(_number(-1e6, 1e6), pair)) and pair[0] < pair[1]
        for pair in value.values()
    )


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


_FRACTION = _number(0, 1), "a number between 0 and 1"
_OBJECT = _is_object, "a JSON object"
_LABELS = _names(r"[A-Za-z0-9][\w +-]{0,31}", 0), "different short names of letters, digits, spaces, _, + and -"
_TEXT = _text, "text without control characters"

_RULES: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "format": (_whole(1, 1_000_000), "a whole number from 1"),
    "name": (
        lambda value: isinstance(value, str) and bool(re.fullmatch(r"[\w.+-]{1,100}", value)),
        "at most 100 letters, digits, . _ + and -",
    ),
    "channels": (
        _names(r"[A-Za-z]\w{0,31}", 1),
        "different short names of letters, digits and _ that begin with a letter",
    ),
    "size": (_is_size, f"a height and a width from 1 to {_MAX_SIDE}"),
    "normalisation": (_is_normalisation, "a mean and a positive std"),
    "threshold": _FRACTION,
    "opacity_threshold": _FRACTION,
    "normal_threshold": (_number(-1e-9, 1 + 1e-9), "a number from 0 to 1"),
    "covid19_threshold": (_number(-1e-9, 1 + 1e-9), "a number from 0 to 1"),
    "temperature": (_number(0, 1e6), "a number above 0"),
    "fitted_on": (lambda value: value is None or isinstance(value, dict), "a JSON object or null"),
    "int8_ranges": (_are_ranges, "a JSON object of pairs, each of a lower and a higher number"),
    "categories": _LABELS,
    "views": _LABELS,
    "view_fit": _OBJECT,
    "recipe": _OBJECT,
    "dataset": _OBJECT,
    "figures": _OBJECT,
    "licence": _TEXT,
    "version": _TEXT,
}


def _shown(value: Any) -> str:
    """A value for a message, in short and without control characters."""
    text = ascii(value) if not isinstance(value, dict) else f"an object with {len(value)} keys"
    return text if len(text) <= 80 else f"{text[:77]}..."


def _too_deep(value: Any) -> bool:
    level = [value]
    for _ in range(_MAX_DEPTH):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return True
