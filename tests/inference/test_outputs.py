"""The same radiograph in every kind of file gives the same masks, and they lie on its own pixels."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import imagecodecs
import numpy as np
import numpy.typing as npt
import pytest
from click.testing import CliRunner
from PIL import Image

from cxrseg.cli import main
from cxrseg.inference.files import Options, predict_files
from cxrseg.io.masks import read_mask
from made_dicom import LOSSLESS, UNCOMPRESSED, as_bytes, make
from made_models import chest, hand_model

SHAPE = (301, 262)
DEEP = np.rint(chest(SHAPE)[0] * 4095).astype(np.uint16)
SHALLOW = np.rint(chest(SHAPE)[0] * 255).astype(np.uint8)

Encoder = Callable[[npt.NDArray[np.uint16]], bytes] | None

SYNTAXES: dict[str, tuple[str, Encoder]] = {
    **{name: (syntax, None) for name, syntax in UNCOMPRESSED.items()},
    **LOSSLESS,
    "JPEG extended": (".4.51", lambda pixels: bytes(imagecodecs.jpeg8_encode(pixels, bitspersample=12, level=95))),
    "JPEG-LS near-lossless": (".4.81", lambda pixels: bytes(imagecodecs.jpegls_encode(pixels, level=3))),
    "JPEG 2000 lossy": (
        ".4.91",
        lambda pixels: bytes(imagecodecs.jpeg2k_encode(pixels, level=70, codecformat="j2k", bitspersample=12)),
    ),
}
"""Those of 12 bits."""


def jpeg(pixels: npt.NDArray[np.uint8]) -> bytes:
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def dicom(syntax: str, encode: Encoder, inverted: bool) -> bytes:
    pixels = 4095 - DEEP if inverted else DEEP
    return as_bytes(
        make(
            pixels,
            syntax=syntax,
            frame=encode(pixels) if encode else None,
            PhotometricInterpretation=f"MONOCHROME{1 if inverted else 2}",
            WindowCenter=2048,
            WindowWidth=4096,
        )
    )


def written(folder: Path) -> None:
    """One chest in every format."""
    Image.fromarray(SHALLOW).save(folder / "reference.png")
    for name, options in {"a.jpg": {"quality": 95}, "b.tif": {}, "c.bmp": {}, "d.webp": {"lossless": True}}.items():
        Image.fromarray(SHALLOW).save(folder / name, **options)
    Image.fromarray(np.rint(chest(SHAPE)[0] * 65535).astype(np.uint16)).save(folder / "sixteen bits.png")
    Image.fromarray(SHALLOW).convert("RGB").save(folder / "colour.png")
    for inverted in (False, True):
        kind = "MONOCHROME1" if inverted else "MONOCHROME2"
        for name, (syntax, encode) in SYNTAXES.items():
            (folder / f"{kind} {name}.dcm").write_bytes(dicom(syntax, encode, inverted))
        eight = 255 - SHALLOW if inverted else SHALLOW
        baseline = make(eight, bits=8, syntax=".4.50", frame=jpeg(eight), PhotometricInterpretation=kind)
        (folder / f"{kind} JPEG baseline.dcm").write_bytes(as_bytes(baseline))


def dice(one: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_]) -> float:
    return 2 * np.count_nonzero(one & other) / (np.count_nonzero(one) + np.count_nonzero(other))


def test_every_format_gives_the_same_masks(tmp_path: Path) -> None:
    model = hand_model(tmp_path / "hand.onnx")
    images, out = tmp_path / "in", tmp_path / "out"
    images.mkdir()
    written(images)
    done = CliRunner().invoke(main, ["predict", "-i", str(images), "-o", str(out), "-m", str(model)])
    names = [path.stem for path in images.iterdir()]
    assert done.exit_code == 0 and f"{len(names)} ok in" in done.output, done.output
    for channel in ("infection", "lungs"):
        reference = read_mask(out / f"reference_{channel}.png")
        assert reference.shape == SHAPE and reference.any()
        found = {name: dice(read_mask(out / f"{name}_{channel}.png"), reference) for name in names}
        assert {name: value for name, value in found.items() if value <= 0.99} == {}


CENTRES = ((0.2, 0.3), (0.7, 0.15), (0.45, 0.8))
"""Rows and columns, as fractions; away from each other, so that a wrong scale shows too."""


def smooth(shape: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Three bright bumps so smooth that a small network's grid does not show in where they reach a threshold."""
    height, width = shape
    rows, columns = (np.arange(height)[:, None] + 0.5) / height, (np.arange(width)[None] + 0.5) / width
    bumps = (np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / (2 * 0.06**2)) for row, column in CENTRES)
    return (0.3 + 0.65 * sum(bumps)).astype(np.float32)


