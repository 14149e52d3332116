"""`cxrseg.segment`: segment one image with one call."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cxrseg.errors import ImageError
from cxrseg.inference.prediction import Prediction
from cxrseg.inference.segmenter import Segmenter
from cxrseg.io.radiograph import Radiograph
from cxrseg.io.read import read_radiograph
from cxrseg.model_file import shipped_model

__all__ = ["radiograph_of", "segment"]


def segment(
    image: Path | str | Radiograph | npt.NDArray[np.generic],
    model: Path | str | Sequence[Path | str] | None = None,
    **options: Any,
) -> Prediction:
    """Find infection and lungs on one chest radiograph. Research use only, no diagnosis.

    The model stays loaded for the next call. For many files, see `cxrseg.inference.files.predict_files`.

    Args:
        image: a PNG, JPEG, TIFF, BMP, WebP or DICOM file; or (H, W) pixels with bright for dense: uint8 and uint16 over
            their whole range, or floating point in [0, 1].
        model: a model file, or several, whose probabilities are averaged; None for the weights that come with cxrseg.
        options: as for `Segmenter`: threshold, tta, precision, force, input_check, task, device.

    Returns:
        Probabilities and masks on the image's own pixels, severity, confidence; or `status` 'refused' with the reason
        and no masks, where the image looks like no frontal chest radiograph.

    Raises:
        ImageError: the file cannot be read, or the array is not as above.
        ModelFileError: a model file cannot be used.
        MissingExtraError: a GPU is asked for, and ONNX Runtime is not installed or cannot use one.
    """
    model = shipped_model() if model is None else model
    paths = [model] if isinstance(model, Path | str) else model
    stamped = tuple((str(path), _changed(Path(path))) for path in paths)
    return _loaded(stamped, tuple(sorted(options.items()))).segment(radiograph_of(image))


def radiograph_of(image: Path | str | Radiograph | npt.NDArray[np.generic]) -> Radiograph:
    """The radiograph of a file or an array; arguments and errors as for `segment`."""
    if isinstance(image, Radiograph):
        return image
    if not isinstance(image, np.ndarray):
        return read_radiograph(image)
    if image.ndim != 2 or 0 in image.shape:
        raise ImageError(
            f"expected pixels of shape (height, width), got {image.shape}; convert a colour image to grayscale first"
        )
    if image.dtype in (np.uint8, np.uint16):
        largest = 255 if image.dtype == np.uint8 else 65535
        return Radiograph(np.asarray(image, dtype=np.float32) / np.float32(largest))
    if image.dtype.kind != "f" or not (image.min() >= 0 and image.max() <= 1):
        raise ImageError(f"expected pixels of uint8, uint16 or floating point in [0, 1], got {_range(image)}")
    return Radiograph(image.astype(np.float32))


def _range(image: npt.NDArray[np.generic]) -> str:
    return f"{image.dtype} from {image.min()} to {image.max()}"


def _changed(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0


@lru_cache(maxsize=2)
def _loaded(stamped: tuple[tuple[str, int], ...], options: tuple[tuple[str, Any], ...]) -> Segmenter:
    return Segmenter([path for path, _ in stamped], **dict(options))
