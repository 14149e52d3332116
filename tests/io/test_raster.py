"""Raster images, made here, read back: formats, depths, colour, orientation, refusals, damage."""

from __future__ import annotations

import os
import warnings
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from cxrseg.errors import ImageError
from cxrseg.io.masks import read_mask
from cxrseg.io.raster import RASTER_SUFFIXES, read_probability, read_raster, read_size
from cxrseg.io.settings import ReadSettings
from cxrseg.io.write import write_mask, write_probability

ROW, COLUMN = np.mgrid[:37, :50]
GRAY = ((ROW * 5 + COLUMN * 3 + ROW * COLUMN % 3) % 256).astype(np.uint8)
DEEP = (GRAY.astype(np.uint16) << 4) + 5
COLOUR = np.stack([GRAY, GRAY // 2, 255 - GRAY], axis=-1)


def encoded(image: Image.Image | np.ndarray, kind: str, **options: Any) -> bytes:
    buffer = BytesIO()
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def saved(folder: Path, content: bytes, name: str = "image") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


FILES = {
    "PNG": encoded(GRAY, "PNG"),
    "PNG 16 bits": encoded(DEEP, "PNG"),
    "PNG palette": encoded(Image.fromarray(GRAY).convert("P"), "PNG"),
    "JPEG": encoded(GRAY, "JPEG", quality=95),
    "JPEG colour, progressive": encoded(np.dstack([GRAY] * 3), "JPEG", progressive=True),
    "TIFF": encoded(DEEP, "TIFF"),
    "TIFF LZW": encoded(GRAY, "TIFF", compression="tiff_lzw"),
    "TIFF deflate": encoded(DEEP, "TIFF", compression="tiff_deflate"),
    "TIFF float": encoded((GRAY / 255).astype(np.float32), "TIFF"),
    "TIFF CMYK": encoded(Image.fromarray(np.dstack([GRAY] * 3)).convert("CMYK"), "TIFF"),
    "BMP": encoded(GRAY, "BMP"),
    "WebP": encoded(np.dstack([GRAY] * 3), "WEBP", lossless=True),
}


def refusal(path: Path) -> str:
    with pytest.raises(ImageError) as caught:
        read_raster(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", FILES)
def test_every_format_gives_the_picture(tmp_path: Path, name: str) -> None:
    path = saved(tmp_path, FILES[name])
    found = read_raster(path)
    assert found.pixels.dtype == np.float32
    # 12 bits of 16 are known by their values; the rest is within what JPEG and gray palettes lose.
    expected = DEEP / 4095 if name in ("PNG 16 bits", "TIFF", "TIFF deflate") else GRAY / 255
    loose = any(word in name for word in ("JPEG", "palette"))
    np.testing.assert_allclose(found.pixels, expected, atol=0.2 if loose else 1e-6)
    assert np.abs(found.pixels - expected).mean() < 0.05
    assert read_size(path) == found.shape == (37, 50)
    assert found.spacing_mm is None
    assert found.source == str(path)
    assert not found.tags


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    values = np.ones((9, 9), np.float32)
    values[3, 3] = np.nan
    path = saved(tmp_path, encoded(values, "TIFF"))
    assert "not finite" in refusal(path)
    with pytest.raises(ImageError, match="not finite"):
        read_mask(path)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "CMYK", "P", "LA", "1", "YCbCr", "LAB"])
def test_every_mode_becomes_gray(tmp_path: Path, mode: str) -> None:
    gray = Image.fromarray(np.where(GRAY > 127, 255, 0).astype(np.uint8))
    if mode == "LAB":
        lab = np.zeros((*GRAY.shape, 3), np.uint8)
        lab[..., 0] = np.asarray(gray)
        image = Image.frombytes("LAB", gray.size, lab.tobytes())
    else:
        image = gray.convert("RGB").convert(mode) if mode not in ("1", "LA", "P") else gray.convert(mode)
    kind = "PNG" if mode in ("RGB", "RGBA", "P", "LA", "1") else "TIFF"
    found = read_raster(saved(tmp_path, encoded(image, kind)))
    np.testing.assert_allclose(found.pixels, np.asarray(gray) / 255, atol=0.02)
    assert "to grayscale" in found.steps[-1]


def test_colour_becomes_luma(tmp_path: Path) -> None:
    found = read_raster(saved(tmp_path, encoded(COLOUR, "PNG")))
    np.testing.assert_allclose(found.pixels, COLOUR @ np.array([0.299, 0.587, 0.114]) / 255, atol=0.003)


TURNS = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: a[::-1, ::-1],
    4: np.flipud,
    5: lambda a: a.T,
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].T,
    8: np.rot90,
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("kind", "deep"),
    [("PNG", False), ("PNG", True), ("TIFF", False), ("TIFF", True), ("WEBP", False), ("JPEG", False)],
)
def test_the_orientation_is_applied(tmp_path: Path, orientation: int, kind: str, deep: bool) -> None:
    values = DEEP if deep else GRAY
    exif = Image.Exif()
    exif[274] = orientation
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
    path = saved(tmp_path, encoded(values, kind, exif=exif, **options))
    found = read_raster(path)
    expected = TURNS[orientation](values / (4095 if deep else 255))
    np.testing.assert_allclose(found.pixels, expected, atol=0.35 if kind == "JPEG" else 1e-6)
    assert read_size(path) == found.shape
    assert ("EXIF orientation applied" in found.steps) == (orientation != 1)


