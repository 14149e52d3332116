"""A batch whose files change or vanish, and whose disk fills up, while it runs."""

from __future__ import annotations

import csv
import errno
import json
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cxrseg.errors import DiskFullError
from cxrseg.inference import local
from cxrseg.inference.files import JOURNAL, Options, predict_files
from cxrseg.inference.journal import Journal
from made_batches import draw
from made_disk import fill, small_disk


@pytest.fixture(autouse=True)
def one_at_a_time(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads, so that at most four files are on their way when a row arrives."""
    monkeypatch.setenv("CXRSEG_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.setattr(local, "processors", lambda: 1)


def rows_of(out: Path) -> dict[str, dict[str, str]]:
    with (out / "statistics.csv").open(newline="") as file:
        return {row["path"]: row for row in csv.DictReader(file)}


def outputs(out: Path) -> dict[str, bytes]:
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*_*.png")}


def test_files_that_vanish_or_break_fail_alone_and_are_done_again(options: Options, tmp_path: Path) -> None:
    paths = [draw(tmp_path / "in" / f"{number}.png") for number in range(12)]
    vanished, broken, emptied = paths[9:]
    content = vanished.read_bytes()

    def meanwhile(row: Mapping[str, Any], count: int, total: int) -> None:
        if count == 1:
            vanished.unlink()
            broken.write_bytes(content[: len(content) // 2])
            emptied.write_bytes(b"")

    out = tmp_path / "out"
    result = predict_files(tmp_path / "in", out, options, on_row=meanwhile)
    assert result.counts == {"ok": 9, "refused": 0, "failed": 3}
    rows = rows_of(out)
    assert {name for name, row in rows.items() if row["status"] == "failed"} == {"9.png", "10.png", "11.png"}
    assert all(rows[path.name]["reason"] for path in (vanished, broken, emptied))
    assert len(outputs(out)) == 18  # nothing of the three
    for path in (vanished, broken, emptied):
        path.write_bytes(content)
    again = predict_files(tmp_path / "in", out, options, resume=True)
    assert (again.counts["ok"], again.resumed) == (12, 9)


def test_a_file_that_changed_is_done_again(options: Options, tmp_path: Path) -> None:
    """Written while the batch runs, after it was read: the row must be that of the new content in the end."""
    paths = [draw(tmp_path / "in" / f"{number}.png") for number in range(3)]
    out = tmp_path / "out"
    predict_files(tmp_path / "in", out, options)
    Image.fromarray(np.asarray(Image.open(paths[1]))[:, ::-1]).save(paths[1])
    again = predict_files(tmp_path / "in", out, options, resume=True)
    rows = rows_of(out)
    assert again.resumed == 2
    assert float(rows["1.png"]["infected_fraction_right"]) > 0.1 > float(rows["1.png"]["infected_fraction_left"])


def test_an_archive_that_is_removed_fails_its_images_and_not_the_batch(options: Options, tmp_path: Path) -> None:
    archive = tmp_path / "in.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for number in range(10):
            packed.write(draw(tmp_path / "one.png"), f"{number}.png")

    def meanwhile(row: Mapping[str, Any], count: int, total: int) -> None:
        archive.unlink(missing_ok=True)

    counts = predict_files(archive, tmp_path / "out", options, on_row=meanwhile).counts
    assert counts["ok"] >= 1 and counts["failed"] >= 4 and sum(counts.values()) == 10


def test_a_disk_that_fills_up_in_a_batch_keeps_what_is_done(options: Options, tmp_path: Path) -> None:
    for number in range(16):
        draw(tmp_path / "in" / f"{number}.png")
    predict_files(tmp_path / "in", tmp_path / "whole", options)
    with small_disk(tmp_path / "disk", 2048) as disk:

        def meanwhile(row: Mapping[str, Any], count: int, total: int) -> None:
            if count == 4:
                fill(disk)

        out = disk / "out"
        with pytest.raises(DiskFullError, match=r"free some space"):
            predict_files(tmp_path / "in", out, options, on_row=meanwhile)
        kept = outputs(out)
        assert not (out / "statistics.csv").exists() and not list(out.rglob("*.part"))
        assert all(content == (tmp_path / "whole" / name).read_bytes() for name, content in kept.items())  # all whole
        (disk / "filler").unlink()
        result = predict_files(tmp_path / "in", out, options, resume=True)
        assert result.counts["ok"] == 16 and result.resumed >= 4
        assert outputs(out) == outputs(tmp_path / "whole")
        assert rows_of(out) == rows_of(tmp_path / "whole")
        assert json.loads((out / "manifest.json").read_text())["ended"] == "done"


def test_a_full_journal_names_its_path(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 64) as disk:
        path, row = disk / JOURNAL, {"status": "ok", "reason": "x" * 1000}
        told = rf"the disk of {re.escape(str(path))} is full; free some space"
        with pytest.raises(DiskFullError, match=told), Journal(path) as journal:
            journal.start({"cxrseg": 1})
            filler = fill(disk, but=8192)
            for number in range(100):
                journal.add(str(number), "stem", [1, 2], row)
        filler.unlink()
        with Journal(path) as journal:
            kept = list(journal.entries())
            assert 0 < len(kept) < 20 and kept == [str(number) for number in range(len(kept))]
            journal.add("next", "stem", [1, 2], row)
        with Journal(path) as journal:
            assert list(journal.entries()) == [*kept, "next"]


@pytest.mark.parametrize("error", [MemoryError(), OSError(errno.EIO, "Input/output error")], ids=repr)
def test_a_fault_of_the_system_fails_its_file_alone_and_is_done_again(
    options: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    paths = [draw(tmp_path / "in" / f"{number}.png") for number in range(4)]
    read = Image.open

    def failing(path: Any, *more: Any, **settings: Any) -> Any:
        if "2.png" in str(getattr(path, "name", path)):
            raise error
        return read(path, *more, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(Image, "open", failing)
        counts = predict_files(tmp_path / "in", tmp_path / "out", options).counts
    assert counts == {"ok": 3, "refused": 0, "failed": 1}
    assert rows_of(tmp_path / "out")[paths[2].name]["status"] == "failed"
    again = predict_files(tmp_path / "in", tmp_path / "out", options, resume=True)
    assert (again.counts["ok"], again.resumed) == (4, 3)
