"""The input check: what it refuses, what it inverts, what it warns of, and what it must let through."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from scipy.ndimage import gaussian_filter

from cxrseg.inference import input_check
from cxrseg.inference.input_check import (
    INVERTED,
    INVERTED_TWICE,
    MIRRORED,
    check_lungs,
    check_radiograph,
    check_view,
)
from cxrseg.inference.segmenter import Segmenter
from cxrseg.io.radiograph import Radiograph
from cxrseg.io.raster import read_raster
from cxrseg.phantom.generate import make_phantom
from cxrseg.preprocessing import content_box
from made_models import chest, hand_model

SHARED = Path(__file__).resolve().parents[3] / "shared"
VAL = SHARED / "covid-qu-ex" / "Infection Segmentation Data" / "Infection Segmentation Data" / "Val"


def judged(pixels: npt.NDArray[np.floating], **tags: str) -> str:
    return check_radiograph(Radiograph(pixels.astype(np.float32), tags=tags)).reason


def ellipse(row: float, column: float, height: float, width: float, side: int = 256) -> npt.NDArray[np.bool_]:
    rows, columns = np.mgrid[0 : 1 : side * 1j, 0 : 1 : side * 1j]
    return ((rows - row) / height) ** 2 + ((columns - column) / width) ** 2 <= 1


def lungs_said(mask: npt.NDArray[np.bool_], sure: float = 0.97) -> tuple[str, tuple[str, ...]]:
    verdict = check_lungs(np.where(mask, sure, 0.01).astype(np.float32), 0.5)
    return verdict.reason, verdict.warnings


PAIR = ellipse(0.45, 0.3, 0.3, 0.13) | ellipse(0.45, 0.7, 0.3, 0.13)


@pytest.mark.parametrize("category", ["COVID-19", "Normal", "Non-COVID"])
def test_phantoms_pass(category: str) -> None:
    for seed in range(4):
        phantom = make_phantom(seed, category, (220, 256))
        assert judged(phantom.image / np.float32(255)) == ""
        assert lungs_said(phantom.lungs) == ("", ())


def test_pixels_that_are_not_a_radiograph_are_refused() -> None:
    random = np.random.default_rng(0)
    good, _, lungs = chest((256, 256))
    assert judged(good) == ""
    assert "blank" in judged(0.4 + 0.001 * random.standard_normal((256, 256)))
    assert "blank" in judged(np.full((256, 256), 0.4))
    assert "noise" in judged(random.random((256, 256)))
    assert "shades" in judged(lungs)
    assert "white" in judged(np.where(good > 0.3, 0.97, 3 * good))
    assert "too small" in judged(good[:60])
    assert "narrow" in judged(good[:, :80])
    coloured = check_radiograph(Radiograph(good, coloured=0.3))
    assert coloured.reason == "the image is in colour (30% of it), and radiographs are gray"
    assert check_radiograph(Radiograph(good, coloured=0.05)).reason == ""


def test_figures_are_those_of_numpy() -> None:
    """What is written out, since it is faster, gives the numbers of the functions that it replaces."""
    random = np.random.default_rng(0)
    for sigma in (0.0, 0.6, 1.0, 2.0):
        small = gaussian_filter(random.random((64, 64)), sigma).astype(np.float32)
        pairs = ((small[1:], small[:-1]), (small[:, 1:], small[:, :-1]))
        for one, other in pairs:
            expected = np.corrcoef(one.ravel(), other.ravel())[0, 1]
            found = input_check._correlation(one.astype(np.float64), other.astype(np.float64))
            assert found == pytest.approx(expected, abs=1e-9)
        for spread in (0.059, 0.061):
            low, high = np.percentile(small, (5, 95))
            stretched = np.float32(spread) * (small - np.float32(low)) / np.float32(high - low)
            assert (input_check._blank(stretched) == "") == (spread > 0.06)


def test_shades_that_only_some_rows_have_are_counted() -> None:
    for shades, word in ((23, "shades"), (24, "")):
        pixels = np.zeros((256, 256), dtype=np.float32)
        pixels[5, :shades] = np.arange(shades) / 255
        assert word in input_check._few_shades(pixels)
        assert (input_check._few_shades(pixels) == "") == (word == "")


@pytest.mark.parametrize(
    ("tags", "word"),
    [
        ({"modality": "CT"}, "modality is CT"),
        ({"modality": "DX", "view_position": "LL"}, "lateral view"),
        ({"modality": "CR", "view": "LEFT LATERAL"}, "lateral view"),
        ({"modality": "CR", "body_part": "ANKLE"}, "another part"),
        ({"modality": "DX", "body_part": "CHEST", "view_position": "PA"}, ""),
        ({"modality": "CR", "view_position": "AP"}, ""),
        ({"body_part": "THORAX", "view": "POSTERO-ANTERIOR"}, ""),
        ({"body_part": "PORT CHEST"}, ""),
    ],
)
def test_what_a_file_says_of_itself(tags: dict[str, str], word: str) -> None:
    reason = judged(chest((256, 256))[0], **tags)
    assert (word in reason) if word else reason == ""


def test_lungs_that_are_not_lungs_are_refused() -> None:
    assert lungs_said(PAIR) == ("", ())
    assert "too small or too large (0% of the image" in lungs_said(np.zeros((256, 256), dtype=bool))[0]
    assert "too small or too large" in lungs_said(ellipse(0.5, 0.5, 0.7, 0.7))[0]
    assert "too uncertain" in lungs_said(PAIR, sure=0.51)[0]


def test_what_may_still_be_lungs_is_only_warned_of() -> None:
    reason, warnings = lungs_said(ellipse(0.45, 0.3, 0.3, 0.13))
    assert reason == "" and len(warnings) == 1 and "only one lung" in warnings[0]
    reason, warnings = lungs_said(ellipse(0.1, 0.3, 0.3, 0.13) | ellipse(0.1, 0.7, 0.3, 0.13))
    assert reason == "" and len(warnings) == 1 and "cuts the lungs" in warnings[0]
    reason, warnings = lungs_said(PAIR, sure=0.6)
    assert reason == "" and len(warnings) == 1 and "the lung mask is uncertain" in warnings[0]


VIEWS = {"frontal": 10.0, "mirrored": 0.0, "inverted": 0.0, "lateral": 0.0, "upside down": 0.0}


def test_the_likeliest_view_decides() -> None:
    assert check_view({}) == check_view(VIEWS)
    assert check_view(VIEWS).reason == "" and check_view(VIEWS).warnings == ()
    assert check_view(VIEWS | {"lateral": 11.0}).reason == "the image looks like a lateral view"
    assert "upside down; rotate" in check_view(VIEWS | {"upside down": 12.0, "lateral": 11.0}).reason
    assert check_view(VIEWS | {"ultrasound": 11.0}).reason == "the image looks like ultrasound"
    assert check_view(VIEWS | {"lateral": 7.0}).warnings == ("the image may not be a frontal chest radiograph",)
    inverted = check_view(VIEWS | {"inverted": 12.0, "lateral": 11.0})
    assert inverted.inverted and inverted.reason == "" and not check_view(VIEWS).inverted


def test_a_mirrored_film_is_warned_of_where_it_is_sure() -> None:
    assert check_view(VIEWS | {"mirrored": 20.0}).warnings == (MIRRORED,)
    assert check_view(VIEWS | {"mirrored": 12.0}).warnings == ()
    assert check_view(VIEWS | {"frontal": 0.0, "mirrored": 10.0, "lateral": 5.0}).reason == ""


def test_an_inverted_image_is_inverted_before_it_is_segmented(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXRSEG_CACHE", str(tmp_path))
    pixels, _, _ = chest((256, 256))
    middle = float(pixels.mean() + (1 - pixels).mean()) / 2
    views = {"frontal": (5.0, 0.0), "mirrored": (0.0, 0.0), "other-body": (0.0, 0.0)}
    bright = {"inverted": (5.0 + 100 * middle, -100.0)}  # likeliest where the image is darker than the middle
    segmenter = Segmenter(hand_model(tmp_path / "hand.onnx", views=views | bright))
    inverse, box = 1 - pixels, content_box(pixels)  # the network sees what is within the box
    dark, other = (inverse, pixels) if inverse[box].mean() < middle else (pixels, inverse)
    straight, inverted = segmenter.segment(Radiograph(other)), segmenter.segment(Radiograph(dark))
    assert straight.warnings[:1] != (INVERTED,) and inverted.warnings == (INVERTED, *straight.warnings)
    for channel in straight.probabilities:
        assert np.allclose(straight.probabilities[channel], inverted.probabilities[channel], atol=1e-4)


def test_what_looks_inverted_both_ways_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXRSEG_CACHE", str(tmp_path))
    always = {"frontal": (0.0, 0.0), "mirrored": (0.0, 0.0), "lateral": (0.0, 0.0), "inverted": (5.0, 0.0)}
    found = Segmenter(hand_model(tmp_path / "hand.onnx", views=always)).segment(Radiograph(chest((256, 256))[0]))
    assert found.status == "refused" and found.reason == INVERTED_TWICE and not found.probabilities


def test_the_views_are_those_of_the_image_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With mirroring as augmentation, and of several models the first that has any."""
    monkeypatch.setenv("CXRSEG_CACHE", str(tmp_path))
    pixels, _, _ = chest((256, 256))
    lateral = {"frontal": (0.0, 0.0), "mirrored": (0.0, 0.0), "lateral": (5.0, 0.0), "inverted": (0.0, 0.0)}
    models = [hand_model(tmp_path / "plain.onnx"), hand_model(tmp_path / "views.onnx", views=lateral)]
    found = Segmenter(models, tta=True).segment(Radiograph(pixels))
    assert found.reason == "the image looks like a lateral view"
    assert Segmenter(models[0]).segment(Radiograph(pixels)).status == "ok"
    forced = Segmenter(models, force=True).segment(Radiograph(pixels))
    assert forced.status == "ok" and "forced: the image looks like a lateral view" in forced.warnings