def test_an_orientation_that_does_not_exist_is_not_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 9
    found = read_raster(saved(tmp_path, encoded(GRAY, "PNG", exif=exif)))
    np.testing.assert_allclose(found.pixels, GRAY / 255, atol=1e-6)
    assert found.steps == ()


@pytest.mark.parametrize("deep", [False, True])
def test_a_tiff_in_which_white_is_zero(tmp_path: Path, deep: bool) -> None:
    values = (GRAY.astype(np.uint16) * 257) if deep else GRAY
    directory = ImageFileDirectory_v2()
    directory[262] = 0
    content = bytearray(encoded(values, "TIFF"))
    # Pillow writes 1 (black is zero) whatever it is told; the entry reads: tag 262, type 3, count 1, value.
    entry = (262).to_bytes(2, "little") + (3).to_bytes(2, "little") + (1).to_bytes(4, "little")
    content[content.index(entry) + 8] = 0
    found = read_raster(saved(tmp_path, bytes(content)))
    np.testing.assert_allclose(found.pixels, 1 - GRAY / 255, atol=1e-6)


def test_masks(tmp_path: Path) -> None:
    expected = GRAY > 127
    for content in (
        encoded(expected.astype(np.uint8) * 255, "PNG"),
        encoded(expected.astype(np.uint8), "PNG"),
        encoded(expected.astype(np.uint16) * 65535, "PNG"),
        encoded(np.where(expected, 200, 90).astype(np.uint8), "PNG"),
        encoded(Image.fromarray(expected), "PNG"),
        encoded(np.dstack([expected.astype(np.uint8) * 255] * 3), "PNG"),
    ):
        mask = read_mask(saved(tmp_path, content))
        assert mask.dtype == np.bool_
        np.testing.assert_array_equal(mask, expected)
    assert not read_mask(saved(tmp_path, encoded(np.zeros((5, 7), np.uint8), "PNG"))).any()


def test_what_is_no_image_is_refused(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "none.png")
    assert "not a file" in refusal(tmp_path)
    assert "is none of" in refusal(saved(tmp_path, b""))
    assert "is none of" in refusal(saved(tmp_path, b"Patient: fine"))
    assert "is a GIF file, which is not supported" in refusal(saved(tmp_path, encoded(GRAY, "GIF")))
    frames = [Image.fromarray(GRAY), Image.fromarray(GRAY[::-1].copy())]
    pages = encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:])
    assert "holds 2 pages" in refusal(saved(tmp_path, pages))
    moving = encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:])
    assert "holds 2 pages" in refusal(saved(tmp_path, moving))
    os.mkfifo(tmp_path / "pipe.png")
    assert "not a file" in refusal(tmp_path / "pipe.png")
    for name in ("x" * 300, "nul\0byte"):
        with pytest.raises(ImageError):
            read_raster(tmp_path / name)


def test_bombs_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    path = saved(tmp_path, encoded(GRAY, "PNG"))
    with pytest.raises(ImageError, match="50x37 pixels, more than 1,849; make it smaller, or raise the limit"):
        read_raster(path, ReadSettings(max_pixels=1849))
    assert read_raster(path, ReadSettings(max_pixels=1850)).shape == (37, 50)
    for size in (16_000, 60_000):
        header = bytearray(FILES["BMP"])
        header[18:26] = size.to_bytes(4, "little") * 2
        assert "make it smaller" in refusal(saved(tmp_path, bytes(header)))


