"""For foreign_use.py: trees of images and masks, of which every pair must be used, or what is not be named."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr
from pathlib import Path

import numpy as np

from cxrseg.data.layout import list_dataset
from cxrseg.errors import CxrsegError
from foreign_dicom import dicom
from foreign_trials import NO, REFUSED, WARNED, YES, Result, Trial, write_film, write_mask

Make = Callable[[Path], object]


def pair(image: Path, mask: Path, seed: int = 0) -> None:
    write_film(image, seed)
    write_mask(mask, seed)


def pairs(root: Path, *names: str, images: str = "images", masks: str = "masks") -> None:
    for seed, name in enumerate(names):
        pair(root / images / f"{name}.png", root / masks / f"{name}.png", seed)


def trial(name: str, right: str, expected: int, make: Make, named: str = "", splits: str = "") -> Trial:
    """Right is `expected` pairs; fewer are 'warned' where the words `named` (or any count) are said."""

    def run(folder: Path) -> Result:
        root = folder / "data"
        make(root)
        try:
            with redirect_stderr(io.StringIO()):
                dataset, faults = list_dataset(root)
        except CxrsegError as error:
            return f"refused: {error}", REFUSED
        said = dataset.unused_line
        found = len(dataset.samples)
        came = f"{found} of {expected} pairs ({dataset.describe()}); {said}; {faults[0] if faults else ''}"
        if faults:
            return came, REFUSED
        if found == expected and (not splits or dataset.describe() == splits) and (not named or named in said):
            return came, YES
        return came, WARNED if said and found < expected and named in said else NO

    return Trial("datasets", name, right, run)


def _dicoms(folder: Path) -> None:
    folder.mkdir(parents=True)
    for number in range(3):
        (folder / f"1.2.840.{number}").write_bytes(dicom(np.full((8, 8), number, np.uint16)))


def _files(folder: Path, *names: str, content: bytes = b"x" * 400) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(content)


def _zipped(root: Path) -> None:
    pairs(root / "train", "a", "b")
    with zipfile.ZipFile(root / "val.zip", "w") as archive:
        archive.writestr("val/images/c.png", b"x")


def _linked(root: Path) -> None:
    pairs(root / "train", "a", "b")
    pairs(root.parent / "elsewhere", "c", "d", "e")
    (root / "extra").symlink_to(root.parent / "elsewhere", target_is_directory=True)


def _linked_split(root: Path) -> None:
    pairs(root / "train", "a", "b")
    pairs(root.parent / "elsewhere", "c")
    (root / "val").symlink_to(root.parent / "elsewhere", target_is_directory=True)


def _beside_train(make: Make) -> Make:
    """A training part of two pairs, and something else beside it."""

    def both(root: Path) -> None:
        pairs(root / "train", "a", "b")
        make(root)

    return both


def _study_tree(root: Path) -> None:
    for site in ("site_a", "site_b"):
        for patient in ("p1", "p2", "p3"):
            for study in ("s1", "s2"):
                place = root / site / patient / study
                pair(place / "image.png", place / "mask.png")


def _labelled(root: Path) -> None:
    for name in ("a", "b"):
        write_film(root / f"{name}.png")
        _files(root, f"{name}.json", content=b'{"shapes": []}')


def _voc(root: Path) -> None:
    pairs(root, "a", "b", images="JPEGImages", masks="SegmentationClass")
    _files(root / "ImageSets/Segmentation", "default.txt")


def _montgomery(root: Path) -> None:
    for name in ("a", "b"):
        write_film(root / f"CXR_png/{name}.png")
        for side in ("left", "right"):
            write_mask(root / f"ManualMask/{side}Mask/{name}.png")


def _nnunet(root: Path) -> None:
    for name in ("case_001", "case_002"):
        pair(root / f"imagesTr/{name}_0000.png", root / f"labelsTr/{name}.png")
    pair(root / "imagesTs/case_003_0000.png", root / "labelsTs/case_003.png")
    _files(root, "dataset.json", content=b"{}")


def _camvid(root: Path) -> None:
    for split in ("train", "val"):
        pairs(root, "a", "b", images=split, masks=f"{split}annot")


def _kaggle(root: Path) -> None:
    for split in ("train", "val"):
        pairs(root, f"{split}1", f"{split}2", images=f"{split}_images", masks=f"{split}_masks")


def _cases_differ(root: Path) -> None:
    write_film(root / "images/COVID/a.png")
    write_mask(root / "masks/covid/a.png")
    pairs(root, "Normal/b")


def _test_without_masks(root: Path) -> None:
    pairs(root / "train", "a", "b")
    write_film(root / "test/images/c.png")


def datasets() -> Iterator[Trial]:
    """More than ten trees that neither the issue nor the tests name."""
    two_named = "2 pairs, and the rest named"
    yield trial("imagesTr, labelsTr, imagesTs (nnU-Net)", "3 pairs, or refused", 3, _nnunet)
    yield trial("JPEGImages, SegmentationClass (VOC, CVAT)", "2 pairs, or refused", 2, _voc)
    yield trial("NAME.png with NAME.json (labelme)", "refused", 2, _labelled)
    yield trial("CXR_png, ManualMask/leftMask (Montgomery)", "refused", 2, _montgomery)
    yield trial("train, trainannot, val, valannot (CamVid)", "4 pairs, or refused", 4, _camvid)
    yield trial("train_images, train_masks, val_images, val_masks", "4 pairs, or refused", 4, _kaggle)
    yield trial("images beside labels", "2 pairs", 2, lambda root: pairs(root, "a", "b", masks="labels"))
    yield trial("imgs beside gt", "2 pairs", 2, lambda root: pairs(root, "a", "b", images="imgs", masks="gt"))
    yield trial("NAME.png, NAME_seg.png", "refused", 1, lambda root: pair(root / "a.png", root / "a_seg.png"))
    yield trial("site, patient and study folders", "12 pairs", 12, _study_tree)
    yield trial("test of images alone", "refused", 2, _test_without_masks)
    yield trial("images/COVID, masks/covid", "2 pairs", 2, _cases_differ)
    yield trial("a link to a split", "3 pairs", 3, _linked_split, splits="train 2, val 1")
    yield trial("a link to more pairs", two_named, 2, _linked, named="extra")
    yield trial("val.zip beside train", two_named, 2, _zipped, named="1 .zip in")
    more: list[tuple[str, Make, str]] = [
        ("DICOM files without endings beside train", lambda root: _dicoms(root / "more"), "more"),
        ("val of NIfTI files", lambda root: _files(root / "val", "c.nii.gz", "c_mask.nii.gz"), "val"),
        ("holdout of .jp2 files", lambda root: _files(root / "holdout/images", "c.jp2", "d.jp2"), "holdout"),
        ("part2 of .npy files", lambda root: _files(root / "part2", "c.npy", "c_mask.npy"), "part2"),
        ("a folder of .gif files", lambda root: _files(root / "gifs/images", "c.gif"), "gifs"),
        ("external/images, external/masks", lambda root: pairs(root / "external", "c", "d"), "external"),
        ("part2.npz beside train", lambda root: _files(root, "part2.npz", content=b"PK"), "1 .npz in"),
        ("val of labelme files", lambda root: _labelled(root / "val"), "val"),
    ]
    for name, make, word in more:
        yield trial(name, two_named, 2, _beside_train(make), named=word)
    beside = _beside_train(lambda root: pair(root / "c.png", root / "c_mask.png"))
    yield trial("pairs beside train itself", "3 pairs", 3, beside)
    yield trial(".jp2 files among images", "refused, or named", 2, _mixed, named="jp2")
    yield trial("a sub-folder of .jp2 in both", "2 pairs, and the rest named", 2, _mixed_below, named="jp2")


def _mixed(root: Path) -> None:
    pairs(root, "a", "b")
    _files(root / "images", "c.jp2", "d.jp2")
    _files(root / "masks", "c.jp2", "d.jp2")


def _mixed_below(root: Path) -> None:
    pairs(root, "a", "b")
    _files(root / "images/sub", "c.jp2", "d.jp2")
    _files(root / "masks/sub", "c.jp2", "d.jp2")
