"""Masks as many tools write them: read as they are meant, or refused."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageFilter

from cxrseg.errors import ImageError
from cxrseg.io.masks import MaskValues, read_mask
from cxrseg.phantom.generate import make_phantom

PHANTOM = make_phantom(2, "COVID-19", 256)
MARKED = PHANTOM.infection
ONE = MARKED.astype(np.uint8)
CLASSES = PHANTOM.lungs.astype(np.uint8) + ONE


def saved(folder: Path, image: np.ndarray | Image.Image, name: str = "mask.png", **options: object) -> Path:
    path = folder / name
    if name.endswith(".tif"):
        tifffile.imwrite(path, image, **options)
    elif isinstance(image, np.ndarray) and image.dtype == np.uint16 and image.ndim == 3:
        path.write_bytes(imagecodecs.png_encode(image))
    else:
        (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(path, **options)
    return path


def dice(path: Path, marked: MaskValues | None = None, expected: np.ndarray = MARKED) -> float:
    mask = read_mask(path, marked)
    assert mask.dtype == np.bool_
    return 2 * np.count_nonzero(mask & expected) / (np.count_nonzero(mask) + np.count_nonzero(expected))


def painted(mark: tuple[int, ...], ground: tuple[int, ...] = (0, 0, 0)) -> np.ndarray:
    return np.where(MARKED[..., None], np.array(mark), np.array(ground)).astype(np.uint8)


@pytest.mark.parametrize("values", [(0, 255), (0, 1), (0, 127), (0, 2), (1, 2), (90, 200), (0, 100)])
def test_of_two_values_the_larger(tmp_path: Path, values: tuple[int, int]) -> None:
    low, high = values
    assert dice(saved(tmp_path, np.where(MARKED, high, low).astype(np.uint8))) == 1
    assert dice(saved(tmp_path, np.where(MARKED, high * 257, low * 257).astype(np.uint16))) == 1
    assert dice(saved(tmp_path, np.where(MARKED, high, low).astype(np.float32) / 200, "mask.tif")) == 1
    assert dice(saved(tmp_path, np.where(MARKED, high, low).astype(np.int32), "mask.tif")) == 1


@pytest.mark.parametrize(
    ("mark", "ground"),
    [((255, 0, 0), (0, 0, 0)), ((0, 0, 255), (0, 0, 0)), ((128, 0, 0), (0, 0, 0)), ((255, 0, 0), (255, 255, 255))],
)
def test_one_colour(tmp_path: Path, mark: tuple[int, ...], ground: tuple[int, ...]) -> None:
    drawn = Image.fromarray(painted(mark, ground))
    assert dice(saved(tmp_path, drawn)) == 1
    assert dice(saved(tmp_path, drawn, "mask.jpg", quality=85)) > 0.97
    assert dice(saved(tmp_path, drawn.resize((128, 128)).resize((256, 256)))) > 0.97


@pytest.mark.parametrize("colour", [255, 0, 90, (255, 0, 0)])
def test_one_colour_on_transparent(tmp_path: Path, colour: int | tuple[int, ...]) -> None:
    for alpha in (ONE * 255, ONE * 128):
        rgba = np.zeros((*MARKED.shape, 4), np.uint8)
        rgba[..., :3], rgba[..., 3] = colour, alpha
        assert dice(saved(tmp_path, rgba)) == 1
        assert dice(saved(tmp_path, rgba.astype(np.uint16) * 257)) == 1
        if np.ndim(colour) == 0:
            assert dice(saved(tmp_path, rgba[..., 2:])) == 1


def test_transparency_that_holds_no_mask(tmp_path: Path) -> None:
    white = [ONE * 255] * 3
    assert dice(saved(tmp_path, np.dstack([*white, ONE * 0 + 255]))) == 1
    frame = np.pad(np.full((236, 236), 255, np.uint8), 10)
    assert dice(saved(tmp_path, np.dstack([*white, frame])), expected=MARKED & (frame > 0)) == 1
    assert not read_mask(saved(tmp_path, np.dstack([ONE * 0 + 255] * 3 + [ONE * 0]))).any()  # nothing was painted
    with pytest.raises(ImageError, match="transparent everywhere"):
        read_mask(saved(tmp_path, np.dstack([*white, ONE * 0])))


@pytest.mark.parametrize("quality", [30, 60, 95])
def test_edges_that_jpeg_smoothed(tmp_path: Path, quality: int) -> None:
    assert dice(saved(tmp_path, ONE * 255, "mask.jpg", quality=quality)) > 0.98
    buffer = BytesIO()
    Image.fromarray(ONE * 255).save(buffer, "JPEG", quality=quality)
    assert dice(saved(tmp_path, np.asarray(Image.open(buffer)))) > 0.98


def test_edges_that_resizing_and_blur_smoothed(tmp_path: Path) -> None:
    whole = Image.fromarray(ONE * 255)
    assert dice(saved(tmp_path, whole.resize((64, 64), Image.Resampling.BILINEAR).resize((256, 256)))) > 0.95
    assert dice(saved(tmp_path, whole.filter(ImageFilter.GaussianBlur(3)))) > 0.96


def test_thin_lines_count_too(tmp_path: Path) -> None:
    line = np.zeros((64, 64), np.uint8)
    line[10, 5:60] = 255
    line[11, 5:60] = 100
    assert read_mask(saved(tmp_path, line)).sum() == 55


@pytest.mark.parametrize("step", [1, 127, 1000])
def test_several_classes_are_asked_for(tmp_path: Path, step: int) -> None:
    kind = np.uint16 if step > 127 else np.uint8
    path = saved(tmp_path, CLASSES.astype(kind) * kind(step))
    with pytest.raises(ImageError, match=f"holds 3 values: 0 .*, {step} .*--mask-values") as caught:
        read_mask(path)
    assert str(path) in str(caught.value)
    assert dice(path, MaskValues.parse(f"{2 * step}")) == 1
    assert dice(path, MaskValues.parse(f"{step}-{2 * step}"), PHANTOM.lungs) == 1


def test_a_class_in_thin_lines_is_not_taken_for_an_edge(tmp_path: Path) -> None:
    edge = ONE.copy()
    edge[5, 5:50] = 2
    with pytest.raises(ImageError, match="holds 3 values"):
        read_mask(saved(tmp_path, edge))


def test_classes_in_colours_are_asked_for(tmp_path: Path) -> None:
    colours = np.zeros((*MARKED.shape, 3), np.uint8)
    colours[PHANTOM.lungs], colours[MARKED] = (0, 255, 0), (255, 0, 0)
    path = saved(tmp_path, colours)
    with pytest.raises(ImageError, match=r"more than two colours \(#000000 .*#00ff00"):
        read_mask(path)
    assert dice(path, MaskValues.parse("#ff0000")) == 1
    assert dice(path, MaskValues.parse("#ff0000,#00FF00"), PHANTOM.lungs) == 1
    with pytest.raises(ImageError, match="state the marked colours"):
        read_mask(path, MaskValues.parse("1"))


def test_entries_of_a_palette(tmp_path: Path) -> None:
    two, three = (Image.fromarray(values).convert("P") for values in (ONE, CLASSES))
    for image in (two, three):
        image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    assert dice(saved(tmp_path, two)) == 1
    path = saved(tmp_path, three)
    with pytest.raises(ImageError, match="more than two colours"):
        read_mask(path)
    assert dice(path, MaskValues.parse("2")) == 1
    assert dice(path, MaskValues.parse("#008000")) == 1


def test_what_is_no_mask_is_refused(tmp_path: Path) -> None:
    drawn = np.dstack([PHANTOM.image] * 3)
    drawn[MARKED] = (255, 0, 0)
    for image, words in [
        (PHANTOM.image, "it is not a mask"),
        (np.asarray(Image.fromarray(ONE * 255).filter(ImageFilter.GaussianBlur(40))), "it is not a mask"),
        (drawn, "more than two colours"),
        (np.full((9, 9), 90, np.uint8), "value 90 everywhere"),
    ]:
        with pytest.raises(ImageError, match=words):
            read_mask(saved(tmp_path, image))
    with pytest.raises(ImageError, match="no value above 0"):
        read_mask(saved(tmp_path, -ONE.astype(np.int8), "mask.tif"))


def test_empty_and_full(tmp_path: Path) -> None:
    assert not read_mask(saved(tmp_path, ONE * 0)).any()
    for value in (1, 255):
        assert read_mask(saved(tmp_path, np.full((9, 9), value, np.uint8))).all()


def test_a_tiff_in_which_white_is_zero(tmp_path: Path) -> None:
    assert dice(saved(tmp_path, ~MARKED, "mask.tif", photometric="miniswhite")) == 1
    sixteen = np.uint16(65535) - ONE.astype(np.uint16) * 65535
    assert dice(saved(tmp_path, sixteen, "mask.tif", photometric="miniswhite")) == 1


@pytest.mark.parametrize("text", ["1,2", "128-255", "#ff0000", "1,4-6,#00ff7f"])
def test_values_as_users_write_them(text: str) -> None:
    assert str(MaskValues.parse(text)) == text


@pytest.mark.parametrize("text", ["", "a", "1;2", "#ff", "1-", "-1"])
def test_values_that_are_none(text: str) -> None:
    with pytest.raises(ImageError, match="expected the values of a mask"):
        MaskValues.parse(text)
