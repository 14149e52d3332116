"""What a path leads to: False, not an error, where it is too long or leads through a folder that may not be read."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["is_file", "is_folder", "is_link"]


def is_file(path: Path) -> bool:
    """`Path.is_file` without its errors."""
    return os.path.isfile(path)  # noqa: PTH113


def is_folder(path: Path) -> bool:
    """`Path.is_dir` without its errors."""
    return os.path.isdir(path)  # noqa: PTH112


def is_link(path: Path) -> bool:
    """`Path.is_symlink` without its errors."""
    return os.path.islink(path)  # noqa: PTH114
