"""For foreign_use.py: validation without infected images, small batches, settings and reports, on tiny phantoms."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import chdir
from functools import cache, partial
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
from PIL import Image

from cxrseg.data.sample import CATEGORIES
from cxrseg.phantom.generate import write_phantoms
from foreign_trials import NO, REFUSED, WARNED, YES, Result, Trial, command

TINY = (
    *("data.size=[32,32]", "network.features=4", "optimiser.batch_size=4", "optimiser.learning_rate=0.01"),
    "data.categories=[COVID-19,Non-COVID,Normal]",
)
LITE0 = "network.encoder=tu-tf_efficientnet_lite0"

Change = Callable[[Path], object]


@cache
def phantoms() -> Path:
    """A dataset of 24 phantoms of 64 pixels, in Train and Val."""
    each = {"train": (8, 4, 4), "val": (4, 2, 2)}
    counts = {split: dict(zip(CATEGORIES, numbers, strict=True)) for split, numbers in each.items()}
    root = write_phantoms(mkdtemp(), counts, size=64)
    return root / "Infection Segmentation Data" / "Infection Segmentation Data"


def _copied(folder: Path, change: Change) -> Path:
    root = folder / "data"
    shutil.copytree(phantoms(), root)
    change(root)
    return root


def _set(values: Sequence[str]) -> list[str]:
    return [word for value in values for word in ("-s", value)]


def _keep(split: str, *categories: str) -> Change:
    def change(root: Path) -> None:
        for folder in (root / split).iterdir():
            if folder.name not in categories:
                shutil.rmtree(folder)

    return change


def _masks(split: str, make: Callable[[np.ndarray], np.ndarray]) -> Change:
    def change(root: Path) -> None:
        for path in (root / split).glob("*/infection masks/*.png"):
            Image.fromarray(make(np.asarray(Image.open(path)))).save(path)

    return change


def _one_pixel(mask: np.ndarray) -> np.ndarray:
    found = np.zeros_like(mask)
    found[11, 13] = 255 if mask.any() else 0
    return found


def _corner(mask: np.ndarray) -> np.ndarray:
    """A mask where no lung is: the network cannot find it."""
    found = np.zeros_like(mask)
    found[:4, :4] = 255 if mask.any() else 0
    return found


def _validated(change: Change, values: Sequence[str], folder: Path) -> Result:
    """Right is the best epoch by Dice where a Dice is above 0, else the one with the lowest val loss, said so."""
    root = _copied(folder, change)
    run = folder / "run"
    settings = _set((*TINY, "optimiser.epochs=4", *values))
    done = command("train", "baseline-unet", "--dataset", root, "-o", run, *settings)
    line = next((one for one in done.out.splitlines() if "Best epoch" in one), done.last)
    if done.broken or done.code:
        return done.broken or done.last, NO if done.broken else REFUSED
    rows = list(csv.DictReader((run / "history.csv").open(encoding="utf-8")))
    dices = [float(row["val_dice"] or 0) for row in rows]
    losses = [float(row["val_loss"] or "inf") for row in rows]
    by_dice = max(dices) > 0
    best = dices.index(max(dices)) if by_dice else losses.index(min(losses))
    right = f"Best epoch {rows[best]['epoch']}" in line and ("by val loss" in line) != by_dice
    came = f"{line[:80]}; losses {', '.join(f'{loss:.3f}' for loss in losses)}"
    return came, YES if right else NO


def validations() -> Iterator[Trial]:
    """Validation sets in which there is little or nothing to find."""
    healthy, empty = _keep("Val", "Normal"), _masks("Val", np.zeros_like)
    few = _masks("Val", _one_pixel)
    nothing: tuple[str, ...] = ()
    for name, change, values in [
        ("masks of COVID-19 that are all empty", empty, nothing),
        ("only Non-COVID", _keep("Val", "Non-COVID"), nothing),
        ("Normal and Non-COVID", _keep("Val", "Normal", "Non-COVID"), nothing),
        ("one infected pixel an image", few, nothing),
        ("infection where the network cannot find it", _masks("Val", _corner), nothing),
        ("one infected pixel, patience of 1", few, ("optimiser.patience=1",)),
        ("only Normal, patience of 1", healthy, ("optimiser.patience=1",)),
        ("only Normal, EMA", healthy, ("optimiser.ema_decay=0.5",)),
        ("only Normal, halved rate on a plateau", healthy, ("optimiser.schedule=plateau",)),
        ("only Normal, infection and lungs", healthy, ("data.targets=[infection,lungs]",)),
        ("only Normal, lungs first", healthy, ("data.targets=[lungs,infection]",)),
        ("only Normal, Dice loss", healthy, ("loss.name=dice",)),
        ("only Normal, opacity", healthy, ("data.targets=[opacity,lungs]",)),
    ]:
        yield Trial("validation", name, "best by what there is", partial(_validated, change, values))


def _trained(values: Sequence[str], fine: bool, change: Change, folder: Path) -> Result:
    root = _copied(folder, change)
    settings = _set((*TINY, "optimiser.epochs=1", *values))
    done = command("train", "baseline-unet", "--dataset", root, "-o", folder / "run", *settings)
    came = done.broken or (done.last if done.code else next(iter(done.out.splitlines()[-3:]), ""))
    if done.broken or "This is a fault in cxrseg" in done.err:
        return came, NO
    return came, YES if bool(done.code) != fine else REFUSED if done.code in (2, 3) else WARNED


def _first(split: str, count: int) -> Change:
    """Keep only the first images of a split, those of COVID-19 first."""

    def change(root: Path) -> None:
        files = sorted((root / split).glob("*/images/*.png"), key=str)
        for path in files[count:]:
            for kind in ("images", "infection masks", "lung masks"):
                (path.parent.parent / kind / path.name).unlink()
        for folder in list((root / split).iterdir()):
            if folder.is_dir() and not any(folder.glob("images/*.png")):
                shutil.rmtree(folder)

    return change


def settings() -> Iterator[Trial]:
    """Settings that do not fit each other, and batches of one, on which networks raise nearly anything."""
    kind = "small batches and settings"

    def same(_: Path) -> None:
        pass

    unet = ("network.name=smp/unet", LITE0, "network.features=64")
    fine_ones: list[tuple[str, tuple[str, ...], Change]] = [
        ("batch of 1, the U-Net of 32x32", ("optimiser.batch_size=1",), same),
        ("a last batch of one (5 images, batches of 4)", (), _first("Train", 5)),
        ("one training image", (), _first("Train", 1)),
        ("one val image", (), _first("Val", 1)),
        ("batches larger than the data", ("optimiser.batch_size=64",), same),
        ("batch-norm recalibration of one image", ("optimiser.batch_norm_recalibration=1",), same),
    ]
    wrong: list[tuple[str, tuple[str, ...]]] = [
        ("a decoder channel of 0", (*unet, "network.decoder_channels=[16,8,8,4,0]")),
        ("a negative decoder channel", (*unet, "network.decoder_channels=[16,8,8,4,-4]")),
        ("no decoder channels", (*unet, "network.decoder_channels=[]")),
        ("decoder channels of PSPNet", ("network.name=smp/pspnet", LITE0, "network.decoder_channels=[8]")),
        ("an encoder that does not exist", ("network.name=smp/unet", "network.encoder=resnet19")),
        ("a transformer encoder with U-Net++", ("network.name=smp/unetplusplus", "network.encoder=mit_b0")),
        ("a decoder of another package", ("network.name=smp/nnunet", LITE0)),
        (
            "pretrained where no weights are",
            ("network.name=smp/unet", "network.encoder=resnet18", "network.pretrained=true"),
        ),
        ("images of 33x33", ("data.size=[33,33]",)),
        ("images of 16x16", ("data.size=[16,16]",)),
        ("decoder_stride with FPN", ("network.name=smp/fpn", LITE0, "network.decoder_stride=2")),
        ("a batch of 1 with DeepLabV3+", ("network.name=smp/deeplabv3plus", LITE0, "optimiser.batch_size=1")),
    ]
    for name, values in wrong:
        yield Trial(kind, name, "a clear error", partial(_trained, values, False, same))
    for name, values, change in fine_ones:
        yield Trial(kind, name, "a run, or a clear error", partial(_trained, values, True, change))


def _reported(change: Change, options: Sequence[str], folder: Path) -> Result:
    root = _copied(folder, change)
    with chdir(folder):  # where the evaluation is written
        done = command("report", "--dataset", root, "-o", folder / "page.html", *options)
    came = done.broken or done.last or f"exit {done.code}"
    if done.broken or "This is a fault in cxrseg" in done.err:
        return came, NO
    return came, YES if (folder / "page.html").is_file() else REFUSED


def reports() -> Iterator[Trial]:
    """Reports of evaluations that lack something."""
    kind = "reports"
    full = np.vectorize(lambda _: 255, otypes=[np.uint8])
    for name, change, options in [
        ("one image", _first("Val", 1), ()),
        ("two images", _first("Val", 2), ()),
        ("only Normal", _keep("Val", "Normal"), ()),
        ("only Non-COVID", _keep("Val", "Non-COVID"), ()),
        ("only COVID-19", _keep("Val", "COVID-19"), ()),
        ("all masks empty", _masks("Val", np.zeros_like), ()),
        ("all masks full", _masks("Val", full), ()),
        ("one infected pixel an image", _masks("Val", _one_pixel), ()),
        ("lungs that are empty", _lungs_empty, ()),
        ("masks outside of the lungs", _masks("Val", _corner), ()),
        ("no images of the split", lambda root: shutil.rmtree(root / "Val"), ()),
        ("only Normal, of the split train", _keep("Train", "Normal"), ("--split", "train")),
    ]:
        yield Trial(kind, name, "a page, or a clear error", partial(_reported, change, options))


def _lungs_empty(root: Path) -> None:
    for path in root.glob("Val/*/lung masks/*.png"):
        Image.fromarray(np.zeros_like(np.asarray(Image.open(path)))).save(path)
