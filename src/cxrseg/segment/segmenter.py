"""Radiograph to prediction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cxrseg.errors import ModelFileError
from cxrseg.io.radiograph import Radiograph
from cxrseg.model_file import ModelInfo
from cxrseg.preprocess import to_input, to_source
from cxrseg.segment.engine import Engine

__all__ = ["Prediction", "Segmenter"]

_LUNGS_THRESHOLD = 0.5


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a model finds on one radiograph. Research use only, no diagnosis.

    Attributes:
        probabilities: channel name ('infection', 'lungs') to (H, W) float32 in [0, 1], on the radiograph's pixels.
        thresholds: channel name to the probability from which a pixel is marked.
    """

    probabilities: Mapping[str, npt.NDArray[np.float32]]
    thresholds: Mapping[str, float]

    def mask(self, channel: str) -> npt.NDArray[np.bool_]:
        """(H, W) bool, the pixels of `channel` whose probability reaches its threshold."""
        return self.probabilities[channel] >= self.thresholds[channel]


class Segmenter:
    """A loaded model: load once, call many times, from many threads.

    Args:
        model: a model file.
        threshold: probability from which a pixel is infection; None takes the model file's.

    Raises:
        ModelFileError: the file cannot be used, or the threshold is not in (0, 1).
    """

    def __init__(self, model: Path | str, threshold: float | None = None) -> None:
        self.engine = Engine(model)
        infection = self.info.threshold if threshold is None else threshold
        if not 0 < infection < 1:
            raise ModelFileError(f"expected a threshold between 0 and 1, got {infection:g}")
        self.thresholds = {
            channel: infection if channel == "infection" else _LUNGS_THRESHOLD for channel in self.info.channels
        }

    @property
    def info(self) -> ModelInfo:
        """What the model file says about itself."""
        return self.engine.info

    def segment(self, radiograph: Radiograph) -> Prediction:
        """Find infection and lungs on one radiograph.

        Args:
            radiograph: of any size.

        Returns:
            Probabilities on the radiograph's own pixels.
        """
        pixels = to_input(radiograph.pixels, self.info.size)
        found = self.engine.run(pixels[None])[0]
        return Prediction(
            {channel: to_source(found[index], radiograph.shape) for index, channel in enumerate(self.info.channels)},
            self.thresholds,
        )
