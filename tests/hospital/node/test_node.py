"""The node between a peer that sends and one that takes: what it accepts, what it answers, what it survives."""

from __future__ import annotations

import gc
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom import AE

from cxrseg.errors import CxrsegError
from cxrseg.hospital.node import sender
from cxrseg.hospital.node.service import Node
from cxrseg.hospital.node.settings import Address, Destination
from made_films import make_film
from made_models import chest
from made_node import archive, free_port, running, settings_for, store, wait_for

pytestmark = pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True)
def _sockets() -> Iterator[None]:
    """pynetdicom 3.0 does not close the socket of a refused connection: collect it here, not in a later test."""
    yield
    gc.collect()


PIXELS, INFECTION, LUNGS = chest((128, 128))
NOT_FRONTAL = np.outer(np.arange(128) + 1, np.arange(128) + 1).astype(np.float32) / 128**2  # dark in most parts
NOWHERE = Destination("NOBODY@127.0.0.1:1", "NOBODY", Address("127.0.0.1", 1))


def film(folder: Path, name: str = "film", pixels: Any = PIXELS, **attributes: Any) -> Path:
    return make_film(folder / f"{name}.dcm", pixels, **attributes)


def state(node: Node) -> dict[str, int]:
    return node._queue.counts()


def test_a_film_comes_back_as_seg_and_sr_of_its_study(tmp_path: Path) -> None:
    path = film(tmp_path)
    with archive() as (destination, got), running(settings_for(tmp_path / "node", destination)) as node:
        assert store(node.settings.listen.port, [path]) == [0]
        wait_for(lambda: state(node) == {"sent": 1}, "sent")
    source = dcmread(path)
    assert sorted(made.Modality for made in got) == ["SEG", "SR"]
    for made in got:
        assert made.StudyInstanceUID == source.StudyInstanceUID and made.PatientName == source.PatientName
    segments = next(made for made in got if made.Modality == "SEG")
    assert np.array_equal(segments.pixel_array[2].astype(bool), INFECTION)
    left = {path.name for path in (tmp_path / "node").rglob("*") if path.is_file()}
    assert left == {"queue.sqlite", "lock"}  # no image of a patient stays


def test_what_is_not_frontal_and_what_cxrseg_made_is_not_answered(tmp_path: Path) -> None:
    lateral = film(tmp_path, "lateral", ViewPosition="LL")
    unsaid = film(tmp_path, "unsaid", NOT_FRONTAL, ViewPosition=None)
    own = film(tmp_path, "own", Manufacturer="cxrseg")
    with archive() as (destination, got), running(settings_for(tmp_path / "node", destination)) as node:
        assert store(node.settings.listen.port, [lateral, unsaid, own]) == [0, 0, 0]
        wait_for(lambda: state(node) == {"refused": 2, "ignored": 1}, "refused")
    assert got == []


def test_the_same_film_is_done_once_and_by_another_model_again(tmp_path: Path) -> None:
    path = film(tmp_path)
    with archive() as (destination, got):
        with running(settings_for(tmp_path / "node", destination)) as node:
            for _ in range(2):
                assert store(node.settings.listen.port, [path]) == [0]
                wait_for(lambda: state(node) == {"sent": 1}, "sent")
        assert len(got) == 2
        with running(settings_for(tmp_path / "node", destination)) as node:  # it remembers
            assert store(node.settings.listen.port, [path]) == [0]
            assert state(node) == {"sent": 1}
        with running(settings_for(tmp_path / "node", destination, kinds=("dicom_sr",))) as node:
            assert store(node.settings.listen.port, [path]) == [0]
            wait_for(lambda: state(node) == {"sent": 2}, "sent")
    assert len(got) == 3 and len({made.SOPInstanceUID for made in got}) == 2  # the same report has the same UID


def test_a_peer_must_call_by_name_and_be_known(tmp_path: Path) -> None:
    path = film(tmp_path)
    with running(settings_for(tmp_path / "node", NOWHERE, accept_from=("PACS",))) as node:
        port = node.settings.listen.port
        assert store(port, [path], called="OTHER", calling="PACS") == []
        assert store(port, [path], calling="STRANGER") == []
        assert store(port, [path], calling="PACS") == [0]


def test_echo(tmp_path: Path) -> None:
    with running(settings_for(tmp_path / "node", NOWHERE)) as node:
        entity = AE()
        entity.add_requested_context("1.2.840.10008.1.1")
        association = entity.associate("127.0.0.1", node.settings.listen.port, ae_title="CXRSEG")
        assert association.send_c_echo().Status == 0
        association.release()


def test_an_image_that_is_too_large_is_cut_off(tmp_path: Path) -> None:
    large = film(tmp_path, "large", np.tile(PIXELS, (6, 6)))
    with running(settings_for(tmp_path / "node", NOWHERE, max_bytes=10**6)) as node:
        assert store(node.settings.listen.port, [large]) == [None]
        assert store(node.settings.listen.port, [film(tmp_path)]) == [0]  # others go on
        assert sum(state(node).values()) == 1


def test_an_image_of_too_many_pixels_is_refused(tmp_path: Path) -> None:
    options = replace(settings_for(tmp_path / "node", NOWHERE).options, max_pixels=PIXELS.size - 1)
    with running(settings_for(tmp_path / "node", NOWHERE, options=options)) as node:
        assert store(node.settings.listen.port, [film(tmp_path)]) == [0]
        wait_for(lambda: state(node) == {"refused": 1}, "refused")


