"""Counts within each lung and its zones; left and right are the patient's."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cxrseg.errors import ImageError
from cxrseg.metrics.lungs import Lung
from cxrseg.metrics.segmentation import Counts

__all__ = ["REGIONS", "count_regions"]

_Mask = npt.NDArray[np.bool_]

REGIONS = tuple(f"{side}{third}" for side in ("left", "right") for third in ("", "_upper", "_middle", "_lower"))
"""Each lung, and the thirds of its height."""


def count_regions(prediction: _Mask, truth: _Mask, lungs: tuple[Lung, Lung]) -> dict[str, Counts]:
    """Count the pixels of two masks within each of `REGIONS`; a lung that was not found has no pixels.

    Args:
        prediction: (H, W) bool.
        truth: (H, W) bool.
        lungs: the patient's left and right lung, see `cxrseg.metrics.lungs.find_lungs`.

    Raises:
        ImageError: the masks differ in shape.
    """
    for mask in (prediction, lungs[0].mask):
        if mask.shape != truth.shape:
            raise ImageError(f"expected masks of the truth's shape {truth.shape}, got {mask.shape}")
    found = []
    for lung in lungs:
        inside = [mask & lung.mask for mask in (prediction & truth, prediction, truth)]
        for span in lung.spans:
            tp, marked, true = (int(np.count_nonzero(mask[span])) for mask in inside)
            pixels = int(np.count_nonzero(lung.mask[span]))
            found.append(Counts(tp, marked - tp, true - tp, pixels - marked - true + tp))
    return dict(zip(REGIONS, found, strict=True))
