from __future__ import annotations

import contextlib
import errno
import gc
import hashlib
import http.server
import importlib
import io
import json
import os
import shutil
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cxrseg.data import fetch as fetch_module
from cxrseg.data.fetch import MEDSEGBENCH_MD5, fetch_covid_qu_ex, fetch_medsegbench, unpack
from cxrseg.errors import DiskFullError, DownloadError, MissingExtraError

CONTENT = bytes(range(256)) * 10_000
MD5 = hashlib.md5(CONTENT).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serves `content` at any path, in the way that a test asks for."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.cuts: list[int] = []
        """The next replies break off after so many bytes."""
        self.statuses: list[int] = []
        """The next replies are these errors."""
        self.always: int | None = None
        """Every reply is this error."""
        self.requests: list[tuple[str, str | None]] = []
        """Path and Range of each GET."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        server = self.server
        wanted = self.headers["Range"]
        server.requests.append((self.path, wanted))
        if status := server.always or (server.statuses and server.statuses.pop(0)):
            self.send_error(status)
            return
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
        if start and start >= len(server.content):
            self.send_error(416)
            return
        body = server.content[start:]
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Accept-Ranges", "bytes")
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # a client that gives up
            self.wfile.write(body[: server.cuts.pop(0)] if server.cuts else body)

    def do_POST(self) -> None:
        """The two calls that kagglehub makes."""
        self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.always:
            self.send_error(self.server.always)
        elif self.path.endswith("GetDataset"):
            reply = json.dumps({"currentVersionNumber": 7}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)
        elif self.path.endswith("DownloadDataset"):
            self.send_response(302)
            self.send_header("Content-Type", "text/html")
            self.send_header("Location", f"{self.server.url}/archive.zip")
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            self.send_error(404)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    running = Server()
    thread = threading.Thread(target=running.serve_forever, args=(0.01,))
    thread.start()
    yield running
    running.shutdown()
    thread.join()
    running.server_close()


def listed(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


# MedSegBench


@pytest.fixture
def medsegbench(server: Server, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Downloads from the local server the file whose checksum is that of its content."""
    pytest.importorskip("pooch", reason="needs the extra [fetch]")
    monkeypatch.setitem(MEDSEGBENCH_MD5, 128, MD5)
    monkeypatch.setattr("time.sleep", lambda _: None)
    return lambda folder: fetch_medsegbench(folder, 128, base_url=f"{server.url}/files/")


def test_medsegbench(medsegbench: Callable[..., Path], server: Server, tmp_path: Path) -> None:
    path = medsegbench(tmp_path / "new")
    assert path == tmp_path / "new" / "covidquex_128.npz"
    assert path.read_bytes() == CONTENT
    assert listed(tmp_path / "new") == ["covidquex_128.npz"]
    assert server.requests == [("/files/covidquex_128.npz?download=1", None)]
    medsegbench(tmp_path / "new")
    assert len(server.requests) == 1  # it is there
    path.write_bytes(b"damaged since")
    assert medsegbench(tmp_path / "new").read_bytes() == CONTENT


def test_a_broken_connection_is_tried_again(medsegbench: Callable[..., Path], server: Server, tmp_path: Path) -> None:
    server.statuses, server.cuts = [503], [500]
    assert medsegbench(tmp_path).read_bytes() == CONTENT
    assert len(server.requests) == 3


@pytest.mark.parametrize("content", [b"please log in", CONTENT[:-1]])
def test_wrong_bytes(medsegbench: Callable[..., Path], server: Server, tmp_path: Path, content: bytes) -> None:
    server.content = content
    with pytest.raises(DownloadError, match=r"covidquex_128\.npz cannot be downloaded.*hash"):
        medsegbench(tmp_path)
    assert listed(tmp_path) == []


def test_a_server_that_refuses(medsegbench: Callable[..., Path], server: Server, tmp_path: Path) -> None:
    server.always = 404
    with pytest.raises(DownloadError, match="404"):
        medsegbench(tmp_path)
    with pytest.raises(DownloadError, match=r"Check the network"):
        fetch_medsegbench(tmp_path, 128, base_url="http://127.0.0.1:9")
    assert listed(tmp_path) == []


def test_a_full_disk(medsegbench: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("shutil.move", full)
    with pytest.raises(DiskFullError, match=str(tmp_path)):
        medsegbench(tmp_path)


def test_medsegbench_sizes(tmp_path: Path) -> None:
    assert MEDSEGBENCH_MD5[256] == "75861f1f34a4af16f1ab91d93b5518a0"
    with pytest.raises(DownloadError, match=r"128, 256 or 512 .*got 224"):
        fetch_medsegbench(tmp_path, 224)


def test_pooch_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'cxrseg\[fetch\]'"):
        fetch_medsegbench(tmp_path)


# Archives


def zipped(files: dict[str, bytes]) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return data.getvalue()


NAME = "Infection Segmentation Data/Infection Segmentation Data/Train/Normal/images/a (1).png"
ARCHIVE = zipped({NAME: b"pixels", "COVID-QU-Ex dataset.txt": os.urandom(3_000_000)})


def test_archive_from_a_browser(tmp_path: Path) -> None:
    (tmp_path / "archive.zip").write_bytes(ARCHIVE)
    folder = fetch_covid_qu_ex(tmp_path / "data", archive=tmp_path / "archive.zip")
    assert folder == tmp_path / "data" / "COVID-QU-Ex"
    assert (folder / NAME).read_bytes() == b"pixels"
    assert listed(tmp_path / "data") == ["COVID-QU-Ex"]
    (tmp_path / "archive.zip").unlink()
    assert fetch_covid_qu_ex(tmp_path / "data", archive=tmp_path / "archive.zip") == folder


@pytest.mark.parametrize("name", ["../evil", "/evil", "a/../../evil", "..\\evil", "C:\\evil", "c:evil"])
def test_archive_that_leads_out_of_its_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "archive.zip").write_bytes(zipped({"good": b"", name: b"evil"}))
    with pytest.raises(DownloadError, match="leads out of the folder"):
        unpack(tmp_path / "archive.zip", tmp_path / "data")
    assert listed(tmp_path) == ["archive.zip"]


