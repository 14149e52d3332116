"""Distances between boundaries, against hand-counted cases and against MONAI."""

import math

import numpy as np
import pytest
from scipy import ndimage

from cxrseg.errors import ImageError
from cxrseg.metrics.surface import assd, boundary_pixels, hd95, nsd, surface_distances

EMPTY = np.zeros((30, 40), dtype=bool)


def dot(row: int, column: int) -> np.ndarray:
    mask = EMPTY.copy()
    mask[row, column] = True
    return mask


def blob(seed: int, level: float, shape: tuple[int, int] = (96, 80)) -> np.ndarray:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 6)
    return noise > level * noise.std()


def test_boundary_counts_the_image_border_as_outside() -> None:
    assert len(boundary_pixels(np.ones((4, 5), dtype=bool))) == 14
    inner = np.zeros((6, 6), dtype=bool)
    inner[1:5, 1:5] = True
    assert len(boundary_pixels(inner)) == 12
    corner = np.ones((5, 5), dtype=bool)
    corner[0, 0] = False  # (1, 1) touches it by a corner only
    assert [1.0, 1.0] not in boundary_pixels(corner).tolist()


def test_two_dots_and_spacing() -> None:
    a, b = dot(5, 5), dot(8, 9)
    assert hd95(a, b) == assd(a, b) == 5
    assert hd95(a, b, spacing=(2.0, 0.5)) == pytest.approx(math.hypot(6, 2))
    assert (nsd(a, b, tolerance=5.0), nsd(a, b, tolerance=4.9)) == (1.0, 0.0)
    assert nsd(a, b, tolerance=4.9, spacing=(0.5, 0.5)) == 1.0


def test_hd95_is_the_larger_direction_and_assd_the_common_mean() -> None:
    a, b = dot(5, 5), dot(5, 5) | dot(5, 25)
    distances = surface_distances(a, b)
    assert distances.forth.tolist() == [0]
    assert sorted(distances.back) == [0, 20]
    assert distances.hd95 == pytest.approx(19)
    assert distances.assd == pytest.approx(20 / 3)
    assert distances.nsd(2.0) == pytest.approx(2 / 3)
    assert hd95(b, a) == pytest.approx(19)


def test_identical_masks() -> None:
    mask = blob(1, 0.3)
    assert (hd95(mask, mask), assd(mask, mask), nsd(mask, mask, 0.0)) == (0, 0, 1)


def test_empty_masks_count_as_documented() -> None:
    some = dot(3, 3)
    for a, b in ((EMPTY, some), (some, EMPTY)):
        assert hd95(a, b) == assd(a, b) == 50  # the diagonal of 30 x 40
        assert hd95(a, b, spacing=(2.0, 2.0)) == 100
        assert nsd(a, b) == 0
    assert math.isnan(hd95(EMPTY, EMPTY)) and math.isnan(assd(EMPTY, EMPTY)) and math.isnan(nsd(EMPTY, EMPTY))


def test_shapes_must_agree() -> None:
    with pytest.raises(ImageError, match=r"\(30, 40\), got \(29, 40\)"):
        hd95(EMPTY[1:], EMPTY)


@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")  # of MONAI, by MONAI
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.7, 1.3)])
def test_agrees_with_monai(seed: int, spacing: tuple[float, float]) -> None:
    torch = pytest.importorskip("torch")
    monai = pytest.importorskip("monai.metrics")
    # Blobs that the border cuts, of several pieces; the second pair lies in one corner, where MONAI crops.
    prediction, truth = blob(seed, 0.3), blob(seed + 50, 0.8) | blob(seed, 1.0)
    if seed % 2:
        prediction[:, 30:], truth[40:] = False, False
    a, b = (torch.from_numpy(mask)[None, None].float() for mask in (prediction, truth))
    theirs = {
        "hd95": monai.compute_hausdorff_distance(a, b, True, percentile=95, spacing=spacing),
        "assd": monai.compute_average_surface_distance(a, b, True, symmetric=True, spacing=spacing),
        "nsd2": monai.compute_surface_dice(a, b, [2.0], include_background=True, spacing=spacing),
        "nsd4": monai.compute_surface_dice(a, b, [4.0], include_background=True, spacing=spacing),
    }
    ours = surface_distances(prediction, truth, spacing)
    assert ours.hd95 > 0
    assert ours.hd95 == pytest.approx(theirs["hd95"].item(), rel=1e-6)
    assert ours.assd == pytest.approx(theirs["assd"].item(), rel=1e-6)
    assert ours.nsd(2.0) == pytest.approx(theirs["nsd2"].item(), rel=1e-6)
    assert ours.nsd(4.0) == pytest.approx(theirs["nsd4"].item(), rel=1e-6)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.7, 1.3)])
def test_distances_agree_with_medpy(seed: int, spacing: tuple[float, float]) -> None:
    medpy = pytest.importorskip("medpy.metric.binary")
    prediction, truth = blob(seed, 0.3), blob(seed + 50, 0.8) | blob(seed, 1.0)
    ours = surface_distances(prediction, truth, spacing)
    # MedPy pools both directions before the percentile, and averages their two means: the distances are the same.
    pooled = np.percentile(np.concatenate([ours.forth, ours.back]), 95)
    assert pooled == pytest.approx(medpy.hd95(prediction, truth, voxelspacing=spacing), abs=1e-6)
    assert ours.forth.mean() == pytest.approx(medpy.asd(prediction, truth, voxelspacing=spacing), abs=1e-6)
    assert ours.back.mean() == pytest.approx(medpy.asd(truth, prediction, voxelspacing=spacing), abs=1e-6)
    both = max(ours.forth.max(), ours.back.max())
    assert both == pytest.approx(medpy.hd(prediction, truth, voxelspacing=spacing), abs=1e-6)
