"""The node beside a real PACS: Orthanc routes studies to it, and takes SEG and SR back."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread

from made_films import make_film
from made_models import chest, hand_model
from made_node import free_port, listens, store, wait_for

ROOT = Path(__file__).resolve().parents[3]
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
IMAGES = 50

pytestmark = pytest.mark.skipif(
    not shutil.which("Orthanc") or not PLUGIN.exists(), reason="needs Debian's orthanc and orthanc-dicomweb"
)

PIXELS, _, LUNGS = chest((128, 128))


class Orthanc:
    """A PACS on loopback, which routes radiographs to the node as deploy/orthanc/route.lua says."""

    def __init__(self, folder: Path) -> None:
        self.http, self.dicom, self.node = free_port(), free_port(), free_port()
        self._folder = folder
        values = {
            "HttpPort": self.http,
            "DicomPort": self.dicom,
            "StorageDirectory": str(folder / "db"),
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "LuaScripts": [str(ROOT / "deploy" / "orthanc" / "route.lua")],
            "Plugins": [str(PLUGIN)],
            "DicomModalities": {"cxrseg": ["CXRSEG", "127.0.0.1", self.node]},
            "OverwriteInstances": False,
        }
        folder.mkdir(parents=True)
        (folder / "orthanc.json").write_text(json.dumps(values))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self._folder / "log").open("ab") as log:
            command = ["Orthanc", str(self._folder / "orthanc.json")]
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_for(lambda: listens(self.http) and listens(self.dicom), "Orthanc listens")

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)
            self._process = None

    def ask(self, path: str, body: bytes | None = None) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http}{path}", body, timeout=30) as answer:
            return json.load(answer)

    def empty(self) -> None:
        for study in self.ask("/studies"):
            request = urllib.request.Request(f"http://127.0.0.1:{self.http}/studies/{study}", method="DELETE")
            urllib.request.urlopen(request, timeout=30).close()

    def modalities(self) -> Counter[str]:
        """How many instances of each modality it holds."""
        series = self.ask("/series?expand")
        return Counter({one["MainDicomTags"]["Modality"]: 0 for one in series}) + Counter(
            one["MainDicomTags"]["Modality"] for one in series for _ in one["Instances"]
        )

    def answered(self) -> Counter[str]:
        """How many segmentations refer to each film; it holds nothing but segmentations."""
        return Counter(
            self.ask(f"/instances/{instance}/simplified-tags")["ReferencedSeriesSequence"][0][
                "ReferencedInstanceSequence"
            ][0]["ReferencedSOPInstanceUID"]
            for series in self.ask("/series?expand")
            for instance in series["Instances"]
        )


class NodeProcess:
    """A node in a process of its own, which can be killed."""

    def __init__(self, folder: Path, port: int, send: str, *arguments: str) -> None:
        model = folder / "hand.onnx"
        if not model.exists():
            hand_model(model)
        self._log = (folder / "node.log").open("ab")
        command = [sys.executable, "-m", "cxrseg", "node", "--listen", str(port), "--send", send, "-m", str(model)]
        command += ["--folder", str(folder / "node"), *arguments]
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
        self.process = subprocess.Popen(command, stdout=self._log, stderr=self._log, env=environment)
        wait_for(lambda: listens(port), "the node listens")

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self._log.close()

    def stop(self) -> int:
        self.process.terminate()
        code = self.process.wait(30)
        self._log.close()
        return code


@pytest.fixture(scope="module")
def shared_orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    made = Orthanc(tmp_path_factory.mktemp("pacs") / "orthanc")
    made.start()
    yield made
    made.stop()


@pytest.fixture
def orthanc(shared_orthanc: Orthanc) -> Orthanc:
    shared_orthanc.empty()
    return shared_orthanc


def test_a_study_that_comes_to_the_pacs_gets_seg_and_sr(tmp_path: Path, orthanc: Orthanc) -> None:
    not_frontal = np.outer(np.arange(128) + 1, np.arange(128) + 1).astype(np.float32) / 128**2  # dark in most parts
    films = [
        make_film(tmp_path / "frontal.dcm", PIXELS, SeriesInstanceUID="1.2.3.1"),
        make_film(tmp_path / "lateral.dcm", PIXELS, SeriesInstanceUID="1.2.3.2", ViewPosition="LL"),
        make_film(tmp_path / "unsaid.dcm", not_frontal, SeriesInstanceUID="1.2.3.3", ViewPosition=None),
    ]
    kinds = ("--output-type", "dicom_seg", "--output-type", "dicom_sr", "--output-type", "dicom_sc")
    node = NodeProcess(tmp_path, orthanc.node, f"ORTHANC@127.0.0.1:{orthanc.dicom}", *kinds)
    try:
        for film in films:
            orthanc.ask("/instances", film.read_bytes())
        wait_for(lambda: len(orthanc.modalities()) == 4, "SEG, SR and SC are there")
        assert node.stop() == 0
    finally:
        node.process.kill()
    assert orthanc.modalities() == {"CR": 3, "SEG": 1, "SR": 1, "OT": 1}
    (study,) = orthanc.ask("/studies?expand")
    assert study["MainDicomTags"]["StudyInstanceUID"] == dcmread(films[0]).StudyInstanceUID
    log = (tmp_path / "node.log").read_text()
    assert log.count(": refused:") == 2 and "Müller" not in log and "ller" not in log  # names no patient
    # Its own picture is a radiograph's too, but route.lua does not send it back.
    assert log.count(": received") == 3


def test_a_node_killed_under_way_and_a_pacs_that_was_away_lose_nothing(tmp_path: Path, orthanc: Orthanc) -> None:
    films = [make_film(tmp_path / "films" / f"{number}.dcm", PIXELS) for number in range(IMAGES)]
    arguments = (orthanc.node, f"ORTHANC@127.0.0.1:{orthanc.dicom}", "--output-type", "dicom_seg")
    node = NodeProcess(tmp_path, *arguments)
    try:
        assert store(orthanc.node, films) == [0] * IMAGES
        wait_for(lambda: orthanc.modalities()["SEG"] >= 5, "the first are there")
        node.kill()
        assert orthanc.modalities()["SEG"] < IMAGES  # it was killed under way
        orthanc.stop()
        node = NodeProcess(tmp_path, *arguments)
        wait_for(lambda: "does not answer" in (tmp_path / "node.log").read_text(), "it has tried")
        orthanc.start()
        wait_for(lambda: orthanc.modalities()["SEG"] == IMAGES, "all are there")
        assert node.stop() == 0
    finally:
        node.process.kill()
    assert orthanc.answered() == dict.fromkeys((str(dcmread(film).SOPInstanceUID) for film in films), 1)


# pynetdicom does not close the socket of a connection that is refused, as those of late peers are here.
@pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning")
def test_a_node_killed_while_ten_peers_send_answers_every_film_once(tmp_path: Path, orthanc: Orthanc) -> None:
    films = [make_film(tmp_path / "films" / f"{number}.dcm", PIXELS) for number in range(40)]
    arguments = (orthanc.node, f"ORTHANC@127.0.0.1:{orthanc.dicom}", "--output-type", "dicom_seg")
    arguments += ("--max-associations", "12")  # `listens` takes one until it times out

    def send(share: list[Path], timeout: float = 30.0) -> list[Path]:
        """What the node has not acknowledged, which a peer would send again."""
        try:
            statuses = store(orthanc.node, share, timeout=timeout)
        except RuntimeError:  # the association broke between two films
            return share
        return [film for film, status in zip_longest(share, statuses) if status != 0]

    node = NodeProcess(tmp_path, *arguments)
    try:
        with ThreadPoolExecutor(10) as peers:
            sending = [peers.submit(send, films[number::10], 3.0) for number in range(10)]
            wait_for(lambda: (tmp_path / "node.log").read_text().count(": received") >= 5, "the first are received")
            node.kill()
            again = [share for future in sending if (share := future.result())]
            assert again  # it was killed under way
            node = NodeProcess(tmp_path, *arguments)
            assert list(peers.map(send, again)) == [[]] * len(again)
        wait_for(lambda: orthanc.modalities()["SEG"] == len(films), "all are there")
        assert node.stop() == 0
    finally:
        node.process.kill()
    assert orthanc.answered() == dict.fromkeys((str(dcmread(film).SOPInstanceUID) for film in films), 1)
    assert not list((tmp_path / "node").rglob("*.dcm*"))  # neither films nor halves of films are left


def test_stow_rs(tmp_path: Path, orthanc: Orthanc) -> None:
    node = NodeProcess(tmp_path, orthanc.node, f"http://127.0.0.1:{orthanc.http}/dicom-web")
    try:
        assert store(orthanc.node, [make_film(tmp_path / "film.dcm", PIXELS)]) == [0]
        wait_for(lambda: orthanc.modalities() == {"SEG": 1, "SR": 1}, "SEG and SR are there")
        assert node.stop() == 0
    finally:
        node.process.kill()