def test_no_real_radiograph_is_refused_for_its_pixels_or_its_true_lungs() -> None:
    if not VAL.exists():
        pytest.skip("needs COVID-QU-Ex in ../shared")
    refused = []
    for path in sorted(VAL.glob("*/images/*.png"))[::4]:
        pixels = read_raster(path).pixels
        lungs = read_raster(path.parent.parent / "lung masks" / path.name).pixels
        verdict = check_radiograph(Radiograph(pixels)).then(check_lungs(0.98 * lungs, 0.5))
        if verdict.reason:
            refused.append((path.name, verdict.reason))
    assert refused == []


def tag_verdict(**tags: str) -> tuple[str, tuple[str, ...]]:
    verdict = check_radiograph(Radiograph(chest((256, 256))[0].astype(np.float32), tags=tags))
    return verdict.reason, verdict.warnings


@pytest.mark.parametrize(
    "part", ["UNKNOWN", "OTHER", "NONE", "N/A", "-", "0", "UNBEKANNT", "NOT SPECIFIED", "ALTRO", "XX", "KEINE ANGABE"]
)
def test_a_placeholder_says_nothing(part: str) -> None:
    assert tag_verdict(body_part=part) == ("", ())
    assert "another part" in tag_verdict(body_part=part, anatomic_region="KNEE")[0]


