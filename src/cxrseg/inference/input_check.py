"""Is this a frontal chest radiograph at all? Few rules, each one number between two limits, all in one table.

Rules come in three groups: what the file says of itself, the pixels, and the lungs that the model found. The limits
stand well outside of what the 932 validation images of COVID-QU-Ex show (`benchmarks/input_check.py` prints how
well), since
a radiograph refused wrongly costs more trust than a photo of a cat that is let through with a warning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from cxrseg.inference.prediction import dice_confidence
from cxrseg.io.radiograph import Radiograph
from cxrseg.metrics.lungs import find_lungs

__all__ = [
    "DOUBTFUL",
    "DOUBTFUL_GAIN",
    "RULES",
    "INVERTED",
    "Rule",
    "Verdict",
    "judge",
    "judge_lungs",
    "judge_pixels",
    "measure_lungs",
    "measure_pixels",
]

_Pixels = npt.NDArray[np.float32]

INVERTED = "black and white were exchanged, since the image looked inverted"
"""The warning that stands on a prediction whose radiograph was turned."""
DOUBTFUL = "black and white may be exchanged: the lungs were not clearer on the inverse, but the middle is dark"
"""The warning that stands where it was not turned, but might have been."""


@dataclass(frozen=True)
class Rule:
    """One number that a frontal chest radiograph keeps between two limits.

    Attributes:
        measure: the number's name, see `measure_pixels` and `measure_lungs`.
        low, high: the limits, both allowed.
        effect: 'refuse' or 'warn' where the number lies outside.
        text: what that means.
    """

    measure: str
    low: float
    high: float
    effect: Literal["refuse", "warn"]
    text: str


_ANY = float("inf")

RULES = (
    Rule("side", 64, _ANY, "refuse", "the image is too small"),
    Rule("aspect", 0.4, 2.5, "refuse", "the image is too narrow or too wide for a chest"),
    Rule("spread", 0.06, _ANY, "refuse", "the image is nearly blank"),
    Rule("levels", 24, _ANY, "refuse", "the image has too few shades of gray: a drawing, text or a mask"),
    Rule("smoothness", 0.75, _ANY, "refuse", "the image is noise"),
    Rule("white", 0.0, 0.6, "refuse", "the image is mostly white, such as a page of text"),
    Rule("round_on_black", 0.0, 0.5, "refuse", "the image shows one round object on black, such as a CT slice"),
    Rule("lung_area", 0.02, 0.65, "refuse", "what was found as lungs is too small or too large"),
    Rule("lung_row", 0.12, 0.78, "refuse", "what was found as lungs lies too high or too low"),
    Rule("lung_column", 0.25, 0.75, "refuse", "what was found as lungs lies too far to one side"),
    Rule("lung_height", 0.15, _ANY, "refuse", "what was found as lungs is too flat"),
    Rule("lung_scatter", 0.0, 0.45, "refuse", "what was found as lungs is in many pieces"),
    Rule("lung_confidence", 0.7, _ANY, "refuse", "the model is not sure of the lungs"),
    Rule("lung_alone", 0.0, 0.5, "refuse", "a single lung was found in the middle, such as in a lateral view"),
    Rule("lung_black", 0.0, 0.3, "refuse", "what was found as lungs is empty background"),
    Rule("lung_confidence", 0.78, _ANY, "warn", "the model is hardly sure of the lungs; is this a frontal view?"),
    Rule("lung_balance", 0.12, _ANY, "warn", "only one lung was found, or one is much smaller than the other"),
    Rule("lung_cut", 0.0, 0.05, "warn", "the lungs are cut by the image's border"),
)
"""Every limit of the input check. Fractions and places are of the image's height, width or area."""

_MODALITIES = frozenset({"", "CR", "DR", "DX", "OT", "RG", "SC", "XR"})
_CHEST = ("CHEST", "THORAX", "LUNG", "TORAX", "RIB", "STERNUM", "TRUNK", "WHOLE", "BODY", "PORT")
_LATERAL = frozenset({"LL", "RL", "LAT", "LATERAL", "LLD", "RLD", "LLO", "RLO"})
_SIDE = 64
INVERTED_MEDIASTINUM = 0.05
"""Where the middle of the image is less than this brighter than the places of the lungs, ..."""

INVERTED_CORNERS = 0.3
"""... and an upper corner is brighter than this, the image may be inverted, and its inverse is tried too."""

