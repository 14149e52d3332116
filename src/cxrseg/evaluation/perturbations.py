"""Ways in which one film may be stored before it is read: resampled, compressed, exposed, framed or laid otherwise.

Each way is a function of the film's pixels, and knows how a map found on the stored film is brought back onto the film
as it was, so that masks are compared pixel by pixel. Lengths are given for a film of 256 pixels and grow with the
shorter side of larger ones.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

__all__ = ["QUICK", "WAYS", "Way", "ways_named"]

_Pixels = npt.NDArray[np.float32]

_REFERENCE = 256
"""Shorter side in pixels for which lengths are given: that of COVID-QU-Ex."""

_BORDER = 20
_SHIFT = 12
_WHOLE = 0.999
"""Share of a pixel that must have come through a geometric way for it to be compared."""


def _resized(values: _Pixels, shape: tuple[int, int], how: Image.Resampling = Image.Resampling.BILINEAR) -> _Pixels:
    if values.shape == shape:
        return values
    image = Image.fromarray(np.ascontiguousarray(values, dtype=np.float32))
    return np.asarray(image.resize((shape[1], shape[0]), how))


@dataclass(frozen=True)
class Way:
    """One way of storing a film.

    Attributes:
        name: unique, such as 'jpeg-60'.
        about: what is done, in words.
        change: the (H, W) float32 pixels in [0, 1] and a generator to the pixels as stored, of any shape.
        undo: a map found on the stored film and the film's shape to the map on the film's own pixels.
        geometric: True where parts of the film may be moved or hidden; these are then left out of the comparison.
    """

    name: str
    about: str
    change: Callable[[_Pixels, np.random.Generator], _Pixels]
    undo: Callable[[_Pixels, tuple[int, int]], _Pixels] = _resized
    geometric: bool = False

    def store(self, pixels: _Pixels, film: str = "", seed: int = 0) -> _Pixels:
        """The film as stored this way, float32 in [0, 1].

        Args:
            pixels: (H, W) float32 in [0, 1].
            film: the film's name, which decides on the noise, so that a film always gets the same.
            seed: changes the noise of all films.
        """
        random = np.random.default_rng([seed, zlib.crc32(film.encode()), zlib.crc32(self.name.encode())])
        return np.clip(self.change(pixels, random), 0, 1).astype(np.float32, copy=False)

    def restore(self, map_: _Pixels, shape: tuple[int, int]) -> _Pixels:
        """Bring a map found on the stored film back onto the film's own pixels.

        Args:
            map_: float32 of the stored film's shape, such as probabilities.
            shape: (H, W) of the film.

        Returns:
            (H, W) float32.
        """
        return self.undo(map_, shape)

    def visible(self, shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
        """(H, W) bool, the film's pixels that can still be seen in the stored film.

        Args:
            shape: (H, W) of the film.
        """
        if not self.geometric:
            return np.ones(shape, dtype=bool)
        light, dark = (self.restore(self.store(np.full(shape, value, np.float32)), shape) for value in (1, 0))
        return light - dark > _WHOLE


def ways_named(names: Iterable[str]) -> tuple[Way, ...]:
    """The ways of these names out of `WAYS`.

    Raises:
        ValueError: there is no such way.
    """
    known = {way.name: way for way in WAYS}
    names = list(names)
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"expected ways out of {', '.join(known)}; got {', '.join(unknown)}")
    return tuple(known[name] for name in names)


def _scale(pixels: _Pixels) -> float:
    return float(min(pixels.shape)) / _REFERENCE


def _rescale(pixels: _Pixels, _: np.random.Generator, times: float, how: Image.Resampling) -> _Pixels:
    height, width = pixels.shape
    return _resized(pixels, (max(1, round(height * times)), max(1, round(width * times))), how)


def _blur(pixels: _Pixels, _: np.random.Generator, sigma: float) -> _Pixels:
    return ndimage.gaussian_filter(pixels, sigma * _scale(pixels), mode="nearest")


def _sharpen(pixels: _Pixels, _: np.random.Generator, sigma: float, amount: float) -> _Pixels:
    soft = ndimage.gaussian_filter(pixels, sigma * _scale(pixels), mode="nearest")
    return pixels + np.float32(amount) * (pixels - soft)


def _quantise(pixels: _Pixels, _: np.random.Generator, bits: int) -> _Pixels:
    highest = np.float32(2**bits - 1)
    rounded: _Pixels = np.rint(pixels * highest) / highest
    return rounded


def _jpeg(pixels: _Pixels, _: np.random.Generator, quality: int) -> _Pixels:
    file = io.BytesIO()
    Image.fromarray(np.rint(pixels * 255).astype(np.uint8)).save(file, "JPEG", quality=quality)
    with Image.open(file) as image:
        return np.asarray(image, dtype=np.float32) / np.float32(255)


def _noise(pixels: _Pixels, random: np.random.Generator, deviation: float) -> _Pixels:
    noise = random.standard_normal(pixels.shape, dtype=np.float32)
    return _quantise(np.clip(pixels + np.float32(deviation / 255) * noise, 0, 1), random, 8)


def _gamma(pixels: _Pixels, _: np.random.Generator, gamma: float) -> _Pixels:
    changed: _Pixels = pixels ** np.float32(gamma)
    return changed


def _window(pixels: _Pixels, _: np.random.Generator, low: float, high: float) -> _Pixels:
    return (pixels - np.float32(low)) / np.float32(high - low)


def _added(pixels: _Pixels, _: np.random.Generator, value: float) -> _Pixels:
    return np.pad(pixels, round(_BORDER * _scale(pixels)), constant_values=value)


def _cropped(map_: _Pixels, shape: tuple[int, int]) -> _Pixels:
    top, left = ((have - want) // 2 for have, want in zip(map_.shape, shape, strict=True))
    return map_[top : top + shape[0], left : left + shape[1]]


def _covered(pixels: _Pixels, _: np.random.Generator, value: float) -> _Pixels:
    side = round(_BORDER * _scale(pixels))
    return np.pad(pixels[side:-side, side:-side], side, constant_values=value)


def _turn(pixels: _Pixels, _: np.random.Generator, degrees: float) -> _Pixels:
    # Cubic, since a turned film is no blurred film.
    return ndimage.rotate(pixels, degrees, reshape=False, order=3, mode="constant", cval=0)


def _turned_back(map_: _Pixels, _: tuple[int, int], degrees: float) -> _Pixels:
    return ndimage.rotate(map_, -degrees, reshape=False, order=1, mode="constant", cval=0)


def _shift(pixels: _Pixels, _: np.random.Generator, down: int, right: int) -> _Pixels:
    moved = np.zeros_like(pixels)
    rows, columns = (round(step * _scale(pixels)) for step in (down, right))
    height, width = pixels.shape
    source = pixels[max(0, -rows) : height - max(0, rows), max(0, -columns) : width - max(0, columns)]
    moved[max(0, rows) : height + min(0, rows), max(0, columns) : width + min(0, columns)] = source
    return moved


def _shifted_back(map_: _Pixels, _: tuple[int, int], down: int, right: int) -> _Pixels:
    return _shift(map_, np.random.default_rng(0), -down, -right)


_FILTERS = {
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "bilinear": Image.Resampling.BILINEAR,
    "box": Image.Resampling.BOX,
    "nearest": Image.Resampling.NEAREST,
}


def _resampled() -> list[Way]:
    return [
        Way(f"x{times:g}-{name}", f"{times:g} times the size, {name}", partial(_rescale, times=times, how=how))
        for times in (0.5, 2, 4)
        for name, how in _FILTERS.items()
        if times < 1 or name != "box"  # enlarging with a box is enlarging with the nearest pixel
    ]


def _placed() -> list[Way]:
    ways = []
    for colour, value in (("black", 0.0), ("white", 1.0)):
        added, covered = partial(_added, value=value), partial(_covered, value=value)
        ways += [
            Way(f"border-{colour}", f"a {colour} border of 20/256 of the side around it", added, _cropped, True),
            Way(f"covered-{colour}", f"the outer 20/256 of its side {colour}", covered, geometric=True),
        ]
    for degrees in (3, -5):
        turn, back = partial(_turn, degrees=degrees), partial(_turned_back, degrees=degrees)
        ways.append(Way(f"turn{degrees:+d}", f"turned by {degrees} degrees, corners black", turn, back, True))
    for name, down, right in (("right", 0, _SHIFT), ("up", -_SHIFT, 0)):
        shift, back = partial(_shift, down=down, right=right), partial(_shifted_back, down=down, right=right)
        ways.append(Way(f"shift-{name}", f"shifted by 12/256 of the side, {name}", shift, back, True))
    return ways


WAYS: tuple[Way, ...] = (
    *_resampled(),
    *(Way(f"blur-{s:g}", f"blurred, sigma {s:g} pixels", partial(_blur, sigma=s)) for s in (0.5, 1, 2)),
    Way("sharpened", "unsharp mask, sigma 1.5 pixels, amount 1", partial(_sharpen, sigma=1.5, amount=1)),
    *(Way(f"jpeg-{q}", f"JPEG of quality {q}", partial(_jpeg, quality=q)) for q in (30, 60, 90)),
    *(Way(f"noise-{n}", f"noise of standard deviation {n} of 255", partial(_noise, deviation=n)) for n in (2, 5, 8)),
    *(Way(f"gamma-{g:g}", f"to the power of {g:g}", partial(_gamma, gamma=g)) for g in (0.7, 1.4)),
    *(Way(f"bits-{b}", f"rounded to {b} bits", partial(_quantise, bits=b)) for b in (12, 8)),
    Way("window-narrow", "0.1 to 0.9 stretched to 0 to 1, the rest cut", partial(_window, low=0.1, high=0.9)),
    Way("window-wide", "0 to 1 squeezed into 0.15 to 0.85", partial(_window, low=-0.15 / 0.7, high=0.85 / 0.7)),
    *_placed(),
)
"""Every way, in the order of the tables."""

QUICK = ways_named(
    [
        "x0.5-bicubic",
        "x2-bicubic",
        "blur-1",
        "jpeg-60",
        "noise-5",
        "sharpened",
        "gamma-0.7",
        "gamma-1.4",
        "window-narrow",
        "border-black",
        "covered-black",
        "turn+3",
    ]
)
"""A dozen of them that say most, where time is short."""
