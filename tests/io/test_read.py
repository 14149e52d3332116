"""Files are told apart by what they hold, not by what they are called."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset

from cxrseg.errors import ImageError, UnreadableImageError
from cxrseg.io.read import is_dicom, is_image, read_radiograph, read_size

GRAY = np.arange(35 * 40, dtype=np.uint16).reshape(35, 40).astype(np.uint8)


def write_dicom(path: Path, **attributes: object) -> Path:
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    data.SOPClassUID, data.SOPInstanceUID, data.Modality = "1.2.840.10008.5.1.4.1.1.7", "1.2.3", "CR"
    data.Rows, data.Columns = GRAY.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 8, 8, 7, 0
    data.PixelData = GRAY.tobytes()
    data["PixelData"].VR = "OW"
    for keyword, value in attributes.items():
        setattr(data, keyword, value)
    data.save_as(path, enforce_file_format=True)
    return path


def write_png(path: Path) -> Path:
    Image.fromarray(GRAY).save(path, "PNG")
    return path


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "does not fit into the free memory"),
        (OSError(errno.EIO, "Input/output error"), "could not be read (Input/output error)"),
        (FileNotFoundError(errno.ENOENT, "gone"), "vanished while it was read"),
        (PermissionError(errno.EACCES, "no"), "may not be read"),
    ],
)
def test_a_fault_of_the_system_is_not_called_a_damaged_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    paths = [write_png(tmp_path / "a.png"), write_dicom(tmp_path / "a.dcm")]
    monkeypatch.setattr(Image, "open", fail)
    monkeypatch.setattr(Path, "read_bytes", fail)
    for path in paths:
        with pytest.raises(UnreadableImageError) as caught:
            read_radiograph(path)
        assert str(caught.value).startswith(f"{path} {said}")


@pytest.mark.parametrize("name", ["image.dcm", "image.png", "image", "IMG0001.ima"])
def test_dicom_is_known_by_its_content(tmp_path: Path, name: str) -> None:
    path = write_dicom(tmp_path / name)
    assert is_dicom(path)
    found = read_radiograph(path)
    assert found.tags["modality"] == "CR"
    np.testing.assert_array_equal(found.pixels, GRAY.astype(np.float32) / np.float32(255))


@pytest.mark.parametrize("name", ["image.png", "image.dcm", "image.DICOM", "image"])
def test_a_raster_image_is_known_by_its_content(tmp_path: Path, name: str) -> None:
    path = write_png(tmp_path / name)
    assert not is_dicom(path)
    found = read_radiograph(str(path))
    assert found.source == str(path)
    np.testing.assert_array_equal(found.pixels, GRAY.astype(np.float32) / np.float32(255))


@pytest.mark.parametrize("name", ["image.dcm", "image.DCM", "image.dicom"])
def test_without_preamble_the_name_decides(tmp_path: Path, name: str) -> None:
    content = write_dicom(tmp_path / "whole").read_bytes()[132:]
    path = tmp_path / name
    path.write_bytes(content)
    assert read_radiograph(path).shape == GRAY.shape
    (tmp_path / "image.png").write_bytes(content)
    with pytest.raises(ImageError, match="is none of"):
        read_radiograph(tmp_path / "image.png")


def test_the_window_is_passed_on(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", WindowCenter=[100, 50], WindowWidth=[80, 40])
    assert "window LINEAR centre 50 width 40" in read_radiograph(path, window=1).steps
    with pytest.raises(ImageError, match="offers 2 windows"):
        read_radiograph(path, window=2)
    assert read_radiograph(write_png(tmp_path / "a.png"), window=2).shape == GRAY.shape


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.dcm").touch()
    (tmp_path / "text.dcm").write_text("no image")
    os.mkfifo(tmp_path / "pipe.dcm")
    names = ["empty.dcm", "text.dcm", "pipe.dcm", "none.dcm", "none.png", "x" * 300 + ".dcm", "nul\0.dcm", ""]
    for name in names:
        with pytest.raises(ImageError):
            read_radiograph(tmp_path / name)


def test_a_png_is_read_without_loading_pydicom(tmp_path: Path) -> None:
    path = write_png(tmp_path / "a.png")
    code = (
        "import sys; from cxrseg.io.read import read_radiograph; read_radiograph(sys.argv[1]);"
        "sys.exit('pydicom' in sys.modules or 'imagecodecs' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == 0


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "WEBP"])
def test_an_image_without_a_suffix_is_found(tmp_path: Path, kind: str) -> None:
    for name in ("image", "1.2.840.113619.2", "scan.001"):
        Image.fromarray(GRAY).save(tmp_path / name, kind)
        assert is_image(tmp_path / name)
        assert read_size(tmp_path / name) == read_radiograph(tmp_path / name).shape == GRAY.shape
    Image.fromarray(GRAY).save(tmp_path / "image.bak", kind)
    assert not is_image(tmp_path / "image.bak")  # a suffix that says something else


def test_what_is_found_by_its_suffix(tmp_path: Path) -> None:
    for name in ("a.jfif", "a.JPE", "a.mpo", "a.dcm", "a.Tiff"):
        assert is_image(tmp_path / name)
    for name, content in [("README", b"BM is a mark"), ("a.txt", b"text"), ("empty", b"")]:
        (tmp_path / name).write_bytes(content)
        assert not is_image(tmp_path / name)
    write_dicom(tmp_path / "a.ima")
    assert is_image(tmp_path / "a.ima")
    assert read_size(tmp_path / "a.ima") == GRAY.shape
