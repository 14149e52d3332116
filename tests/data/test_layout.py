from __future__ import annotations

import csv
import logging
import os
import shutil
import subprocess
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cxrseg.data.layout import open_dataset
from cxrseg.data.pairs import mask_of, natural_key
from cxrseg.data.sample import ArrayItem, Dataset, Sample
from cxrseg.data.splits import as_category, as_split, hold_out
from cxrseg.errors import DatasetError, RecipeError
from made_rights import run_with_rights

SHARED = Path(__file__).resolve().parents[3] / "shared" / "covid-qu-ex"
real = pytest.mark.skipif(not SHARED.is_dir(), reason="the real COVID-QU-Ex is not beside the checkout")

INFECTION = "Infection Segmentation Data"
LUNG = "Lung Segmentation Data"


def png(path: Path, size: tuple[int, int] = (4, 4), value: int = 0) -> Path:
    """Write a PNG of (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, value).save(path)
    return path


def category(folder: Path, names: list[str], infection: bool = True) -> None:
    for name in names:
        for kind in ("images", "lung masks", *(["infection masks"] if infection else [])):
            png(folder / kind / f"{name}.png")


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    root = tmp_path / "archive"
    inner = root / INFECTION / INFECTION
    for split in ("Train", "Val", "Test"):
        category(inner / split / "COVID-19", [f"covid_{n}" for n in (1, 2, 10)])
        category(inner / split / "Non-COVID", ["non_COVID (7)"])
        category(inner / split / "Normal", ["Normal (3)"])
    (root / "COVID-QU-Ex dataset.txt").write_text("about")
    return root


def faults_of(path: Path) -> tuple[str, ...]:
    with pytest.raises(DatasetError) as caught:
        open_dataset(path)
    return caught.value.faults


def message_of(path: Path) -> str:
    with pytest.raises(DatasetError) as caught:
        open_dataset(path)
    return str(caught.value)


def names(dataset: Dataset) -> list[str]:
    return [sample.name for sample in dataset.samples]


# COVID-QU-Ex


@pytest.mark.parametrize("level", ["..", ".", INFECTION, f"{INFECTION}/{INFECTION}"])
def test_covid_qu_ex_is_the_same_from_every_level(archive: Path, level: str) -> None:
    dataset = open_dataset(archive / level)
    assert dataset.layout == "COVID-QU-Ex infection segmentation data"
    assert dataset.describe() == (
        "train COVID-19 3, train Non-COVID 1, train Normal 1, val COVID-19 3, val Non-COVID 1, val Normal 1, "
        "test COVID-19 3, test Non-COVID 1, test Normal 1"
    )
    assert names(dataset)[:4] == [
        "Train/COVID-19/covid_1",
        "Train/COVID-19/covid_2",
        "Train/COVID-19/covid_10",
        "Train/Non-COVID/non_COVID (7)",
    ]
    assert dataset.fingerprint == open_dataset(archive).fingerprint


def test_covid_qu_ex_pairs_the_right_files(archive: Path) -> None:
    sample = open_dataset(archive).samples[1]
    folder = archive / INFECTION / INFECTION / "Train" / "COVID-19"
    assert sample == Sample(
        name="Train/COVID-19/covid_2",
        split="train",
        category="COVID-19",
        image=folder / "images" / "covid_2.png",
        masks={
            "infection": folder / "infection masks" / "covid_2.png",
            "lungs": folder / "lung masks" / "covid_2.png",
        },
    )


def test_one_split_or_category_alone(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = archive / INFECTION / INFECTION
    val = open_dataset(inner / "Val")
    assert val.describe() == "val COVID-19 3, val Non-COVID 1, val Normal 1"
    normal = open_dataset(inner / "Val" / "Normal")
    assert names(normal) == ["Val/Normal/Normal (3)"]
    assert normal.samples[0].split == "val"
    monkeypatch.chdir(inner / "Val" / "Normal")
    assert names(open_dataset(".")) == ["Val/Normal/Normal (3)"]


def test_lung_data_need_no_infection_masks(archive: Path, caplog: pytest.LogCaptureFixture) -> None:
    lung = archive / LUNG / LUNG
    category(lung / "Train" / "Normal", ["a"], infection=False)
    with caplog.at_level(logging.INFO, logger="cxrseg"):
        assert "infection" in open_dataset(archive).layout
    assert f"for the lung data name {archive / LUNG}" in caplog.text
    for level in (archive / LUNG, lung, lung / "Train", lung / "Train" / "Normal"):
        dataset = open_dataset(level)
        assert dataset.layout == "COVID-QU-Ex lung segmentation data"
        assert names(dataset) == ["Train/Normal/a"]
        assert list(dataset.samples[0].masks) == ["lungs"]
    shutil.rmtree(archive / INFECTION)
    assert names(open_dataset(archive)) == ["Train/Normal/a"]


def test_infection_data_without_a_folder_of_masks(archive: Path) -> None:
    train = archive / INFECTION / INFECTION / "Train"
    shutil.rmtree(train / "Normal" / "infection masks")
    shutil.rmtree(train / "COVID-19" / "lung masks")
    place = f"{INFECTION}/{INFECTION}/Train"
    assert faults_of(archive) == (
        f"{place}/COVID-19: expected a folder of lung masks, found none",
        f"{place}/Normal: expected a folder of infection masks, found none",
    )
    assert "infection masks, found none" in message_of(train / "Normal")


def test_every_kind_of_fault_in_one_error(archive: Path) -> None:
    train = archive / INFECTION / INFECTION / "Train"
    (train / "COVID-19" / "infection masks" / "covid_1.png").unlink()
    (train / "COVID-19" / "images" / "covid_2.png").unlink()
    png(train / "Normal" / "lung masks" / "Normal (3).png", (5, 4))
    (train / "Non-COVID" / "images" / "non_COVID (7).png").write_bytes(b"no image")
    (train / "Non-COVID" / "lung masks" / "non_COVID (7).png").write_bytes(b"")
    shutil.copy(train / "COVID-19/images/covid_10.png", train / "COVID-19/images/covid_10.bmp")
    text = message_of(archive)
    faults = faults_of(archive)
    assert len(faults) == 7
    assert "has 7 faults" in text
    place = f"{INFECTION}/{INFECTION}/Train"
    for expected in (
        f"{place}/COVID-19/images/covid_1.png: image without its infection mask",
        f"{place}/COVID-19/infection masks/covid_2.png: infection mask without an image",
        f"{place}/COVID-19/lung masks/covid_2.png: lung mask without an image",
        f"{place}/COVID-19/images/covid_10.png: has the same name as {place}/COVID-19/images/covid_10.bmp",
        f"{place}/Normal/lung masks/Normal (3).png: lung mask of 5x4 (width x height), but its image",
        f"{train / 'Non-COVID' / 'images' / 'non_COVID (7).png'} is none of",
        f"{train / 'Non-COVID' / 'lung masks' / 'non_COVID (7).png'} is none of",
    ):
        assert sum(expected in fault for fault in faults) == 1, expected
        assert expected in text


def test_a_split_that_is_not_there(archive: Path) -> None:
    shutil.rmtree(archive / INFECTION / INFECTION / "Test")
    with pytest.raises(DatasetError, match=r"no images of split test.*it has: train COVID-19 3"):
        open_dataset(archive).select("test")


def test_junk_is_left_out(archive: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = open_dataset(archive)
    images = archive / INFECTION / INFECTION / "Train" / "COVID-19" / "images"
    for name in ("._covid_1.png", "Thumbs.db", "desktop.ini", ".DS_Store", "notes.doc"):
        (images / name).write_bytes(b"junk")
    png(archive / "__MACOSX" / INFECTION / "images" / "x.png")
    png(archive / INFECTION / "__MACOSX" / "Train" / "images" / "x.png")
    assert open_dataset(archive).samples == before.samples
    assert "1 .doc" in caplog.text
    assert ".db" not in caplog.text
    assert ".ini" not in caplog.text
    png(archive.parent / "__MACOSX" / "x.png")
    assert open_dataset(archive.parent).samples == before.samples


@real
def test_real_covid_qu_ex() -> None:
    dataset = open_dataset(SHARED)
    assert dataset.layout == "COVID-QU-Ex infection segmentation data"
    assert dataset.describe() == (
        "train COVID-19 1864, train Non-COVID 932, train Normal 932, "
        "val COVID-19 466, val Non-COVID 233, val Normal 233"
    )
    assert len(dataset.select("train").samples) == 3728
    assert all(set(sample.masks) == {"infection", "lungs"} for sample in dataset.samples)
    val = open_dataset(SHARED / INFECTION / INFECTION / "Val" / "COVID-19")
    assert val.samples == dataset.select("val", ["COVID-19"]).samples
    assert val.samples[0].read_image().shape == (256, 256)


# QaTa-COV19


@pytest.mark.parametrize("level", [".", "QaTa-COV19", "QaTa-COV19/QaTa-COV19-v2"])
def test_qata(tmp_path: Path, level: str) -> None:
    version_1, version_2 = (tmp_path / "QaTa-COV19" / f"QaTa-COV19-v{number}" for number in (1, 2))
    png(version_1 / "Images" / "old.png")
    for split, stems in (("Train Set", ["covid_2", "covid_10"]), ("Test Set", ["covid_1"])):
        for stem in stems:
            png(version_2 / split / "Images" / f"{stem}.png")
            png(version_2 / split / "Ground-truths" / f"mask_{stem}.png")
    dataset = open_dataset(tmp_path / level)
    assert dataset.layout == "QaTa-COV19"
    assert dataset.describe() == "train COVID-19 2, test COVID-19 1"
    assert names(dataset)[0] == "Train/COVID-19/covid_2"
    assert dataset.samples[2].masks == {"infection": version_2 / "Test Set" / "Ground-truths" / "mask_covid_1.png"}
    with pytest.raises(DatasetError, match="split val"):
        dataset.select("val")
    (version_2 / "Test Set" / "Images" / "covid_1.png").rename(version_2 / "Test Set" / "Images" / "c.png")
    assert len(faults_of(tmp_path / level)) == 2


# MedSegBench


def arrays(path: Path, **changes: object) -> Path:
    random = np.random.default_rng(0)
    stored: dict[str, object] = {}
    for split, count in (("train", 3), ("val", 2), ("test", 1)):
        stored[f"{split}_images"] = random.integers(0, 256, (count, 4, 5), dtype=np.uint8)
        stored[f"{split}_label"] = random.integers(0, 2, (count, 4, 5), dtype=np.uint8)
    stored |= changes
    np.savez_compressed(path, **{key: value for key, value in stored.items() if value is not None})
    return path


@pytest.mark.parametrize("full", [1, 255])
@pytest.mark.parametrize("axes", [3, 4])
def test_medsegbench(tmp_path: Path, full: int, axes: int) -> None:
    images = np.arange(40, dtype=np.uint8).reshape(2, 4, 5)
    label = (images > 20).astype(np.uint8) * full
    if axes == 4:
        images, label = images[..., None], label[..., None]
    path = arrays(tmp_path / "covidquex_256.npz", val_images=images, val_label=label)
    dataset = open_dataset(path)
    assert dataset.describe() == "train COVID-19 3, val COVID-19 2, test COVID-19 1"
    sample = dataset.select("val").samples[1]
    assert sample.name == "Val/1"
    assert isinstance(sample.image, ArrayItem)
    np.testing.assert_allclose(sample.read_image().pixels, np.arange(20, 40).reshape(4, 5) / 255, rtol=1e-6)
    mask = sample.read_mask("infection")
    assert mask is not None
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask, np.arange(20, 40).reshape(4, 5) > 20)
    assert sample.read_mask("lungs") is None


def test_colour_becomes_luma(tmp_path: Path) -> None:
    images = np.zeros((1, 2, 2, 3), dtype=np.uint8)
    images[0, 0, 0], images[0, 1, 1] = (255, 255, 255), (100, 0, 0)
    path = arrays(tmp_path / "a.npz", test_images=images, test_label=np.zeros((1, 2, 2), np.uint8))
    image = open_dataset(path).select("test").samples[0].image
    assert isinstance(image, ArrayItem)
    np.testing.assert_array_equal(image.pixels, [[255, 0], [0, 30]])
    assert image.pixels.dtype == np.uint8


def test_npz_faults_are_listed_together(tmp_path: Path) -> None:
    path = arrays(
        tmp_path / "a.npz",
        train_label=None,
        val_label=np.zeros((3, 4, 5), np.uint8),
        test_images=np.zeros((1, 4, 5), np.float32),
        test_label=np.zeros((1, 4, 5, 2), np.uint8),
    )
    faults = faults_of(path)
    assert len(faults) == 4
    assert faults[0] == "a.npz: has train_images but no train_label"
    assert "(2, 4, 5)" in faults[1]
    assert "float32" in faults[2]
    assert "(1, 4, 5, 2)" in faults[3]
    gray = arrays(tmp_path / "b.npz", val_label=np.arange(40, dtype=np.uint8).reshape(2, 4, 5))
    assert "expected labels of 0 and 1" in faults_of(gray)[0]


def test_damaged_npz(tmp_path: Path) -> None:
    whole = arrays(tmp_path / "a.npz").read_bytes()
    middle = bytearray(whole)
    middle[60:100] = bytes(40)
    for number, data in enumerate((b"", b"no archive", whole[: len(whole) // 2], bytes(middle))):
        path = tmp_path / f"damaged_{number}.npz"
        path.write_bytes(data)
        assert "damaged" in message_of(path)
    np.save(tmp_path / "one.npy", np.zeros(3))
    (tmp_path / "one.npy").rename(tmp_path / "one.npz")
    assert "damaged, or is not an .npz" in message_of(tmp_path / "one.npz")
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    assert "it holds: x" in message_of(tmp_path / "other.npz")


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, ("exploded",)


def test_pickle_is_never_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    boxed = np.empty((1, 4, 5), dtype=object)
    boxed[:] = Bomb()
    assert "pickle" in message_of(arrays(tmp_path / "a.npz", train_images=boxed)).lower()
    assert not (tmp_path / "exploded").exists()


# CSV


def table(path: Path, rows: list[list[str]], delimiter: str = ",", encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding=encoding) as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)
    return path


@pytest.mark.parametrize(("delimiter", "encoding"), [(",", "utf-8"), (";", "utf-8-sig"), ("\t", "utf-8")])
def test_csv(tmp_path: Path, delimiter: str, encoding: str) -> None:
    for name in ("p/a.png", "p/b.png", "m/a i.png", "m/a_l.png", "m/b.png"):
        png(tmp_path / name)
    rows = [
        ["Image", "Mask", "lungs", "split", "category", "name", "remark"],
        ["p/b.png", "", "m/b.png", "", "", "", "ü"],
        ["p\\a.png", "m/a i.png", str(tmp_path / "m" / "a_l.png"), "Validation", "covid19", "first", ""],
        [],
    ]
    dataset = open_dataset(table(tmp_path / "pairs.csv", rows, delimiter, encoding))
    assert dataset.layout == "CSV of pairs"
    assert dataset.samples == (
        Sample("p/b", "train", None, tmp_path / "p/b.png", {"lungs": tmp_path / "m/b.png"}),
        Sample(
            "first",
            "val",
            "COVID-19",
            tmp_path / "p/a.png",
            {"infection": tmp_path / "m/a i.png", "lungs": tmp_path / "m/a_l.png"},
        ),
    )


def test_csv_faults_are_listed_together(tmp_path: Path) -> None:
    png(tmp_path / "a.png")
    png(tmp_path / "m.png", (9, 9))
    rows = [
        ["image", "infection", "split", "category"],
        ["a.png", "m.png", "", ""],
        ["a.png", "gone.png", "", ""],
        ["", "", "", ""],
        ["", "m.png", "eval", "flu"],
        ["a.png"],
        ["..", "m.png", "", ""],
    ]
    faults = faults_of(table(tmp_path / "t.csv", rows))
    assert faults[:3] == (
        "t.csv, row 5: the cell image is empty",
        "t.csv, row 5: expected the split train, val, test, got 'eval'",
        "t.csv, row 6: no mask is named (infection, opacity, lungs)",
    )
    text = "\n".join(faults[3:])
    assert "a: 2 images have this name (a.png, a.png)" in text
    assert f"{tmp_path / 'gone.png'} does not exist" in text
    assert f"{tmp_path / '..'} is not a file" in text
    assert "m.png: infection mask of 9x9 (width x height), but its image a.png has 4x4" in text
    assert len(faults) == 7


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "the first line has: nothing"),
        (b"image,label\na,b\n", "the first line has: image, label"),
        (b"mask\na\n", "columns image"),
        (b"image,mask,infection\na,b,c\n", "two columns for infection"),
        (b"image,mask\n", "no rows"),
        ("image,mask\nü,b".encode("latin-1"), "UTF-8"),
        (b'image,mask\n"a,b\n', "not a valid CSV"),
    ],
)
def test_csv_that_is_none(tmp_path: Path, content: bytes, expected: str) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    assert expected in message_of(tmp_path / "t.csv")


# A user's own folders


def test_own_folders_with_splits_and_other_endings(tmp_path: Path) -> None:
    for split in ("TRAIN", "val", "Test"):
        png(tmp_path / split / "images" / "a.png")
        png(tmp_path / split / "masks" / "a.bmp")
    dataset = open_dataset(tmp_path)
    assert dataset.layout == "folders of images and masks"
    assert names(dataset) == ["Train/a", "Val/a", "Test/a"]
    assert dataset.samples[0].category is None
    assert dataset.samples[0].masks == {"infection": tmp_path / "TRAIN" / "masks" / "a.bmp"}


@pytest.mark.parametrize(
    ("folder", "target"),
    [
        ("masks", "infection"),
        ("Infection Masks", "infection"),
        ("infection", "infection"),
        ("lung_masks", "lungs"),
        ("lungs", "lungs"),
    ],
)
def test_own_folders_without_splits_are_for_training(tmp_path: Path, folder: str, target: str) -> None:
    for number in (10, 9):
        png(tmp_path / "images" / f"a{number}.png")
        png(tmp_path / folder / f"a{number}_mask.png")
    dataset = open_dataset(tmp_path)
    assert names(dataset) == ["a9", "a10"]
    assert {sample.split for sample in dataset.samples} == {"train"}
    assert list(dataset.samples[0].masks) == [target]


def test_images_above_their_masks(tmp_path: Path) -> None:
    png(tmp_path / "a.png")
    png(tmp_path / "masks" / "a.png")
    assert open_dataset(tmp_path).samples[0].masks == {"infection": tmp_path / "masks" / "a.png"}


def test_side_by_side(tmp_path: Path) -> None:
    for name in ("a", "a_mask", "b b", "mask_b b", "c", "c_infection", "患者", "患者_infection_mask"):
        png(tmp_path / f"{name}.png")
    dataset = open_dataset(tmp_path)
    assert names(dataset) == ["a", "b b", "c", "患者"]
    assert [sample.masks["infection"].name for sample in dataset.samples] == [  # type: ignore[union-attr]
        "a_mask.png",
        "mask_b b.png",
        "c_infection.png",
        "患者_infection_mask.png",
    ]
    for name in ("a_lungs", "c_lung_mask", "z_mask"):
        png(tmp_path / f"{name}.png")
    assert faults_of(tmp_path) == (
        "z_mask.png: infection mask without an image",
        "b b.png: image without its lung mask",
        "患者.png: image without its lung mask",
    )


def test_images_that_are_named_like_masks(tmp_path: Path) -> None:
    for name in ("a_mask", "mask_a"):
        png(tmp_path / "images" / f"{name}.png")
        png(tmp_path / "masks" / f"{name}.png")
    assert [(s.name, s.masks["infection"]) for s in open_dataset(tmp_path).samples] == [
        (name, tmp_path / "masks" / f"{name}.png") for name in ("a_mask", "mask_a")
    ]


def test_accents_match_however_they_are_spelt(tmp_path: Path) -> None:
    composed, taken_apart = (unicodedata.normalize(form, "é") for form in ("NFC", "NFD"))
    png(tmp_path / "images" / f"{composed}.png")
    png(tmp_path / "masks" / f"{taken_apart}.png")
    assert names(open_dataset(tmp_path)) == [composed]


def test_a_turned_jpeg_has_its_upright_size(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "images").mkdir()
    Image.new("L", (8, 4)).save(tmp_path / "images" / "a.jpg", exif=exif)
    png(tmp_path / "masks" / "a.png", (4, 8))
    assert names(open_dataset(tmp_path)) == ["a"]


def test_only_headers_are_read(tmp_path: Path) -> None:
    for folder in ("images", "masks"):
        whole = png(tmp_path / folder / "a.png", (64, 32), 3).read_bytes()
        (tmp_path / folder / "a.png").write_bytes(whole[:-30])
    assert names(open_dataset(tmp_path)) == ["a"]


# Nothing that fits


def test_no_such_place(tmp_path: Path) -> None:
    assert f"{tmp_path / 'x'}, found no folder or file" in message_of(tmp_path / "x")


def test_empty_folder(tmp_path: Path) -> None:
    assert "is an empty folder" in message_of(tmp_path)
    (tmp_path / "images").mkdir()
    assert "images, found none" in message_of(tmp_path)


def test_what_is_there_instead_is_told(tmp_path: Path) -> None:
    png(tmp_path / "x" / "images" / "a.png")
    png(tmp_path / "x" / "masks" / "a.png")
    png(tmp_path / "y" / "b.png")
    png(tmp_path / "z" / "b.png")
    shutil.rmtree(tmp_path / "x" / "masks")
    (tmp_path / "x" / "images").rename(tmp_path / "x" / "films")
    text = message_of(tmp_path)
    assert "folders x, y, z" in text
    png(tmp_path / "x" / "masks" / "a.png")
    (tmp_path / "x" / "films").rename(tmp_path / "x" / "images")
    assert "QaTa-COV19 v2:" in text
    assert "it contains 1 .png" in message_of(tmp_path / "y")
    assert f"name {tmp_path / 'x'} instead" in message_of(tmp_path / "x" / "images")


def test_images_without_any_masks(tmp_path: Path) -> None:
    png(tmp_path / "images" / "a.png")
    assert faults_of(tmp_path) == (f"{tmp_path}: expected a folder of infection masks, found none",)


@pytest.mark.parametrize(("name", "expected"), [("a.zip", "unpack it"), ("a.png", "expected a folder, .npz or .csv")])
def test_a_file_of_another_kind(tmp_path: Path, name: str, expected: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    assert expected in message_of(tmp_path / name)


@pytest.mark.parametrize("right", [0, 0o444])
def test_a_folder_that_may_not_be_read(tmp_path: Path, right: int) -> None:
    closed = tmp_path / "data" / "closed"
    (closed / "images").mkdir(parents=True)
    closed.chmod(right)
    try:
        done = run_with_rights("data", "check", "data", "-o", "audit", cwd=tmp_path)
    finally:
        closed.chmod(0o755)
    assert done.returncode == 3
    assert done.stderr.startswith("Error: data/closed") and done.stderr.endswith("cannot be read: Permission denied\n")


@pytest.mark.parametrize("name", ["d", "deep"])
def test_1200_nested_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """With names of four letters, the path of the deepest is longer than a path may be."""
    if shutil.which("rm") is None:
        pytest.skip("this system has no rm, and shutil.rmtree calls itself, up to Python's limit")
    for kind in ("images", "masks"):
        (tmp_path / "data" / kind).mkdir(parents=True)
        Image.new("L", (64, 64)).save(tmp_path / "data" / kind / "a.png")
    (tmp_path / "data" / "more").mkdir()
    try:
        with monkeypatch.context() as patch:
            patch.chdir(tmp_path / "data" / "more")
            for _ in range(1200):
                os.mkdir(name)  # noqa: PTH102
                patch.chdir(name)
            Image.new("L", (64, 64)).save("b.png")
        dataset = open_dataset(tmp_path / "data")
    finally:
        subprocess.run(["rm", "-rf", str(tmp_path / "data" / "more")], check=True)
    assert [sample.name for sample in dataset.samples] == ["a"]
    assert dataset.unused == (("1 in more",) if name == "d" else ())


# Words, order, holding out


@pytest.mark.parametrize(
    ("word", "split"),
    [
        ("Train Set", "train"),
        ("VAL", "val"),
        ("valid", "val"),
        ("test_set", "test"),
        ("set", None),
        ("a", None),
    ],
)
def test_words_for_splits(word: str, split: str | None) -> None:
    assert as_split(word) == split


def test_words_for_categories() -> None:
    assert [as_category(word) for word in ("covid19", "NON_COVID", "normal", "abnormal")] == [
        "COVID-19",
        "Non-COVID",
        "Normal",
        None,
    ]


def test_words_for_masks() -> None:
    stems = (
        "a_mask",
        "mask_a",
        "a-infection",
        "a_lungs",
        "a_lung_mask",
        "a_b_infection_mask",
        "unmask",
        "mask",
    )
    assert [mask_of(stem) for stem in stems] == [
        ("a", "infection"),
        ("a", "infection"),
        ("a", "infection"),
        ("a", "lungs"),
        ("a", "lungs"),
        ("a_b", "infection"),
        None,
        None,
    ]


def test_natural_order() -> None:
    stems = ["a10", "B1", "a2", "10", "A2", "9", "é", "a", ""]
    assert sorted(stems, key=natural_key) == ["", "9", "10", "a", "A2", "a2", "a10", "B1", "é"]


def own(counts: dict[tuple[str, str | None], int]) -> Dataset:
    samples = [
        Sample(f"{split}/{kind}/{number}", split, kind, Path(f"{number}.png"), {})
        for (split, kind), count in counts.items()
        for number in range(count)
    ]
    return Dataset(Path("own"), "made up", tuple(samples))


def test_hold_out_takes_a_fraction_of_each_category() -> None:
    dataset = own({("train", "COVID-19"): 100, ("train", "Normal"): 50, ("train", None): 1, ("test", None): 7})
    held = hold_out(dataset, "val", 0.1)
    counts = {
        (split, kind): sum((s.split, s.category) == (split, kind) for s in held.samples)
        for split in ("train", "val", "test")
        for kind in ("COVID-19", "Normal", None)
    }
    assert list(counts.values()) == [90, 45, 1, 10, 5, 0, 0, 0, 7]
    assert names(held) == names(dataset)
    assert dataset.describe().startswith("train COVID-19 100")


def test_hold_out_is_seeded_and_does_not_depend_on_order() -> None:
    dataset = own({("train", "COVID-19"): 40})
    turned = Dataset(dataset.root, dataset.layout, dataset.samples[::-1])

    def chosen(data: Dataset, seed: int) -> set[str]:
        return set(names(hold_out(data, "test", 0.25, seed).select("test")))

    assert chosen(dataset, 0) == chosen(turned, 0)
    assert chosen(dataset, 0) != chosen(dataset, 1)
    assert len(chosen(dataset, 0)) == 10


def test_hold_out_never_changes_its_choice() -> None:
    # Another choice would let a model be judged on images that it has been trained on.
    held = hold_out(own({("train", "COVID-19"): 10}), "test", 0.3)
    assert names(held.select("test")) == ["train/COVID-19/2", "train/COVID-19/8", "train/COVID-19/9"]


def test_hold_out_leaves_and_takes_at_least_one() -> None:
    dataset = own({("train", None): 2})
    for fraction in (0.01, 0.99):
        assert hold_out(dataset, "val", fraction).describe() in ("train 1, val 1", "val 1, train 1")


def test_hold_out_refuses() -> None:
    dataset = own({("train", None): 9, ("val", None): 1})
    with pytest.raises(RecipeError, match="'val' or 'test', got 'train'"):
        hold_out(dataset, "train", 0.1)
    for fraction in (0.0, 1.0, float("nan")):
        with pytest.raises(RecipeError, match="between 0 and 1"):
            hold_out(dataset, "test", fraction)
    with pytest.raises(DatasetError, match="already has images of split val"):
        hold_out(dataset, "val", 0.1)
    with pytest.raises(DatasetError, match="at least two training images"):
        hold_out(own({("train", None): 1}), "val", 0.5)