@pytest.mark.parametrize(
    "damage", [lambda data: data[:50_000], lambda _: b"", lambda data: data.replace(b"pixels", b"pixies")]
)
def test_damaged_archive(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    (tmp_path / "archive.zip").write_bytes(damage(ARCHIVE))
    with pytest.raises(DownloadError, match=r"damaged, or is not a zip file.*download it again"):
        unpack(tmp_path / "archive.zip", tmp_path / "data")
    assert listed(tmp_path) == ["archive.zip"]


def test_no_archive(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"expected an archive at .*found none"):
        unpack(tmp_path / "archive.zip", tmp_path / "data")


def test_no_room_for_an_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "archive.zip").write_bytes(ARCHIVE)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10))
    with pytest.raises(DiskFullError):
        unpack(tmp_path / "archive.zip", tmp_path / "data")
    assert listed(tmp_path) == ["archive.zip"]


# Kaggle, with the real kagglehub against a local server


leaky = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture
def kaggle(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    pytest.importorskip("kagglehub", reason="needs the extra [fetch]")
    environment: Any = importlib.import_module("kagglesdk.kaggle_env")
    for name in ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLEHUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    home = tmp_path / "home"
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(home))
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "LOCALHOST")
    monkeypatch.setitem(environment._env_to_endpoint, environment.KaggleEnv.LOCAL, server.url)
    monkeypatch.setattr(fetch_module, "_PAUSE_S", 0.0)
    server.content = ARCHIVE
    yield server
    gc.collect()  # kagglehub leaves broken connections open; let that be noticed here, where it is ignored


@leaky
def test_kaggle(kaggle: Server, tmp_path: Path) -> None:
    folder = fetch_covid_qu_ex(tmp_path / "data")
    assert folder == tmp_path / "data" / "COVID-QU-Ex"
    assert (folder / NAME).read_bytes() == b"pixels"
    assert listed(tmp_path / "data") == ["COVID-QU-Ex"]
    assert "KAGGLEHUB_CACHE" not in os.environ
    fetch_covid_qu_ex(tmp_path / "data")
    assert len(kaggle.requests) == 1


@leaky
def test_kaggle_resumes(kaggle: Server, tmp_path: Path) -> None:
    kaggle.cuts = [1_500_000]
    folder = fetch_covid_qu_ex(tmp_path / "data")
    assert (folder / NAME).read_bytes() == b"pixels"
    assert kaggle.requests[-1][1] == "bytes=1048576-"  # kagglehub keeps whole MiB


@leaky
def test_kaggle_resumes_in_the_next_call(kaggle: Server, tmp_path: Path) -> None:
    kaggle.cuts = [1_500_000] + [0] * 30
    with pytest.raises(DownloadError, match=r"Check the network.*it continues from .*\.kagglehub"):
        fetch_covid_qu_ex(tmp_path / "data")
    kaggle.cuts = []
    kaggle.requests = []
    assert (fetch_covid_qu_ex(tmp_path / "data") / NAME).read_bytes() == b"pixels"
    assert kaggle.requests[-1][1] == "bytes=1048576-"  # kagglehub keeps whole MiB


@leaky
@pytest.mark.parametrize("status", [403, 404])
def test_kaggle_refuses(kaggle: Server, tmp_path: Path, status: int) -> None:
    kaggle.always = status
    with pytest.raises(DownloadError, match=rf"{status} Client Error(.|\n)*download the archive with a browser"):
        fetch_covid_qu_ex(tmp_path / "data")


@leaky
def test_kaggle_sends_something_else(kaggle: Server, tmp_path: Path) -> None:
    kaggle.content = zipped({"other/file": b""})
    with pytest.raises(DownloadError, match="no 'Infection Segmentation Data'"):
        fetch_covid_qu_ex(tmp_path / "data")
    assert not (tmp_path / "data" / "COVID-QU-Ex").exists()


@leaky
def test_kaggle_on_a_full_disk(kaggle: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: str) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(importlib.import_module("kagglehub"), "dataset_download", full)
    with pytest.raises(DiskFullError, match="data"):
        fetch_covid_qu_ex(tmp_path / "data")


def test_kagglehub_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'cxrseg\[fetch\]'"):
        fetch_covid_qu_ex(tmp_path / "data")
    assert not (tmp_path / "data").exists()
