"""Images a minute through Orthanc, the node and back to Orthanc: from the first upload to the last object.

    python benchmarks/node.py [--count 40] [--side 2048] [--film CHEST.dcm] [--associations 10]

Starts Orthanc (Debian's) and `cxrseg node` on free ports of this machine, uploads copies of one film with UIDs of their
own, and waits until each has its SEG and SR. Without --film, the film is a phantom of 12 bits. With --associations, so
many clients send the films straight to the node, each over one association, all at the same time, and Orthanc only
takes the objects; a client whose association is rejected asks again after half a second.
"""

from __future__ import annotations

import argparse
import copy
import io
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from pynetdicom import AE

from cxrseg.phantom.generate import make_phantom

ROUTE = Path(__file__).resolve().parents[1] / "deploy" / "orthanc" / "route.lua"
CR = "1.2.840.10008.5.1.4.1.1.1"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--side", type=int, default=2048)
    parser.add_argument("--film", type=Path)
    parser.add_argument("--associations", type=int)
    arguments = parser.parse_args()
    film = dcmread(arguments.film) if arguments.film else _phantom(arguments.side)
    uploads = [_copy(film) for _ in range(arguments.count)]
    count, size = arguments.count, len(uploads[0]) / 1e6
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        http, dicom, node = (_free_port() for _ in range(3))
        log = Path(folder) / "node.log"
        _start_orthanc(stack, Path(folder), http, dicom, node)
        command = [sys.executable, "-m", "cxrseg", "node", "--listen", str(node), "--folder", f"{folder}/node"]
        command += ["--send", f"ORTHANC@127.0.0.1:{dicom}"]
        # Not asked by connecting, which would take up an association until it times out.
        process = _start(stack, command, lambda: "listening on" in log.read_text(), log)
        before = most = _megabytes(process.pid)
        began = time.perf_counter()
        if arguments.associations:
            clients = Clients(node, uploads, arguments.associations)
        else:
            for upload in uploads:
                _ask(http, "/instances", upload)
            uploaded = time.perf_counter() - began
        while _ask(http, "/statistics")["CountInstances"] < (2 if arguments.associations else 3) * count:
            if "refused" in log.read_text() or process.poll() is not None:
                sys.exit(log.read_text())
            most = max(most, _megabytes(process.pid))
            time.sleep(0.1)
        seconds = time.perf_counter() - began
        if arguments.associations:
            uploaded = clients.join()
            print(clients.told())
        print(_answered(http, log, uploads))
        after = _megabytes(process.pid)
    print(f"memory of the node: {before:.0f} MB before, at most {most:.0f}, {after:.0f} after")
    print(
        f"{count} images of {film.Columns}x{film.Rows}, {size:.1f} MB each: uploaded in {uploaded:.1f} s, "
        f"all SEG and SR back after {seconds:.1f} s, {60 * count / seconds:.0f} images a minute; "
        f"load average {os.getloadavg()[0]:.1f}"
    )


class Clients:
    """Programs that send films at the same time, each over an association of its own, in threads of this process.

    Args:
        port: of the node.
        uploads: the films; each client sends its share.
        count: of clients.
    """

    def __init__(self, port: int, uploads: Sequence[bytes], count: int) -> None:
        self._port, self._lock = port, threading.Lock()
        self._open = self._most = self._rejected = self._taken = 0
        self._began = time.perf_counter()
        self._threads = [threading.Thread(target=self._client, args=(uploads[n::count],)) for n in range(count)]
        for thread in self._threads:
            thread.start()

    def join(self) -> float:
        """Wait for the last client; gives the seconds since the first."""
        for thread in self._threads:
            thread.join()
        return self._ended - self._began

    def told(self) -> str:
        return (
            f"{len(self._threads)} clients, at most {self._most} associations at once, {self._rejected} rejected and "
            f"asked for again; {self._taken} images taken"
        )

    def _client(self, uploads: Sequence[bytes]) -> None:
        films = [dcmread(io.BytesIO(upload)) for upload in uploads]
        entity = AE(ae_title="CLIENT")
        entity.add_requested_context(CR, [film.file_meta.TransferSyntaxUID for film in films[:1]])
        while not (association := entity.associate("127.0.0.1", self._port, ae_title="CXRSEG")).is_established:
            self._count(rejected=1)
            time.sleep(0.5)
        self._count(opened=1)
        for film in films:
            self._count(taken=association.send_c_store(film).get("Status") == 0)
        self._count(opened=-1)
        association.release()

    def _count(self, opened: int = 0, rejected: int = 0, taken: int = 0) -> None:
        with self._lock:
            self._open, self._rejected, self._taken = (
                self._open + opened,
                self._rejected + rejected,
                self._taken + taken,
            )
            self._most, self._ended = max(self._most, self._open), time.perf_counter()


def _answered(http: int, log: Path, uploads: Sequence[bytes]) -> str:
    """How many films have how many objects in Orthanc, and how often each was segmented."""
    sources = [str(dcmread(io.BytesIO(upload), stop_before_pixels=True).SOPInstanceUID) for upload in uploads]
    objects = Counter[tuple[str, str]]()
    for instance in _ask(http, "/instances"):
        tags = _ask(http, f"/instances/{instance}/simplified-tags")
        if tags["Modality"] in ("SEG", "SR"):
            objects[tags["Modality"], _source(tags)] += 1
    segmented = Counter(re.findall(r"image (\S+): segmented", log.read_text()))
    once = [all(objects[kind, uid] == 1 for kind in ("SEG", "SR")) and segmented[uid] == 1 for uid in sources]
    return f"{sum(once)} of {len(sources)} films segmented once, with one SEG and one SR; {len(objects)} objects"


def _source(tags: Mapping[str, Any]) -> str:
    """The UID of the film that an object refers to."""
    if tags["Modality"] == "SEG":
        found = tags["ReferencedSeriesSequence"][0]["ReferencedInstanceSequence"]
    else:
        found = tags["CurrentRequestedProcedureEvidenceSequence"][0]["ReferencedSeriesSequence"][0][
            "ReferencedSOPSequence"
        ]
    return str(found[0]["ReferencedSOPInstanceUID"])


def _megabytes(pid: int) -> float:
    return psutil.Process(pid).memory_info().rss / 1e6


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
    _start(stack, ["Orthanc", str(folder / "orthanc.json")], lambda: _listens(http), folder / "orthanc.log")


def _start(stack: ExitStack, command: list[str], ready: Callable[[], bool], log: Path) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(command, stdout=stack.enter_context(log.open("ab")), stderr=subprocess.STDOUT)
    stack.callback(process.wait)
    stack.callback(process.terminate)
    while not ready():
        if process.poll() is not None:
            sys.exit(f"{command[0]} has ended:\n{log.read_text()}")
        time.sleep(0.1)
    return process


def _listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def _ask(port: int, path: str, body: bytes | None = None) -> Any:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", body, timeout=60) as answer:
        return json.load(answer)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


if __name__ == "__main__":
    main()
