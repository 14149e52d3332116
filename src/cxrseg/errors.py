"""Every error that cxrseg raises on purpose.

::

    CxrsegError                 base class; the command line turns it into exit code 3
    ├── ArgumentError           an argument is wrong, whatever the files; exit code 2 (also a ValueError)
    ├── ImageError              an image is of a kind that cannot be used; reported as refused
    │   └── UnreadableImageError    a file is missing, broken, or not an image; reported as failed
    ├── DatasetError            folders, pairs or splits are not as expected (lists all faults)
    ├── RecipeError             a setting is unknown, out of range or contradicts another one
    ├── ModelFileError          a model file is missing, damaged or not suitable
    ├── TrainingError           a training run cannot start or cannot continue
    │   └── OutOfMemoryError    the batch does not fit into memory
    ├── DiskFullError           the disk is full; the message names it
    ├── DownloadError           a download failed or has a wrong checksum
    └── MissingExtraError       an optional package is not installed (names the `pip install` command)

A message says what was expected, what was found, and what to do.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = [
    "ArgumentError",
    "CxrsegError",
    "DatasetError",
    "DiskFullError",
    "DownloadError",
    "ImageError",
    "MissingExtraError",
    "ModelFileError",
    "OutOfMemoryError",
    "RecipeError",
    "TrainingError",
    "UnreadableImageError",
]


class CxrsegError(Exception):
    """Base of every error that cxrseg raises on purpose."""


class ArgumentError(CxrsegError, ValueError):
    """An argument is unknown or out of range, or arguments contradict each other, whatever the files hold."""


class ImageError(CxrsegError):
    """An image is of a kind that cannot be used, such as a CT slice or a file of several pages."""


class UnreadableImageError(ImageError):
    """A file is missing, may not be read, is broken, or is not an image."""


class DatasetError(CxrsegError):
    """A dataset is not as expected.

    Args:
        message: what was expected, and what to do.
        faults: one line for each fault; the message lists all of them.
    """

    def __init__(self, message: str, faults: Sequence[str] = ()) -> None:
        self.faults = tuple(faults)
        super().__init__("\n  - ".join([message, *self.faults]))


class RecipeError(CxrsegError):
    """A setting of a recipe is unknown, out of range or contradicts another one."""


class ModelFileError(CxrsegError):
    """A model file is missing, damaged or not suitable."""


class TrainingError(CxrsegError):
    """A training run cannot start or cannot continue."""


class OutOfMemoryError(TrainingError):
    """The batch does not fit into the memory of the device."""


class DiskFullError(CxrsegError):
    """The disk is full; the last complete file is unchanged."""


class DownloadError(CxrsegError):
    """A download failed, or its content has a wrong checksum."""


class MissingExtraError(CxrsegError, ImportError):
    """An optional package is not installed."""
