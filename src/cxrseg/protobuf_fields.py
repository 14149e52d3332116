"""Reading the outline of a Protocol Buffers message, such as an ONNX graph, without a library or a schema.

The encoding: https://protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["Field", "NotAMessageError", "fields"]


class NotAMessageError(ValueError):
    """The bytes are not a sequence of fields."""


class Field(NamedTuple):
    """One field of a message."""

    number: int
    """Of the field, from the schema."""
    value: int | memoryview
    """A number of variable length, or the bytes of anything else."""
    whole: memoryview
    """The field as it stands in the message, with its number."""


def fields(message: memoryview) -> Iterator[Field]:
    """Each field of a message, in its order.

    Raises:
        NotAMessageError: it is not a sequence of fields; raised when the iteration comes to the fault.
    """
    place = 0
    while place < len(message):
        start = place
        tag, place = _varint(message, place)
        value: int | memoryview
        match tag & 7:
            case 0:
                value, place = _varint(message, place)
            case 1:
                value, place = _bytes(message, place, 8)
            case 2:
                length, place = _varint(message, place)
                value, place = _bytes(message, place, length)
            case 5:
                value, place = _bytes(message, place, 4)
            case other:
                raise NotAMessageError(f"it has a field of the unknown type {other}")
        yield Field(tag >> 3, value, message[start:place])


def _bytes(message: memoryview, place: int, length: int) -> tuple[memoryview, int]:
    """The bytes of a value, and the place behind them."""
    end = place + length
    if end > len(message):
        raise NotAMessageError("it ends within a field")
    return message[place:end], end


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    """A number of 7 bits a byte, the lowest first, and the place behind it."""
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(message):
            break
        byte = message[place]
        value |= (byte & 0x7F) << shift
        place += 1
        if byte < 0x80:
            return value, place
    raise NotAMessageError("it ends within a number")
