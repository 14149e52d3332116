"""Copies of phantoms, changed in many ways, and strangers that share a frame."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageDraw

from cxrseg.audit.near_duplicates import Pair, Picture, choose_exclusions, copy_groups, find_pairs
from cxrseg.audit.registration import resized
from cxrseg.data.sample import Sample
from cxrseg.phantom.generate import make_phantom

Pixels = npt.NDArray[np.uint8]
COUNT = 40


def jpeg(pixels: Pixels) -> Pixels:
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "JPEG", quality=50)
    return np.asarray(Image.open(data))


def part(pixels: Pixels, fraction: float) -> Pixels:
    cut = round(len(pixels) * fraction)
    return np.asarray(Image.fromarray(pixels[cut:-cut, cut:-cut]).resize(pixels.shape[::-1]))


def marked(pixels: Pixels) -> Pixels:
    picture = Image.fromarray(pixels)
    ImageDraw.Draw(picture).text((10, 10), "PORTABLE L", fill=255, font_size=16)
    return np.asarray(picture)


def framed(pixels: Pixels, width: int = 12) -> Pixels:
    made = np.zeros_like(pixels)
    inner = len(pixels) - 2 * width
    made[width:-width, width:-width] = np.asarray(Image.fromarray(pixels).resize((inner, inner)))
    return made


CHANGES: dict[str, Callable[[Pixels], Any]] = {
    "rescaled": lambda p: np.asarray(Image.fromarray(p).resize((90, 90))),
    "contrast": lambda p: 128 + (p - 128.0) * 0.5,
    "gamma": lambda p: 255 * (p / 255.0) ** 1.8,
    "brightness": lambda p: (p + 40.0).clip(0, 255),
    "crop of 5%": lambda p: part(p, 0.05),
    "crop of 10%": lambda p: part(p, 0.10),
    "mirrored": lambda p: p[:, ::-1],
    "JPEG": jpeg,
    "blur": lambda p: np.asarray(Image.fromarray(p).resize((64, 64)).resize((128, 128))),
    "noise": lambda p: (p + np.random.default_rng(0).normal(0, 4, p.shape)).clip(0, 255),
    "turned": lambda p: np.asarray(Image.fromarray(p).rotate(3, Image.Resampling.BILINEAR)),
    "marked": marked,
    "framed": framed,
}


@pytest.fixture(scope="module")
def originals() -> list[Pixels]:
    return [make_phantom(seed, "COVID-19", 128).image for seed in range(COUNT)]


def picture(name: str, pixels: Pixels, split: str = "train") -> Picture:
    sample = Sample(name, split, None, Path(f"{name}.png"), {})
    return Picture(sample, resized(pixels, 128), hashlib.sha256(pixels.tobytes()).digest())


def test_finds_each_kind_of_copy_and_no_strangers(originals: list[Pixels]) -> None:
    pictures = [picture(f"o{number}", pixels) for number, pixels in enumerate(originals)]
    for number, (name, change) in enumerate(CHANGES.items()):
        pictures.append(picture(name, np.asarray(change(originals[number])).astype(np.uint8), "val"))
    found = {(pair.first.name, pair.second.name): pair for pair in find_pairs(pictures) if pair.is_copy}
    assert set(found) == {(f"o{number}", name) for number, name in enumerate(CHANGES)}
    assert all(pair.kind == "near" and pair.is_leak for pair in found.values())
    assert {names[1] for names, pair in found.items() if pair.mirrored} == {"mirrored"}
    assert found["o6", "mirrored"].change == "mirrored"
    assert "rotated by 3 degrees" in found["o10", "turned"].change


def test_strangers_in_one_black_frame_are_no_copies(originals: list[Pixels]) -> None:
    pictures = [picture(f"o{number}", framed(pixels, 20)) for number, pixels in enumerate(originals[:12])]
    pictures += [picture(f"p{number}", pixels) for number, pixels in enumerate(originals[12:])]
    assert [pair for pair in find_pairs(pictures) if pair.is_copy] == []


def test_equal_pixels_are_exact(originals: list[Pixels]) -> None:
    pictures = [picture("a", originals[0]), picture("b", originals[1]), picture("c", originals[0])]
    pairs = [pair for pair in find_pairs(pictures) if pair.is_copy]
    assert [(pair.first.name, pair.second.name, pair.kind, pair.similarity) for pair in pairs] == [
        ("a", "c", "exact", 1)
    ]


def test_few_or_no_pictures_have_no_pairs(originals: list[Pixels]) -> None:
    assert find_pairs([]) == []
    assert find_pairs([picture("a", originals[0])]) == []


def pair(first: str, second: str, kind: str = "near") -> Pair:
    one, other = (
        Sample(name, {"t": "train", "v": "val", "e": "test"}[name[0]], None, Path(name), {}) for name in (first, second)
    )
    return Pair(one, other, kind, 0.9, False, np.eye(2, 3, dtype=np.float32))


def test_one_of_each_group_stays_where_it_judges() -> None:
    pairs = [pair("t2", "v1"), pair("t10", "t2"), pair("v1", "v2"), pair("t5", "t6"), pair("t8", "v9", "similar")]
    assert [len(group) for group in copy_groups(pairs)] == [4, 2]
    chosen = {(one.name, one.reason, one.copy_of) for one in choose_exclusions(pairs)}
    assert chosen == {
        ("t2", "leak", "v1"),
        ("t10", "leak", "v1"),
        ("v2", "duplicate", "v1"),
        ("t6", "duplicate", "t5"),
    }
