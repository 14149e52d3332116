"""For foreign_files.py: one phantom as PNG, JPEG and TIFF files of many kinds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
from PIL import Image

from cxrseg.phantom.generate import make_phantom

PHANTOM = make_phantom(2, "COVID-19", 512)


FILM = PHANTOM.image
"""(512, 512) uint8."""


RNG = np.random.default_rng(0)


Write = Callable[[Path], None]


Case = tuple[str, str, str, Write]  # kind, name, ending, writer


def deep(bits: int) -> np.ndarray:
    """The film in `bits` bits, in uint16 (uint32 above 16), with the noise that deep images have."""
    noise = RNG.random(FILM.shape)
    full = (FILM + noise) / 256 * (2.0**bits - 1)
    return np.floor(full).astype(np.uint16 if bits <= 16 else np.uint32)


def with_pixels(values: np.ndarray, value: int, count: int) -> np.ndarray:
    values = values.copy()
    values.ravel()[RNG.choice(values.size, count, replace=False)] = value
    return values


def with_marker(values: np.ndarray, value: int, side: int = 40) -> np.ndarray:
    values = values.copy()
    values[20 : 20 + side, 20 : 20 + side // 2] = value
    return values


def with_frame(values: np.ndarray, value: int, width: int = 12) -> np.ndarray:
    return np.pad(values[width:-width, width:-width], width, constant_values=value)


def png(values: np.ndarray) -> Write:
    return lambda path: Image.fromarray(values).save(path, "PNG")


def jpeg(image: np.ndarray | Image.Image, quality: int = 95, **options: object) -> Write:
    drawn = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    return lambda path: drawn.save(path, "JPEG", quality=quality, **options)


def tiff(values: np.ndarray, **options: object) -> Write:
    return lambda path: tifffile.imwrite(path, values, **options)


def raw(content: bytes) -> Write:
    return lambda path: path.write_bytes(content) and None


def ranges() -> Iterator[Case]:
    kind = "value range"
    for bits in range(9, 17):
        yield kind, f"{bits} bits in a 16-bit PNG", ".png", png(deep(bits))
    for bits in (10, 12, 14):
        yield kind, f"{bits} bits, one pixel of {2**bits}", ".png", png(with_pixels(deep(bits), 2**bits, 1))
        yield kind, f"{bits} bits, one hot pixel of 65535", ".png", png(with_pixels(deep(bits), 65535, 1))
        yield kind, f"{bits} bits, 20 hot pixels", ".png", png(with_pixels(deep(bits), 60000, 20))
        yield kind, f"{bits} bits, marker of 65535", ".png", png(with_marker(deep(bits), 65535))
    yield kind, "12 bits, marker of 32767", ".png", png(with_marker(deep(12), 32767))
    yield kind, "12 bits, marker of 4095", ".png", png(with_marker(deep(12), 4095))
    yield kind, "13 bits, marker of 65535", ".png", png(with_marker(deep(13), 65535))
    yield kind, "15 bits, marker of 65535", ".png", png(with_marker(deep(15), 65535))
    yield kind, "12 bits, white frame of 65535", ".png", png(with_frame(deep(12), 65535))
    yield kind, "8 bits in a 16-bit PNG", ".png", png(FILM.astype(np.uint16))
    yield kind, "8 bits, one pixel of 65535", ".png", png(with_pixels(FILM.astype(np.uint16), 65535, 1))
    yield kind, "8 bits times 257", ".png", png(FILM.astype(np.uint16) * 257)
    for offset in (300, 1000, 2048, 8000, 32768, 60000):
        yield kind, f"12 bits, offset {offset}", ".png", png(deep(12) + np.uint16(offset))
    yield kind, "12 bits, offset 1000, frame of 0", ".png", png(with_marker(deep(12) + np.uint16(1000), 0, 100))
    yield kind, "12 bits, offset 32768, frame of 0", ".png", png(with_marker(deep(12) + np.uint16(32768), 0, 100))
    yield kind, "12 bits shifted up by 4", ".png", png(deep(12) << 4)
    film = deep(16) / 65535
    for name, values in [
        ("float 0 to 1", film),
        ("float 0 to 1.02", film * 1.02 + 0.01),
        ("float -0.02 to 1", film * 1.02 - 0.02),
        ("float 0 to 1, one pixel of 40", with_pixels(film, 40, 1)),
        ("float 0 to 100", film * 100),
        ("float 0 to 255", film * 255),
        ("float 0 to 4095", film * 4095),
        ("float 0 to 65535", film * 65535),
        ("float 12 bits over 65535", film / 16),
        ("float -1 to 1", film * 2 - 1),
        ("float z-score", (film - film.mean()) / film.std()),
        ("float -1000 to 3000", film * 4000 - 1000),
        ("float 0 to 1e6", film * 1e6),
        ("float64 0 to 1", film.astype(np.float64)),
    ]:
        yield kind, name, ".tif", tiff(values.astype(np.float64 if name.startswith("float64") else np.float32))
    yield kind, "int16 -2048 to 2047", ".tif", tiff(deep(12).astype(np.int16) - 2048)
    yield kind, "int16 -1024 to 3071", ".tif", tiff(deep(12).astype(np.int16) - 1024)
    yield kind, "int16 -32768 to 32767", ".tif", tiff((deep(16).astype(np.int32) - 32768).astype(np.int16))
    yield kind, "int16 12 bits, padding -2000", ".tif", tiff(with_marker(deep(12).astype(np.int16), -2000, 100))
    yield kind, "int16 12 bits, padding -32768", ".tif", tiff(with_marker(deep(12).astype(np.int16), -32768, 100))


def colours() -> Iterator[Case]:
    kind = "16-bit colour"

    def gray3(values: np.ndarray) -> np.ndarray:
        return np.dstack([values] * 3)

    opaque = np.full(FILM.shape, 65535, np.uint16)
    for bits in (10, 12, 14, 16):
        yield kind, f"RGB16 PNG, {bits} bits", ".png", raw(imagecodecs.png_encode(gray3(deep(bits))))
        yield kind, f"RGB16 TIFF, {bits} bits", ".tif", tiff(gray3(deep(bits)), photometric="rgb")
    fourteen = deep(14)
    yield kind, "RGBA16 PNG, 14 bits", ".png", raw(imagecodecs.png_encode(np.dstack([fourteen] * 3 + [opaque])))
    yield kind, "gray and alpha PNG, 12 bits", ".png", raw(imagecodecs.png_encode(np.dstack([deep(12), opaque])))
    yield kind, "gray and alpha PNG, 16 bits", ".png", raw(imagecodecs.png_encode(np.dstack([deep(16), opaque])))
    planes = np.stack([fourteen] * 3)
    yield kind, "RGB16 TIFF, planes", ".tif", tiff(planes, photometric="rgb", planarconfig="separate")
    yield kind, "RGB8 TIFF, planes", ".tif", tiff(np.stack([FILM] * 3), photometric="rgb", planarconfig="separate")
    yield (
        kind,
        "RGB16 TIFF, planes, deflate",
        ".tif",
        tiff(planes, photometric="rgb", planarconfig="separate", compression="zlib"),
    )
    yield (
        kind,
        "RGBA16 TIFF",
        ".tif",
        tiff(np.dstack([fourteen] * 3 + [opaque]), photometric="rgb", extrasamples=["unassalpha"]),
    )
    yield kind, "RGB float32 TIFF", ".tif", tiff(gray3(deep(16) / 65535).astype(np.float32), photometric="rgb")
    yield kind, "RGB16 PNG, one hot pixel", ".png", raw(imagecodecs.png_encode(gray3(with_pixels(deep(12), 65535, 1))))
    inks = np.dstack([opaque * 0, opaque * 0, opaque * 0, 65535 - deep(16)])
    yield kind, "CMYK16 TIFF", ".tif", tiff(inks, photometric="separated")
    palette = np.repeat((np.arange(256) * 257)[None], 3, 0).astype(np.uint16)
    yield kind, "palette TIFF", ".tif", tiff(FILM, photometric="palette", colormap=palette)


def tiffs() -> Iterator[Case]:
    kind = "TIFF formats"
    full32 = (FILM.astype(np.uint32) << 24) + 8388608
    yield kind, "uint32, 32 bits", ".tif", tiff(full32)
    yield kind, "uint32, 16 bits", ".tif", tiff(deep(16).astype(np.uint32))
    yield kind, "uint32, 12 bits", ".tif", tiff(deep(12).astype(np.uint32))
    yield kind, "uint32, 24 bits", ".tif", tiff(deep(24))
    yield kind, "int32, 16 bits", ".tif", tiff(deep(16).astype(np.int32))
    yield kind, "uint64", ".tif", tiff(deep(16).astype(np.uint64))
    yield kind, "int64", ".tif", tiff(deep(12).astype(np.int64))
    yield kind, "int8", ".tif", tiff((FILM.astype(np.int16) - 128).astype(np.int8))
    yield kind, "float16", ".tif", tiff((deep(16) / 65535).astype(np.float16))
    yield kind, "float64", ".tif", tiff((deep(16) / 65535).astype(np.float64))
    yield kind, "complex64", ".tif", tiff((deep(16) / 65535).astype(np.complex64))
    for bits in (10, 12, 14):
        packed = imagecodecs.packints_encode(deep(bits), bits) if hasattr(imagecodecs, "packints_encode") else None
        if packed is not None:
            yield kind, f"{bits} bits packed", ".tif", tiff(deep(bits), bitspersample=bits)
    for name in ("zlib", "lzw", "packbits", "zstd", "lzma", "jpegxl", "jpeg2000", "png"):
        yield kind, f"compression {name}", ".tif", tiff(deep(16), compression=name)
    yield kind, "JPEG in TIFF, 8 bits", ".tif", tiff(FILM, compression="jpeg")
    yield kind, "JPEG in TIFF, 12 bits", ".tif", tiff(deep(12), compression="jpeg", bitspersample=12)
    yield kind, "horizontal predictor", ".tif", tiff(deep(16), compression="zlib", predictor=True)
    film = (deep(16) / 65535).astype(np.float32)
    yield kind, "float predictor", ".tif", tiff(film, compression="zlib", predictor=True)
    yield kind, "tiles", ".tif", tiff(deep(16), tile=(128, 128))
    yield kind, "big endian", ".tif", tiff(deep(16), byteorder=">")
    yield kind, "BigTIFF", ".tif", tiff(deep(16), bigtiff=True)
    yield kind, "BigTIFF, 8 bits", ".tif", tiff(FILM, bigtiff=True)
    for bits in (8, 12, 16):
        values = FILM if bits == 8 else deep(bits)
        top = values.dtype.type(255 if bits == 8 else 65535)
        yield kind, f"white is zero, {bits} bits, of the type", ".tif", tiff(top - values, photometric="miniswhite")
    yield kind, "white is zero, 12 bits, of 4095", ".tif", tiff(4095 - deep(12), photometric="miniswhite")
    yield kind, "white is zero, uint32", ".tif", tiff(2**32 - 1 - full32, photometric="miniswhite")
    yield kind, "white is zero, float", ".tif", tiff(1 - film, photometric="miniswhite")
    yield kind, "thumbnail as second page", ".tif", thumbnail()
    yield kind, "ImageJ", ".tif", tiff(deep(16), imagej=True)
    yield kind, "OME", ".ome.tif", tiff(deep(16), ome=True)
    yield kind, "two full pages", ".tif", tiff(np.stack([deep(16)] * 2))
    yield kind, "ImageJ stack of two", ".tif", tiff(np.stack([deep(16)] * 2), imagej=True)


def jpegs() -> Iterator[Case]:
    kind = "JPEG kinds"
    yield kind, "12 bits", ".jpg", raw(imagecodecs.jpeg8_encode(deep(12), bitspersample=12, level=95))
    yield (
        kind,
        "12 bits, colour",
        ".jpg",
        raw(imagecodecs.jpeg8_encode(np.dstack([deep(12)] * 3), bitspersample=12, level=95)),
    )
    yield kind, "lossless, 8 bits", ".jpg", raw(imagecodecs.jpeg8_encode(FILM, lossless=True))
    yield kind, "lossless, 12 bits", ".jpg", raw(imagecodecs.jpeg8_encode(deep(12), lossless=True, bitspersample=12))
    yield kind, "lossless, 16 bits", ".jpg", raw(imagecodecs.jpeg8_encode(deep(16), lossless=True, bitspersample=16))
    yield kind, "JPEG-LS", ".jls", raw(bytes(imagecodecs.jpegls_encode(deep(12))))
    yield kind, "JPEG 2000", ".jp2", raw(bytes(imagecodecs.jpeg2k_encode(deep(12), level=0)))
    yield kind, "progressive", ".jpg", jpeg(FILM, progressive=True)
    yield kind, "two pictures (MPO)", ".jpg", mpo
    yield kind, "CMYK", ".jpg", jpeg(Image.fromarray(FILM).convert("RGB").convert("CMYK"))


def thumbnail() -> Write:
    def write(path: Path) -> None:
        with tifffile.TiffWriter(path) as file:
            file.write(deep(16))
            file.write(deep(16)[::4, ::4], subfiletype=1)

    return write


def mpo(path: Path) -> None:
    image = Image.fromarray(FILM)
    image.save(path, "MPO", save_all=True, append_images=[image.resize((128, 128))], quality=95)
