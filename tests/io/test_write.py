"""Files are whole or not there, and masks are what every reader of PNG understands."""

from __future__ import annotations

import io
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from cxrseg.io.write import RESULT_MARK, is_whole_png, write_atomic, write_mask, write_probability


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (256, 256), (301, 200)])
@pytest.mark.parametrize("part", [0.0, 0.4, 1.0])
def test_a_mask_is_the_png_that_pillow_writes(shape: tuple[int, int], part: float, tmp_path: Path) -> None:
    mask = np.random.default_rng(0).random(shape) < part
    values = mask.astype(np.uint8) * 255
    write_mask(tmp_path / "below" / "mask.png", mask)
    content = (tmp_path / "below" / "mask.png").read_bytes()
    expected = io.BytesIO()
    text = PngInfo()
    text.add_text("Software", RESULT_MARK)
    Image.fromarray(values).save(expected, "PNG", pnginfo=text)
    with Image.open(io.BytesIO(content)) as image, Image.open(expected) as other:
        assert (image.mode, image.size, image.info) == (other.mode, other.size, other.info)
        np.testing.assert_array_equal(np.asarray(image), values)
    with Image.open(io.BytesIO(content)) as image:
        image.verify()
    np.testing.assert_array_equal(imagecodecs.png_decode(content), values)
    assert is_whole_png(tmp_path / "below" / "mask.png")


def test_a_png_that_is_cut_short_is_not_whole(tmp_path: Path) -> None:
    path = tmp_path / "map.png"
    write_probability(path, np.linspace(0, 1, 600, dtype=np.float32).reshape(20, 30))
    content = path.read_bytes()
    assert is_whole_png(path)
    for length in (0, 5, len(content) - 1):
        path.write_bytes(content[:length])
        assert not is_whole_png(path)
    assert not is_whole_png(tmp_path / "missing.png")


@pytest.mark.parametrize("sync", [True, False])
def test_what_fails_leaves_the_earlier_file_and_no_other(sync: bool, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_atomic(path, lambda file: file.write(b"first"), sync=sync)

    def broken(file: object) -> None:
        file.write(b"sec")  # type: ignore[attr-defined]
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_atomic(path, broken, sync=sync)
    assert [one.name for one in tmp_path.iterdir()] == ["a.txt"] and path.read_bytes() == b"first"
