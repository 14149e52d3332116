"""Datasets of files as hospitals and label tools write them: DICOM images, classes in masks, stated ranges."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cxrseg.data.layout import open_dataset
from cxrseg.data.sample import ArrayItem, Reading, Sample
from cxrseg.errors import DatasetError, ImageError
from cxrseg.io.masks import MaskValues
from cxrseg.phantom.generate import make_phantom
from made_dicom import make, saved

PHANTOM = make_phantom(2, "COVID-19", (80, 64))
CLASSES = PHANTOM.lungs.astype(np.uint8) + PHANTOM.infection


def folder_of(root: Path, names: dict[str, str]) -> Path:
    """images/ and masks/ with one pair for each image's name to its mask's."""
    for kind in ("images", "masks"):
        (root / kind).mkdir()
    for image, mask in names.items():
        Image.fromarray(PHANTOM.image).save(root / "images" / image, "PNG")
        Image.fromarray(CLASSES).save(root / "masks" / mask, "PNG")
    return root


@pytest.mark.parametrize("orientation", [["L", "F"], ["R", "F"], ["F", "R"]])
def test_dicom_images_with_masks_on_their_own_pixels(tmp_path: Path, orientation: list[str]) -> None:
    stored = {"L": lambda a: a, "R": np.fliplr, "F": np.rot90}[orientation[0]]
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    twelve = np.ascontiguousarray(stored(PHANTOM.image)).astype(np.uint16) * 16
    window = {"WindowCenter": 2048, "WindowWidth": 4096}
    saved(tmp_path / "images", make(twelve, PatientOrientation=orientation, **window), "a.dcm")
    Image.fromarray(np.ascontiguousarray(stored(PHANTOM.infection))).save(tmp_path / "masks" / "a.png")
    (sample,) = open_dataset(tmp_path).samples
    np.testing.assert_allclose(sample.read_image().pixels, PHANTOM.image / 255, atol=0.01)
    np.testing.assert_array_equal(sample.read_mask("infection"), PHANTOM.infection)


def test_a_mask_of_another_size_than_its_dicom_image_is_a_fault(tmp_path: Path) -> None:
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    saved(tmp_path / "images", make(), "a.dcm")
    Image.fromarray(CLASSES).save(tmp_path / "masks" / "a.png")
    with pytest.raises(DatasetError, match=r"64x80.*but its image images/a\.dcm has 50x37"):
        open_dataset(tmp_path)


def test_marked_values_are_stated_for_each_target(tmp_path: Path) -> None:
    root = folder_of(tmp_path, {"a.png": "a.png"})
    (sample,) = open_dataset(root).samples
    with pytest.raises(ImageError, match="holds 3 values"):
        sample.read_mask("infection")
    plain = open_dataset(root)
    stated = open_dataset(root, Reading((0, 510), {"infection": MaskValues.parse("2")}))
    np.testing.assert_array_equal(stated.samples[0].read_mask("infection"), PHANTOM.infection)
    np.testing.assert_allclose(stated.samples[0].read_image().pixels, PHANTOM.image / 510, atol=1e-6)
    assert stated.fingerprint != plain.fingerprint
    assert str(stated.samples[0].reading) == "0:510, infection 2"


def test_arrays_follow_the_rules_of_mask_files() -> None:
    item = ArrayItem(Path("a.npz"), "masks", 3, CLASSES)
    sample = Sample("a", "train", None, item, {"infection": item})
    with pytest.raises(ImageError, match=r"a.npz\[masks\]\[3\] holds 3 values"):
        sample.read_mask("infection")
    stated = replace(sample, reading=Reading(mask_values={"infection": MaskValues.parse("1,2")}))
    np.testing.assert_array_equal(stated.read_mask("infection"), PHANTOM.lungs)


def test_names_without_a_suffix_and_rare_suffixes(tmp_path: Path) -> None:
    names = {"1.2.840.1": "1.2.840.1.png", "1.2.840.2": "1.2.840.2.png", "b.jfif": "b.png", "c.jpe": "c.jfif"}
    found = open_dataset(folder_of(tmp_path, names))
    assert [sample.image.name for sample in found.samples if isinstance(sample.image, Path)] == list(names)
