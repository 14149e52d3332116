"""Files as other programs write them: what `cxrseg predict` makes of each, beside what is right.

    python benchmarks/foreign_files.py -o FOLDER

Makes one phantom in many ways of storing it, reads each file, segments it by the shipped weights and prints a row: what
was expected (the infected fraction of the 8-bit PNG), what came, and the reader's warnings. Right is a fraction within
0.03 of the expected one, or a refusal, or a warning that says what is unclear.
"""

from __future__ import annotations

import argparse
import struct
import tempfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
from PIL import Image, ImageFilter
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence

from cxrseg import Segmenter
from cxrseg.errors import ImageError
from cxrseg.io.masks import read_mask
from cxrseg.io.read import read_radiograph
from cxrseg.phantom.generate import make_phantom

PHANTOM = make_phantom(2, "COVID-19", 512)
FILM = PHANTOM.image
"""(512, 512) uint8."""

RNG = np.random.default_rng(0)
Write = Callable[[Path], None]
Case = tuple[str, str, str, Write]  # kind, name, ending, writer


def deep(bits: int) -> np.ndarray:
    """The film in `bits` bits, in uint16 (uint32 above 16), with the noise that deep images have."""
    noise = RNG.random(FILM.shape)
    full = (FILM + noise) / 256 * (2.0**bits - 1)
    return np.floor(full).astype(np.uint16 if bits <= 16 else np.uint32)


def with_pixels(values: np.ndarray, value: int, count: int) -> np.ndarray:
    values = values.copy()
    values.ravel()[RNG.choice(values.size, count, replace=False)] = value
    return values


