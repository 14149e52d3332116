"""DICOM files, made here, read back: kinds, bits, transforms, polarity, spacing, refusals, damage."""

from __future__ import annotations

import logging
import math
import random
import threading
import tracemalloc
import warnings
from io import BytesIO
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_voi_lut
from pydicom.sequence import Sequence

from cxrseg.errors import ImageError
from cxrseg.io import dicom, dicom_values
from cxrseg.io.dicom import read_dicom
from cxrseg.io.quiet import quiet
from cxrseg.io.read import read_size
from cxrseg.io.settings import ReadSettings
from made_dicom import (
    COLUMN,
    DX,
    LOSSLESS,
    PIXELS,
    ROW,
    SECRET,
    UNCOMPRESSED,
    as_bytes,
    j2k,
    jpeg_lossless,
    make,
    rle,
    saved,
)
from made_films import make_film

REAL = Path(__file__).resolve().parents[3] / "shared" / "dicom" / "chest-ap.dcm"


def table(entries: list[int], first: int = 0, bits: int = 12) -> Sequence:
    item = Dataset()
    item.LUTDescriptor, item.LUTData = [len(entries), first, bits], entries
    item["LUTDescriptor"].VR, item["LUTData"].VR = "US" if first >= 0 else "SS", "US"
    return Sequence([item])


def stretched(values: np.ndarray) -> np.ndarray:
    low, high = float(values.min()), float(values.max())
    return (values - low) / (high - low)


def refusal(folder: Path, data: Dataset | bytes, settings: ReadSettings | None = None) -> str:
    path = saved(folder, data)
    with pytest.raises(ImageError) as caught:
        read_dicom(path, settings)
    message = str(caught.value)
    assert str(path) in message
    assert SECRET not in message
    assert caught.value.__cause__ is None
    return message


# Transfer syntaxes


@pytest.mark.parametrize("name", LOSSLESS)
def test_a_lossless_syntax_gives_the_very_same_pixels(tmp_path: Path, name: str) -> None:
    syntax, encode = LOSSLESS[name]
    plain = read_dicom(saved(tmp_path, make(), "plain.dcm"))
    compressed = read_dicom(saved(tmp_path, make(syntax=syntax, frame=encode(PIXELS))))
    np.testing.assert_array_equal(compressed.pixels, plain.pixels)


@pytest.mark.parametrize("syntax", UNCOMPRESSED.values(), ids=UNCOMPRESSED)
def test_an_uncompressed_syntax_gives_the_very_same_pixels(tmp_path: Path, syntax: str) -> None:
    radiograph = read_dicom(saved(tmp_path, make(syntax=syntax)))
    assert radiograph.pixels.dtype == np.float32
    np.testing.assert_allclose(radiograph.pixels, stretched(PIXELS), atol=1e-6)


def test_signed_and_big_endian_eight_bits_survive_every_syntax(tmp_path: Path) -> None:
    signed = PIXELS.astype(np.int16) - 2048
    expected = stretched(signed)
    for syntax, frame in [
        (".1", None),
        (".2", None),
        (".4.70", jpeg_lossless((signed & 0xFFF).astype(np.uint16))),
        (".4.80", bytes(imagecodecs.jpegls_encode((signed & 0xFFF).astype(np.uint16)))),
        (".4.90", j2k(signed)),
        (".4.90", j2k((signed & 0xFFF).astype(np.uint16))),  # written as unsigned, as some writers do
    ]:
        found = read_dicom(saved(tmp_path, make(signed, syntax=syntax, frame=frame)))
        np.testing.assert_allclose(found.pixels, expected, atol=1e-6, err_msg=syntax)
    eight = (PIXELS >> 4).astype(np.uint8)
    data = make(eight, bits=8, syntax=".2")
    data.PixelData = np.frombuffer(eight.tobytes(), "<u2").astype(">u2").tobytes()  # words, swapped
    np.testing.assert_allclose(read_dicom(saved(tmp_path, data)).pixels, eight / 255, atol=1e-6)