@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_short_is_refused(tmp_path: Path, name: str) -> None:
    whole = FILES[name]
    expected = read_raster(saved(tmp_path, whole)).pixels
    for length in range(0, len(whole) - 1, max(1, len(whole) // 40)):
        path = saved(tmp_path, whole[:length])
        try:
            found = read_raster(path)
        except ImageError:
            continue
        # Only what comes after the last pixel may be missing.
        np.testing.assert_array_equal(found.pixels, expected)
        assert length > len(whole) - 30


def test_a_flipped_byte_in_a_png_is_noticed(tmp_path: Path) -> None:
    whole = FILES["PNG"]
    first, last = whole.index(b"IDAT") + 4, whole.index(b"IEND") - 8
    for place in range(first, last, 7):
        content = bytearray(whole)
        content[place] ^= 0x10
        refusal(saved(tmp_path, bytes(content)))  # Pillow alone returns a black image for many of these


@pytest.mark.parametrize("name", FILES)
@settings(
    max_examples=30,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    flips=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=6),
    cut=st.one_of(st.none(), st.integers(0, 3000)),
    header_only=st.booleans(),
)
def test_damage_gives_an_image_or_a_clean_refusal(
    tmp_path: Path, name: str, flips: list[tuple[int, int]], cut: int | None, header_only: bool
) -> None:
    content = bytearray(FILES[name])
    for place, value in flips:
        content[place % (120 if header_only else len(content))] = value
    path = saved(tmp_path, bytes(content[:cut]))
    for read in (read_raster, read_mask, read_size):
        try:
            found = read(path)
        except ImageError:
            continue
        if read is read_raster:
            assert found.pixels.dtype == np.float32
            assert found.pixels.ndim == 2
            assert np.isfinite(found.pixels).all()
            assert found.pixels.min() >= 0
            assert found.pixels.max() <= 1


def test_warnings_of_pillow_do_not_escape(tmp_path: Path) -> None:
    content = bytearray(FILES["TIFF"])
    content[-1] = 255
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for place in range(8, 200, 3):
            damaged = bytearray(content)
            damaged[-place] ^= 0x55
            for read in (read_raster, read_size):
                with suppress(ImageError):
                    read(saved(tmp_path, bytes(damaged)))
    assert not caught


def test_suffixes_are_lower_case_and_sorted() -> None:
    assert list(RASTER_SUFFIXES) == sorted(suffix.lower() for suffix in RASTER_SUFFIXES)


def test_a_probability_map_comes_back_as_it_was_written(tmp_path: Path) -> None:
    probability = np.linspace(0, 0.2, 80, dtype=np.float32).reshape(8, 10)  # far from 1: nothing is stretched
    write_probability(tmp_path / "map.png", probability)
    assert np.abs(read_probability(tmp_path / "map.png") - probability).max() < 1e-5
    write_mask(tmp_path / "mask.png", probability > 0.1)
    with pytest.raises(ImageError, match="expected a probability map of 16 bits"):
        read_probability(tmp_path / "mask.png")


def test_colour_is_told_from_a_tint_and_a_caption(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    gray = np.tile(np.linspace(0, 255, 128), (128, 1))
    pictures = {
        "gray": np.stack([gray] * 3, 2),
        "tinted": np.stack([gray, 0.8 * gray, 0.5 * gray], 2),
        "captioned": np.stack([gray] * 3, 2),
        "photo": random.integers(0, 255, (128, 128, 3)).astype(float),
    }
    pictures["captioned"][:8, :64] = (255, 0, 0)
    found = {}
    for name, values in pictures.items():
        Image.fromarray(values.astype(np.uint8)).save(tmp_path / f"{name}.png")
        found[name] = read_raster(tmp_path / f"{name}.png").coloured
    Image.fromarray(gray.astype(np.uint8)).save(tmp_path / "plain.png")
    assert found["gray"] == 0 == read_raster(tmp_path / "plain.png").coloured
    assert found["tinted"] < 0.01 < found["captioned"] < 0.1 and found["photo"] > 0.8
