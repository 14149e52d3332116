"""The checksum at the end of a model file."""

from __future__ import annotations

import hashlib
from pathlib import Path

from cxrseg.errors import ModelFileError

__all__ = ["checked_sha256", "ends_with_checksum", "with_checksum"]

_CHECKSUM_KEY = b"cxrseg_sha256"
_CHECKSUM_HEAD = bytes([0x72, len(_CHECKSUM_KEY) + 68, 0x0A, len(_CHECKSUM_KEY), *_CHECKSUM_KEY, 0x12, 64])
"""The last bytes of a file are one more metadata property, in protobuf's encoding: this, and the SHA-256 of all bytes
before it in hexadecimal. Files from before it was added lack it, and are not checked."""

_CHECKSUM_BYTES = len(_CHECKSUM_HEAD) + 64


def with_checksum(model: bytes) -> bytes:
    """A serialised ONNX ModelProto with the checksum of a model file at its end."""
    return model + _CHECKSUM_HEAD + hashlib.sha256(model).hexdigest().encode()


def ends_with_checksum(data: bytes) -> bool:
    """Whether the content of a model file has a checksum."""
    return data[-_CHECKSUM_BYTES:].startswith(_CHECKSUM_HEAD)


def checked_sha256(path: Path, data: bytes) -> str:
    """The SHA-256 of a file's content, after its checksum was compared."""
    body, end = memoryview(data)[:-_CHECKSUM_BYTES], data[-_CHECKSUM_BYTES:]
    digest = hashlib.sha256(body)
    if end.startswith(_CHECKSUM_HEAD) and end[len(_CHECKSUM_HEAD) :] != digest.hexdigest().encode():
        raise ModelFileError(
            f"{path} is damaged, or another program has changed it: its content does not have the checksum that it was "
            f"written with; copy, download or export it again"
        )
    digest.update(end)
    return digest.hexdigest()
