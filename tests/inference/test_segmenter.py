"""What every model does on any image; the input check, several models and mirroring have tests of their own."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from cxrseg.data.sample import Dataset
from cxrseg.errors import ArgumentError, ModelFileError
from cxrseg.inference.segmenter import SYNTHETIC, Segmenter
from cxrseg.io.radiograph import Radiograph
from cxrseg.preprocessing import content_box, to_input, to_source
from cxrseg.training.fit import Run
from made_models import chest, hand_model


def radiograph(shape: tuple[int, int], seed: int = 0) -> Radiograph:
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    waves = np.sin(rows / 9 + seed) * np.cos(columns / 13)
    return Radiograph((0.5 + 0.4 * waves).astype(np.float32))


@pytest.mark.parametrize("shape", [(64, 64), (97, 151), (300, 211), (33, 40), (64, 65)])
def test_an_image_of_any_shape_comes_back_in_its_own(tiny_run: Run, shape: tuple[int, int]) -> None:
    found = Segmenter(tiny_run.folder.model, input_check=False).segment(radiograph(shape))
    assert list(found.probabilities) == ["infection", "lungs"]
    for channel, probability in found.probabilities.items():
        assert (probability.shape, probability.dtype) == (shape, np.float32)
        assert 0 <= probability.min() <= probability.max() <= 1
        mask = found.mask(channel)
        assert (mask.shape, mask.dtype) == (shape, np.bool_)
        np.testing.assert_array_equal(mask, probability >= found.thresholds[channel])


def test_it_is_preprocess_engine_and_back(tiny_run: Run) -> None:
    segmenter = Segmenter(tiny_run.folder.model, input_check=False, precision="float32")
    image = radiograph((97, 151))
    box = content_box(image.pixels)
    given = to_input(image.pixels[box], (64, 64))
    expected = to_source(segmenter.engines[0].run(given[None]).maps[0, 1], (97, 151), box)
    np.testing.assert_allclose(segmenter.segment(image).probabilities["lungs"], expected, atol=1e-6)


def test_a_mark_is_found_where_it_is(bright_model: Path) -> None:
    pixels = np.full((151, 99), 0.1, np.float32)
    pixels[30:90, 20:50] = 0.9
    found = Segmenter(bright_model, input_check=False).segment(Radiograph(pixels)).mask("infection")
    truth = pixels > 0.5
    assert (found & truth).sum() / (found | truth).sum() > 0.93
    assert not found[:27].any()
    assert not found[93:].any()


@pytest.mark.parametrize(("size", "kept"), [(6, False), (30, True)])
def test_specks_away_from_the_lungs_are_neither_lung_nor_infection(tmp_path: Path, size: int, kept: bool) -> None:
    pixels, _, lungs = chest((200, 200))
    for column, value in ((60, 0.2), (140, 0.95)):  # the second one is as bright as an infection
        pixels[165 : 165 + size, column : column + size] = value
    found = Segmenter(hand_model(tmp_path / "model.onnx"), input_check=False).segment(Radiograph(pixels))
    mask = found.mask("lungs")
    assert mask[166 : 164 + size, 61 : 59 + size].all() == mask[166 : 164 + size, 141 : 139 + size].all() == kept
    assert mask[160:].any() == kept and found.mask("infection")[160:].any() == kept
    assert (mask & lungs).sum() > 0.95 * lungs.sum()


def test_the_threshold_is_of_the_infection_only(tiny_run: Run) -> None:
    image = radiograph((64, 64))
    usual = Segmenter(tiny_run.folder.model, input_check=False)
    assert usual.thresholds == {"infection": 0.5, "lungs": 0.5}
    low = Segmenter(tiny_run.folder.model, 0.01, input_check=False)
    assert low.thresholds == {"infection": 0.01, "lungs": 0.5}
    assert low.segment(image).mask("infection").sum() >= usual.segment(image).mask("infection").sum()
    np.testing.assert_array_equal(low.segment(image).mask("lungs"), usual.segment(image).mask("lungs"))


@pytest.mark.parametrize("threshold", [0, 1, -0.1, 1.5, float("nan"), float("inf")])
def test_a_threshold_out_of_range_is_refused(bright_model: Path, threshold: float) -> None:
    with pytest.raises(ArgumentError, match="threshold between 0 and 1"):
        Segmenter(bright_model, threshold)


def test_a_missing_model_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="found none"):
        Segmenter(tmp_path / "model.onnx")


def test_eight_threads_find_what_one_finds(tiny_run: Run, dataset: Dataset) -> None:
    segmenter = Segmenter(tiny_run.folder.model, input_check=False)
    images = [sample.read_image() for sample in dataset.samples] + [radiograph((50 + n, 80 - n), n) for n in range(20)]
    alone = [segmenter.segment(image) for image in images]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(segmenter.segment, images))
    for one, other in zip(alone, together, strict=True):
        for channel in ("infection", "lungs"):
            np.testing.assert_array_equal(one.probabilities[channel], other.probabilities[channel])


def test_a_model_of_phantoms_says_so_and_claims_no_patients_licence(tiny_run: Run) -> None:
    segmenter = Segmenter(tiny_run.folder.model, input_check=False)
    assert segmenter.segment(radiograph((64, 64))).warnings == (SYNTHETIC,)
    assert "COVID-QU-Ex" not in segmenter.info.licence