def test_a_full_disk_is_said_before_anything_is_acknowledged(tmp_path: Path) -> None:
    with running(settings_for(tmp_path / "node", NOWHERE, min_free_bytes=2**60)) as node:
        assert store(node.settings.listen.port, [film(tmp_path)]) == [0xA700]
        assert state(node) == {}


def test_more_associations_than_allowed_are_turned_away(tmp_path: Path) -> None:
    with running(settings_for(tmp_path / "node", NOWHERE, max_associations=1)) as node:
        entity = AE()
        entity.add_requested_context("1.2.840.10008.1.1")
        first = entity.associate("127.0.0.1", node.settings.listen.port, ae_title="CXRSEG")
        second = entity.associate("127.0.0.1", node.settings.listen.port, ae_title="CXRSEG")
        assert (first.is_established, second.is_established) == (True, False)
        first.release()


def test_a_destination_that_is_away_gets_everything_later(tmp_path: Path) -> None:
    port = free_port()
    destination = Destination(f"ARCHIVE@127.0.0.1:{port}", "ARCHIVE", Address("127.0.0.1", port))
    films = [film(tmp_path, f"film{number}") for number in range(3)]
    with running(settings_for(tmp_path / "node", destination, kinds=("dicom_seg",))) as node:
        assert store(node.settings.listen.port, films) == [0, 0, 0]
        wait_for(lambda: state(node) == {"made": 3}, "made")
    with (
        archive(port) as (_, got),
        running(settings_for(tmp_path / "node", destination, kinds=("dicom_seg",))) as node,
    ):
        wait_for(lambda: state(node) == {"sent": 3}, "sent")
    assert len({made.SOPInstanceUID for made in got}) == len(got) == 3


def test_an_object_that_is_refused_is_offered_again_and_the_others_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "_REFUSED_PAUSE", 0.01)
    answers = iter([0xA700, 0xC001])

    def answer(made: Dataset) -> int:
        return next(answers, 0) if made.Modality == "SR" else 0

    with archive(answer=answer) as (destination, got), running(settings_for(tmp_path / "node", destination)) as node:
        assert store(node.settings.listen.port, [film(tmp_path)]) == [0]
        wait_for(lambda: state(node) == {"sent": 1}, "sent")
    assert sorted(made.Modality for made in got) == ["SEG", "SR"]


def test_an_object_that_is_never_taken_is_given_up_and_done_again_when_sent_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "_REFUSED_PAUSE", 0.001)
    monkeypatch.setattr(sender, "_REFUSED_TRIES", 3)
    asked: list[int] = []
    path = film(tmp_path)

    def answer(made: Dataset) -> int:
        asked.append(1)
        return 0xC001 if len(asked) <= 3 else 0

    with (
        archive(answer=answer) as (destination, got),
        running(settings_for(tmp_path / "node", destination, kinds=("dicom_sr",))) as node,
    ):
        store(node.settings.listen.port, [path])
        wait_for(lambda: state(node) == {"undelivered": 1}, "given up")
        assert len(asked) == 3 and got == []
        store(node.settings.listen.port, [path])
        wait_for(lambda: state(node) == {"sent": 1}, "sent")


def test_an_image_that_ends_the_process_each_time_does_not_do_so_for_ever(tmp_path: Path) -> None:
    settings = settings_for(tmp_path / "node", NOWHERE)
    node = Node(settings)
    node._files.store("key", b"x")
    node._queue.add("key", "1.2.3")
    for _ in range(3):
        assert node._queue.next_job() is not None  # begun, and then the process ended
    node._files.close()
    with running(settings) as node:
        wait_for(lambda: state(node) == {"failed": 1}, "failed")


def test_one_folder_is_for_one_node(tmp_path: Path) -> None:
    with running(settings_for(tmp_path / "node", NOWHERE)), pytest.raises(CxrsegError, match="another node works in"):
        Node(settings_for(tmp_path / "node", NOWHERE))


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with running(settings_for(tmp_path / "node", NOWHERE)) as node:
        other = Node(settings_for(tmp_path / "other", NOWHERE, listen=node.settings.listen))
        with pytest.raises(CxrsegError, match="choose another --listen"):
            other.run(threading.Event())


def test_metrics(tmp_path: Path) -> None:
    metrics = Address("127.0.0.1", free_port())
    with (
        archive() as (destination, _),
        running(settings_for(tmp_path / "node", destination, metrics=metrics)) as node,
    ):
        store(node.settings.listen.port, [film(tmp_path), film(tmp_path, "lateral", ViewPosition="LL")])
        wait_for(lambda: state(node) == {"sent": 1, "refused": 1}, "sent")
        with urllib.request.urlopen(f"http://{metrics}/metrics") as answer:
            text = answer.read().decode()
    for line in (
        'cxrseg_images_received_total{which="new"} 2.0',
        'cxrseg_images_done_total{state="ok"} 1.0',
        'cxrseg_images_done_total{state="refused"} 1.0',
        'cxrseg_queue_images{state="sent"} 1.0',
        "cxrseg_segment_seconds_count 1.0",
        "cxrseg_queue_oldest_seconds 0.0",
    ):
        assert line in text
    assert 'kind="dicom_seg"} 1.0' in text
