"""Images a minute through Orthanc, the node and back to Orthanc: from the first upload to the last object.

    python benchmarks/node.py [--count 40] [--side 2048] [--film CHEST.dcm]

Starts Orthanc (Debian's) and `cxrseg node` on free ports of this machine, uploads copies of one film with UIDs of their
own, and waits until each has its SEG and SR. Without --film, the film is a phantom of 12 bits.
"""

from __future__ import annotations

import argparse
import copy
import io
import json
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from cxrseg.phantom.generate import make_phantom

ROUTE = Path(__file__).resolve().parents[1] / "deploy" / "orthanc" / "route.lua"
CR = "1.2.840.10008.5.1.4.1.1.1"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--side", type=int, default=2048)
    parser.add_argument("--film", type=Path)
    arguments = parser.parse_args()
    film = dcmread(arguments.film) if arguments.film else _phantom(arguments.side)
    uploads = [_copy(film) for _ in range(arguments.count)]
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        http, dicom, node = (_free_port() for _ in range(3))
        _start_orthanc(stack, Path(folder), http, dicom, node)
        command = [sys.executable, "-m", "cxrseg", "node", "--listen", str(node), "--folder", f"{folder}/node"]
        _start(stack, [*command, "--send", f"ORTHANC@127.0.0.1:{dicom}"], node, Path(folder) / "node.log")
        began = time.perf_counter()
        for upload in uploads:
            _ask(http, "/instances", upload)
        uploaded = time.perf_counter() - began
        while _ask(http, "/statistics")["CountInstances"] < 3 * arguments.count:
            if "refused" in (Path(folder) / "node.log").read_text():
                sys.exit((Path(folder) / "node.log").read_text())
            time.sleep(0.1)
        seconds = time.perf_counter() - began
    size = len(uploads[0]) / 1e6
    print(
        f"{arguments.count} images of {film.Columns}x{film.Rows}, {size:.1f} MB each: uploaded in {uploaded:.1f} s, "
        f"all SEG and SR back after {seconds:.1f} s, {60 * arguments.count / seconds:.0f} images a minute"
    )


def _phantom(side: int) -> Dataset:
    pixels = make_phantom(1, "COVID-19", 256).image
    values = np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC), np.float32)
    stored = np.rint(np.clip(values, 0, 255) * (4095 / 255)).astype(np.uint16)
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID, data.Modality, data.PatientID, data.PatientName = CR, "CR", "phantom", "Phantom^One"
    data.Rows, data.Columns = stored.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
    data.PixelData = stored.tobytes()
    return data


def _copy(film: Dataset) -> bytes:
    made = copy.copy(film)
    made.file_meta = copy.copy(film.file_meta)
    made.SOPInstanceUID, made.SeriesInstanceUID, made.StudyInstanceUID = generate_uid(), generate_uid(), generate_uid()
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    buffer = io.BytesIO()
    made.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _start_orthanc(stack: ExitStack, folder: Path, http: int, dicom: int, node: int) -> None:
    values = {
        "HttpPort": http,
        "DicomPort": dicom,
        "StorageDirectory": str(folder / "db"),
        "AuthenticationEnabled": False,
        "LuaScripts": [str(ROUTE)],
        "DicomModalities": {"cxrseg": ["CXRSEG", "127.0.0.1", node]},
    }
    (folder / "orthanc.json").write_text(json.dumps(values))
    _start(stack, ["Orthanc", str(folder / "orthanc.json")], http, folder / "orthanc.log")


def _start(stack: ExitStack, command: list[str], port: int, log: Path) -> None:
    process = subprocess.Popen(command, stdout=stack.enter_context(log.open("ab")), stderr=subprocess.STDOUT)
    stack.callback(process.wait)
    stack.callback(process.terminate)
    while True:
        with socket.socket() as one:
            if one.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None:
            sys.exit(f"{command[0]} has ended:\n{log.read_text()}")
        time.sleep(0.1)


def _ask(port: int, path: str, body: bytes | None = None) -> Any:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", body, timeout=60) as answer:
        return json.load(answer)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


if __name__ == "__main__":
    main()
