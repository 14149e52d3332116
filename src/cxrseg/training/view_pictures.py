"""Pictures for fitting a view head: films stored in different ways, and changed films that must be refused."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

__all__ = ["MADE_VIEWS", "Picture", "film_pictures", "other_pictures"]

_Pixels = npt.NDArray[np.float32]

MADE_VIEWS = ("mirrored", "turned left", "turned right", "upside down", "inverted", "several", "part")
"""The views that `film_pictures` makes from frontal films; 'turned left' has the head on the image's left."""

_SIDE = 256
"""Pictures are resized to this size before they are changed, so that a change is equal for all of them."""

_FILTERS = (
    Image.Resampling.NEAREST,
    Image.Resampling.BILINEAR,
    Image.Resampling.BICUBIC,
    Image.Resampling.BOX,
    Image.Resampling.LANCZOS,
)
_OTHER_COPIES = 6


class Picture(NamedTuple):
    """One picture to fit on.

    pixels: (256, 256) float32 in [0, 1]. view: that it shows. group: its origin; pictures of one group are held out
    together. plain: True where it was not changed.
    """

    pixels: _Pixels
    view: str
    group: str
    plain: bool


def film_pictures(films: Iterable[tuple[str, _Pixels]], random: np.random.Generator) -> Iterator[Picture]:
    """Each frontal film unchanged, stored in another way, and changed into one of `MADE_VIEWS`, in rotation.

    Args:
        films: name and (H, W) float32 in [0, 1] of each.
        random: random generator of the changes.
    """
    last = None
    for number, (name, pixels) in enumerate(films):
        film = _resized(pixels)
        yield Picture(film, "frontal", name, True)
        yield Picture(_stored(film, random), "frontal", name, False)
        view = MADE_VIEWS[number % len(MADE_VIEWS)]
        yield Picture(_made(view, _stored(film, random), film if last is None else last, random), view, name, False)
        last = film


def other_pictures(
    pictures: Iterable[tuple[str, _Pixels]], view: str, random: np.random.Generator
) -> Iterator[Picture]:
    """Each picture of another view unchanged, and some copies stored in other ways, half of them mirrored.

    Args:
        pictures: name and (H, W) float32 in [0, 1] of each.
        view: that they show.
        random: random generator of the changes.
    """
    for name, pixels in pictures:
        plain = _resized(pixels)
        yield Picture(plain, view, name, True)
        for copy in range(_OTHER_COPIES):
            stored = _stored(plain, random)
            yield Picture(stored[:, ::-1] if copy % 2 else stored, view, name, False)


def _made(view: str, film: _Pixels, other: _Pixels, random: np.random.Generator) -> _Pixels:
    """A frontal film, changed so that it shows `view`."""
    if view == "mirrored":
        return film[:, ::-1]
    if view == "inverted":
        return _inverted(film, random)
    if view == "several":
        return _several(film, other, random)
    if view == "part":
        side = int(_SIDE * random.uniform(0.25, 0.42))
        row, column = random.integers(0, _SIDE - side, 2)
        return _resized(film[row : row + side, column : column + side])
    quarters = {"turned left": 1, "upside down": 2, "turned right": 3}[view]
    turned: _Pixels = np.rot90(film if random.random() < 0.5 else film[:, ::-1], quarters)
    return turned


def _inverted(film: _Pixels, random: np.random.Generator) -> _Pixels:
    """Black and white exchanged; in half of the cases with a black border, as in collimated films."""
    inverse = 1 - film
    if random.random() < 0.5:
        top, bottom, left, right = random.integers(2, 40, 4)
        inside = np.zeros_like(inverse)
        inside[top : _SIDE - bottom, left : _SIDE - right] = 1
        inverse = inverse * inside
    return inverse