def test_lossy_jpeg_is_close(tmp_path: Path) -> None:
    smooth = (2048 + 1500 * np.sin(ROW / 9) * np.cos(COLUMN / 11)).astype(np.uint16)
    buffer = BytesIO()
    Image.fromarray((smooth >> 4).astype(np.uint8)).save(buffer, "JPEG", quality=95)
    baseline = make((smooth >> 4).astype(np.uint8), bits=8, syntax=".4.50", frame=buffer.getvalue())
    assert abs(read_dicom(saved(tmp_path, baseline)).pixels * 255 - (smooth >> 4)).max() < 4
    frame = imagecodecs.jpeg8_encode(smooth, bitspersample=12, level=95)
    extended = make(smooth, syntax=".4.51", frame=frame, WindowCenter=2048, WindowWidth=4096)
    assert abs(read_dicom(saved(tmp_path, extended)).pixels * 4095 - smooth).max() < 40
    frame = bytes(imagecodecs.jpegls_encode(smooth, level=3))
    near = make(smooth, syntax=".4.81", frame=frame, WindowCenter=2048, WindowWidth=4096)
    assert abs(read_dicom(saved(tmp_path, near)).pixels * 4095 - smooth).max() < 4.01


@pytest.mark.parametrize("name", ["SC_rgb_jpeg_gdcm", "SC_rgb_jpeg_dcmtk", "SC_rgb_rle", "SC_rgb_gdcm_KY"])
def test_other_writers_agree_on_a_colour_chart(name: str) -> None:
    found = read_dicom(get_testdata_file(f"{name}.dcm", download=False))
    chart = read_dicom(get_testdata_file("SC_rgb_dcmtk_+eb+cr.dcm", download=False))
    assert np.abs(found.pixels - chart.pixels).mean() < 0.01
    assert any("to luma" in step for step in found.steps)


def test_a_frame_in_several_fragments_is_whole(tmp_path: Path) -> None:
    frame = jpeg_lossless(PIXELS)
    data = make(syntax=".4.70", frame=frame)
    data.PixelData = encapsulate([frame], fragments_per_frame=3)
    np.testing.assert_allclose(read_dicom(saved(tmp_path, data)).pixels, stretched(PIXELS), atol=1e-6)


# Bits


@pytest.mark.parametrize("bits", range(9, 17))
@pytest.mark.parametrize("kind", ["u", "i"])
def test_all_depths(tmp_path: Path, bits: int, kind: str) -> None:
    low = -(2 ** (bits - 1)) if kind == "i" else 0
    values = (low + np.arange(2**bits - 1, -1, -(2 ** (bits - 9)))).reshape(16, -1).astype(f"{kind}2")
    radiograph = read_dicom(saved(tmp_path, make(values, bits=bits)))
    # Unsigned values that fill their bits are taken as they are, as in a PNG.
    expected = values / (2**bits - 1) if kind == "u" else stretched(values)
    np.testing.assert_allclose(radiograph.pixels, expected, atol=1e-5)


def test_what_lies_above_the_stored_bits_is_no_pixel(tmp_path: Path) -> None:
    overlay = PIXELS | np.uint16(0xF000) * (ROW > 20).astype(np.uint16)
    np.testing.assert_allclose(read_dicom(saved(tmp_path, make(overlay))).pixels, stretched(PIXELS), atol=1e-6)


def test_a_high_bit_above_the_stored_bits(tmp_path: Path) -> None:
    shifted = make((PIXELS << 4) | 7, HighBit=15)
    np.testing.assert_allclose(read_dicom(saved(tmp_path, shifted)).pixels, stretched(PIXELS), atol=1e-6)
    signed = make(((PIXELS.astype(np.int16) - 2048) << 4), HighBit=15)
    np.testing.assert_allclose(read_dicom(saved(tmp_path, signed)).pixels, stretched(PIXELS), atol=1e-6)


@pytest.mark.parametrize(
    "wrong",
    [{"BitsStored": 0, "HighBit": 0, "BitsAllocated": 0}, {"BitsStored": 17}, {"HighBit": 16}, {"HighBit": 5}],
)
def test_bits_that_cannot_be_are_refused(tmp_path: Path, wrong: dict[str, int]) -> None:
    assert "bits stored" in refusal(tmp_path, make(**wrong))


