"""Radiographs side by side: pairs, triplets and overlays."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cxrseg.errors import ImageError
from cxrseg.plots.cases import Case, draw_overlays, draw_pairs, draw_triplets
from cxrseg.plots.style import COLOURS, NOTICE


def case(title: str = "one", shape: tuple[int, int] = (64, 64), predicted: bool = True) -> Case:
    truth, lungs, prediction = (np.zeros(shape, dtype=bool) for _ in range(3))
    lungs[8:56, 8:56], truth[16:32, 16:32], prediction[24:48, 24:48] = True, True, True
    return Case(title, np.full(shape, 0.5, np.float32), truth, lungs, prediction if predicted else None)


def svg(files: list[Path]) -> str:
    return files[1].read_text(encoding="utf-8")


def fraction(file: Path, colour: tuple[int, int, int]) -> float:
    """Fraction of the figure's pixels that have nearly this colour."""
    with Image.open(file) as image:
        values = np.asarray(image.convert("RGB")).astype(int)
    return float((np.abs(values - np.array(colour)).max(axis=-1) < 12).mean())


def test_pairs_show_image_and_mask_and_name_the_grays(tmp_path: Path) -> None:
    files = draw_pairs([case("first"), case("second")], tmp_path / "pairs")
    assert [file.name for file in files] == ["pairs.png", "pairs.svg"]
    for word in ("X-ray", "mask", "first", "second", "infection", "lungs"):
        assert f">{word}<" in svg(files)
    assert NOTICE not in svg(files)  # no prediction is shown
    assert fraction(files[0], (90, 90, 90)) > 0.05 and fraction(files[0], (0, 0, 0)) > 0.05


@pytest.mark.parametrize("count", [2, 4])
def test_long_names_keep_to_their_own_panel_and_show_their_end(count: int, tmp_path: Path) -> None:
    titles = [f"patient_with_a_long_name_and_more_words_{number}_of_2020\nDice 0.5" for number in range(count)]
    files = draw_pairs([case(title) for title in titles], tmp_path / "pairs")
    for number in range(count):
        assert f"{number}_of_2020<" in svg(files)
    with Image.open(files[0]) as image:
        picture = np.asarray(image.convert("L")).astype(int)
    middle = picture[picture.shape[0] // 4]
    panels = np.flatnonzero(np.abs(middle - 128) < 8)
    gaps = [slice(left + 2, right - 1) for left, right in pairwise(panels) if right > left + 20]
    above = np.flatnonzero(np.abs(picture[:, panels[0] + 5] - 128) < 8)[0] - 2
    assert len(gaps) == count - 1 and (picture[:above] < 128).any()  # there are titles
    for gap in gaps:
        assert (picture[:above, gap] > 200).all()  # and none reaches between two panels


def test_triplets_name_the_threshold_and_carry_the_notice(tmp_path: Path) -> None:
    drawn = svg(draw_triplets([case()], tmp_path / "triplets"))
    for word in ("X-ray", "truth", "prediction at 0.5", NOTICE):
        assert f">{word}<" in drawn
    assert "prediction at 0.35" in svg(draw_triplets([case()], tmp_path / "other", threshold=0.35))


def test_triplets_show_the_prediction_and_not_the_truth_twice(tmp_path: Path) -> None:
    found = draw_triplets([case()], tmp_path / "found")
    missed = draw_triplets([case(predicted=False)], tmp_path / "missed")
    assert fraction(found[0], (255, 255, 255)) > fraction(missed[0], (255, 255, 255)) + 0.02


def test_overlays_have_a_legend_of_what_is_drawn(tmp_path: Path) -> None:
    files = draw_overlays([case()], tmp_path / "overlays")
    for word in ("prediction", "truth", "lungs", NOTICE):
        assert f">{word}<" in svg(files)
    for colour in COLOURS.values():
        assert fraction(files[0], colour) > 0.002
    alone = Case("x", case().pixels, truth=case().truth)
    drawn = draw_overlays([alone], tmp_path / "truth")
    assert ">lungs<" not in svg(drawn) and ">prediction<" not in svg(drawn)
    assert fraction(drawn[0], COLOURS["lungs"]) == 0


def test_more_than_four_start_a_new_band_and_shapes_may_differ(tmp_path: Path) -> None:
    cases = [case(str(number), (64, 64 + 8 * number)) for number in range(5)]
    five, four = draw_pairs(cases, tmp_path / "five"), draw_pairs(cases[:4], tmp_path / "four")
    with Image.open(five[0]) as more, Image.open(four[0]) as fewer:
        assert more.width == fewer.width == pytest.approx(170 / 25.4 * 300, abs=2)
        assert more.height > 1.7 * fewer.height
    assert all(f">{number}<" in svg(five) for number in range(5))


def test_the_same_cases_give_the_same_files(tmp_path: Path) -> None:
    first, second = (draw_overlays([case()], tmp_path / name / "f") for name in ("a", "b"))
    assert [file.read_bytes() for file in first] == [file.read_bytes() for file in second]


def test_nothing_to_draw_and_masks_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="at least one"):
        draw_pairs([], tmp_path / "none")
    pixels, small = np.zeros((32, 32), np.float32), np.zeros((16, 16), dtype=bool)
    for name in ("truth", "lungs", "prediction"):
        with pytest.raises(ImageError, match=rf"{name} of odd .*\(32, 32\), got \(16, 16\)"):
            Case("odd", pixels, **{name: small})
    assert not list(tmp_path.iterdir())
