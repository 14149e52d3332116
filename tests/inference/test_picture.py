"""Predictions as pictures, and their short forms for a prompt and a notebook."""

from __future__ import annotations

import base64
import io
import re
import subprocess
import sys
import textwrap
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageShow

import cxrseg
from cxrseg.errors import ArgumentError, ImageError
from cxrseg.inference.picture import caption_of
from cxrseg.inference.prediction import Prediction
from cxrseg.plots.style import COLOURS
from made_models import chest, hand_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hand_model(tmp_path_factory.mktemp("model") / "hand.onnx")


@pytest.fixture(scope="module")
def found(model: Path) -> Prediction:
    pixels, _, _ = chest((300, 240))
    return cxrseg.segment(cxrseg.Radiograph(pixels, spacing_mm=(1.0, 1.0), source="sub/film.dcm"), model)


@pytest.fixture(scope="module")
def refused(model: Path) -> Prediction:
    return cxrseg.segment(np.full((256, 256), 0.5, dtype=np.float32), model)


def test_a_prompt_shows_one_line(found: Prediction, refused: Prediction) -> None:
    shown = repr(found)
    assert shown.startswith("Prediction(ok, sub/film.dcm, 300 x 240 pixels, infected ")
    assert "\n" not in shown and len(shown) < 200 and found.severity is not None
    assert f"{found.severity.infected_fraction:.1%} of the lungs" in shown
    assert f"extent score {found.severity.extent_score} of 8" in shown
    assert repr(replace(found, warnings=("one",))).endswith(", 1 warning)")
    assert repr(replace(found, warnings=("one", "two"))).endswith(", 2 warnings)")
    assert repr(refused).startswith("Prediction(refused, array, ") and refused.reason in repr(refused)
    assert "\n" not in repr(replace(found, source="a\nb.png"))
    deep = repr(replace(found, source="folder/" * 30 + "film.png"))
    assert "folder/film.png" in deep and len(deep) < 200


def test_a_notebook_shows_picture_figures_and_notice(found: Prediction) -> None:
    shown = found._repr_html_()
    [data] = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', shown)
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")).astype(int)
    assert picture.shape == (300, 240, 3)
    orange = np.abs(picture - COLOURS["infection"]).sum(axis=2) < 60
    blue = np.abs(picture - COLOURS["lungs"]).sum(axis=2) < 60
    assert orange.sum() > 50 and blue.sum() > 50
    assert "http" not in shown and "<script" not in shown  # nothing is loaded from elsewhere
    assert "Research use only. Not for diagnosis." in shown and found.severity is not None
    cells = dict(re.findall(r"<th[^>]*>([^<]*)</th><td[^>]*>([^<]*)</td>", shown))
    named = {unescape(name): unescape(text) for name, text in cells.items()}
    assert named["status"] == "ok"
    assert named["infected"] == f"{found.severity.infected_fraction:.1%} of the lungs"
    assert named["patient's right lung"] == f"{found.severity.infected_fraction_right:.1%}"
    assert named["patient's left lung"] == f"{found.severity.infected_fraction_left:.1%}"
    assert found.expected_dice is not None
    assert named["expected Dice"] == f"{found.expected_dice:.2f}, the model's own estimate"
    assert named["extent score"] == f"{found.severity.extent_score} of 8 ({found.severity.grade})"
    assert found.severity.infected_area_mm2 is not None
    assert named["infected area"] == f"{found.severity.infected_area_mm2 / 100:.1f} square cm"


def test_the_caption_says_whose_estimate_the_expected_dice_is(found: Prediction) -> None:
    text = "\n".join(caption_of(found))
    assert f"expected Dice {found.expected_dice:.2f}, the model's own estimate" in text
    assert "confidence" not in (text + found._repr_html_()).lower()


def test_text_from_a_file_is_not_markup(found: Prediction, refused: Prediction) -> None:
    shown = replace(found, source="<img src=x>.png", warnings=("a <b>bold</b> tag",))._repr_html_()
    assert "<img src=x>" not in shown and "&lt;img src=x&gt;.png" in shown
    assert "<b>" not in replace(refused, reason="a <b>tag</b>")._repr_html_()
    assert "<b>" not in shown and "a &lt;b&gt;bold&lt;/b&gt; tag" in shown


def test_a_refused_film_shows_its_reason_and_no_masks(refused: Prediction) -> None:
    shown = refused._repr_html_()
    assert "refused" in shown and refused.reason in unescape(shown) and "data:image/jpeg" in shown
    assert "infected" not in shown and "Not for diagnosis" in shown
    plain = np.asarray(refused.overlay(caption=False))
    assert np.ptp(plain[:600], axis=2).max() == 0  # gray: no outline


def test_without_pixels_there_are_figures_and_no_picture(found: Prediction) -> None:
    bare = replace(found, pixels=None)
    assert "<img" not in bare._repr_html_() and "of the lungs" in bare._repr_html_()
    with pytest.raises(ImageError, match=r"sub/film\.dcm without; make it with cxrseg\.segment"):
        bare.overlay()


def test_overlays_follow_their_options(found: Prediction, tmp_path: Path) -> None:
    picture = found.overlay()
    assert picture.mode == "RGB" and picture.width == 512 and picture.height > 640  # the film at 640, and a caption
    assert found.overlay(beside=True).width == 2 * picture.width
    assert found.overlay(caption=False).height < picture.height
    outlines, filled = (np.asarray(found.overlay(fill=fill)).astype(int)[:640] for fill in (0.0, 1.0))
    # The outline covers part of the inside, and white stays white in any tint.
    for name in ("infection", "lungs"):
        assert (np.abs(outlines - COLOURS[name]).sum(axis=2) < 30).sum() > 200
    inside = found.mask("infection").sum() * (640 / 300) ** 2
    assert (np.abs(outlines - filled).sum(axis=2) > 30).sum() > 0.6 * inside
    picture.save(tmp_path / "film.png")
    with Image.open(tmp_path / "film.png") as stored:
        assert stored.size == picture.size
    with pytest.raises(ArgumentError, match="fill of 0 to 1"):
        found.overlay(fill=2)


def test_outside_of_a_notebook_the_viewer_shows_it(found: Prediction, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Image.Image] = []
    monkeypatch.setattr(ImageShow, "show", lambda picture: not given.append(picture))
    found.show(beside=True)
    assert [picture.size for picture in given] == [found.overlay(beside=True).size]
    monkeypatch.setattr(ImageShow, "show", lambda picture: False)
    with pytest.raises(cxrseg.CxrsegError, match=r"no viewer.*\.overlay\(\)\.save"):
        found.show()


def test_showing_loads_neither_matplotlib_nor_torch(model: Path, tmp_path: Path) -> None:
    film = tmp_path / "film.png"
    Image.fromarray(np.rint(chest((300, 240))[0] * 255).astype(np.uint8)).save(film)
    code = f"""
        import sys
        import cxrseg
        found = cxrseg.segment({str(film)!r}, {str(model)!r})
        repr(found), found._repr_html_(), found.overlay()
        print([name for name in ("matplotlib", "torch", "IPython") if name in sys.modules])
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
