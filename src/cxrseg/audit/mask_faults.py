"""Faults in the masks of an image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from cxrseg.metrics.lungs import Lung, find_lungs

__all__ = ["FAULTS", "Fault", "mask_faults"]

_Mask = npt.NDArray[np.bool_]
_Floats = npt.NDArray[np.float32]

FAULTS = {
    "value range": "the reader had to assume something about the image's values, and may be wrong",
    "unreadable": "the file cannot be read",
    "not binary": "more than two values (fraction of pixels that are neither the smallest nor the largest)",
    "empty": "nothing is marked, but the category says that there is something",
    "not empty": "infection marked in an image of a category that has none (fraction of the image)",
    "full": "nearly the whole image is marked (fraction of the image)",
    "outside the lungs": "infection outside the lung mask (fraction of the infection)",
    "cut by the border": "the lungs extend beyond the image (fraction of that border which they cover)",
    "one lung": "one of the lungs is missing or very small (its size, as a fraction of the other)",
    "mirrored": "the lung mask fits the image better when mirrored left to right (how much better)",
    "upside down": "the lung mask fits the image better when flipped top to bottom (how much better)",
    "heart on the image's left": "dextrocardia, a rotated patient, or a mirrored image (shift, fraction of the width)",
    "islands": "very small separate pieces (how many)",
}
"""Kind of fault to its meaning, and in brackets the meaning of its value."""

_FULL = 0.95
_OUTSIDE = 0.1
_BORDER = 0.08
_ONE_LUNG = 0.1
_HEART = -0.1
_ISLAND = 0.0005
_BETTER = 0.2
"""In standard deviations of the image: what the mask must gain in contrast between lungs and surroundings."""


@dataclass(frozen=True)
class Fault:
    """A fault in one mask.

    Attributes:
        name: of the sample.
        target: 'infection' or 'lungs'.
        kind: a key of `FAULTS`.
        value: see `FAULTS`; None where the kind has no value.
        detail: more in words, or ''.
    """

    name: str
    target: str
    kind: str
    value: float | None = None
    detail: str = ""


def mask_faults(
    name: str, category: str | None, pixels: _Floats, masks: Mapping[str, _Mask], values: Mapping[str, _Floats]
) -> list[Fault]:
    """Find faults in the masks of one image.

    Args:
        name: of the sample.
        category: 'COVID-19', 'Non-COVID', 'Normal' or None; tells whether an infection mask is expected.
        pixels: (H, W) float32 in [0, 1], the radiograph.
        masks: target ('infection', 'lungs') to (H, W) bool.
        values: the same masks as they are stored, (H, W) float32.
    """
    faults = [fault for target, mask in masks.items() for fault in _of_any(name, target, mask, values[target])]
    infection, lungs = masks.get("infection"), masks.get("lungs")
    if infection is not None:
        if category == "COVID-19" and not infection.any():
            faults.append(Fault(name, "infection", "empty"))
        if category in ("Non-COVID", "Normal") and infection.any():
            faults.append(Fault(name, "infection", "not empty", float(infection.mean())))
        if lungs is not None and infection.any():
            outside = np.count_nonzero(infection & ~lungs) / np.count_nonzero(infection)
            if outside > _OUTSIDE:
                faults.append(Fault(name, "infection", "outside the lungs", outside))
    if lungs is not None:
        faults += _of_lungs(name, pixels, lungs) if lungs.any() else [Fault(name, "lungs", "empty")]
    return faults


def _of_any(name: str, target: str, mask: _Mask, values: _Floats) -> Iterator[Fault]:
    between = np.count_nonzero((values > values.min()) & (values < values.max()))
    if between:
        yield Fault(name, target, "not binary", between / values.size)
    if mask.mean() >= _FULL:
        yield Fault(name, target, "full", float(mask.mean()))
    labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
    if count > 1:
        sizes = np.bincount(labels.ravel())[1:]
        tiny = sizes[sizes < _ISLAND * mask.size]
        if tiny.size:
            yield Fault(name, target, "islands", float(tiny.size), f"of {tiny.min()} to {tiny.max()} pixels")


def _of_lungs(name: str, pixels: _Floats, lungs: _Mask) -> Iterator[Fault]:
    borders = {"top": lungs[0], "bottom": lungs[-1], "image left": lungs[:, 0], "image right": lungs[:, -1]}
    cut = {side: float(border.mean()) for side, border in borders.items() if border.mean() >= _BORDER}
    if cut:
        yield Fault(name, "lungs", "cut by the border", max(cut.values()), ", ".join(cut))
    left, right = find_lungs(lungs)
    sizes = sorted(int(np.count_nonzero(lung.mask)) for lung in (left, right))
    if sizes[0] < _ONE_LUNG * sizes[1]:
        yield Fault(name, "lungs", "one lung", sizes[0] / sizes[1])
    elif (shift := _heart_shift(left, right)) is not None and shift < _HEART:
        yield Fault(name, "lungs", "heart on the image's left", -shift)
    fits = _fit(pixels, lungs)
    for kind, flipped in (("mirrored", lungs[:, ::-1]), ("upside down", lungs[::-1])):
        better = _fit(pixels, flipped) - fits
        if better > _BETTER:
            yield Fault(name, "lungs", kind, better)


def _fit(pixels: _Floats, lungs: _Mask) -> float:
    """How much brighter the surroundings of a mask are than what it covers, in standard deviations of the image."""
    margin = max(1, round(0.025 * max(lungs.shape)))
    # A box filter instead of a dilation by a square: the same pixels, and faster.
    near = ndimage.uniform_filter(lungs.astype(np.float32), 2 * margin + 1, mode="constant") > 1e-4
    around = near & ~lungs
    if not around.any():
        return 0.0
    return float((pixels[around].mean() - pixels[lungs].mean()) / (pixels.std() + 0.004))


def _heart_shift(left: Lung, right: Lung) -> float | None:
    """How far the gap between the lungs shifts to the patient's left from top to bottom, as a fraction of the width.

    None where the lungs are not side by side.
    """
    top, bottom = max(left.top, right.top), min(left.bottom, right.bottom)
    above = _gap(left, right, top + 0.15 * (bottom - top), top + 0.45 * (bottom - top))
    below = _gap(left, right, top + 0.60 * (bottom - top), top + 0.95 * (bottom - top))
    if above is None or below is None:
        return None
    return float(2 * (below - above) / left.mask.shape[1])


def _gap(left: Lung, right: Lung, start: float, stop: float) -> float | None:
    """The column in the middle of the gap between the lungs (median over the rows), or None."""
    rows = slice(int(start), int(stop))
    image_left, image_right = right.mask[rows], left.mask[rows]
    both = image_left.any(axis=1) & image_right.any(axis=1)
    if not both.any():
        return None
    ends = image_left.shape[1] - 1 - image_left[both][:, ::-1].argmax(axis=1)
    begins = image_right[both].argmax(axis=1)
    return float(np.median((ends + begins) / 2))