def centroids(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """(3, 2) rows and columns, in pixels, of what lies around each of the three centres."""
    height, width = mask.shape
    found = []
    for row, column in CENTRES:
        top, left = max(0, round((row - 0.15) * height)), max(0, round((column - 0.15) * width))
        part = mask[top : top + round(0.3 * height), left : left + round(0.3 * width)]
        counts = [np.count_nonzero(part, axis=axis) for axis in (1, 0)]
        found.append(
            [
                top + np.average(np.arange(len(counts[0])), weights=counts[0]),
                left + np.average(np.arange(len(counts[1])), weights=counts[1]),
            ]
        )
    return np.array(found)


@pytest.mark.parametrize("shape", [(201, 317), (399, 200), (1203, 999), (3001, 4000)])
def test_a_mask_is_not_shifted_by_a_pixel(tmp_path: Path, shape: tuple[int, int]) -> None:
    model = hand_model(tmp_path / "hand.onnx", lungs=False)  # whose small pieces would be removed
    pixels = smooth(shape)
    image = tmp_path / "odd.png"
    Image.fromarray(np.rint(pixels * 65535).astype(np.uint16)).save(image, compress_level=1)
    result = predict_files(image, tmp_path / "out", Options((model,), force=True, precision="float32"))
    assert result.counts["ok"] == 1
    found = read_mask(tmp_path / "out" / "odd_infection.png")
    truth = pixels >= 0.77  # where the model marks infection
    assert found.shape == shape and dice(found, truth) > 0.99
    assert np.abs(centroids(found) - centroids(truth)).max() < 0.5


@pytest.mark.parametrize("orientation", [["R", "F"], ["L", "H"], ["F", "R"]])
def test_masks_lie_on_the_pixels_of_the_file(tmp_path: Path, orientation: list[str]) -> None:
    model = hand_model(tmp_path / "hand.onnx")
    stored = {"R": np.fliplr, "L": np.flipud, "F": np.rot90}[orientation[0]]
    images, out = tmp_path / "in", tmp_path / "out"
    images.mkdir()
    window = {"WindowCenter": 2048, "WindowWidth": 4096}
    (images / "upright.dcm").write_bytes(as_bytes(make(DEEP, PatientOrientation=["L", "F"], **window)))
    turned = make(np.ascontiguousarray(stored(DEEP)), PatientOrientation=orientation, **window)
    (images / "turned.dcm").write_bytes(as_bytes(turned))
    done = CliRunner().invoke(
        main, ["predict", "-i", str(images), "-o", str(out), "-m", str(model), "--save-probabilities"]
    )
    assert done.exit_code == 0, done.output
    for kind in ("infection", "lungs", "probability"):
        upright, turned_mask = (np.asarray(Image.open(out / f"{name}_{kind}.png")) for name in ("upright", "turned"))
        np.testing.assert_array_equal(turned_mask, stored(upright))
    rows = {row["path"]: row for row in json.loads((out / "statistics.json").read_text())}
    sides = [rows[name]["infected_fraction_left"] for name in ("upright.dcm", "turned.dcm")]
    assert sides[0] == sides[1] > 0
    assert (rows["turned.dcm"]["height"], rows["turned.dcm"]["width"]) == stored(DEEP).shape
    assert any("by Patient Orientation" in warning for warning in rows["turned.dcm"]["warnings"])
    assert any("by Patient Orientation" in step for step in rows["turned.dcm"]["steps"])


def test_a_stated_value_range_reaches_the_reader(tmp_path: Path) -> None:
    model = hand_model(tmp_path / "hand.onnx")
    (tmp_path / "in").mkdir()
    Image.fromarray(np.uint16(DEEP // 2 + 300)).save(tmp_path / "in" / "a.png")
    arguments = ["predict", "-i", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "-m", str(model)]
    done = CliRunner().invoke(main, [*arguments, "--value-range", "300:2347"])
    assert done.exit_code == 0, done.output
    (row,) = json.loads((tmp_path / "out" / "statistics.json").read_text())
    assert row["steps"] == ["value range 300 to 2347, as stated"]
    assert CliRunner().invoke(main, [*arguments, "--value-range", "9:1"]).exit_code == 2


def test_a_broken_file_failed_and_an_unsuitable_one_was_refused(tmp_path: Path) -> None:
    model = hand_model(tmp_path / "hand.onnx")
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "text.png").write_text("no image")
    (folder / "cut.dcm").write_bytes(as_bytes(make(DEEP))[:3000])
    (folder / "mr.dcm").write_bytes(as_bytes(make(DEEP, Modality="MR")))
    (folder / "picture.png").write_bytes(b"GIF89a")
    CliRunner().invoke(main, ["predict", "-i", str(folder), "-o", str(tmp_path / "out"), "-m", str(model)])
    rows = json.loads((tmp_path / "out" / "statistics.json").read_text())
    found = {row["path"]: row["status"] for row in rows}
    assert found == {"cut.dcm": "failed", "mr.dcm": "refused", "picture.png": "refused", "text.png": "failed"}