@pytest.mark.parametrize(
    "part",
    [
        *(
            "CHEST",
            "TORACE",
            "BRUST",
            "BRUSTKORB",
            "POITRINE",
            "PECHO",
            "TORAX",
            "THORAX AP",
            "KLATKA PIERSIOWA",
            "HRUDNIK",
        ),
        *("RIPPEN", "LUNGOR", "COSTILLAS", "THORAKS", "PLAMANI"),
    ],
)
def test_the_chest_in_other_languages(part: str) -> None:
    assert tag_verdict(body_part=part) == ("", ())


@pytest.mark.parametrize(
    "part",
    [
        *("HAND", "TSPINE", "THORACIC SPINE", "BRUSTWIRBEL", "BREAST", "GENOU", "RODILLA", "LEFT KNEE", "C-SPINE"),
        *("HANDS", "KNEES", "MANOS", "KNIEGELENK", "BWS", "LUMBAR"),
    ],
)
def test_another_part_is_refused(part: str) -> None:
    assert "another part of the body" in tag_verdict(body_part=part)[0]


@pytest.mark.parametrize(
    ("tags", "word"),
    [
        ({"body_part": "XYZ"}, "unknown part"),
        ({"body_part": "CHEST ABDOMEN"}, "more than the chest"),
        ({"view_position": "LLD"}, "lies on one side"),
        ({"view": "LEFT LATERAL DECUBITUS"}, "lies on one side"),
        ({"view_position": "DECUBITO LATERAL IZQUIERDO"}, "lies on one side"),
        ({"view_position": "LLDECUB"}, "lies on one side"),
        ({"view_position": "SEITENLAGE"}, "lies on one side"),
        ({"view_position": "RAO"}, "oblique"),
    ],
)
def test_doubt_is_a_warning(tags: dict[str, str], word: str) -> None:
    reason, warnings = tag_verdict(**tags)
    assert not reason
    assert any(word in warning for warning in warnings)


@pytest.mark.parametrize("view", ["LL", "LATERAL", "LATERO-LATERAL", "PROFIL", "LLO", "LLAT", "SEITL", "LATERALES"])
def test_lateral_views_are_refused(view: str) -> None:
    assert "lateral view" in tag_verdict(view_position=view)[0]


@pytest.mark.parametrize("view", ["AP", "PA ERECT", "LORDOTIC", "RIBS BILATERAL"])
def test_other_views_are_not(view: str) -> None:
    assert tag_verdict(view_position=view) == ("", ())