def with_marker(values: np.ndarray, value: int, side: int = 40) -> np.ndarray:
    values = values.copy()
    values[20 : 20 + side, 20 : 20 + side // 2] = value
    return values


def with_frame(values: np.ndarray, value: int, width: int = 12) -> np.ndarray:
    return np.pad(values[width:-width, width:-width], width, constant_values=value)


def png(values: np.ndarray) -> Write:
    return lambda path: Image.fromarray(values).save(path, "PNG")


def jpeg(image: np.ndarray | Image.Image, quality: int = 95, **options: object) -> Write:
    drawn = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    return lambda path: drawn.save(path, "JPEG", quality=quality, **options)


def tiff(values: np.ndarray, **options: object) -> Write:
    return lambda path: tifffile.imwrite(path, values, **options)


def raw(content: bytes) -> Write:
    return lambda path: path.write_bytes(content) and None


def ranges() -> Iterator[Case]:
    kind = "value range"
    for bits in range(9, 17):
        yield kind, f"{bits} bits in a 16-bit PNG", ".png", png(deep(bits))
    for bits in (10, 12, 14):
        yield kind, f"{bits} bits, one pixel of {2**bits}", ".png", png(with_pixels(deep(bits), 2**bits, 1))
        yield kind, f"{bits} bits, one hot pixel of 65535", ".png", png(with_pixels(deep(bits), 65535, 1))
        yield kind, f"{bits} bits, 20 hot pixels", ".png", png(with_pixels(deep(bits), 60000, 20))
        yield kind, f"{bits} bits, marker of 65535", ".png", png(with_marker(deep(bits), 65535))
    yield kind, "12 bits, marker of 32767", ".png", png(with_marker(deep(12), 32767))
    yield kind, "12 bits, marker of 4095", ".png", png(with_marker(deep(12), 4095))
    yield kind, "13 bits, marker of 65535", ".png", png(with_marker(deep(13), 65535))
    yield kind, "15 bits, marker of 65535", ".png", png(with_marker(deep(15), 65535))
    yield kind, "12 bits, white frame of 65535", ".png", png(with_frame(deep(12), 65535))
    yield kind, "8 bits in a 16-bit PNG", ".png", png(FILM.astype(np.uint16))
    yield kind, "8 bits, one pixel of 65535", ".png", png(with_pixels(FILM.astype(np.uint16), 65535, 1))
    yield kind, "8 bits times 257", ".png", png(FILM.astype(np.uint16) * 257)
    for offset in (300, 1000, 2048, 8000, 32768, 60000):
        yield kind, f"12 bits, offset {offset}", ".png", png(deep(12) + np.uint16(offset))
    yield kind, "12 bits, offset 1000, frame of 0", ".png", png(with_marker(deep(12) + np.uint16(1000), 0, 100))
    yield kind, "12 bits, offset 32768, frame of 0", ".png", png(with_marker(deep(12) + np.uint16(32768), 0, 100))
    yield kind, "12 bits shifted up by 4", ".png", png(deep(12) << 4)
    film = deep(16) / 65535
    for name, values in [
        ("float 0 to 1", film),
        ("float 0 to 1.02", film * 1.02 + 0.01),
        ("float -0.02 to 1", film * 1.02 - 0.02),
        ("float 0 to 1, one pixel of 40", with_pixels(film, 40, 1)),
        ("float 0 to 100", film * 100),
        ("float 0 to 255", film * 255),
        ("float 0 to 4095", film * 4095),
        ("float 0 to 65535", film * 65535),
        ("float 12 bits over 65535", film / 16),
        ("float -1 to 1", film * 2 - 1),
        ("float z-score", (film - film.mean()) / film.std()),
        ("float -1000 to 3000", film * 4000 - 1000),
        ("float 0 to 1e6", film * 1e6),
        ("float64 0 to 1", film.astype(np.float64)),
    ]:
        yield kind, name, ".tif", tiff(values.astype(np.float64 if name.startswith("float64") else np.float32))
    yield kind, "int16 -2048 to 2047", ".tif", tiff(deep(12).astype(np.int16) - 2048)
    yield kind, "int16 -1024 to 3071", ".tif", tiff(deep(12).astype(np.int16) - 1024)
    yield kind, "int16 -32768 to 32767", ".tif", tiff((deep(16).astype(np.int32) - 32768).astype(np.int16))
    yield kind, "int16 12 bits, padding -2000", ".tif", tiff(with_marker(deep(12).astype(np.int16), -2000, 100))
    yield kind, "int16 12 bits, padding -32768", ".tif", tiff(with_marker(deep(12).astype(np.int16), -32768, 100))


def colours() -> Iterator[Case]:
    kind = "16-bit colour"

    def gray3(values: np.ndarray) -> np.ndarray:
        return np.dstack([values] * 3)

    opaque = np.full(FILM.shape, 65535, np.uint16)
    for bits in (10, 12, 14, 16):
        yield kind, f"RGB16 PNG, {bits} bits", ".png", raw(imagecodecs.png_encode(gray3(deep(bits))))
        yield kind, f"RGB16 TIFF, {bits} bits", ".tif", tiff(gray3(deep(bits)), photometric="rgb")
    fourteen = deep(14)
    yield kind, "RGBA16 PNG, 14 bits", ".png", raw(imagecodecs.png_encode(np.dstack([fourteen] * 3 + [opaque])))
    yield kind, "gray and alpha PNG, 12 bits", ".png", raw(imagecodecs.png_encode(np.dstack([deep(12), opaque])))
    yield kind, "gray and alpha PNG, 16 bits", ".png", raw(imagecodecs.png_encode(np.dstack([deep(16), opaque])))
    planes = np.stack([fourteen] * 3)
    yield kind, "RGB16 TIFF, planes", ".tif", tiff(planes, photometric="rgb", planarconfig="separate")
    yield kind, "RGB8 TIFF, planes", ".tif", tiff(np.stack([FILM] * 3), photometric="rgb", planarconfig="separate")
    yield (
        kind,
        "RGB16 TIFF, planes, deflate",
        ".tif",
        tiff(planes, photometric="rgb", planarconfig="separate", compression="zlib"),
    )
    yield (
        kind,
        "RGBA16 TIFF",
        ".tif",
        tiff(np.dstack([fourteen] * 3 + [opaque]), photometric="rgb", extrasamples=["unassalpha"]),
    )
    yield kind, "RGB float32 TIFF", ".tif", tiff(gray3(deep(16) / 65535).astype(np.float32), photometric="rgb")
    yield kind, "RGB16 PNG, one hot pixel", ".png", raw(imagecodecs.png_encode(gray3(with_pixels(deep(12), 65535, 1))))
    inks = np.dstack([opaque * 0, opaque * 0, opaque * 0, 65535 - deep(16)])
    yield kind, "CMYK16 TIFF", ".tif", tiff(inks, photometric="separated")
    palette = np.repeat((np.arange(256) * 257)[None], 3, 0).astype(np.uint16)
    yield kind, "palette TIFF", ".tif", tiff(FILM, photometric="palette", colormap=palette)


def tiffs() -> Iterator[Case]:
    kind = "TIFF formats"
    full32 = (FILM.astype(np.uint32) << 24) + 8388608
    yield kind, "uint32, 32 bits", ".tif", tiff(full32)
    yield kind, "uint32, 16 bits", ".tif", tiff(deep(16).astype(np.uint32))
    yield kind, "uint32, 12 bits", ".tif", tiff(deep(12).astype(np.uint32))
    yield kind, "uint32, 24 bits", ".tif", tiff(deep(24))
    yield kind, "int32, 16 bits", ".tif", tiff(deep(16).astype(np.int32))
    yield kind, "uint64", ".tif", tiff(deep(16).astype(np.uint64))
    yield kind, "int64", ".tif", tiff(deep(12).astype(np.int64))
    yield kind, "int8", ".tif", tiff((FILM.astype(np.int16) - 128).astype(np.int8))
    yield kind, "float16", ".tif", tiff((deep(16) / 65535).astype(np.float16))
    yield kind, "float64", ".tif", tiff((deep(16) / 65535).astype(np.float64))
    yield kind, "complex64", ".tif", tiff((deep(16) / 65535).astype(np.complex64))
    for bits in (10, 12, 14):
        packed = imagecodecs.packints_encode(deep(bits), bits) if hasattr(imagecodecs, "packints_encode") else None
        if packed is not None:
            yield kind, f"{bits} bits packed", ".tif", tiff(deep(bits), bitspersample=bits)
    for name in ("zlib", "lzw", "packbits", "zstd", "lzma", "jpegxl", "jpeg2000", "png"):
        yield kind, f"compression {name}", ".tif", tiff(deep(16), compression=name)
    yield kind, "JPEG in TIFF, 8 bits", ".tif", tiff(FILM, compression="jpeg")
    yield kind, "JPEG in TIFF, 12 bits", ".tif", tiff(deep(12), compression="jpeg", bitspersample=12)
    yield kind, "horizontal predictor", ".tif", tiff(deep(16), compression="zlib", predictor=True)
    film = (deep(16) / 65535).astype(np.float32)
    yield kind, "float predictor", ".tif", tiff(film, compression="zlib", predictor=True)
    yield kind, "tiles", ".tif", tiff(deep(16), tile=(128, 128))
    yield kind, "big endian", ".tif", tiff(deep(16), byteorder=">")
    yield kind, "BigTIFF", ".tif", tiff(deep(16), bigtiff=True)
    yield kind, "BigTIFF, 8 bits", ".tif", tiff(FILM, bigtiff=True)
    for bits in (8, 12, 16):
        values = FILM if bits == 8 else deep(bits)
        top = values.dtype.type(255 if bits == 8 else 65535)
        yield kind, f"white is zero, {bits} bits, of the type", ".tif", tiff(top - values, photometric="miniswhite")
    yield kind, "white is zero, 12 bits, of 4095", ".tif", tiff(4095 - deep(12), photometric="miniswhite")
    yield kind, "white is zero, uint32", ".tif", tiff(2**32 - 1 - full32, photometric="miniswhite")
    yield kind, "white is zero, float", ".tif", tiff(1 - film, photometric="miniswhite")
    yield kind, "thumbnail as second page", ".tif", thumbnail()
    yield kind, "ImageJ", ".tif", tiff(deep(16), imagej=True)
    yield kind, "OME", ".ome.tif", tiff(deep(16), ome=True)
    yield kind, "two full pages", ".tif", tiff(np.stack([deep(16)] * 2))
    yield kind, "ImageJ stack of two", ".tif", tiff(np.stack([deep(16)] * 2), imagej=True)
    kind = "JPEG kinds"
    yield kind, "12 bits", ".jpg", raw(imagecodecs.jpeg8_encode(deep(12), bitspersample=12, level=95))
    yield (
        kind,
        "12 bits, colour",
        ".jpg",
        raw(imagecodecs.jpeg8_encode(np.dstack([deep(12)] * 3), bitspersample=12, level=95)),
    )
    yield kind, "lossless, 8 bits", ".jpg", raw(imagecodecs.jpeg8_encode(FILM, lossless=True))
    yield kind, "lossless, 12 bits", ".jpg", raw(imagecodecs.jpeg8_encode(deep(12), lossless=True, bitspersample=12))
    yield kind, "lossless, 16 bits", ".jpg", raw(imagecodecs.jpeg8_encode(deep(16), lossless=True, bitspersample=16))
    yield kind, "JPEG-LS", ".jls", raw(bytes(imagecodecs.jpegls_encode(deep(12))))
    yield kind, "JPEG 2000", ".jp2", raw(bytes(imagecodecs.jpeg2k_encode(deep(12), level=0)))
    yield kind, "progressive", ".jpg", jpeg(FILM, progressive=True)
    yield kind, "two pictures (MPO)", ".jpg", mpo
    yield kind, "CMYK", ".jpg", jpeg(Image.fromarray(FILM).convert("RGB").convert("CMYK"))


def thumbnail() -> Write:
    def write(path: Path) -> None:
        with tifffile.TiffWriter(path) as file:
            file.write(deep(16))
            file.write(deep(16)[::4, ::4], subfiletype=1)

    return write


def mpo(path: Path) -> None:
    image = Image.fromarray(FILM)
    image.save(path, "MPO", save_all=True, append_images=[image.resize((128, 128))], quality=95)


DX = "1.2.840.10008.5.1.4.1.1.1.1"


def dicom(values: np.ndarray = None, change: Callable[[Dataset], None] | None = None, **attributes: object) -> bytes:
    """A DX image of 12 bits; `attributes` are set last, None takes one away."""
    values = deep(12) if values is None else values
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    data.SOPClassUID, data.SOPInstanceUID, data.Modality = DX, "1.2.3", "DX"
    data.Rows, data.Columns = values.shape[:2]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
    if values.dtype.kind == "f":
        data.FloatPixelData = values.astype("<f4").tobytes()
        for word in ("BitsStored", "HighBit", "PixelRepresentation"):
            del data[word]
        data.BitsAllocated = 32
    else:
        data.PixelData = values.astype("<u2").tobytes()
        data["PixelData"].VR = "OW"
    for keyword, value in attributes.items():
        if value is None:
            delattr(data, keyword)
        else:
            setattr(data, keyword, value)
    if change:
        change(data)
    buffer = BytesIO()
    data.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def element(group: int, number: int, vr: bytes, value: bytes) -> bytes:
    """An element in explicit little endian, whatever its value."""
    value += b" " * (len(value) % 2)
    return struct.pack("<HH", group, number) + vr + struct.pack("<H", len(value)) + value


def numbered(centre: bytes, width: bytes, more: bytes = b"", values: np.ndarray | None = None) -> bytes:
    """A file whose window is written as these bytes."""
    content = dicom(values)
    place = content.index(struct.pack("<HH", 0x28, 0x103) + b"US")
    place += 10  # behind Pixel Representation
    window = element(0x28, 0x1050, b"DS", centre) + element(0x28, 0x1051, b"DS", width) + more
    return content[:place] + window + content[place:]


def numbers() -> Iterator[Case]:
    """The film as 8-bit gray, times 8, plus 500: right only through the window 1519.5 / 2041."""
    kind = "DICOM numbers"
    values = FILM.astype(np.uint16) * 8 + 500
    values[0, :64] = 4095  # without the window, this decides
    values[1, :64] = 0
    for name, centre, width in [
        ("as it should be", b"1520.5", b"2041"),
        ("decimal comma in the centre", b"1520,5", b"2041"),
        ("decimal comma in both", b"1520,5", b"2041,0"),
        ("comma and exponent", b"1,5205E+03", b"2041"),
        ("comma, three digits behind", b"1520,500", b"2041,000"),
        ("thousands comma", b"1,520", b"2,041"),
        ("thousands comma and point", b"1,520.5", b"2,041.0"),
        ("two windows with commas", b"1520,5\\900,5", b"2041\\300"),
        ("second window malformed", b"1520.5\\x", b"2041\\300"),
        ("unit behind", b"1520.5 HU", b"2041"),
        ("two points", b"1.520.5", b"2041"),
        ("NaN", b"NaN", b"2041"),
        ("infinite", b"1e999", b"2041"),
        ("a word", b"AUTO", b"AUTO"),
        ("nul behind", b"1520.5\0", b"2041\0"),
        ("plus sign", b"+1520.5", b"+2041"),
        ("unicode minus", "\u22125".encode(), b"2041"),
        ("width missing", b"1520.5", b""),
        ("three centres, two widths", b"1520.5\\1\\2", b"2041\\2"),
        ("width negative", b"1520.5", b"-2041"),
        ("slash between", b"1520.5/900", b"2041/300"),
    ]:
        yield kind, name, ".dcm", raw(numbered(centre, width, values=values))
    slope = element(0x28, 0x1052, b"DS", b"-500,0") + element(0x28, 0x1053, b"DS", b"1,0")
    yield kind, "rescale with commas", ".dcm", raw(numbered(b"1020.5", b"2041", slope, values))
    slope = element(0x28, 0x1052, b"DS", b"-500") + element(0x28, 0x1053, b"DS", b"one")
    yield kind, "slope a word", ".dcm", raw(numbered(b"1020.5", b"2041", slope, values))


def dicoms() -> Iterator[Case]:
    kind = "DICOM orientation"
    for name, stored, tag in [
        ("L\\F", FILM, ["L", "F"]),
        ("R\\F, mirrored", FILM[:, ::-1], ["R", "F"]),
        ("L\\H, upside down", FILM[::-1], ["L", "H"]),
        ("R\\H, by 180 degrees", FILM[::-1, ::-1], ["R", "H"]),
        ("F\\L, transposed", FILM.T, ["F", "L"]),
        ("F\\R, a quarter turn", np.rot90(FILM), ["F", "R"]),
        ("H\\L, a quarter turn", np.rot90(FILM, -1), ["H", "L"]),
        ("H\\R, anti-transposed", FILM[::-1, ::-1].T, ["H", "R"]),
        ("RP\\FA, oblique", FILM[:, ::-1], ["RP", "FA"]),
        ("l\\h, small letters", FILM[::-1], ["l", "h"]),
        ("A\\F, a lateral view's", FILM, ["A", "F"]),
        ("L, one value", FILM, ["L"]),
        ("empty", FILM, []),
        ("LEFT\\FOOT", FILM, ["LEFT", "FOOT"]),
    ]:
        values = np.ascontiguousarray(stored).astype(np.uint16) * 16
        window = {"WindowCenter": 2048, "WindowWidth": 4096}
        yield kind, name, ".dcm", raw(dicom(values, PatientOrientation=tag, **window))
    kind = "DICOM kinds"
    film = (deep(16) / 65535).astype(np.float32)
    yield kind, "float pixel data, 0 to 1", ".dcm", raw(dicom(film))
    yield kind, "float pixel data, -1000 to 3000", ".dcm", raw(dicom(film * 4000 - 1000))
    yield (
        kind,
        "12 bits, no window, marker of 65535",
        ".dcm",
        raw(dicom(with_marker(deep(12), 65535), BitsStored=16, HighBit=15)),
    )
    yield (
        kind,
        "12 bits, no window, hot pixel",
        ".dcm",
        raw(dicom(with_pixels(deep(12), 65535, 1), BitsStored=16, HighBit=15)),
    )
    yield kind, "12 bits stated, values of 16", ".dcm", raw(dicom(deep(16)))
    yield kind, "FOR PROCESSING", ".dcm", raw(dicom(PresentationIntentType="FOR PROCESSING"))
    yield kind, "no Photometric Interpretation", ".dcm", raw(dicom(PhotometricInterpretation=None))
    yield kind, "no Pixel Representation", ".dcm", raw(dicom(PixelRepresentation=None))
    yield kind, "window in a functional group", ".dcm", raw(dicom(deep(12) // 2 + 1000, change=grouped))
    yield kind, "child of 6 years", ".dcm", raw(dicom(PatientAge="006Y", WindowCenter=2048, WindowWidth=4096))
    yield (
        kind,
        "child by birth date",
        ".dcm",
        raw(dicom(PatientBirthDate="20150101", StudyDate="20200601", WindowCenter=2048, WindowWidth=4096)),
    )
    for part in ("UNKNOWN", "TORACE", "BRUST", "POITRINE", "PECHO", "KLATKA PIERSIOWA", "HAND", "XYZ"):
        yield (
            "DICOM words",
            f"BodyPartExamined {part}",
            ".dcm",
            raw(dicom(BodyPartExamined=part, WindowCenter=2048, WindowWidth=4096)),
        )
    for view in ("LLD", "RLD", "AP", "LL", "LATERAL"):
        yield (
            "DICOM words",
            f"ViewPosition {view}",
            ".dcm",
            raw(dicom(ViewPosition=view, WindowCenter=2048, WindowWidth=4096)),
        )


def grouped(data: Dataset) -> None:
    voi, shared = Dataset(), Dataset()
    voi.WindowCenter, voi.WindowWidth = 2024, 2048
    shared.FrameVOILUTSequence = Sequence([voi])
    data.SharedFunctionalGroupsSequence = Sequence([shared])


MARKED = PHANTOM.infection
LUNG = PHANTOM.lungs


def masks() -> Iterator[Case]:
    kind = "masks"
    one = MARKED.astype(np.uint8)
    classes = LUNG.astype(np.uint8) + one
    for low, high in [(0, 255), (0, 1), (0, 127), (0, 2), (1, 2), (90, 200), (0, 254), (3, 7), (0, 100)]:
        yield kind, f"{low} and {high}", ".png", png(np.where(MARKED, high, low).astype(np.uint8))
    yield kind, "0 and 65535", ".png", png(one.astype(np.uint16) * 65535)
    yield kind, "0 and 1 in 16 bits", ".png", png(one.astype(np.uint16))
    yield kind, "float 0 and 1", ".tif", tiff(one.astype(np.float32))
    yield kind, "float 0 and 0.5", ".tif", tiff(one.astype(np.float32) / 2)
    yield kind, "int32 0 and 1", ".tif", tiff(one.astype(np.int32))
    yield kind, "int8 0 and -1", ".tif", tiff(-one.astype(np.int8))
    yield kind, "1 bit", ".png", png(MARKED)
    yield kind, "1 bit, white is zero", ".tif", tiff(~MARKED, photometric="miniswhite")
    yield kind, "classes 0, 1, 2", ".png", png(classes)
    yield kind, "classes 0, 127, 255", ".png", png(classes * 127)
    yield kind, "classes 0, 1, 255 (ignored edge)", ".png", png(with_marker(one, 255))
    yield kind, "classes 0, 85, 170, 255", ".png", png(with_marker(classes * 85, 255))
    yield kind, "classes in 16 bits", ".png", png(classes.astype(np.uint16) * 1000)


def coloured_masks() -> Iterator[Case]:
    kind = "masks"
    one = MARKED.astype(np.uint8)
    colours = np.zeros((*FILM.shape, 3), np.uint8)

    def painted(mark: tuple[int, int, int], ground: tuple[int, int, int] = (0, 0, 0)) -> np.ndarray:
        return np.where(MARKED[..., None], np.array(mark), np.array(ground)).astype(np.uint8)

    for name, mark, ground in [
        ("red on black", (255, 0, 0), (0, 0, 0)),
        ("blue on black", (0, 0, 255), (0, 0, 0)),
        ("dark red on black", (128, 0, 0), (0, 0, 0)),
        ("green on gray", (0, 255, 0), (128, 128, 128)),
        ("red on white", (255, 0, 0), (255, 255, 255)),
        ("white on black", (255, 255, 255), (0, 0, 0)),
        ("yellow on blue", (255, 255, 0), (0, 0, 255)),
    ]:
        yield kind, name, ".png", png(painted(mark, ground))
    yield kind, "red on black, JPEG", ".jpg", jpeg(painted((255, 0, 0)), 80)
    yield (
        kind,
        "red on black, reduced and enlarged",
        ".png",
        lambda path: Image.fromarray(painted((255, 0, 0))).resize((256, 256)).resize((512, 512)).save(path),
    )
    colours[LUNG], colours[MARKED] = (0, 255, 0), (255, 0, 0)
    yield kind, "lungs green, infection red", ".png", png(colours)
    film = np.dstack([FILM] * 3)
    film[MARKED] = (255, 0, 0)
    yield kind, "film with red drawn on it", ".png", png(film)
    yield kind, "the film itself", ".png", png(FILM)
    for name, colour in [("white", 255), ("black", 0), ("red", (255, 0, 0)), ("gray", 90)]:
        rgba = np.zeros((*FILM.shape, 4), np.uint8)
        rgba[..., :3], rgba[..., 3] = colour, one * 255
        yield kind, f"{name} on transparent", ".png", png(rgba)
    half = np.dstack([np.full(FILM.shape, 255, np.uint8), one * 128])
    yield kind, "gray and alpha, half transparent", ".png", png(half)
    yield kind, "white on transparent black", ".png", png(np.dstack([one * 255] * 4))
    yield kind, "white on opaque black, alpha everywhere", ".png", png(np.dstack([one * 255] * 3 + [one * 0 + 255]))
    yield (
        kind,
        "white and black, frame transparent",
        ".png",
        png(np.dstack([one * 255] * 3 + [np.pad(np.full((472, 472), 255, np.uint8), 20)])),
    )
    yield kind, "alpha 0 everywhere", ".png", png(np.dstack([one * 255] * 3 + [one * 0]))
    sixteen = np.dstack([np.full(FILM.shape, 65535, np.uint16)] * 3 + [one.astype(np.uint16) * 65535])
    yield kind, "white on transparent, 16 bits", ".png", raw(imagecodecs.png_encode(sixteen))


def smoothed_masks() -> Iterator[Case]:
    kind = "masks"
    one = MARKED.astype(np.uint8)
    classes = LUNG.astype(np.uint8) + one
    for count, values in ((2, one), (3, classes)):
        image = Image.fromarray(values).convert("P")
        image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
        yield kind, f"palette of {count} colours", ".png", lambda path, image=image: image.save(path)
    for quality in (30, 60, 95):
        yield kind, f"JPEG of quality {quality}", ".jpg", jpeg(one * 255, quality)
        buffer = BytesIO()
        Image.fromarray(one * 255).save(buffer, "JPEG", quality=quality)
        yield kind, f"PNG of a JPEG of quality {quality}", ".png", png(np.asarray(Image.open(buffer)))
    for side in (64, 128, 1024):
        small = Image.fromarray(one * 255).resize((side, side), Image.Resampling.BILINEAR)
        yield (
            kind,
            f"resized from {side}",
            ".png",
            lambda path, small=small: small.resize((512, 512), Image.Resampling.BICUBIC).save(path),
        )
    soft = np.asarray(Image.fromarray(one * 255).filter(ImageFilter.GaussianBlur(6)))
    yield kind, "blurred edges", ".png", png(soft)
    yield kind, "empty", ".png", png(one * 0)
    smooth = np.asarray(Image.fromarray(one * 255).filter(ImageFilter.GaussianBlur(60)))
    yield kind, "probability map", ".png", png(smooth)


def main() -> None:
    """Make, read, segment, print."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("-o", type=Path, default=None, help="keep the files here")
    arguments.add_argument("-m", type=Path, default=None, help="a model file instead of the shipped weights")
    arguments.add_argument("-k", default="", help="only kinds with this in their name")
    chosen = arguments.parse_args()
    folder = chosen.o or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    segmenter = Segmenter(chosen.m)
    path = folder / "reference.png"
    png(FILM)(path)
    right = _result(segmenter, path)[0]
    print(f"right: {right}; masks: Dice with the phantom's own of at least 0.9")
    print("| kind | file | came | right | warnings |\n|---|---|---|---|---|")
    for make in (ranges, colours, tiffs, numbers, dicoms, masks, coloured_masks, smoothed_masks):
        for number, (kind, name, ending, write) in enumerate(make()):
            if chosen.k not in kind:
                continue
            path = folder / f"{make.__name__}-{number}{ending}"
            try:
                write(path)
            except Exception as error:
                print(f"| {kind} | {name} | could not be made: {error} | | |", flush=True)
                continue
            if kind == "masks":
                came = _overlap(path, np.zeros_like(MARKED) if name == "empty" else MARKED)
                good = "refused" if "Error" in came else "yes" if float(came) >= 0.9 else "NO"
                print(f"| {kind} | {name} | {came} | {good} | |", flush=True)
                continue
            came, notes = _result(segmenter, path)
            good = "refused" if isinstance(came, str) else "yes" if abs(came - float(right)) <= 0.03 else "NO"
            good = "no, but warned" if good == "NO" and notes else good
            shown = came if isinstance(came, str) else f"{came:.3f}"
            print(f"| {kind} | {name} | {shown} | {good} | {notes} |", flush=True)


def _result(segmenter: Segmenter, path: Path) -> tuple[float | str, str]:
    try:
        radiograph = read_radiograph(path)
    except ImageError as error:
        return f"{type(error).__name__}: {str(error).replace(str(path), 'FILE')[:110]}", ""
    found = segmenter.segment(radiograph)
    notes = "; ".join(getattr(radiograph, "warnings", ()))
    if found.status == "refused":
        return f"refused: {found.reason[:80]}", notes
    assert found.severity is not None
    return round(float(getattr(found.severity, "infected_fraction", None) or 0), 3), notes[:160]


def _overlap(path: Path, expected: np.ndarray) -> str:
    try:
        mask = read_mask(path)
    except ImageError as error:
        return f"{type(error).__name__}: {str(error).replace(str(path), 'FILE')[:150]}"
    total = mask.sum() + expected.sum()
    return f"{2 * (mask & expected).sum() / total if total else 1.0:.3f}"


if __name__ == "__main__":
    main()
