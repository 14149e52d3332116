"""Trees of folders of one's own: sub-folders, patients, categories, and what is not used."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cxrseg.audit.audit import audit_dataset
from cxrseg.data.layout import list_dataset, open_dataset
from cxrseg.data.sample import Dataset
from cxrseg.report.audit_page import write_audit
from made_dicom import make, saved


def png(path: Path, size: int = 32, marked: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((size, size), np.uint8)
    pixels[: size // 2] = 255 * marked
    Image.fromarray(pixels).save(path)


def pairs(root: Path, *names: str, images: str = "images", masks: str = "masks") -> None:
    for name in names:
        png(root / images / f"{name}.png")
        png(root / masks / f"{name}.png", marked=True)


def names(dataset: Dataset) -> list[str]:
    return [sample.name for sample in dataset.samples]


def test_pairs_in_sub_folders_are_read(tmp_path: Path) -> None:
    pairs(tmp_path, "a", "sub/a", "sub/deep/b")
    dataset = open_dataset(tmp_path)
    assert names(dataset) == ["a", "sub/a", "sub/deep/b"] and not dataset.unused
    assert [s.masks["infection"] for s in dataset.samples][1] == tmp_path / "masks/sub/a.png"


def test_splits_and_categories_below_images_are_read(tmp_path: Path) -> None:
    pairs(tmp_path, "train/COVID-19/a", "train/Normal/b", "val/COVID-19/c")
    dataset = open_dataset(tmp_path)
    assert names(dataset) == ["Train/COVID-19/a", "Train/Normal/b", "Val/COVID-19/c"]
    assert dataset.describe() == "train COVID-19 1, train Normal 1, val COVID-19 1"


def test_dev_is_a_split_and_what_is_none_is_named(tmp_path: Path) -> None:
    pairs(tmp_path / "train", "a", "b")
    pairs(tmp_path / "dev", "c")
    pairs(tmp_path / "part2", "d", "e")
    dataset = open_dataset(tmp_path)
    assert dataset.describe() == "train 2, val 1"
    assert dataset.unused == ("4 in part2",)
    assert dataset.unused_line == "image files not used: 4 in part2"


def test_images_without_counterpart_folder_are_named(tmp_path: Path) -> None:
    pairs(tmp_path, "a")
    png(tmp_path / "images/unmarked/b.png")
    png(tmp_path / "old/more/c.png")
    dataset = open_dataset(tmp_path)
    assert names(dataset) == ["a"]
    assert set(dataset.unused) == {"1 in images/unmarked", "1 in old"}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("holdout/images/c.jp2", "1 .jp2 in holdout"),
        ("val/c.nii.gz", "1 .nii.gz in val"),
        ("images/c.GIF", "1 .gif in images"),
        ("images/sub/c.npy", "1 .npy in images/sub"),
        ("val.zip", "1 .zip in {root}"),
        ("labels.json", None),
        ("more/.hidden.zip", None),
    ],
)
def test_kinds_of_images_that_are_not_read_are_named(tmp_path: Path, name: str, expected: str | None) -> None:
    pairs(tmp_path, "a")
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * 400)
    assert list(open_dataset(tmp_path).unused) == ([expected.format(root=tmp_path)] if expected else [])


def test_dicom_files_without_endings_that_are_not_used_are_named(tmp_path: Path) -> None:
    pairs(tmp_path, "a")
    (tmp_path / "more").mkdir()
    saved(tmp_path / "more", make(), "IM0001")
    (tmp_path / "more/readme").write_text("text")
    assert open_dataset(tmp_path).unused == ("1 in more",)


def test_what_a_link_leads_to_is_named_once(tmp_path: Path) -> None:
    root = tmp_path / "data"
    pairs(root / "train", "a")
    pairs(tmp_path / "elsewhere", "b", "c")
    for name in ("extra", "extra2"):
        (root / name).symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (root / "extra/round").symlink_to(root, target_is_directory=True)
    assert open_dataset(root).unused == ("4 in extra",)


@pytest.mark.parametrize("below", ["", "train"])
def test_categories_of_ones_own(tmp_path: Path, below: str) -> None:
    for category in ("Viral Pneumonia", "COVID", "influenza"):
        pairs(tmp_path / below / category, "a", "b")
    dataset = open_dataset(tmp_path)
    split = "train "
    assert dataset.describe() == f"{split}COVID-19 2, {split}influenza 2, {split}Viral Pneumonia 2"
    assert len(dataset.select(categories=["Viral Pneumonia"]).samples) == 2
    assert not dataset.unused


@pytest.mark.parametrize("layout", ["bare", "named", "folders"])
def test_one_folder_a_patient(tmp_path: Path, layout: str) -> None:
    for patient in ("p1", "p2", "p10"):
        if layout == "bare":
            png(tmp_path / patient / "image.png")
            png(tmp_path / patient / "mask.png", marked=True)
            png(tmp_path / patient / "lungs.png", marked=True)
        elif layout == "named":
            png(tmp_path / patient / "x.png")
            png(tmp_path / patient / "x_mask.png", marked=True)
        else:
            pairs(tmp_path / patient, "x", "y")
    dataset = open_dataset(tmp_path)
    assert "one a patient" in dataset.layout
    assert list(dict.fromkeys(s.patient for s in dataset.samples)) == ["p1", "p2", "p10"]
    assert {s.category for s in dataset.samples} == {None}
    mask = dataset.samples[0].read_mask("infection")
    assert mask is not None and mask.any()


def test_folders_of_many_images_are_no_patients(tmp_path: Path) -> None:
    for site in ("site1", "site2", "site3"):
        pairs(tmp_path / site, *(f"f{n}" for n in range(12)))
    dataset = open_dataset(tmp_path)
    assert dataset.describe() == "train site1 12, train site2 12, train site3 12"
    assert {s.patient for s in dataset.samples} == {None}


def test_the_radiography_database_has_lungs_of_another_size(tmp_path: Path) -> None:
    for folder in ("COVID", "Lung_Opacity", "Normal", "Viral Pneumonia"):
        png(tmp_path / folder / "images" / f"{folder}-1.png", 299)
        png(tmp_path / folder / "masks" / f"{folder}-1.png", 256, marked=True)
    dataset, faults = list_dataset(tmp_path)
    assert not faults and dataset.layout == "COVID-19 Radiography Database"
    assert dataset.describe() == "train COVID-19 1, train Normal 1, train Lung_Opacity 1, train Viral Pneumonia 1"
    sample = dataset.samples[0]
    lungs = sample.read_mask("lungs")
    assert lungs is not None and lungs.shape == (299, 299) and abs(lungs.mean() - 0.5) < 0.01
    assert sample.read_mask("infection") is None


def test_one_inner_folder_is_entered_and_the_rest_named(tmp_path: Path) -> None:
    pairs(tmp_path / "data", "a")
    png(tmp_path / "other" / "b.png")
    dataset = open_dataset(tmp_path)
    assert names(dataset) == ["a"] and dataset.samples[0].category is None
    assert dataset.unused == ("1 in other",)


def test_a_table_takes_categories_of_ones_own(tmp_path: Path) -> None:
    pairs(tmp_path, "a", "b")
    (tmp_path / "t.csv").write_text(
        "image,mask,category\nimages/a.png,masks/a.png,flu\nimages/b.png,masks/b.png,covid\n"
    )
    assert [s.category for s in open_dataset(tmp_path / "t.csv").samples] == ["flu", "COVID-19"]


def test_names_that_are_not_utf_8(tmp_path: Path) -> None:
    name = os.fsdecode(b"film\xff")
    try:
        pairs(tmp_path / "data", name, "other")
    except OSError:
        pytest.skip("this file system takes no such names")
    dataset = open_dataset(tmp_path / "data")
    assert sorted(names(dataset)) == ["film\\xff", "other"]
    assert len(dataset.fingerprint) > 8
    page, data = write_audit(audit_dataset(dataset), tmp_path / "audit")
    assert "film\\xff" in page.read_text(encoding="utf-8")
    assert json.loads(data.read_text(encoding="utf-8"))