INVERTED_GAIN, INVERTED_SLOPE = 0.01, 0.1
"""The inverse is taken where the model is surer of its lungs (`dice_confidence`) by GAIN + SLOPE * mediastinum."""

DOUBTFUL_GAIN = 0.005
"""Where so small a gain would have been enough (the middle is darker by 0.05) and there was none, a warning says so."""


@dataclass(frozen=True)
class Verdict:
    """What the input check says.

    Attributes:
        reason: why the radiograph is refused, '' where it is not.
        warnings: what a reader of the result should know.
        inverse_gain: where the image may be inverted: how much surer of its lungs a model has to be on the inverse for
            that to be taken; None where it is not in doubt.
    """

    reason: str = ""
    warnings: tuple[str, ...] = ()
    inverse_gain: float | None = None

    def then(self, later: Verdict) -> Verdict:
        """Both together; the first reason stands."""
        return Verdict(self.reason or later.reason, self.warnings + later.warnings)


def judge_pixels(radiograph: Radiograph) -> Verdict:
    """Judge what the file says of itself, and the pixels.

    Args:
        radiograph: as read.
    """
    said = _judge_tags(radiograph.tags)
    measures = measure_pixels(radiograph.pixels)
    found = judge(measures)
    middle = measures["mediastinum"]
    doubtful = middle < INVERTED_MEDIASTINUM and measures["corners"] > INVERTED_CORNERS
    return Verdict(
        said.reason or found.reason,
        said.warnings + found.warnings,
        INVERTED_GAIN + INVERTED_SLOPE * middle if doubtful else None,
    )


def judge_lungs(probability: _Pixels, pixels: _Pixels, threshold: float) -> Verdict:
    """Judge the lungs that the model found.

    Args:
        probability: (H, W) float32 in [0, 1], of the lungs.
        pixels: (H, W) float32 in [0, 1], on which they were found.
        threshold: probability from which a pixel is lung.
    """
    return judge(measure_lungs(probability, pixels, threshold))


def judge(measures: Mapping[str, float]) -> Verdict:
    """Hold measures against `RULES`; rules whose measure is missing are passed over.

    A measure that refuses does not warn as well.
    """
    broken = [rule for rule in RULES if not rule.low <= measures.get(rule.measure, rule.low) <= rule.high]
    refusals = {rule.measure: _text(rule, measures[rule.measure]) for rule in broken if rule.effect == "refuse"}
    warnings = [_text(rule, measures[rule.measure]) for rule in broken if rule.measure not in refusals]
    return Verdict(next(iter(refusals.values()), ""), tuple(warnings))


