"""Coverage-guided fuzzing of the readers: whatever bytes come, a Radiograph or an ImageError must come out.

    pip install atheris && python benchmarks/fuzz_readers.py -max_total_time=600 [CORPUS_FOLDER]

Starts from small valid files of every kind, made here. What libFuzzer finds it writes as crash-*; keep it as a test.
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["cxrseg", "pydicom", "PIL"]):
    import numpy as np
    import pydicom
    from PIL import Image
    from pydicom.uid import ExplicitVRLittleEndian, RLELossless, generate_uid

    from cxrseg.errors import ImageError
    from cxrseg.io.radiograph import Radiograph
    from cxrseg.io.read import read_radiograph

_FILE = Path(tempfile.mkdtemp()) / "input"


def check(data: bytes) -> None:
    """Read `data` as a file; anything but a sound Radiograph or an ImageError is a bug."""
    _FILE.write_bytes(data)
    try:
        found = read_radiograph(_FILE)
    except ImageError:
        return
    assert isinstance(found, Radiograph)
    assert found.pixels.dtype == np.float32 and found.pixels.ndim == 2 and found.pixels.size
    assert np.isfinite(found.pixels).all() and found.pixels.min() >= 0 and found.pixels.max() <= 1


def seeds() -> list[bytes]:
    """A small valid file of each kind."""
    pixels = np.arange(48 * 40, dtype=np.uint16).reshape(48, 40) * 30
    gray = Image.fromarray((pixels >> 8).astype(np.uint8))
    files = []
    for kind, image in [
        *((kind, gray) for kind in ("PNG", "JPEG", "TIFF", "BMP", "WEBP")),
        ("PNG", Image.fromarray(pixels)),
        ("PNG", gray.convert("RGBA")),
        ("PNG", gray.convert("P")),
    ]:
        file = io.BytesIO()
        image.save(file, kind)
        files.append(file.getvalue())
    return [*files, _dicom(pixels, ExplicitVRLittleEndian), _dicom(pixels, RLELossless)]


def _dicom(pixels: np.ndarray, syntax: str) -> bytes:
    data = pydicom.Dataset()
    data.SOPClassUID, data.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1", generate_uid()
    data.Modality, data.PhotometricInterpretation = "CR", "MONOCHROME1"
    data.Rows, data.Columns = pixels.shape
    data.SamplesPerPixel, data.PixelRepresentation = 1, 0
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 16, 15
    data.WindowCenter, data.WindowWidth = [20000, 30000], [40000, 50000]
    data.RescaleSlope, data.RescaleIntercept = "1", "0"
    data.ImagerPixelSpacing = [0.2, 0.2]
    data.PixelData = pixels.tobytes()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    if syntax != ExplicitVRLittleEndian:
        data.compress(syntax)
    file = io.BytesIO()
    data.save_as(file, enforce_file_format=True)
    return file.getvalue()


def main() -> None:
    """Fuzz as the command line says."""
    corpus = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
    folder = Path(corpus[0]) if corpus else Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    for index, seed in enumerate(seeds()):
        (folder / f"seed-{index}").write_bytes(seed)
    atheris.Setup([*sys.argv, *([] if corpus else [str(folder)])], check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
