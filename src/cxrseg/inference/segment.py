"""`cxrseg.segment`: segment one image with one call."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy.typing as npt
from PIL import Image

from cxrseg.inference.engine import Precision
from cxrseg.inference.prediction import Prediction
from cxrseg.inference.segmenter import Segmenter
from cxrseg.io.array_input import radiograph_of
from cxrseg.io.radiograph import Radiograph
from cxrseg.loading import LOADING
from cxrseg.model_file import shipped_model

__all__ = ["segment"]


def segment(  # noqa: PLR0913 - each is an argument of Segmenter or of the reader
    image: Path | str | Radiograph | Image.Image | npt.ArrayLike,
    model: Path | str | Sequence[Path | str] | None = None,
    *,
    threshold: float | None = None,
    task: str = "opacity",
    tta: bool = False,
    precision: Precision = "auto",
    input_check: bool = True,
    force: bool = False,
    device: str = "cpu",
    window: int = 0,
    value_range: tuple[float, float] | None = None,
) -> Prediction:
    """Find infection and lungs on one chest radiograph. Research use only, no diagnosis.

    The model stays loaded for the next call. For many files, see `cxrseg.inference.files.predict_files`.

    Args:
        image: a PNG, JPEG, TIFF, BMP, WebP or DICOM file; or pixels with bright for dense, as an array of (H, W) or of
            colour (H, W, 3), a list of rows, or a Pillow image. See `cxrseg.io.array_input.radiograph_of`.
        model: a model file, or several, whose probabilities are averaged; None for the weights that come with cxrseg.
        threshold, task, tta, precision, input_check, force, device: as for `Segmenter`.
        window: which view of a DICOM file that offers several, from 0.
        value_range: the values of black and of white, such as (0, 4095); None takes what the file says, or an estimate
            by the values, which the prediction's `steps` tell.

    Returns:
        Probabilities and masks on the image's own pixels, severity, expected Dice; or `status` 'refused' with the
        reason and no masks, where the image does not look like a frontal chest radiograph.

    Raises:
        ImageError: the file cannot be read, or the array is not as above.
        ModelFileError: a model file cannot be used.
        MissingExtraError: a GPU is asked for, and ONNX Runtime is not installed or cannot use one.
    """
    model = shipped_model() if model is None else model
    paths = [model] if isinstance(model, Path | str) else model
    stamped = tuple((str(path), _changed(Path(path))) for path in paths)
    options = {
        "threshold": threshold,
        "task": task,
        "tta": tta,
        "precision": precision,
        "input_check": input_check,
        "force": force,
        "device": device,
    }
    with LOADING:  # otherwise threads that begin at once each load the model
        segmenter = _loaded(stamped, tuple(sorted(options.items())))
    return segmenter.segment(radiograph_of(image, window=window, value_range=value_range))


def _changed(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0


@lru_cache(maxsize=2)
def _loaded(stamped: tuple[tuple[str, int], ...], options: tuple[tuple[str, Any], ...]) -> Segmenter:
    return Segmenter([path for path, _ in stamped], **dict(options))
