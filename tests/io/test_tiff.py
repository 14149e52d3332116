"""Sample formats of TIFF and kinds of JPEG and PNG that Pillow does not read, or reads wrongly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from cxrseg.errors import ImageError, UnreadableImageError
from cxrseg.io import raster
from cxrseg.io.raster import read_raster, read_size, to_gray
from cxrseg.io.settings import ReadSettings
from cxrseg.phantom.generate import make_phantom

FILM = make_phantom(2, "COVID-19", (160, 128)).image
UNIT = FILM / 255
SIXTEEN = FILM.astype(np.uint16) * 257
TWELVE = FILM.astype(np.uint16) * 16 + 8
OPAQUE = np.full(FILM.shape, 65535, np.uint16)
THREE = np.dstack([SIXTEEN] * 3)
PLANES = {"photometric": "rgb", "planarconfig": "separate"}

TIFFS: dict[str, tuple[np.ndarray, dict[str, Any]]] = {
    "uint32 of 32 bits": (FILM.astype(np.uint32) * 16843009, {}),
    "uint32 of 16 bits": (SIXTEEN.astype(np.uint32), {}),
    "uint64": (SIXTEEN.astype(np.uint64), {}),
    "int32": (SIXTEEN.astype(np.int32), {}),
    "int8": ((FILM.astype(np.int16) - 128).astype(np.int8), {}),
    "float16": (UNIT.astype(np.float16), {}),
    "float64": (UNIT, {}),
    "12 bits packed": (TWELVE, {"bitspersample": 12}),
    "JPEG of 12 bits": (TWELVE, {"bitspersample": 12, "compression": "jpeg"}),
    "RGB of 16 bits": (THREE, {"photometric": "rgb"}),
    "RGB of 12 bits in 16": (np.dstack([TWELVE] * 3), {"photometric": "rgb"}),
    "RGB of 16 bits in planes": (np.stack([SIXTEEN] * 3), PLANES),
    "RGB of 8 bits in planes": (np.stack([FILM] * 3), PLANES),
    "RGBA of 16 bits": (np.dstack([THREE, OPAQUE]), {"photometric": "rgb", "extrasamples": ["unassalpha"]}),
    "RGB of floats": ((THREE / 65535).astype(np.float32), {"photometric": "rgb"}),
    "CMYK of 16 bits": (np.dstack([OPAQUE * 0] * 3 + [65535 - SIXTEEN]), {"photometric": "separated"}),
    "white is zero, 16 bits": (65535 - SIXTEEN, {"photometric": "miniswhite"}),
    "white is zero, 12 bits": (4095 - TWELVE, {"photometric": "miniswhite"}),
    "white is zero, floats": ((1 - UNIT).astype(np.float32), {"photometric": "miniswhite"}),
    "white is zero, 32 bits": (2**32 - 1 - FILM.astype(np.uint32) * 16843009, {"photometric": "miniswhite"}),
    "big endian": (SIXTEEN, {"byteorder": ">"}),
    "BigTIFF": (FILM, {"bigtiff": True}),
    "tiles": (SIXTEEN, {"tile": (64, 64), "compression": "zlib", "predictor": True}),
    "zstd": (SIXTEEN, {"compression": "zstd"}),
}


def written(folder: Path, content: bytes | np.ndarray, name: str = "image.tif", **options: Any) -> Path:
    path = folder / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        tifffile.imwrite(path, content, **options)
    return path


@pytest.mark.parametrize("name", TIFFS)
def test_every_sample_format_gives_the_film(tmp_path: Path, name: str) -> None:
    values, options = TIFFS[name]
    path = written(tmp_path, values, **options)
    found = read_raster(path)
    assert np.abs(found.pixels - UNIT).mean() < 0.01
    assert read_size(path) == found.shape == FILM.shape
    assert not found.warnings


@pytest.mark.parametrize(
    ("values", "options", "kind"),
    [
        (UNIT.astype(np.complex64), {}, "complex64 gray"),
        (
            np.dstack([SIXTEEN] * 5),
            {"planarconfig": "contig", "photometric": "minisblack"},
            "uint16 gray with 5 samples",
        ),
        (THREE, {"photometric": "cielab"}, "uint16 CIE Lab with 3 samples"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(
    tmp_path: Path, values: np.ndarray, options: dict[str, Any], kind: str
) -> None:
    path = written(tmp_path, values, **options)
    with pytest.raises(ImageError, match=f"is a TIFF of {kind}.*not supported; save it as") as caught:
        read_raster(path)
    assert not isinstance(caught.value, UnreadableImageError)


def test_pages(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as file:
        file.write(SIXTEEN)
        file.write(SIXTEEN[::4, ::4], subfiletype=1)  # a thumbnail
    assert read_raster(path).shape == read_size(path) == FILM.shape
    for options in ({}, {"imagej": True}):
        with pytest.raises(ImageError, match="holds 2 pages"):
            read_raster(written(tmp_path, np.stack([SIXTEEN] * 2), photometric="minisblack", **options))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_of_deep_files(tmp_path: Path, orientation: int) -> None:
    expected = Image.fromarray(SIXTEEN)
    turns = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}  # Pillow's transpositions
    if orientation > 1:
        expected = expected.transpose(Image.Transpose(turns[orientation]))
    path = written(tmp_path, SIXTEEN.astype(np.uint32), extratags=[(274, 3, 1, orientation, True)])
    found = read_raster(path)
    np.testing.assert_allclose(found.pixels, np.asarray(expected) / 65535, atol=1e-6)
    assert read_size(path) == found.shape


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_deep_file_cut_short_is_unreadable(tmp_path: Path, compression: str | None) -> None:
    whole = written(tmp_path, TWELVE.astype(np.uint32), compression=compression, rowsperstrip=20).read_bytes()
    for length in range(0, len(whole) - 1, len(whole) // 30):
        with pytest.raises(UnreadableImageError):
            read_raster(written(tmp_path, whole[:length]))


def test_the_file_states_its_bits(tmp_path: Path) -> None:
    dark = TWELVE // 8
    path = written(tmp_path, dark, extratags=[(281, 3, 1, 4095, True)])
    found = read_raster(path)
    np.testing.assert_allclose(found.pixels, dark / 4095, atol=1e-6)
    assert found.steps == ("12 bits used, as the file says",)


@pytest.mark.parametrize(
    ("values", "options"),
    [
        (TWELVE, {"bitspersample": 12, "level": 98}),
        (np.dstack([TWELVE] * 3), {"bitspersample": 12, "level": 98}),
        (FILM, {"lossless": True}),
        (TWELVE, {"lossless": True, "bitspersample": 12}),
        (SIXTEEN, {"lossless": True, "bitspersample": 16}),
    ],
)
def test_jpeg_of_many_bits_and_lossless(tmp_path: Path, values: np.ndarray, options: dict[str, Any]) -> None:
    content = bytes(imagecodecs.jpeg8_encode(values, **options))
    path = written(tmp_path, content, "image.jpg")
    found = read_raster(path)
    assert np.abs(found.pixels - UNIT).mean() < 0.02
    assert read_size(path) == FILM.shape
    with pytest.raises(UnreadableImageError):
        read_raster(written(tmp_path, content[: len(content) // 2], "cut.jpg"))


@pytest.mark.parametrize("values", [SIXTEEN, TWELVE])
def test_png_of_sixteen_bits_in_colour(tmp_path: Path, values: np.ndarray) -> None:
    for channels in ([values] * 3, [values] * 3 + [OPAQUE], [values, OPAQUE]):
        content = imagecodecs.png_encode(np.dstack(channels))
        found = read_raster(written(tmp_path, content, "image.png"))
        np.testing.assert_allclose(found.pixels, values / (4095 if values is TWELVE else 65535), atol=1e-6)
        broken = bytearray(content)
        broken[len(content) // 2] ^= 0x55
        with pytest.raises(UnreadableImageError):
            read_raster(written(tmp_path, bytes(broken), "broken.png"))


def test_the_first_picture_of_a_phones_jpeg(tmp_path: Path) -> None:
    image = Image.fromarray(FILM)
    image.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[image.resize((32, 32))], quality=95)
    assert read_raster(tmp_path / "a.jpg").shape == FILM.shape


def test_large_images_are_reduced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, SIXTEEN)
    monkeypatch.setattr("cxrseg.io.settings.WHOLE_PIXELS", FILM.size // 5)
    monkeypatch.setattr("cxrseg.io.raster._STRIP", 500)
    found = read_raster(path)
    assert (found.reduced_by, found.shape, found.file_shape) == (3, (54, 43), FILM.shape)
    np.testing.assert_allclose(found.pixels[0, 0], UNIT[:3, :3].mean(), atol=1e-5)
    np.testing.assert_allclose(found.pixels[-1, -1], UNIT[159:, 126:].mean(), atol=1e-5)
    assert "reduced by 3 in each direction" in found.steps
    assert found.to_file(found.pixels > 0.5).shape == FILM.shape


@pytest.mark.parametrize(
    ("start", "name"),
    [(b"%PDF-1.7", "PDF"), (b"\0\0\0\x0cjP  \r\n", "JPEG 2000"), (b"\0\0\0\x18ftypheic", "HEIC"), (b"GIF89a", "GIF")],
)
def test_other_kinds_are_refused_by_name(tmp_path: Path, start: bytes, name: str) -> None:
    with pytest.raises(ImageError, match=f"is a {name}.* file, which is not supported"):
        read_raster(written(tmp_path, start + bytes(600), "image.png"))


@pytest.mark.parametrize("circle", ["itself", "the first of two"])
def test_pages_that_lead_in_a_circle_are_refused(tmp_path: Path, circle: str) -> None:
    path = tmp_path / "image.tif"
    with tifffile.TiffWriter(path) as writer:
        for _ in range(1 if circle == "itself" else 2):
            writer.write(SIXTEEN, contiguous=False)
    with tifffile.TiffFile(path) as opened:
        places = [page.offset for page in opened.pages]
    content = bytearray(path.read_bytes())
    end = places[-1] + 2 + 12 * int.from_bytes(content[places[-1] : places[-1] + 2], "little")
    assert content[end : end + 4] == bytes(4)  # there is no next page
    content[end : end + 4] = places[0].to_bytes(4, "little")
    path.write_bytes(content)
    for read in (read_raster, read_size):
        with pytest.raises(UnreadableImageError, match="list of pages has no end"):
            read(path)


def test_deep_colour_of_too_many_values_is_not_decoded(tmp_path: Path) -> None:
    path = written(tmp_path, imagecodecs.png_encode(THREE), "image.png")
    most = THREE.size
    assert read_raster(path, ReadSettings(max_pixels=most)).shape == FILM.shape
    with pytest.raises(ImageError, match=r"3 values of 16 bits, too many"):
        read_raster(path, ReadSettings(max_pixels=most - 1))


def test_deep_colour_becomes_gray_strip_by_strip(monkeypatch: pytest.MonkeyPatch) -> None:
    coloured = np.dstack([SIXTEEN, SIXTEEN[::-1], SIXTEEN[:, ::-1]])
    whole = to_gray(coloured)
    monkeypatch.setattr(raster, "_STRIP", 1000)
    assert np.array_equal(to_gray(coloured), whole)
    expected = coloured @ np.array([0.299, 0.587, 0.114])
    assert np.abs(whole - expected).max() <= 0.5 + 1e-9


@pytest.mark.parametrize("lossless", [False, True])
def test_a_jpeg_too_short_for_its_pixels_is_not_decoded(tmp_path: Path, lossless: bool) -> None:
    values = TWELVE if lossless else FILM
    content = bytearray(imagecodecs.jpeg8_encode(values, lossless=lossless, bitspersample=12 if lossless else 8))
    place = content.index(b"\xff\xc3" if lossless else b"\xff\xc0") + 5
    content[place : place + 4] = (15_000).to_bytes(2, "big") * 2
    with pytest.raises(UnreadableImageError, match="too short for 15000x15000 pixels"):
        read_raster(written(tmp_path, bytes(content), "image.jpg"))
    blank = imagecodecs.jpeg8_encode(np.full((2000, 2000), 9, np.uint8))  # the shortest stream there is
    assert read_raster(written(tmp_path, blank, "blank.jpg")).shape == (2000, 2000)
