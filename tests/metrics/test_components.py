"""Components of a mask against SciPy's labels of its pixels."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from cxrseg.metrics.components import find_components


def _some(seed: int, shape: tuple[int, int], sigma: float, part: float) -> np.ndarray:
    field = ndimage.gaussian_filter(np.random.default_rng(seed).random(shape), sigma)
    return field >= np.quantile(field, 1 - part)


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (37, 64), (96, 96)])
@pytest.mark.parametrize("sigma", [0.0, 0.8, 3.0])
@pytest.mark.parametrize("part", [0.05, 0.4, 0.6, 1.0])
def test_components_are_the_connected_pixels_with_corners(shape: tuple[int, int], sigma: float, part: float) -> None:
    mask = _some(0, shape, sigma, part)
    labels, count = ndimage.label(mask, np.ones((3, 3)))
    found = find_components(mask)
    assert found.sizes.tolist() == np.bincount(labels.ravel(), minlength=1)[1:].tolist()
    boxes = [(rows.start, rows.stop, columns.start, columns.stop) for rows, columns in ndimage.find_objects(labels)]
    assert found.boxes().tolist() == [list(box) for box in boxes]
    for one in range(0, count, 7):
        np.testing.assert_array_equal(found.mask([one]), labels == one + 1)
        columns = np.flatnonzero(labels == one + 1) % shape[1]
        assert found.centre([one]) == columns.mean()
    np.testing.assert_array_equal(found.mask(range(count)), mask)


def test_no_pixels_have_no_components() -> None:
    found = find_components(np.zeros((5, 7), dtype=bool))
    assert found.sizes.size == 0
    assert found.boxes().shape == (0, 4)
    assert not found.mask([]).any()


def test_a_spiral_is_one_component() -> None:
    """Its turns join only at the end of a long way."""
    mask = np.zeros((31, 31), dtype=bool)
    for ring in range(0, 15, 2):
        mask[ring, max(0, ring - 2) : 31 - ring] = True
        mask[ring : 31 - ring, 30 - ring] = True
        mask[30 - ring, ring : 31 - ring] = True
        mask[ring + 2 : 31 - ring, ring] = True
    assert ndimage.label(mask, np.ones((3, 3)))[1] == 1
    assert find_components(mask).sizes.tolist() == [mask.sum()]


def test_rows_do_not_connect_across_the_border() -> None:
    mask = np.zeros((3, 6), dtype=bool)
    mask[0, 4:], mask[1, :2] = True, True
    assert find_components(mask).sizes.tolist() == [2, 2]
