"""Masks drawn on a radiograph: what is coloured, and what must stay as it is."""

from typing import Literal

import numpy as np
import pytest
from PIL import Image, ImageFont

from cxrseg.errors import ImageError
from cxrseg.plots.caption import wrap_line
from cxrseg.plots.outlines import PictureStyle
from cxrseg.plots.overlay import contour, line_width, overlay, preview, resized_mask, resized_pixels, scale_bar
from cxrseg.plots.style import COLOURS, NOTICE, VERMILLION
from cxrseg.plots.vector_picture import vector_picture


def gray(shape: tuple[int, int], value: float = 0.5) -> np.ndarray:
    return np.full(shape, value, dtype=np.float32)


def box(shape: tuple[int, int], top: int, left: int, height: int, width: int) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[top : top + height, left : left + width] = True
    return mask


def coloured(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return (picture == np.array(colour, dtype=np.uint8)).all(axis=-1)


def test_without_masks_the_radiograph_stays_as_it_is() -> None:
    values = np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)
    picture = overlay(values)
    assert picture.dtype == np.uint8 and picture.shape == (16, 16, 3)
    assert (picture == np.arange(256).reshape(16, 16, 1)).all()


def test_contour_lies_on_the_mask_and_closes_at_the_border() -> None:
    mask = box((20, 30), 5, 6, 10, 12)
    line = contour(mask, 2)
    assert (line == (mask & ~box((20, 30), 7, 8, 6, 8))).all()
    cut = np.ones((9, 9), dtype=bool)
    assert contour(cut).sum() == 32
    assert not contour(np.zeros((5, 5), dtype=bool)).any()
    assert contour(box((9, 9), 4, 4, 1, 1), 3).sum() == 1


def test_each_mask_has_its_own_colour_and_nothing_else_changes() -> None:
    shape = (60, 60)
    lungs, infection, truth = box(shape, 5, 5, 50, 20), box(shape, 10, 10, 10, 10), box(shape, 10, 35, 20, 20)
    picture = overlay(gray(shape), infection, lungs, truth)
    assert (coloured(picture, COLOURS["lungs"]) == contour(lungs)).all()
    assert (coloured(picture, COLOURS["infection"]) == contour(infection)).all()
    assert (coloured(picture, COLOURS["truth"]) == contour(truth)).all()
    inside = picture[15, 15].astype(int)
    assert (inside == np.rint(0.65 * 128 + 0.35 * np.array(VERMILLION))).all()
    assert (picture[20, 45] == 128).all() and (picture[50, 15] == 128).all()
    assert (picture[9, 40] == 0).all()  # the truth's rim
    assert (picture[57:, :] == 128).all()


def test_an_empty_prediction_draws_nothing() -> None:
    empty = np.zeros((20, 20), dtype=bool)
    assert (overlay(gray((20, 20)), empty, empty, empty) == 128).all()


def test_the_given_arrays_are_not_changed() -> None:
    pixels, mask = gray((20, 20)), box((20, 20), 2, 2, 9, 9)
    before = mask.copy()
    overlay(pixels, mask, mask, mask)
    assert (pixels == 0.5).all() and (mask == before).all()


def test_lines_widen_with_the_image() -> None:
    assert [line_width((side, 100)) for side in (200, 1000, 4000)] == [1, 3, 12]


def test_a_mask_of_another_shape_is_named() -> None:
    with pytest.raises(ImageError, match=r"the lungs of shape \(10, 10\), got \(9, 10\)"):
        overlay(gray((10, 10)), lungs=np.zeros((9, 10), dtype=bool))
    with pytest.raises(ImageError, match="of the truth"):
        preview(gray((10, 10)), truth=np.zeros((9, 10), dtype=bool))


@pytest.mark.parametrize("shape", [(200, 200), (256, 256), (1000, 800), (4000, 3000), (200, 1500), (1500, 200)])
def test_preview_has_a_bounded_size_and_a_caption(shape: tuple[int, int]) -> None:
    picture = preview(gray(shape), box(shape, 50, 50, 60, 60), lines=["Infected: 12%"])
    height, width, _ = picture.shape
    assert 320 <= width <= 2048
    scale = min(max(*shape, 640), 2048) / max(shape)
    top = round(shape[0] * scale)
    strip = picture[top:]
    assert 40 < len(strip) < height
    bright = (strip > 150).all(axis=-1)
    assert bright.sum() > 500  # letters
    assert bright[-round(2.2 * max(15, max(shape) * scale / 48)) :].any()  # the notice stands last
    assert coloured(strip, COLOURS["infection"]).any() and not coloured(strip, COLOURS["lungs"]).any()
    assert not bright[:, :2].any() and not bright[:, -2:].any()  # no letter is cut


def test_the_notice_is_always_there() -> None:
    plain, more = preview(gray((300, 300))), preview(gray((300, 300)), lines=["one more line"])
    assert len(more) > len(plain) > 640
    assert (plain[640:] > 150).all(axis=-1).any()
    assert NOTICE == "Research use only. Not for diagnosis."


def test_masks_in_a_preview_are_not_shifted() -> None:
    mask = box((100, 100), 20, 30, 40, 50)
    picture = preview(gray((100, 100)), infection=mask)[:640, :640]
    rows = np.flatnonzero(coloured(picture, VERMILLION).any(axis=1))
    columns = np.flatnonzero(coloured(picture, VERMILLION).any(axis=0))
    assert np.abs(np.array([rows[0], rows[-1] + 1]) - 6.4 * np.array([20, 60])).max() <= 1
    assert np.abs(np.array([columns[0], columns[-1] + 1]) - 6.4 * np.array([30, 80])).max() <= 1


