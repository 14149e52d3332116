"""Options of predicting files, and the settings that their rows depend on."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cxrseg._version import __version__
from cxrseg.inference.engine import Precision
from cxrseg.inference.segmenter import Segmenter

__all__ = ["Options", "settings_of"]


@dataclass(frozen=True)
class Options:
    """Options of predicting files: the arguments of `Segmenter`, and which files are written.

    Attributes:
        models: the model files; () for the weights that come with cxrseg.
        task: see `cxrseg.inference.segmenter.TASKS`.
        device: 'cpu', 'gpu' or 'gpu:N'.
        threshold: probability from which a pixel is infection; None takes that of the model files.
        tta: average with the prediction for the mirrored image.
        precision: 'auto' or 'float32'.
        force: warn where the input check would refuse the image.
        save_probabilities: write the probability map of the infection.
        preview: write a picture.
    """

    models: tuple[Path, ...] = ()
    task: str = "opacity"
    device: str = "cpu"
    threshold: float | None = None
    tta: bool = False
    precision: Precision = "auto"
    force: bool = False
    save_probabilities: bool = False
    preview: bool = False

    def segmenter(self, streams: int = 1) -> Segmenter:
        """Load the models; `streams` and errors as for `Segmenter`."""
        return Segmenter(
            self.models or None,
            self.threshold,
            tta=self.tta,
            precision=self.precision,
            force=self.force,
            task=self.task,
            device=self.device,
            streams=streams,
        )


def settings_of(segmenter: Segmenter, options: Options) -> dict[str, Any]:
    """All settings that a file's row depends on."""
    return {
        "cxrseg": __version__,
        "model_sha256": segmenter.mark.sha256,
        "computes_with": segmenter.engines[0].precision,
        **{key: value for key, value in asdict(options).items() if key not in ("models", "device", "precision")},
    }