def measure_pixels(pixels: _Pixels) -> dict[str, float]:
    """What the rules on pixels look at.

    Args:
        pixels: (H, W) float32 in [0, 1].

    Returns:
        'side' (of the shorter side, in pixels), 'aspect' (width / height), 'spread' (95th less 5th percentile),
        'levels' (distinct values of 8 bits), 'smoothness' (correlation of neighbours in a copy of 64 x 64), 'white'
        (fraction of pixels above 0.95), 'round_on_black' (1 for an ellipse on black that touches no border, else 0),
        'mediastinum' (how much brighter the middle is than the places of the lungs), 'corners' (mean of the two at the
        top, the brighter of them).
    """
    height, width = pixels.shape
    small = _reduced(pixels)
    middle = float(small[16:48, 28:36].mean())
    beside = float((small[16:48, 12:24].mean() + small[16:48, 40:52].mean()) / 2)
    step = max(1, min(height, width) // 256)
    return {
        "side": min(height, width),
        "aspect": width / height,
        "spread": float(np.subtract(*np.percentile(small, (95, 5)))),
        "levels": len(np.unique(np.rint(pixels[::step, ::step] * 255))),
        "smoothness": _smoothness(small),
        "white": float((small > 0.95).mean()),
        "round_on_black": _round_on_black(small),
        "mediastinum": middle - beside,
        "corners": float(max(small[:6, :6].mean(), small[:6, -6:].mean())),
    }


def measure_lungs(probability: _Pixels, pixels: _Pixels, threshold: float) -> dict[str, float]:
    """What the rules on lungs look at.

    Args:
        probability: (H, W) float32 in [0, 1], of the lungs.
        pixels: (H, W) float32 in [0, 1], on which they were found.
        threshold: probability from which a pixel is lung.

    Returns:
        'lung_area', 'lung_row' and 'lung_column' (of the centroid), 'lung_height' (of the taller lung), 'lung_scatter'
        (fraction that is not in the two largest pieces), 'lung_confidence' (see `dice_confidence`), 'lung_balance'
        (area
        of the smaller lung / of the larger), 'lung_cut' (largest fraction of a border that is lung), 'lung_alone' (1
        where one lung is found, in the middle, else 0), 'lung_black' (fraction that is black). Without any lung,
        'lung_area' alone.
    """
    step = max(1, min(pixels.shape) // 128)
    probability, pixels = probability[::step, ::step], pixels[::step, ::step]
    lungs = probability >= threshold
    if not lungs.any():
        return {"lung_area": 0.0}
    height, width = lungs.shape
    rows, columns = np.nonzero(lungs)
    left, right = find_lungs(lungs)
    areas = sorted((int(left.mask.sum()), int(right.mask.sum())))
    labels, _ = ndimage.label(lungs)
    sizes = np.sort(np.bincount(labels.ravel())[1:])
    return {
        "lung_area": float(lungs.mean()),
        "lung_row": float(rows.mean()) / height,
        "lung_column": float(columns.mean()) / width,
        "lung_height": max(left.bottom - left.top, right.bottom - right.top) / height,
        "lung_scatter": 1 - float(sizes[-2:].sum()) / float(sizes.sum()),
        "lung_confidence": dice_confidence(probability, threshold),
        "lung_balance": areas[0] / areas[1],
        "lung_cut": float(max(edge.mean() for edge in (lungs[0], lungs[-1], lungs[:, 0], lungs[:, -1]))),
        "lung_alone": float(areas[0] < 0.05 * areas[1] and abs(columns.mean() / width - 0.5) < 0.06),
        "lung_black": float((pixels[lungs] < 0.02).mean()),
    }


def _judge_tags(tags: Mapping[str, str]) -> Verdict:
    """What a DICOM file says of itself; often it says nothing, or nothing that helps."""
    modality = tags.get("modality", "")
    if modality not in _MODALITIES:
        return Verdict(f"the file says that it is of modality {modality}, no radiograph")
    views = (tags.get("view_position", ""), *tags.get("view", "").replace("-", " ").split())
    lateral = next((view for view in views if view in _LATERAL), "")
    if lateral:
        return Verdict(f"the file says that it is a lateral view ({lateral})")
    part = tags.get("body_part") or tags.get("anatomic_region", "")
    if part and not any(word in part for word in _CHEST):
        return Verdict(f"the file says that it shows another part of the body ({part})")
    return Verdict()


def _text(rule: Rule, value: float) -> str:
    bounds = f"at least {rule.low:g}" if rule.high == _ANY else f"{rule.low:g} to {rule.high:g}"
    return f"{rule.text} ({rule.measure.replace('_', ' ')} {value:.2f}, expected {bounds})"


def _reduced(pixels: _Pixels) -> _Pixels:
    image = Image.fromarray(np.ascontiguousarray(pixels, dtype=np.float32))
    small: _Pixels = np.asarray(image.resize((_SIDE, _SIDE), Image.Resampling.BOX))
    return small


def _smoothness(small: _Pixels) -> float:
    """Correlation of neighbours, 0 for noise, 1 where nothing changes."""
    pairs = ((small[1:], small[:-1]), (small[:, 1:], small[:, :-1]))
    spread = small.std()
    if spread < 1e-4:
        return 1.0
    return float(np.mean([np.corrcoef(one.ravel(), other.ravel())[0, 1] for one, other in pairs if one.std() > 0]))


def _round_on_black(small: _Pixels) -> float:
    """1 where all that is not black fills an ellipse within its box and leaves the image's border black, else 0."""
    body = small > 0.06
    border = np.concatenate([body[0], body[-1], body[:, 0], body[:, -1]])
    if border.mean() > 0.02 or not body.any():
        return 0.0
    body = ndimage.binary_fill_holes(body)
    rows, columns = np.flatnonzero(body.any(axis=1)), np.flatnonzero(body.any(axis=0))
    box = body[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    height, width = box.shape
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    ellipse = y**2 + x**2 <= 1
    return float((box == ellipse).mean() > 0.93 and min(height, width) > _SIDE / 3)
