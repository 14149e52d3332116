"""A node whose disk fills up or may not be written, whose clock is set back, and that is asked to end."""

from __future__ import annotations

import gc
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cxrseg.hospital.node import worker
from cxrseg.hospital.node.queue import Queue
from cxrseg.hospital.node.service import Node
from made_disk import fill, small_disk
from made_films import make_film
from made_models import chest, hand_model
from made_node import archive, free_port, listens, running, settings_for, store, wait_for
from made_rights import run_with_rights

pytestmark = pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning")
SUCCESS, OUT_OF_RESOURCES = 0x0000, 0xA700


@pytest.fixture(autouse=True)
def _sockets() -> Iterator[None]:
    """pynetdicom 3.0 does not close the socket of a refused connection: collect it here, not in a later test."""
    yield
    gc.collect()


def films(folder: Path, count: int) -> list[Path]:
    return [make_film(folder / f"f{number}.dcm", chest((128, 128))[0] * (1 - number / 50)) for number in range(count)]


def sent(node: Node) -> int:
    return node._queue.counts().get("sent", 0)


def test_nothing_is_accepted_on_a_full_disk_and_nothing_accepted_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "_FULL_PAUSE", 0.1)
    first, second, third = films(tmp_path / "in", 3)
    with small_disk(tmp_path / "disk", 1024) as disk, archive() as (destination, got):
        with running(settings_for(disk / "node", destination)) as node:
            port = node.settings.listen.port
            assert store(port, [first]) == [SUCCESS]
            wait_for(lambda: sent(node) == 1, "the first is sent")
            filler = fill(disk, but=40_000)  # room for a film of 32 kB, not for its objects
            answers = store(port, [second, third])
            assert answers[-1] == OUT_OF_RESOURCES and set(answers) <= {SUCCESS, OUT_OF_RESOURCES}
            time.sleep(1)  # the worker meets the full disk, more often than an image may be tried
            assert sent(node) == 1 and "failed" not in node._queue.counts()
            filler.unlink()
            accepted = 1 + answers.count(SUCCESS)
            wait_for(lambda: sent(node) == accepted, "what was accepted is sent")
            assert store(port, [second, third]) == [SUCCESS, SUCCESS]
            wait_for(lambda: sent(node) == 3, "all are sent")
        assert len({made.SOPInstanceUID for made in got}) == 6  # a segmentation and a report of each
        assert not list(disk.rglob("*.part"))


def test_a_folder_that_may_not_be_written_is_named(tmp_path: Path) -> None:
    model, earlier = hand_model(tmp_path / "hand.onnx"), tmp_path / "earlier"
    (tmp_path / "new").mkdir(mode=0o555)
    earlier.mkdir()
    Queue(earlier / "queue.sqlite").close()
    (earlier / "queue.sqlite").chmod(0o444)
    for folder, named in {"new": "new/received", "earlier": "earlier/queue.sqlite"}.items():
        command = ("node", "--listen", free_port(), "--send", "A@127.0.0.1:104", "-m", model, "--folder", folder)
        done = run_with_rights(*command, cwd=tmp_path)
        assert (done.returncode, "Traceback" in done.stderr) == (3, False), done.stderr
        assert f"Error: {named} cannot be written" in done.stderr and "change its permissions" in done.stderr


def test_a_clock_that_was_set_back_holds_nothing_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = Queue(tmp_path / "queue.sqlite")
    queue.add("key", "1.2.3")
    job = queue.next_job()
    assert job is not None
    queue.made(job, ["PACS"], ["dicom_seg"])
    now = time.time()
    queue.postpone(job, "PACS", "dicom_seg", "busy", lambda _: 60.0)
    assert queue.next_delivery("PACS") is None  # not before a minute is over
    for hours in (2, 24 * 365):
        monkeypatch.setattr(time, "time", lambda hours=hours: now - 3600 * hours)
        found = queue.next_delivery("PACS")
        assert found is not None and found.kinds == ("dicom_seg",)
    queue.close()


def test_sigterm_ends_a_node_under_load_and_the_next_one_sends_the_rest(tmp_path: Path) -> None:
    model, port = hand_model(tmp_path / "hand.onnx"), free_port()
    many = films(tmp_path / "in", 12)
    with archive() as (destination, got):
        command = [sys.executable, "-m", "cxrseg", "node", "--listen", str(port), "-m", str(model)]
        command += ["--send", destination.name, "--folder", str(tmp_path / "node")]

        def start() -> subprocess.Popen[bytes]:
            process = subprocess.Popen(command, stderr=subprocess.PIPE)
            wait_for(lambda: listens(port) or process.poll() is not None, "the node listens")
            return process

        process = start()
        answers = store(port, many)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
        assert (process.returncode, b"Traceback" in errors) == (0, False), errors.decode()
        assert answers == [SUCCESS] * 12
        process = start()
        try:
            wait_for(lambda: len({made.SOPInstanceUID for made in got}) == 24, "all objects have arrived")
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)
        assert process.returncode == 0
