"""Telling faults of the system, such as too little memory, from faults of a file."""

from __future__ import annotations

__all__ = ["system_fault"]


def system_fault(error: Exception) -> str:
    """What to say after a file's name of an error that does not come from its content; '' for all others.

    Decoders raise OSError for damaged content too, but only the system's own has a number.
    """
    if isinstance(error, MemoryError):
        return "does not fit into the free memory; end other programs, or use a machine with more memory"
    if isinstance(error, PermissionError):
        return "may not be read; change its permissions"
    if isinstance(error, FileNotFoundError):
        return "vanished while it was read; run the command again"
    if isinstance(error, OSError) and error.errno is not None:
        return f"could not be read ({error.strerror}); check its disk or network, and try again"
    return ""
