"""The input check: what it refuses, what it turns, what it warns of, and what it must let through."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from cxrseg.inference.input_check import INVERTED, RULES, judge_lungs, judge_pixels, measure_lungs, measure_pixels
from cxrseg.inference.segmenter import Segmenter
from cxrseg.io.radiograph import Radiograph
from cxrseg.io.raster import read_raster
from cxrseg.phantom.generate import make_phantom
from made_models import chest, hand_model

SHARED = Path(__file__).resolve().parents[3] / "shared"
VAL = SHARED / "covid-qu-ex" / "Infection Segmentation Data" / "Infection Segmentation Data" / "Val"


def judged(pixels: npt.NDArray[np.floating], **tags: str) -> str:
    return judge_pixels(Radiograph(pixels.astype(np.float32), tags=tags)).reason


def ellipse(row: float, column: float, height: float, width: float, side: int = 256) -> npt.NDArray[np.bool_]:
    rows, columns = np.mgrid[0 : 1 : side * 1j, 0 : 1 : side * 1j]
    return ((rows - row) / height) ** 2 + ((columns - column) / width) ** 2 <= 1


def lungs_said(mask: npt.NDArray[np.bool_], sure: float = 0.97, air: float = 0.3) -> tuple[str, tuple[str, ...]]:
    probability = np.where(mask, sure, 0.01).astype(np.float32)
    verdict = judge_lungs(probability, np.where(mask, air, 0.6).astype(np.float32), 0.5)
    return verdict.reason, verdict.warnings


PAIR = ellipse(0.45, 0.3, 0.3, 0.13) | ellipse(0.45, 0.7, 0.3, 0.13)


@pytest.mark.parametrize("category", ["COVID-19", "Normal", "Non-COVID"])
def test_phantoms_pass(category: str) -> None:
    for seed in range(4):
        phantom = make_phantom(seed, category, (220, 256))
        verdict = judge_pixels(Radiograph(phantom.image / np.float32(255)))
        assert not verdict.reason and not verdict.warnings
        assert lungs_said(phantom.lungs) == ("", ())


def test_pixels_that_are_no_radiograph_are_refused() -> None:
    random = np.random.default_rng(0)
    good, _, lungs = chest((256, 256))
    assert judged(good) == ""
    assert "blank" in judged(0.4 + 0.001 * random.standard_normal((256, 256)))
    assert "noise" in judged(random.random((256, 256)))
    assert "shades" in judged(lungs)
    assert "white" in judged(np.where(good > 0.3, 0.97, 3 * good))
    assert "too small" in judged(good[:60])
    assert "narrow" in judged(good[:, :80])
    slice_ = np.where(ellipse(0.5, 0.5, 0.35, 0.45), good + 0.1, 0)
    assert "round object" in judged(slice_)


@pytest.mark.parametrize(
    ("tags", "word"),
    [
        ({"modality": "CT"}, "modality CT"),
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


def test_lungs_that_are_no_lungs_are_refused() -> None:
    assert lungs_said(PAIR) == ("", ())
    assert "too small or too large" in lungs_said(np.zeros((256, 256), dtype=bool))[0]
    assert "too small or too large" in lungs_said(ellipse(0.5, 0.5, 0.7, 0.7))[0]
    assert "too high or too low" in lungs_said(ellipse(0.9, 0.3, 0.3, 0.2) | ellipse(0.9, 0.7, 0.3, 0.2))[0]
    assert "to one side" in lungs_said(ellipse(0.5, 0.05, 0.3, 0.15))[0]
    assert "too flat" in lungs_said(ellipse(0.5, 0.3, 0.06, 0.15) | ellipse(0.5, 0.7, 0.06, 0.15))[0]
    assert "in the middle" in lungs_said(ellipse(0.5, 0.5, 0.35, 0.15))[0]
    assert "not sure" in lungs_said(PAIR, sure=0.51)[0]
    assert "background" in lungs_said(PAIR, air=0.0)[0]
    dots = np.zeros((256, 256), dtype=bool)
    dots[40:200:20, 40:220:20] = True
    assert "pieces" in lungs_said(np.repeat(np.repeat(dots[::4, ::4], 4, 0), 4, 1) | ellipse(0.5, 0.3, 0.1, 0.05))[0]


def test_what_may_still_be_lungs_is_only_warned_of() -> None:
    reason, warnings = lungs_said(ellipse(0.45, 0.3, 0.3, 0.13))
    assert reason == "" and "only one lung" in warnings[0]
    reason, warnings = lungs_said(ellipse(0.2, 0.3, 0.3, 0.13) | ellipse(0.2, 0.7, 0.3, 0.13))
    assert reason == "" and "cut by" in warnings[0]
    reason, warnings = lungs_said(PAIR, sure=0.6)
    assert reason == "" and "hardly sure" in warnings[0]
    reason, warnings = lungs_said(PAIR, sure=0.51)
    assert "not sure" in reason and not warnings  # said once


def test_an_inverted_image_is_turned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXRSEG_CACHE", str(tmp_path))
    segmenter = Segmenter(hand_model(tmp_path / "hand.onnx"))
    pixels, _, _ = chest((256, 256))
    straight, turned = segmenter.segment(Radiograph(pixels)), segmenter.segment(Radiograph(1 - pixels))
    assert straight.warnings == () and turned.warnings == (INVERTED,)
    assert np.array_equal(straight.mask("infection"), turned.mask("infection")) and turned.mask("infection").any()


def test_every_rule_has_a_measure_and_every_measure_is_a_number() -> None:
    pixels, _, lungs = chest((300, 256))
    measures = {**measure_pixels(pixels), **measure_lungs(lungs.astype(np.float32), pixels, 0.5)}
    assert {rule.measure for rule in RULES} <= measures.keys()
    assert all(np.isfinite(value) for value in measures.values())
    assert all(rule.low <= measures[rule.measure] <= rule.high for rule in RULES)


def test_no_real_radiograph_is_refused_for_its_pixels_or_its_true_lungs() -> None:
    if not VAL.exists():
        pytest.skip("needs COVID-QU-Ex in ../shared")
    refused = []
    for path in sorted(VAL.glob("*/images/*.png"))[::4]:
        pixels = read_raster(path).pixels
        lungs = read_raster(path.parent.parent / "lung masks" / path.name).pixels
        verdict = judge_pixels(Radiograph(pixels)).then(judge_lungs(0.98 * lungs, pixels, 0.5))
        if verdict.reason:
            refused.append((path.name, verdict.reason))
    assert refused == []
