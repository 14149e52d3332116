"""Registration of two pictures, and how similar they are in detail afterwards.

The warp is affine, since datasets resize images of any shape to squares. OpenCV finds it by maximising the enhanced
correlation coefficient (Evangelidis and Psarakis, IEEE TPAMI 30, 2008), coarse to fine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

__all__ = ["Match", "local_contrast", "register", "resized", "warp_onto"]

_Floats = npt.NDArray[np.float32]

_FINE = 4.0
"""Standard deviation of the surroundings in pixels, at both resolutions."""

_ROUNDS, _SMOOTHING = 25, 3
_COARSE_LEAST = 0.65
"""Pairs with a lower similarity at half the resolution are not compared any further, such as most unrelated pairs."""

_WINDOW = 6.0
_DETAIL = 0.3
"""Least local contrast of a place that counts. All places above it count the same: weighted by contrast, the black
borders of two unrelated images would count for more than their lungs."""

_OVERLAP_LEAST = 0.4


@dataclass(frozen=True)
class Match:
    """How one picture is aligned with another.

    Attributes:
        warp: (2, 3) float32, from coordinates (x, y, as fractions of the side) of the fixed picture to those of the
            moving one.
        similarity: the median of the local correlation of local contrast, over the common area where one of the two
            shows detail. In [-1, 1]; marks, borders and text on less than half of the area do not change it much.
        overlap: fraction of the fixed picture that the moving one covers.
    """

    warp: _Floats
    similarity: float
    overlap: float


def register(fixed: npt.NDArray[np.uint8], moving: npt.NDArray[np.uint8], start: _Floats) -> Match | None:
    """Align the moving picture with the fixed one.

    Args:
        fixed, moving: (S, S) uint8.
        start: (2, 3) float32, the initial warp, as in `Match.warp`.

    Returns:
        The match, or None where no warp was found or the two clearly show different exposures.
    """
    match = None
    for pixels, least in ((len(fixed) // 2, _COARSE_LEAST), (len(fixed), -1.0)):
        one, other = (local_contrast(resized(picture, pixels), _FINE) for picture in (fixed, moving))
        warp = _refined(one, other, start if match is None else match.warp)
        match = None if warp is None else _compared(one, other, warp)
        if match is None or match.similarity < least:
            return None
    return match


def local_contrast(picture: npt.NDArray[np.generic], fine: float) -> _Floats:
    """How much each pixel is brighter or darker than its surroundings, divided by the usual difference there.

    This removes brightness and contrast, and nearly removes gamma and other smooth curves.

    Args:
        picture: (H, W), values of 0 to 255.
        fine: standard deviation of the surroundings in pixels.
    """
    values = picture.astype(np.float32)
    detail = values - cv2.GaussianBlur(values, (0, 0), fine)
    usual = np.sqrt(cv2.GaussianBlur(detail * detail, (0, 0), 2 * fine))
    return np.asarray(detail / (usual + 2), np.float32)  # two gray levels: the noise of an empty background stays small


def warp_onto(
    mask: npt.NDArray[np.bool_], warp: _Floats, shape: tuple[int, ...]
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """A mask of the moving picture, resampled onto the fixed one.

    Args:
        mask: (h, w) bool.
        warp: as in `Match.warp`.
        shape: (H, W) of the fixed picture.

    Returns:
        (H, W) bool of the mask, and (H, W) bool of the area that the moving picture covers.
    """
    height, width = shape
    # From pixel indices of the fixed picture to fractions of its side, through the warp, to those of the mask.
    to_fractions = np.array([[1 / width, 0, 0.5 / width], [0, 1 / height, 0.5 / height], [0, 0, 1]])
    to_pixels = np.array([[mask.shape[1], 0, -0.5], [0, mask.shape[0], -0.5], [0, 0, 1]])
    through = (to_pixels @ np.vstack([warp, [0, 0, 1]]) @ to_fractions)[:2]
    flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    warped, covered = (
        cv2.warpAffine(np.ascontiguousarray(one, np.uint8), through, (width, height), flags=flags)
        for one in (mask, np.ones_like(mask))
    )
    return warped > 0, covered > 0


def resized(picture: npt.NDArray[Any], side: int) -> npt.NDArray[Any]:
    """A picture (H, W), resized to a square of `side` pixels by area averaging."""
    picture = np.ascontiguousarray(picture)
    return picture if picture.shape == (side, side) else cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)


def _in_pixels(warp: _Floats, pixels: int) -> _Floats:
    """The warp for pixel indices, whose centres lie half a pixel inside."""
    linear, shift = warp[:, :2], warp[:, 2]
    offset = linear @ np.full(2, 0.5) + pixels * shift - 0.5
    return np.column_stack([linear, offset]).astype(np.float32)


def _in_fractions(warp: _Floats, pixels: int) -> _Floats:
    linear, offset = warp[:, :2], warp[:, 2]
    shift = (offset + 0.5 - linear @ np.full(2, 0.5)) / pixels
    return np.column_stack([linear, shift]).astype(np.float32)


def _refined(fixed: _Floats, moving: _Floats, warp: _Floats) -> _Floats | None:
    pixels = len(fixed)
    start = _in_pixels(warp, pixels)
    until = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, _ROUNDS, 1e-4)
    everywhere = np.ones(moving.shape, np.uint8)
    try:
        _, found = cv2.findTransformECC(fixed, moving, start, cv2.MOTION_AFFINE, until, everywhere, _SMOOTHING)
    except cv2.error:  # it raises this where it does not converge
        return None
    return _in_fractions(np.asarray(found, np.float32), pixels)


def _compared(fixed: _Floats, moving: _Floats, warp: _Floats) -> Match | None:
    pixels = len(fixed)
    flags, inside = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, _in_pixels(warp, pixels)
    warped = cv2.warpAffine(moving, inside, (pixels, pixels), flags=flags)
    covered = cv2.warpAffine(np.ones_like(moving), inside, (pixels, pixels), flags=flags) > 0.99
    if covered.mean() < _OVERLAP_LEAST:
        return None
    spread = _WINDOW * pixels / 128
    sums = [
        cv2.GaussianBlur(np.where(covered, product, 0), (0, 0), spread)
        for product in (fixed * warped, fixed * fixed, warped * warped)
    ]
    counts = covered & (np.sqrt(np.maximum(sums[1], sums[2])) > _DETAIL)
    if not counts.any():
        return None
    local = sums[0][counts] / np.maximum(np.sqrt(sums[1] * sums[2])[counts], 1e-6)
    return Match(warp, float(np.median(local)), float(covered.mean()))