def _several(film: _Pixels, other: _Pixels, random: np.random.Generator) -> _Pixels:
    """Two films side by side or one above the other, or four, with or without a strip between them."""
    strip = np.full((_SIDE, int(random.integers(0, 16))), random.random() < 0.3, np.float32)
    kind = random.random()
    if kind < 0.65:
        return _resized(np.concatenate([film, strip, other], 1))
    if kind < 0.85:
        return _resized(np.concatenate([film, strip.T, other], 0))
    return _resized(np.block([[film, other], [other[:, ::-1], film]]))


def _stored(pixels: _Pixels, random: np.random.Generator) -> _Pixels:
    """The same picture with random changes: size, blur, exposure, noise, border, JPEG, a small rotation."""
    for chance, change in (
        (0.4, _resampled),
        (0.25, _blurred),
        (0.2, _sharpened),
        (0.6, _exposed),
        (0.3, _noisy),
        (0.3, _tilted),
        (0.25, _bordered),
        (0.3, _as_jpeg),
    ):
        if random.random() < chance:
            pixels = np.clip(change(pixels, random), 0, 1).astype(np.float32)
    return pixels


def _resampled(pixels: _Pixels, random: np.random.Generator) -> _Pixels:
    side = int(_SIDE * random.uniform(0.3, 1.0))
    small = _resized(pixels, (side, side), _FILTERS[random.integers(len(_FILTERS))])
    return _resized(small, how=_FILTERS[1 + random.integers(2)])


def _blurred(pixels: _Pixels, random: np.random.Generator) -> _Pixels:
    blurred: _Pixels = ndimage.gaussian_filter(pixels, random.uniform(0.3, 1.8))
    return blurred


def _sharpened(pixels: _Pixels, random: np.random.Generator) -> _Pixels:
    sharp: _Pixels = pixels + random.uniform(0.3, 1.5) * (pixels - ndimage.gaussian_filter(pixels, 1.5))
    return sharp


def _exposed(pixels: _Pixels, random: np.random.Generator) -> _Pixels:
    """Another gamma, and another window: darker or brighter, flatter or with burnt-out ends."""
    low, high = random.uniform(-0.15, 0.15), random.uniform(0.7, 1.3)
    exposed: _Pixels = (pixels ** np.exp(random.uniform(-0.5, 0.5)) - low) / (high - low)
    return exposed


def _noisy(pixels: _Pixels, random: np.random.Generator) -> _Pixels:
    noisy: _Pixels = pixels + random.uniform(0.005, 0.05) * random.standard_normal(pixels.shape).astype(np.float32)
    return noisy


def _tilted(pixels: _Pixels, random: np.random.Generator) -> _Pixels:
    fill: Literal["constant", "nearest"] = "constant" if random.random() < 0.5 else "nearest"
    tilted: _Pixels = ndimage.rotate(pixels, random.uniform(-10, 10), reshape=False, order=1, mode=fill)
    return tilted


def _bordered(pixels: _Pixels, random: np.random.Generator) -> _Pixels:
    """Within a border, black or white, of up to a third of the picture on each side."""
    top, bottom, left, right = random.integers(0, _SIDE // 3, 4)
    frame = np.full((_SIDE, _SIDE), random.random() < 0.25, np.float32)
    frame[top : _SIDE - bottom, left : _SIDE - right] = _resized(pixels, (_SIDE - top - bottom, _SIDE - left - right))
    return frame


def _as_jpeg(pixels: _Pixels, random: np.random.Generator) -> _Pixels:
    file = io.BytesIO()
    Image.fromarray(np.rint(pixels * 255).astype(np.uint8)).save(file, "JPEG", quality=int(random.integers(20, 95)))
    return np.asarray(Image.open(file), dtype=np.float32) / np.float32(255)


def _resized(
    pixels: _Pixels, shape: tuple[int, int] = (_SIDE, _SIDE), how: Image.Resampling = Image.Resampling.BILINEAR
) -> _Pixels:
    if pixels.shape == shape:
        return pixels
    image = Image.fromarray(np.ascontiguousarray(pixels, dtype=np.float32))
    resized: _Pixels = np.clip(np.asarray(image.resize(shape[::-1], how)), 0, 1)
    return resized