def test_eight_bits_without_voi_are_read_like_a_png(tmp_path: Path) -> None:
    eight = (PIXELS // 32 + 40).astype(np.uint8)
    assert eight.min() > 0
    assert eight.max() < 255
    radiograph = read_dicom(saved(tmp_path, make(eight, bits=8)))
    np.testing.assert_array_equal(radiograph.pixels, eight.astype(np.float32) / np.float32(255))


# Transforms


@pytest.mark.parametrize("function", [None, "LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_windows_agree_with_pydicom(tmp_path: Path, function: str | None) -> None:
    data = make(WindowCenter=[1800, 900], WindowWidth=[1500, 333], **({"VOILUTFunction": function} if function else {}))
    path = saved(tmp_path, data)
    for index in (0, 1):
        found = read_dicom(path, ReadSettings(window=index))
        np.testing.assert_allclose(found.pixels, apply_voi_lut(PIXELS, data, index) / 4095, atol=1e-5)
        assert f"width {(1500, 333)[index]}" in " ".join(found.steps)


def test_a_window_of_width_one_is_a_step(tmp_path: Path) -> None:
    found = read_dicom(saved(tmp_path, make(WindowCenter=2000, WindowWidth=1)))
    np.testing.assert_array_equal(found.pixels, PIXELS > 1999.5)


def test_voi_luts_come_before_windows(tmp_path: Path) -> None:
    curve = [min(4095, int(40 * math.sqrt(value))) for value in range(100, 3000)]
    data = make(VOILUTSequence=table(curve, first=100), WindowCenter=1800, WindowWidth=1500)
    data.VOILUTSequence.append(table(curve[::-1], first=100)[0])
    path = saved(tmp_path, data)
    for index in (0, 1):
        expected = apply_voi_lut(PIXELS, data, index) / 4095
        np.testing.assert_allclose(read_dicom(path, ReadSettings(window=index)).pixels, expected, atol=1e-5)
    expected = apply_voi_lut(PIXELS, data, 0, prefer_lut=False) / 4095
    np.testing.assert_allclose(read_dicom(path, ReadSettings(window=2)).pixels, expected, atol=1e-5)
    assert "offers 3 windows" in refusal(tmp_path, data, ReadSettings(window=3))
    assert "offers 3 windows" in refusal(tmp_path, data, ReadSettings(window=-1))


def test_a_lut_that_states_too_many_bits_is_not_read_as_darkness(tmp_path: Path) -> None:
    data = make(VOILUTSequence=table(list(range(4096)), bits=16))
    np.testing.assert_allclose(read_dicom(saved(tmp_path, data)).pixels, PIXELS / 4095, atol=1e-5)


def test_the_modality_lut_comes_before_the_window(tmp_path: Path) -> None:
    halves = table([value // 2 + 10 for value in range(4096)])
    data = make(ModalityLUTSequence=halves, WindowCenter=1000, WindowWidth=900)
    found = read_dicom(saved(tmp_path, data))
    expected = np.clip((PIXELS // 2 + 10 - 999.5) / 899 + 0.5, 0, 1)
    np.testing.assert_allclose(found.pixels, expected, atol=1e-5)
    assert [step.split()[0] for step in found.steps] == ["DICOM,", "modality", "window", "spacing"]


def test_rescale_comes_before_the_window(tmp_path: Path) -> None:
    data = make(RescaleSlope="0.5", RescaleIntercept="-100", WindowCenter=1000, WindowWidth=900)
    expected = np.clip((PIXELS * 0.5 - 100 - 999.5) / 899 + 0.5, 0, 1)
    np.testing.assert_allclose(read_dicom(saved(tmp_path, data)).pixels, expected, atol=1e-5)


def test_transforms_that_make_no_sense_are_left_out_and_said(tmp_path: Path) -> None:
    broken = table([1, 2])
    broken[0].LUTDescriptor = [4000, 0, 12]
    data = make(RescaleSlope=0, WindowCenter=900, WindowWidth=0, VOILUTSequence=broken, ModalityLUTSequence=broken)
    found = read_dicom(saved(tmp_path, data))
    np.testing.assert_allclose(found.pixels, stretched(PIXELS), atol=1e-6)
    assert sum("ignored" in step for step in found.steps) == 4


def test_a_window_beside_the_values_does_not_blank_the_image(tmp_path: Path) -> None:
    found = read_dicom(saved(tmp_path, make(WindowCenter=50000, WindowWidth=100)))
    np.testing.assert_allclose(found.pixels, stretched(PIXELS), atol=1e-6)
    assert any("shows every pixel alike" in step for step in found.steps)


def test_one_hot_pixel_does_not_darken_the_image(tmp_path: Path) -> None:
    hot = np.tile(PIXELS, (8, 8))
    hot[0, 0] = 65535
    found = read_dicom(saved(tmp_path, make(hot, bits=16)))
    assert found.pixels.mean() == pytest.approx(stretched(PIXELS).mean(), abs=0.01)
    assert any("far outside" in step for step in found.steps)
    assert not found.warnings  # a single pixel is no reason to doubt


def test_padding_takes_no_part_and_is_black_after_polarity(tmp_path: Path) -> None:
    padded = PIXELS // 2 + 500
    inside = stretched(padded)
    padded[:5] = 4000
    padded[5] = 4090
    hole = np.zeros(PIXELS.shape, bool)
    hole[:6] = True
    inside = (padded - padded[~hole].min()) / np.ptp(padded[~hole]).astype(float)
    for photometric, expected in [("MONOCHROME2", inside), ("MONOCHROME1", 1 - inside)]:
        data = make(padded, PixelPaddingValue=4000, PixelPaddingRangeLimit=4095, PhotometricInterpretation=photometric)
        found = read_dicom(saved(tmp_path, data))
        np.testing.assert_allclose(found.pixels[~hole], expected[~hole], atol=1e-6)
        assert (found.pixels[hole] == 0).all()
        assert any("padding (16.2%" in step for step in found.steps)


def test_signed_padding(tmp_path: Path) -> None:
    signed = PIXELS.astype(np.int16)
    signed[:5] = -2000
    found = read_dicom(saved(tmp_path, make(signed, bits=16, PixelPaddingValue=-2000)))
    assert (found.pixels[:5] == 0).all()
    np.testing.assert_allclose(found.pixels[5:], stretched(signed[5:]), atol=1e-6)
    only = np.full((9, 9), 7, np.uint16)
    assert "same value" in refusal(tmp_path, make(only))
    only[0] = 8
    refused = refusal(tmp_path, make(only, PixelPaddingValue=7, PixelPaddingRangeLimit=8))
    assert "nothing but padding" in refused


@pytest.mark.parametrize(
    ("photometric", "shape", "inverted", "doubt"),
    [
        ("MONOCHROME2", None, False, False),
        ("MONOCHROME2", "IDENTITY", False, False),
        ("MONOCHROME1", None, True, False),
        ("MONOCHROME1", "INVERSE", True, False),  # one fact stated twice: inverted once
        ("MONOCHROME1", "IDENTITY", True, True),
        ("MONOCHROME2", "INVERSE", True, True),
    ],
)
def test_polarity_is_turned_once_and_last(
    tmp_path: Path, photometric: str, shape: str | None, inverted: bool, doubt: bool
) -> None:
    data = make(PhotometricInterpretation=photometric, WindowCenter=1200, WindowWidth=800)
    if shape:
        data.PresentationLUTShape = shape
    found = read_dicom(saved(tmp_path, data))
    shown = np.clip((PIXELS - 1199.5) / 799 + 0.5, 0, 1)
    np.testing.assert_allclose(found.pixels, 1 - shown if inverted else shown, atol=1e-5)
    said = [step for step in found.steps if "inverted" in step]
    assert len(said) == int(inverted)
    assert any("contradicted" in step for step in said) == doubt


# Colour


def test_colour_becomes_luma(tmp_path: Path) -> None:
    colour = np.stack([PIXELS >> 4, PIXELS >> 5, 255 - (PIXELS >> 4)], axis=-1).astype(np.uint8)
    luma = colour @ np.array([0.299, 0.587, 0.114]) / 255
    rgb = read_dicom(saved(tmp_path, make(colour, bits=8)))
    np.testing.assert_allclose(rgb.pixels, luma, atol=1e-6)
    planes = make(colour, bits=8, PlanarConfiguration=1, PixelData=colour.transpose(2, 0, 1).tobytes())
    np.testing.assert_allclose(read_dicom(saved(tmp_path, planes)).pixels, luma, atol=1e-6)
    full = make(colour, bits=8, PhotometricInterpretation="YBR_FULL")
    np.testing.assert_allclose(read_dicom(saved(tmp_path, full)).pixels, colour[..., 0] / 255, atol=1e-6)
    for syntax, frame in [
        (".4.70", imagecodecs.jpeg8_encode(colour, lossless=True, predictor=1, colorspace="RGB", outcolorspace="RGB")),
        (".4.80", bytes(imagecodecs.jpegls_encode(colour))),
    ]:
        packed = make(colour, bits=8, syntax=syntax, frame=frame)
        np.testing.assert_allclose(read_dicom(saved(tmp_path, packed)).pixels, luma, atol=1e-6, err_msg=syntax)


def test_half_wide_colour(tmp_path: Path) -> None:
    y = (PIXELS >> 4).astype(np.uint8)
    packed = np.full((37, 25, 4), 128, np.uint8)
    packed[..., 0], packed[..., 1] = y[:, ::2], y[:, 1::2]
    data = make(np.dstack([y] * 3), bits=8, PhotometricInterpretation="YBR_FULL_422")
    data.PixelData = packed.tobytes()
    np.testing.assert_allclose(read_dicom(saved(tmp_path, data)).pixels, y / 255, atol=1e-6)


def test_palette(tmp_path: Path) -> None:
    data = make((PIXELS >> 4).astype(np.uint8), bits=8, PhotometricInterpretation="PALETTE COLOR")
    for name in ("Red", "Green", "Blue"):
        setattr(data, f"{name}PaletteColorLookupTableDescriptor", [256, 0, 16])
        data[f"{name}PaletteColorLookupTableDescriptor"].VR = "US"
        setattr(data, f"{name}PaletteColorLookupTableData", (np.arange(256, dtype="<u2")[::-1] * 257).tobytes())
    found = read_dicom(saved(tmp_path, data))
    np.testing.assert_allclose(found.pixels, 1 - (PIXELS >> 4) / 255, atol=1e-5)
    del data.RedPaletteColorLookupTableData
    assert "palette" in refusal(tmp_path, data)


# Spacing and tags


@pytest.mark.parametrize(
    ("attributes", "expected", "words"),
    [
        ({}, None, "unknown"),
        ({"PixelSpacing": [0.2, 0.1]}, (0.2, 0.1), "Pixel Spacing (not calibrated)"),
        ({"ImagerPixelSpacing": [0.2, 0.1]}, (0.2, 0.1), "Imager Pixel Spacing"),
        (
            {"ImagerPixelSpacing": [0.2, 0.1], "EstimatedRadiographicMagnificationFactor": 1.25},
            (0.16, 0.08),
            "divided by magnification 1.25",
        ),
        (
            {"PixelSpacing": [0.15, 0.15], "ImagerPixelSpacing": [0.2, 0.2]}
            | {"PixelSpacingCalibrationType": "FIDUCIAL", "EstimatedRadiographicMagnificationFactor": 1.25},
            (0.15, 0.15),
            "Pixel Spacing (FIDUCIAL)",
        ),
        ({"PixelSpacing": [0.15, 0.15], "ImagerPixelSpacing": [0.2, 0.2]}, (0.15, 0.15), "calibrated"),
        ({"PixelSpacing": [0, 0], "ImagerPixelSpacing": [0.2, 0.2]}, (0.2, 0.2), "Imager Pixel Spacing"),
        ({"PixelSpacing": [0, 0]}, None, "zero, negative"),
        ({"PixelSpacing": [-0.1, 0.1]}, None, "zero, negative"),
        ({"PixelSpacing": [0.1]}, None, "malformed"),
        ({"PixelSpacing": [100, 100]}, None, "implausible"),
        ({"ImagerPixelSpacing": [0.2, 0.2], "EstimatedRadiographicMagnificationFactor": 0}, (0.2, 0.2), "Imager"),
    ],
)
def test_spacing(tmp_path: Path, attributes: dict[str, Any], expected: tuple[float, float] | None, words: str) -> None:
    found = read_dicom(saved(tmp_path, make(**attributes)))
    assert found.spacing_mm == (None if expected is None else pytest.approx(expected))
    assert words in found.steps[-1]


def test_spacing_that_is_no_number(tmp_path: Path) -> None:
    content = as_bytes(make(PixelSpacing=[0.125, 0.125])).replace(b"0.125\\0.125", b"0.1x5\\R0SSI")
    found = read_dicom(saved(tmp_path, content))
    assert found.spacing_mm is None
    assert "R0SSI" not in " ".join(found.steps)


def test_tags_tell_the_kind_and_never_the_patient(tmp_path: Path) -> None:
    view = Dataset()
    view.CodeMeaning = "postero-anterior"
    data = make(
        BodyPartExamined="chest",
        ViewPosition="PA",
        PresentationIntentType="FOR PRESENTATION",
        ViewCodeSequence=[view],
        StudyDescription=SECRET,
        PatientOrientation=["L", "F"],
        Laterality=SECRET,  # a name where a code belongs: '^' is in no code
    )
    found = read_dicom(saved(tmp_path, data))
    assert found.tags == {
        "body_part": "CHEST",
        "modality": "DX",
        "patient_orientation": "L\\F",
        "photometric_interpretation": "MONOCHROME2",
        "presentation_intent": "FOR PRESENTATION",
        "view": "POSTERO-ANTERIOR",
        "view_position": "PA",
    }
    assert SECRET not in repr(found)


# Refusals


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2"}, "CT Image Storage"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.104.1"}, "Encapsulated PDF"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.22"}, "SR"),
        ({"SOPClassUID": "1.2.826.0.1.3680043.9.7777.1234567890.1234567890.1234567"}, "of an unknown kind"),
        ({"Modality": "MR"}, "modality MR"),
        ({"Modality": "MG"}, "modality MG"),
        ({"Modality": "SMITH"}, "modality unknown"),
        ({"NumberOfFrames": 2}, "holds 2 frames"),
        ({"PixelData": None}, "no pixel data"),
        ({"Rows": 0}, "has no pixels"),
        ({"Rows": None}, "has no pixels"),
        ({"Rows": 65535, "Columns": 65535}, "more than 250,000,000"),
        ({"Rows": 38}, "cut short"),
        ({"PhotometricInterpretation": "HSV"}, "colour model"),
        ({"SamplesPerPixel": 4}, "colour model"),
    ],
)
def test_what_is_no_single_radiograph_is_refused(tmp_path: Path, attributes: dict[str, Any], words: str) -> None:
    assert words in refusal(tmp_path, make(**attributes))


@pytest.mark.parametrize("modality", ["CR", "DX", "OT", None])
def test_radiographs_of_every_kind_are_read(tmp_path: Path, modality: str | None) -> None:
    for sop_class in (DX, "1.2.840.10008.5.1.4.1.1.1", "1.2.840.10008.5.1.4.1.1.7"):
        path = saved(tmp_path, make(Modality=modality, SOPClassUID=sop_class))
        assert read_dicom(path).shape == PIXELS.shape


def test_unknown_syntax_is_refused(tmp_path: Path) -> None:
    assert "transfer syntax" in refusal(tmp_path, make(syntax=".4.102", frame=b"\0\0\0\1"))


def test_pixels_that_contradict_their_description_are_refused(tmp_path: Path) -> None:
    for syntax, encode in LOSSLESS.values():
        if syntax != ".5":
            message = refusal(tmp_path, make(syntax=syntax, frame=encode(PIXELS), Rows=40))
            assert "but its compressed pixels are" in message


def test_no_dicom_at_all(tmp_path: Path) -> None:
    for content in (b"", b"x", b"DICM", bytes(128) + b"DICM", bytes(5000), random.Random(1).randbytes(5000)):
        assert "DICOM" in refusal(tmp_path, content)
    with pytest.raises(ImageError, match="does not exist"):
        read_dicom(tmp_path / "none.dcm")
    with pytest.raises(ImageError, match="not a file"):
        read_dicom(tmp_path)


def test_files_that_are_too_large_are_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deflated = make(np.zeros((999, 999), np.uint16), syntax=".1.99")
    monkeypatch.setattr(dicom, "HEADER_BYTES", 0)
    assert "inflates to more than" in refusal(tmp_path, deflated, ReadSettings(max_pixels=200_000))
    assert "is larger than" in refusal(tmp_path, make(), ReadSettings(max_pixels=200))


def test_what_inflates_to_more_than_its_pixels_is_not_inflated(tmp_path: Path) -> None:
    """Some 30 kB that become 32 MB: behind the pixels, and before them, where a reader of the header meets them."""
    for more in ({"PixelData": PIXELS.tobytes() + bytes(2**25)}, {"EncapsulatedDocument": bytes(2**25)}):
        path = saved(tmp_path, make(syntax=".1.99", **more))
        assert path.stat().st_size < 50_000
        tracemalloc.start()
        try:
            assert read_size(path) == PIXELS.shape
            with pytest.raises(ImageError, match="inflates to more than"):
                read_dicom(path)
            assert tracemalloc.get_traced_memory()[1] < 2**24
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize("syntax", ["", ".1", ".5"])
def test_frames_beyond_the_one_that_is_stated_are_not_read(tmp_path: Path, syntax: str) -> None:
    data = make(syntax=syntax)
    if syntax == ".5":
        data.PixelData = encapsulate([rle(PIXELS)] * 3)
        data["PixelData"].is_undefined_length = True
    else:
        data.PixelData = PIXELS.tobytes() * 3
    found = read_dicom(saved(tmp_path, data))
    np.testing.assert_array_equal(found.pixels, PIXELS / np.float32(4095))
    assert any("more pixels than one image" in warning for warning in found.warnings) == (syntax != ".5")


def test_a_file_without_preamble_is_read(tmp_path: Path) -> None:
    expected = read_dicom(saved(tmp_path, make(), "plain.dcm")).pixels
    with_meta = as_bytes(make())[132:]
    np.testing.assert_array_equal(read_dicom(saved(tmp_path, with_meta)).pixels, expected)
    for implicit in (True, False):
        buffer = BytesIO()
        data = make()
        del data.file_meta
        data.save_as(buffer, implicit_vr=implicit, little_endian=True)
        np.testing.assert_array_equal(read_dicom(saved(tmp_path, buffer.getvalue())).pixels, expected)


# Damage


ALL_SYNTAXES = {name: (syntax, None) for name, syntax in UNCOMPRESSED.items()} | {
    name: (syntax, encode(PIXELS)) for name, (syntax, encode) in LOSSLESS.items()
}


@pytest.mark.parametrize("name", ALL_SYNTAXES)
def test_a_file_cut_short_is_refused_wherever_it_is_cut(tmp_path: Path, name: str) -> None:
    syntax, frame = ALL_SYNTAXES[name]
    whole = as_bytes(make(syntax=syntax, frame=frame))
    end = len(whole) if frame is None else whole.rindex(b"\xfe\xff\xdd\xe0")
    # What stands after the last pixel may be missing: the delimiter, and the byte that makes a length even.
    for length in [*range(0, end - 2, max(1, end // 30)), end - 3]:
        refusal(tmp_path, whole[:length])


@pytest.mark.parametrize("name", LOSSLESS)
@pytest.mark.parametrize("fraction", [0.3, 0.9, 0.99])
def test_a_frame_cut_short_in_a_whole_file_is_refused(tmp_path: Path, name: str, fraction: float) -> None:
    syntax, frame = LOSSLESS[name][0], LOSSLESS[name][1](PIXELS)
    refusal(tmp_path, make(syntax=syntax, frame=frame[: int(fraction * len(frame))]))


FLIPS = st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=8)


@pytest.mark.parametrize("name", ALL_SYNTAXES)
@settings(
    max_examples=25,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(flips=FLIPS, cut=st.one_of(st.none(), st.integers(0, 5000)), header_only=st.booleans())
def test_damage_gives_an_image_or_a_clean_refusal(
    tmp_path: Path, name: str, flips: list[tuple[int, int]], cut: int | None, header_only: bool
) -> None:
    syntax, frame = ALL_SYNTAXES[name]
    extras = {"WindowCenter": [2000, 1000], "WindowWidth": [4000, 100], "PixelSpacing": [0.1, 0.1]}
    data = make(syntax=syntax, frame=frame, VOILUTSequence=table([0, 1000, 4000]), PixelPaddingValue=0, **extras)
    content = bytearray(as_bytes(data))
    for place, value in flips:
        content[place % (600 if header_only else len(content))] = value
    path = saved(tmp_path, bytes(content[:cut]))
    try:
        found = read_dicom(path)
    except ImageError as error:
        assert str(path) in str(error)
        assert SECRET not in str(error)
        return
    assert found.pixels.dtype == np.float32
    assert found.pixels.ndim == 2
    assert np.isfinite(found.pixels).all()
    assert found.pixels.min() >= 0
    assert found.pixels.max() <= 1


# Quiet


def chatty() -> bytes:
    """A file of which pydicom warns, quoting the value."""
    return as_bytes(make(StudyDate="20200101")).replace(b"20200101", b"MARIA!  ")


def test_what_pydicom_says_of_values_reaches_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = saved(tmp_path, chatty())
    with caplog.at_level(logging.DEBUG), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        read_dicom(path)
        padded = make()
        padded.PixelData += bytes(64)  # pydicom warns of excess padding
        read_dicom(saved(tmp_path, padded))
    assert not caught
    assert not [record for record in caplog.records if record.name.startswith("pydicom")]


def test_quiet_leaves_pydicom_as_it_was() -> None:
    filters, level = list(warnings.filters), logging.getLogger("pydicom").level
    with pytest.warns(UserWarning, match="not to be muted"), quiet():
        warnings.warn("not to be muted", UserWarning, stacklevel=1)
    with pytest.raises(ImageError), quiet():
        raise ImageError("x")
    assert list(warnings.filters) == filters
    assert logging.getLogger("pydicom").level == level


def test_threads_share_the_quiet(tmp_path: Path) -> None:
    path = saved(tmp_path, chatty())
    filters, faults = list(warnings.filters), []

    def work() -> None:
        for _ in range(10):
            try:
                read_dicom(path)
            except BaseException as error:
                faults.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    assert list(warnings.filters) == filters


# The real file


@pytest.mark.skipif(not REAL.exists(), reason="needs ../shared/dicom/chest-ap.dcm")
def test_the_real_file() -> None:
    found = read_dicom(REAL)
    assert found.shape == (1024, 1024)
    assert found.spacing_mm is None
    assert found.tags["body_part"] == "CHEST"
    np.testing.assert_array_equal(found.pixels, dcmread(REAL).pixel_array.astype(np.float32) / np.float32(255))
    lung, spine = found.pixels[250:450, 200:350], found.pixels[600:900, 450:550]
    assert lung.mean() < 0.4
    assert spine.mean() > 0.7


# Memory


@pytest.mark.parametrize(
    "attributes",
    [
        {"WindowCenter": 2000, "WindowWidth": 3000},
        {"WindowCenter": 2000, "WindowWidth": 3000, "VOILUTFunction": "SIGMOID"},
        {"WindowCenter": 2000, "WindowWidth": 3000, "RescaleSlope": 2, "PhotometricInterpretation": "MONOCHROME1"},
    ],
    ids=["window", "sigmoid", "inverted"],
)
def test_a_large_film_is_not_copied_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attributes: dict[str, Any]
) -> None:
    """At most 11 bytes a pixel: the file twice (2 + 2), or the stored values (2) and the result (4), and strips."""
    monkeypatch.setattr(dicom_values, "_STRIP", 20_000)
    film = np.tile(np.linspace(0, 1, 2000, dtype=np.float32), (1500, 1))
    path = make_film(tmp_path / "film.dcm", film, **attributes)
    read_dicom(path)  # what is loaded once does not count
    tracemalloc.start()
    try:
        read_dicom(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak / film.size < 11
