"""Exchanging the metadata of a model file without the onnx package."""

from __future__ import annotations

from collections.abc import Iterator

from cxrseg._version import __version__
from cxrseg.errors import ModelFileError
from cxrseg.model_checksum import with_checksum
from cxrseg.model_file import METADATA_KEY, ModelInfo

__all__ = ["with_metadata"]

# Fields of ModelProto in onnx.proto, and of the StringStringEntryProto in metadata_props.
_PRODUCER_NAME, _PRODUCER_VERSION, _METADATA_PROPS = 2, 3, 14
_KEY, _VALUE = 1, 2

_BYTES = 2
"""Wire type of a field with a length: text, bytes or a message."""


def with_metadata(model: bytes, info: ModelInfo) -> bytes:
    """The same graph with other metadata.

    A message of Protocol Buffers is a sequence of fields in any order, so the graph is copied byte by byte, and never
    decoded (https://protobuf.dev/programming-guides/encoding).

    Args:
        model: the content of a model file.
        info: the new metadata.

    Raises:
        ModelFileError: the content is not a sequence of fields.
    """
    replaced = {_PRODUCER_NAME, _PRODUCER_VERSION, _METADATA_PROPS}
    kept = [model[start:end] for number, start, end in _fields(model) if number not in replaced]
    entry = _field(_KEY, METADATA_KEY.encode()) + _field(_VALUE, info.to_json().encode())
    producer = _field(_PRODUCER_NAME, b"cxrseg") + _field(_PRODUCER_VERSION, __version__.encode())
    return with_checksum(b"".join([*kept, producer, _field(_METADATA_PROPS, entry)]))


def _fields(message: bytes) -> Iterator[tuple[int, int, int]]:
    """The number of each field, with its first byte and the byte behind its last."""
    place = 0
    while place < len(message):
        start = place
        tag, place = _read_varint(message, place)
        match tag & 7:
            case 0:
                _, place = _read_varint(message, place)
            case 1:
                place += 8
            case 2:
                length, place = _read_varint(message, place)
                place += length
            case 5:
                place += 4
            case other:
                raise ModelFileError(f"expected a model file, got fields of the unknown type {other}")
        if place > len(message):
            raise ModelFileError("expected a model file, got one that ends within a field; export it again")
        yield tag >> 3, start, place


def _read_varint(message: bytes, place: int) -> tuple[int, int]:
    """A number of 7 bits a byte, the lowest first, and the byte behind it."""
    value, shift = 0, 0
    while place < len(message):
        byte = message[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return value, place
    raise ModelFileError("expected a model file, got one that ends within a number; export it again")


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | _BYTES) + _varint(len(content)) + content
