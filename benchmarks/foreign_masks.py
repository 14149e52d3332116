"""For foreign_files.py: the phantom's masks, as label tools and other programs write them."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO

import imagecodecs
import numpy as np
from PIL import Image, ImageFilter

from foreign_images import FILM, PHANTOM, Case, jpeg, png, raw, tiff, with_marker

MARKED = PHANTOM.infection


LUNG = PHANTOM.lungs


def masks() -> Iterator[Case]:
    kind = "masks"
    one = MARKED.astype(np.uint8)
    classes = LUNG.astype(np.uint8) + one
    for low, high in [(0, 255), (0, 1), (0, 127), (0, 2), (1, 2), (90, 200), (0, 254), (3, 7), (0, 100)]:
        yield kind, f"{low} and {high}", ".png", png(np.where(MARKED, high, low).astype(np.uint8))
    yield kind, "0 and 65535", ".png", png(one.astype(np.uint16) * 65535)
    yield kind, "0 and 1 in 16 bits", ".png", png(one.astype(np.uint16))
    yield kind, "float 0 and 1", ".tif", tiff(one.astype(np.float32))
    yield kind, "float 0 and 0.5", ".tif", tiff(one.astype(np.float32) / 2)
    yield kind, "int32 0 and 1", ".tif", tiff(one.astype(np.int32))
    yield kind, "int8 0 and -1", ".tif", tiff(-one.astype(np.int8))
    yield kind, "1 bit", ".png", png(MARKED)
    yield kind, "1 bit, white is zero", ".tif", tiff(~MARKED, photometric="miniswhite")
    yield kind, "classes 0, 1, 2", ".png", png(classes)
    yield kind, "classes 0, 127, 255", ".png", png(classes * 127)
    yield kind, "classes 0, 1, 255 (ignored edge)", ".png", png(with_marker(one, 255))
    yield kind, "classes 0, 85, 170, 255", ".png", png(with_marker(classes * 85, 255))
    yield kind, "classes in 16 bits", ".png", png(classes.astype(np.uint16) * 1000)


def coloured_masks() -> Iterator[Case]:
    kind = "masks"
    one = MARKED.astype(np.uint8)
    colours = np.zeros((*FILM.shape, 3), np.uint8)

    def painted(mark: tuple[int, int, int], ground: tuple[int, int, int] = (0, 0, 0)) -> np.ndarray:
        return np.where(MARKED[..., None], np.array(mark), np.array(ground)).astype(np.uint8)

    for name, mark, ground in [
        ("red on black", (255, 0, 0), (0, 0, 0)),
        ("blue on black", (0, 0, 255), (0, 0, 0)),
        ("dark red on black", (128, 0, 0), (0, 0, 0)),
        ("green on gray", (0, 255, 0), (128, 128, 128)),
        ("red on white", (255, 0, 0), (255, 255, 255)),
        ("white on black", (255, 255, 255), (0, 0, 0)),
        ("yellow on blue", (255, 255, 0), (0, 0, 255)),
    ]:
        yield kind, name, ".png", png(painted(mark, ground))
    yield kind, "red on black, JPEG", ".jpg", jpeg(painted((255, 0, 0)), 80)
    yield (
        kind,
        "red on black, reduced and enlarged",
        ".png",
        lambda path: Image.fromarray(painted((255, 0, 0))).resize((256, 256)).resize((512, 512)).save(path),
    )
    colours[LUNG], colours[MARKED] = (0, 255, 0), (255, 0, 0)
    yield kind, "lungs green, infection red", ".png", png(colours)
    film = np.dstack([FILM] * 3)
    film[MARKED] = (255, 0, 0)
    yield kind, "film with red drawn on it", ".png", png(film)
    yield kind, "the film itself", ".png", png(FILM)
    for name, colour in [("white", 255), ("black", 0), ("red", (255, 0, 0)), ("gray", 90)]:
        rgba = np.zeros((*FILM.shape, 4), np.uint8)
        rgba[..., :3], rgba[..., 3] = colour, one * 255
        yield kind, f"{name} on transparent", ".png", png(rgba)
    half = np.dstack([np.full(FILM.shape, 255, np.uint8), one * 128])
    yield kind, "gray and alpha, half transparent", ".png", png(half)
    yield kind, "white on transparent black", ".png", png(np.dstack([one * 255] * 4))
    yield kind, "white on opaque black, alpha everywhere", ".png", png(np.dstack([one * 255] * 3 + [one * 0 + 255]))
    yield (
        kind,
        "white and black, frame transparent",
        ".png",
        png(np.dstack([one * 255] * 3 + [np.pad(np.full((472, 472), 255, np.uint8), 20)])),
    )
    yield kind, "alpha 0 everywhere", ".png", png(np.dstack([one * 255] * 3 + [one * 0]))
    sixteen = np.dstack([np.full(FILM.shape, 65535, np.uint16)] * 3 + [one.astype(np.uint16) * 65535])
    yield kind, "white on transparent, 16 bits", ".png", raw(imagecodecs.png_encode(sixteen))


def smoothed_masks() -> Iterator[Case]:
    kind = "masks"
    one = MARKED.astype(np.uint8)
    classes = LUNG.astype(np.uint8) + one
    for count, values in ((2, one), (3, classes)):
        image = Image.fromarray(values).convert("P")
        image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
        yield kind, f"palette of {count} colours", ".png", lambda path, image=image: image.save(path)
    for quality in (30, 60, 95):
        yield kind, f"JPEG of quality {quality}", ".jpg", jpeg(one * 255, quality)
        buffer = BytesIO()
        Image.fromarray(one * 255).save(buffer, "JPEG", quality=quality)
        yield kind, f"PNG of a JPEG of quality {quality}", ".png", png(np.asarray(Image.open(buffer)))
    for side in (64, 128, 1024):
        small = Image.fromarray(one * 255).resize((side, side), Image.Resampling.BILINEAR)
        yield (
            kind,
            f"resized from {side}",
            ".png",
            lambda path, small=small: small.resize((512, 512), Image.Resampling.BICUBIC).save(path),
        )
    soft = np.asarray(Image.fromarray(one * 255).filter(ImageFilter.GaussianBlur(6)))
    yield kind, "blurred edges", ".png", png(soft)
    yield kind, "empty", ".png", png(one * 0)
    smooth = np.asarray(Image.fromarray(one * 255).filter(ImageFilter.GaussianBlur(60)))
    yield kind, "probability map", ".png", png(smooth)
