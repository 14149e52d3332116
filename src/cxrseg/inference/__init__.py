"""Radiograph to prediction, without torch. The package itself can be called: `cxrseg.segment(image, model)`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from cxrseg.inference.prediction import Prediction
    from cxrseg.io.radiograph import Radiograph

__all__: list[str] = []


class _Callable(ModuleType):
    """The users' one function bears the room's name, and Python would let whichever is imported last hide the other."""

    def __call__(
        self,
        image: Path | str | Radiograph | npt.NDArray[np.generic],
        model: Path | str | Sequence[Path | str] | None = None,
        **options: Any,
    ) -> Prediction:
        """Find infection and lungs on one chest radiograph: see `cxrseg.inference.segment.segment`."""
        from cxrseg.inference.segment import segment

        return segment(image, model, **options)


sys.modules[__name__].__class__ = _Callable
