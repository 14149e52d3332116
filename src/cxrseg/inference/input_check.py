"""Is this a frontal chest radiograph? Each rule is one function with its limit and its reason.

There are three groups of rules: on the file and its pixels (`check_radiograph`), on the output of the model's view head
(`check_view`), and on the lungs that the model found (`check_lungs`). The limits are wide, since it is worse to refuse
a good radiograph than to accept another picture with a warning; `benchmarks/input_check.py` counts both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from cxrseg.inference.prediction import soft_dice
from cxrseg.inference.tag_words import check_part, check_view_position
from cxrseg.io.radiograph import Radiograph
from cxrseg.metrics.lungs import find_lungs
from cxrseg.model_file import FRONTAL_VIEWS, INVERTED_VIEW

__all__ = ["INVERTED", "INVERTED_TWICE", "MIRRORED", "Verdict", "check_lungs", "check_radiograph", "check_view"]

_Pixels = npt.NDArray[np.float32]

INVERTED = "black and white were exchanged, since the image looked inverted"
"""The warning on a prediction whose radiograph was inverted before it was segmented."""

INVERTED_TWICE = "the image looks inverted, and so does its inverse"
"""The reason where exchanging black and white did not help."""

MIRRORED = "the image may be mirrored: the heart seems to lie on the patient's right"
"""The warning where left and right may be exchanged."""

_MODALITIES = frozenset({"", "CR", "DR", "DX", "OT", "RG", "SC", "XR"})
_REASONS = {
    "ct": "looks like a CT image",
    "lateral": "looks like a lateral view",
    "other-body": "does not look like a radiograph of a chest",
    "part": "shows only part of a chest, or is not a radiograph",
    "several": "looks like several films in one image; save each film as its own file",
    "turned left": "looks rotated by 90 degrees, with the head on the left; rotate the image and try again",
    "turned right": "looks rotated by 90 degrees, with the head on the right; rotate the image and try again",
    "upside down": "looks upside down; rotate the image and try again",
}
"""View to the reason for refusing it."""

_SURELY_FRONTAL, _SURELY_MIRRORED = 4.0, 4.0
"""Differences of logits. There is a warning where the frontal view is more likely than others by less than the first,
and where the mirrored view is more likely than the frontal one by more than the second."""

_SIDE = 64
_SHADES = 24


@dataclass(frozen=True)
class Verdict:
    """The result of the input check.

    Attributes:
        reason: why the radiograph is refused, '' where it is accepted.
        warnings: what a reader of the result should know.
        inverted: True where it is a frontal chest radiograph with black and white exchanged.
    """

    reason: str = ""
    warnings: tuple[str, ...] = ()
    inverted: bool = False

    def then(self, later: Verdict) -> Verdict:
        """Both verdicts combined, with the first reason."""
        return Verdict(self.reason or later.reason, self.warnings + later.warnings, self.inverted or later.inverted)


def check_radiograph(radiograph: Radiograph) -> Verdict:
    """Check the DICOM tags and the pixels.

    Args:
        radiograph: as read from the file.
    """
    pixels, tags = radiograph.pixels, radiograph.tags
    lateral, part = check_view_position(tags), check_part(tags)
    reason = _other_modality(tags) or lateral[0] or part[0] or _coloured(radiograph)
    reason = reason or _too_small(pixels) or _too_long(pixels)
    if reason:
        return Verdict(reason)
    warnings = tuple(warning for warning in (lateral[1], part[1]) if warning)
    small = np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).resize((_SIDE, _SIDE), Image.Resampling.BOX))
    return Verdict(_blank(small) or _few_shades(pixels) or _white(small) or _noise(small), warnings)


def check_view(views: Mapping[str, float]) -> Verdict:
    """Check the output of the view head.

    Args:
        views: view to its logit; empty where the model has no view head.
    """
    if not views:
        return Verdict()
    likeliest = max(views, key=lambda view: views[view])
    if likeliest == INVERTED_VIEW:
        return Verdict(inverted=True)
    frontal = max(views[view] for view in FRONTAL_VIEWS)
    others = {view: logit for view, logit in views.items() if view not in (*FRONTAL_VIEWS, INVERTED_VIEW)}
    other = max(others, key=lambda view: others[view])
    if others[other] > frontal:
        return Verdict(f"the image {_REASONS.get(other, f'looks like {other}')}")
    warnings = []
    if frontal - others[other] < _SURELY_FRONTAL:
        warnings.append("the image may not be a frontal chest radiograph")
    if views["mirrored"] - views["frontal"] > _SURELY_MIRRORED:
        warnings.append(MIRRORED)
    return Verdict(warnings=tuple(warnings))


def check_lungs(probability: _Pixels, threshold: float) -> Verdict:
    """Check the lungs that the model found.

    Args:
        probability: (H, W) float32 in [0, 1], of the lungs.
        threshold: probability from which a pixel is lung.
    """
    step = max(1, min(probability.shape) // 128)
    probability = probability[::step, ::step]
    lungs = probability >= threshold
    area, expected_dice = float(lungs.mean()), soft_dice(probability, threshold)
    if not 0.02 <= area <= 0.65:
        return Verdict(f"the lung mask is too small or too large ({area:.0%} of the image, expected 2% to 65%)")
    if expected_dice < 0.7:
        return Verdict(f"the lung mask is too uncertain (its expected Dice is {expected_dice:.3f}, below 0.7)")
    warnings = []
    if expected_dice < 0.78:
        warnings.append(f"the lung mask is uncertain (its expected Dice is {expected_dice:.3f}, below 0.78)")
    return Verdict(warnings=(*warnings, *_one_lung(lungs), *_cut(lungs)))


def _one_lung(lungs: npt.NDArray[np.bool_]) -> list[str]:
    smaller, larger = sorted(int(lung.mask.sum()) for lung in find_lungs(lungs))
    if smaller >= 0.12 * larger:
        return []
    return ["only one lung was found, or one is much smaller than the other"]


def _cut(lungs: npt.NDArray[np.bool_]) -> list[str]:
    """Lungs reach the border of many films, so only a long stretch counts: 2% of the films of Val have one."""
    fraction = max(float(edge.mean()) for edge in (lungs[0], lungs[-1], lungs[:, 0], lungs[:, -1]))
    return [] if fraction <= 0.3 else [f"the border of the image cuts the lungs ({fraction:.0%} of it is lung)"]


def _other_modality(tags: Mapping[str, str]) -> str:
    modality = tags.get("modality", "")
    return "" if modality in _MODALITIES else f"the DICOM modality is {modality}, not a radiograph"


def _coloured(radiograph: Radiograph) -> str:
    """Radiographs have no colour, but may have captions, logos or an even tint."""
    fraction = radiograph.coloured
    return "" if fraction <= 0.1 else f"the image is in colour ({fraction:.0%} of it), and radiographs are gray"


def _too_small(pixels: _Pixels) -> str:
    height, width = pixels.shape
    return "" if min(height, width) >= 64 else f"the image is too small ({width}x{height}, expected at least 64x64)"


def _too_long(pixels: _Pixels) -> str:
    height, width = pixels.shape
    if 0.4 <= width / height <= 2.5:
        return ""
    return f"the image is too narrow or too wide for a chest ({width}x{height}, expected a ratio of 0.4 to 2.5)"


def _blank(small: _Pixels) -> str:
    last = small.size - 1
    low, high = np.interp((0.05 * last, 0.95 * last), np.arange(small.size), np.sort(small, axis=None))
    spread = float(high - low)
    return "" if spread >= 0.06 else f"the image is nearly blank (range {spread:.2f}, expected at least 0.06)"


def _few_shades(pixels: _Pixels) -> str:
    step = max(1, min(pixels.shape) // 256)
    some = pixels[::step, ::step]
    if _shades(some[::16]) >= _SHADES:  # most radiographs have enough in a few rows
        return ""
    shades = _shades(some)
    if shades >= _SHADES:
        return ""
    return f"the image has too few shades of gray, such as a drawing or a mask ({shades}, expected at least {_SHADES})"


def _shades(pixels: _Pixels) -> int:
    return int(np.count_nonzero(np.bincount(np.rint(pixels * 255).astype(np.uint8).ravel())))


def _noise(small: _Pixels) -> str:
    """The correlation of neighbouring pixels is low."""
    values = small.astype(np.float64)
    correlation = (_correlation(values[1:], values[:-1]) + _correlation(values[:, 1:], values[:, :-1])) / 2
    if correlation >= 0.75:
        return ""
    return f"the image is noise (correlation of neighbours {correlation:.2f}, expected at least 0.75)"


def _correlation(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> np.float64:
    """Pearson's correlation; np.corrcoef takes ten times longer."""
    one, other = one - one.mean(), other - other.mean()
    return np.float64(np.vdot(one, other) / np.sqrt(np.vdot(one, one) * np.vdot(other, other)))


def _white(small: _Pixels) -> str:
    white = float((small > 0.95).mean())
    return (
        "" if white <= 0.6 else f"the image is mostly white, such as a page of text ({white:.0%}, expected at most 60%)"
    )
