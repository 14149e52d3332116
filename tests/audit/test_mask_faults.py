"""What looks wrong with masks, on drawn lungs."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from cxrseg.audit.mask_faults import FAULTS, Fault, mask_faults

Mask = npt.NDArray[np.bool_]


def lungs() -> Mask:
    """Two boxes of different height, neither symmetrical nor at the border."""
    mask = np.zeros((128, 128), dtype=bool)
    mask[30:100, 20:55] = True
    mask[40:90, 75:105] = True
    return mask


def kinds(category: str | None = "COVID-19", pixels: npt.NDArray[np.float32] | None = None, **masks: Mask) -> set[str]:
    picture = np.where(lungs(), 0.2, 0.8).astype(np.float32) if pixels is None else pixels
    values = {target: mask.astype(np.float32) for target, mask in masks.items()}
    found: list[Fault] = mask_faults("a", category, picture, masks, values)
    assert {fault.kind for fault in found} <= set(FAULTS)
    return {fault.kind for fault in found}


def spot(row: int, column: int, size: int = 20) -> Mask:
    mask = np.zeros((128, 128), dtype=bool)
    mask[row : row + size, column : column + size] = True
    return mask


def test_good_masks_have_no_fault() -> None:
    assert kinds(infection=spot(50, 25), lungs=lungs()) == set()


@pytest.mark.parametrize(
    ("category", "marked", "expected"),
    [
        ("COVID-19", False, {"empty"}),
        ("Normal", True, {"not empty"}),
        ("Non-COVID", True, {"not empty"}),
        ("Normal", False, set()),
        (None, False, set()),
    ],
)
def test_infection_fits_the_category(category: str | None, marked: bool, expected: set[str]) -> None:
    assert kinds(category, infection=spot(50, 25) & marked, lungs=lungs()) == expected


def test_infection_outside_the_lungs() -> None:
    assert kinds(infection=spot(50, 45), lungs=lungs()) == {"outside the lungs"}


def test_islands_and_full_masks() -> None:
    assert kinds(infection=spot(50, 25) | spot(80, 30, 2), lungs=lungs()) == {"islands"}
    assert "full" in kinds(lungs=np.ones((128, 128), dtype=bool))


def test_values_between() -> None:
    soft = {"lungs": np.where(lungs(), 1, 0.0).astype(np.float32)}
    soft["lungs"][60, 30] = 0.5
    found = mask_faults("a", None, np.zeros((128, 128), np.float32), {"lungs": lungs()}, soft)
    assert [fault.kind for fault in found] == ["not binary"]


def test_cut_lungs_name_the_border() -> None:
    moved = np.roll(lungs(), -20, axis=1)
    moved[:, -20:] = False
    picture = np.where(moved, 0.2, 0.8).astype(np.float32)
    found = mask_faults("a", None, picture, {"lungs": moved}, {"lungs": moved.astype(np.float32)})
    assert [(fault.kind, fault.detail) for fault in found] == [("cut by the border", "image left")]


def test_one_lung() -> None:
    only = lungs() & (np.arange(128) < 64)
    assert "one lung" in kinds(lungs=only, pixels=np.where(only, 0.2, 0.8).astype(np.float32))


def test_turned_masks() -> None:
    assert "mirrored" in kinds(lungs=lungs()[:, ::-1])
    lower = np.roll(lungs(), 15, axis=0)
    assert "upside down" in kinds(lungs=lower[::-1], pixels=np.where(lower, 0.2, 0.8).astype(np.float32))


def test_heart_on_the_wrong_side() -> None:
    mask = np.zeros((128, 128), dtype=bool)
    for row in range(20, 110):
        lean = max(0, row - 60) // 2
        mask[row, 15 : 55 - lean] = True
        mask[row, 70:115] = True
    picture = np.where(mask, 0.2, 0.8).astype(np.float32)
    assert "heart on the image's left" in kinds(lungs=mask, pixels=picture)
    assert "heart on the image's left" not in kinds(lungs=mask[:, ::-1], pixels=picture[:, ::-1])
