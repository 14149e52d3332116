"""Exchanging the metadata of a model file without the onnx package."""

from __future__ import annotations

from cxrseg._version import __version__
from cxrseg.errors import ModelFileError
from cxrseg.model_checksum import with_checksum
from cxrseg.model_file import METADATA_KEY, ModelInfo
from cxrseg.protobuf_fields import NotAMessageError, fields

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
    try:
        kept = [field.whole for field in fields(memoryview(model)) if field.number not in replaced]
    except NotAMessageError as error:
        raise ModelFileError(f"expected a model file, got something else: {error}; export it again") from error
    entry = _field(_KEY, METADATA_KEY.encode()) + _field(_VALUE, info.to_json().encode())
    producer = _field(_PRODUCER_NAME, b"cxrseg") + _field(_PRODUCER_VERSION, __version__.encode())
    return with_checksum(b"".join([*kept, producer, _field(_METADATA_PROPS, entry)]))


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | _BYTES) + _varint(len(content)) + content