def test_resizing_keeps_type_and_range() -> None:
    edge = np.zeros((40, 40), dtype=np.float32)
    edge[:, 20:] = 1
    larger = resized_pixels(edge, (90, 70))
    assert larger.shape == (90, 70) and larger.dtype == np.float32
    assert larger.min() == 0 and larger.max() == 1
    mask = resized_mask(edge > 0, (80, 80))
    assert mask.dtype == np.bool_ and (mask == (np.arange(80) >= 40)).all()
    assert resized_pixels(edge, (40, 40)) is edge


def test_long_lines_are_wrapped_and_lose_nothing() -> None:
    font = ImageFont.load_default(15)
    text = "a few words and/then_a_very_long_name_without_any_space_that_does_not_fit.png end"
    parts = wrap_line(text, font, 120)
    assert len(parts) > 4
    assert all(font.getlength(part) <= 120 for part in parts)
    assert "".join(parts).replace(" ", "") == text.replace(" ", "")
    assert wrap_line("", font, 120) == [""]


def test_a_preview_can_be_saved(tmp_path) -> None:
    Image.fromarray(preview(gray((64, 64)), lines=["café 中文"])).save(tmp_path / "preview.png")


def test_the_fill_keeps_the_brightness_under_it() -> None:
    shape = (700, 700)
    stripes = np.where(np.arange(700) % 20 < 10, 0.4, 0.6).astype(np.float32)[None].repeat(700, axis=0)
    picture = preview(stripes, box(shape, 100, 100, 500, 500), style=PictureStyle(fill=0.5))[200:500, 200:500]
    luma = picture @ np.array([0.299, 0.587, 0.114])
    assert np.abs(luma - np.rint(stripes[200:500, 200:500] * 255)).max() < 2
    assert (picture[..., 0] > picture[..., 2] + 50).all()  # and it is orange
    outline = preview(stripes, box(shape, 100, 100, 500, 500), style=PictureStyle(fill=0))[200:500, 200:500]
    assert (outline == outline[..., :1]).all()


def test_an_outline_has_no_stairs() -> None:
    rows, columns = np.mgrid[:100, :100]
    disc = (rows - 50) ** 2 + (columns - 50) ** 2 < 30**2
    picture = preview(gray((100, 100)), disc, style=PictureStyle(fill=0, caption=False))[:640, :640].astype(float)
    line = np.abs(picture - picture[0, 0]).sum(axis=-1) > 100
    rows, columns = np.nonzero(line)
    radii = np.hypot(rows + 0.5 - 50.5 * 6.4, columns + 0.5 - 50.5 * 6.4) / 6.4
    assert np.ptp(radii) < 1.2, (radii.min(), radii.max())  # pixels of the mask; its own stairs would be 1.5 and more


def test_a_picture_beside_the_film_and_without_a_caption() -> None:
    pixels, mask = np.linspace(0, 1, 640 * 640, dtype=np.float32).reshape(640, 640), box((640, 640), 200, 200, 99, 99)
    alone, beside = preview(pixels, mask), preview(pixels, mask, style=PictureStyle(beside=True))
    assert beside.shape[1] == 2 * alone.shape[1] == 1280
    assert (beside[:640, 640:] == alone[:640]).all()
    assert (beside[:640, :640] == np.rint(pixels * 255).astype(np.uint8)[..., None]).all()
    short = preview(pixels, mask, lines=["Infected: 3%"], style=PictureStyle(caption=False))
    assert len(short) < len(preview(pixels, mask, lines=["Infected: 3%"]))


def test_a_picture_at_the_size_of_the_film() -> None:
    assert preview(gray((3000, 2500))).shape[1] < 2048
    assert preview(gray((3000, 2500)), style=PictureStyle(largest=0)).shape[1] == 2500


def test_a_scale_bar_is_as_long_as_it_says() -> None:
    assert scale_bar(0.5, 800) == (200, "10 cm") and scale_bar(0.2, 1000) == (250, "5 cm")
    picture = preview(gray((800, 800), 0.3), spacing_mm=(0.5, 0.5))[:800]
    row = (picture == 255).all(axis=-1).sum(axis=1).max()
    assert row == 201
    assert not (preview(gray((800, 800), 0.3))[:800] == 255).any()


@pytest.mark.parametrize("kind", ["svg", "pdf"])
def test_a_picture_of_vectors(kind: Literal["svg", "pdf"]) -> None:
    mask = box((90, 100), 20, 20, 30, 30)
    style = PictureStyle(kind=kind, beside=True)
    given = (gray((90, 100)), mask, box((90, 100), 10, 10, 60, 60), ["Infected: 12% <&>"])
    found = vector_picture(*given, style=style, spacing_mm=(2, 2))
    assert found == vector_picture(*given, style=style, spacing_mm=(2, 2))
    if kind == "svg":
        text = found.decode()
        assert text.count("<image") == 2 and "12% &lt;&amp;&gt;" in text and NOTICE in text
        assert "#d55e00" in text and "#56b4e9" in text and "5 cm" in text
    else:
        assert found.startswith(b"%PDF")
    empty = np.zeros((90, 100), dtype=bool)
    assert len(vector_picture(gray((90, 100)), empty, None, [], style=PictureStyle(kind=kind))) > 1000


def test_a_style_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="fill of 0 to 1"):
        PictureStyle(fill=1.5)
