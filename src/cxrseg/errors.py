"""Every error that cxrseg raises on purpose.

::

    CxrsegError                 anything below; the command line turns it into exit code 1
    ├── ImageError              an image is of a kind that cannot be used; callers report 'refused'
    │   └── UnreadableImageError    a file is missing, broken, or not an image; callers report 'failed'
    ├── DatasetError            folders, pairs or splits are not as expected (lists every fault at once)
    ├── RecipeError             a setting is unknown, out of range or contradicts another
    ├── ModelFileError          a model file is missing, damaged or does not fit
    ├── TrainingError           a training run cannot start or go on
    │   └── OutOfMemoryError    the batch does not fit
    ├── DiskFullError           no room for a checkpoint, result or download; names the disk
    ├── DownloadError           a download failed or is not what was announced
    └── MissingExtraError       an optional part of cxrseg is not installed (says which `pip install`)

A message says what was expected, what came instead, and what to do.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = [
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


class ImageError(CxrsegError):
    """An image is of a kind that cannot be used, such as a CT slice or a file of several pages."""


class UnreadableImageError(ImageError):
    """A file is missing, may not be read, is broken, or is not an image."""


class DatasetError(CxrsegError):
    """A dataset is not as expected.

    Args:
        message: what was expected, and what to do.
        faults: one line for each file at fault; all of them are printed, so that one run shows everything.
    """

    def __init__(self, message: str, faults: Sequence[str] = ()) -> None:
        self.faults = tuple(faults)
        super().__init__("\n  - ".join([message, *self.faults]))


class RecipeError(CxrsegError):
    """A recipe's setting is unknown, out of range or contradicts another."""


class ModelFileError(CxrsegError):
    """A model file is missing, damaged or does not fit what is asked of it."""


class TrainingError(CxrsegError):
    """A training run cannot start or cannot go on."""


class OutOfMemoryError(TrainingError):
    """The batch does not fit into the memory of the device."""


class DiskFullError(CxrsegError):
    """There is no room left to write; the last complete file is untouched."""


class DownloadError(CxrsegError):
    """A download failed, or its content is not what was announced."""


class MissingExtraError(CxrsegError, ImportError):
    """An optional part of cxrseg is not installed."""
