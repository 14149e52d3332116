"""Decoders of imagecodecs, each imported when it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy.typing as npt

from cxrseg.loading import LOADING

__all__ = ["codec"]


def codec(name: str) -> Callable[..., npt.NDArray[Any]]:
    """A function of imagecodecs, such as 'jpeg8_decode'. Few files need one, and the import takes 0.1 s."""
    with LOADING:
        import imagecodecs

        function: Callable[..., npt.NDArray[Any]] = getattr(imagecodecs, name)  # which imports its part of imagecodecs
    return function
