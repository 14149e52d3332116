"""A run in processes: the same results as in threads, Ctrl-C, and processes that are killed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from cxrseg.errors import CxrsegError, DiskFullError
from cxrseg.inference import local
from cxrseg.inference.files import JOURNAL, Options, predict_files
from cxrseg.inference.local import on_processes
from cxrseg.inference.options import settings_of
from cxrseg.inference.pixel_budget import PIXELS_A_THREAD, OneLargeFilm
from made_batches import draw, everything
from made_disk import small_disk

pytestmark = pytest.mark.timeout(300)

FILES = 60


@pytest.fixture(autouse=True)
def two_processors(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXRSEG_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.setattr(local, "processors", lambda: 2)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Chests of many sizes, and a file that is no image."""
    folder = tmp_path_factory.mktemp("images")
    for number in range(FILES - 1):
        draw(folder / f"{number}.png", number % 3 > 0, (180 + number, 200))
    (folder / "broken.png").write_bytes(b"no image")
    return folder


def program(images: Path, out: Path, options: Options, *more: str) -> subprocess.Popen[bytes]:
    """A script of a user, in a process group of its own."""
    code = f"""
import sys
from pathlib import Path
from cxrseg.inference import local
from cxrseg.inference.files import Options, predict_files
if __name__ == "__main__":
    local.processors = lambda: 2
    model, images, out = map(Path, sys.argv[1:4])
    try:
        predict_files(images, out, Options((model,)), work=local.on_processes(1), resume={"resume" in more})
    except KeyboardInterrupt:
        sys.exit(130)
"""
    script = out.with_suffix(".py")
    script.write_text(code)
    command = [sys.executable, str(script), str(options.models[0]), str(images), str(out)]
    return subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE)


def wait_until(found: Callable[[], object], process: subprocess.Popen[bytes]) -> None:
    while not found():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)


def children(process: int) -> list[int]:
    """The pool's processes, without multiprocessing's own."""
    listed = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [int(one) for one in listed if b"spawn_main" in Path(f"/proc/{one}/cmdline").read_bytes()]


def rows(out: Path) -> int:
    journal = out / JOURNAL
    return journal.read_bytes().count(b"\n") - 2 if journal.exists() else 0  # two lines are about the run


def test_processes_find_what_threads_find(images: Path, options: Options, tmp_path: Path) -> None:
    seen: list[str] = []
    result = predict_files(
        images, tmp_path / "a", options, work=on_processes(1), on_row=lambda row, *_: seen.append(row["path"])
    )
    predict_files(images, tmp_path / "b", options)
    assert dict(result.counts) == {"ok": FILES - 1, "refused": 0, "failed": 1}
    assert len(seen) == len(set(seen)) == FILES
    assert everything(tmp_path / "a") == everything(tmp_path / "b")
    assert json.loads((tmp_path / "a" / "manifest.json").read_text())["engine"] == "local"


def test_few_files_stay_in_this_process(
    images: Path, options: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("processes were started")

    monkeypatch.setattr(local, "_on_processes", never)
    assert predict_files(images, tmp_path / "out", options, work=on_processes(FILES + 1)).counts["ok"] == FILES - 1
    with pytest.raises(AssertionError, match="were started"):
        predict_files(images, tmp_path / "other", options, work=on_processes(FILES))


def test_what_goes_wrong_in_a_process_is_logged_in_this_one(
    images: Path, options: Options, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # divmod is a function that any process can load, and takes two arguments
    faulty = replace(options, output_types=("png", "dicom_seg"), write_objects=divmod)  # type: ignore[arg-type]
    result = predict_files(images, tmp_path / "out", faulty, work=on_processes(1))
    assert result.counts["failed"] == FILES
    assert sum("unexpected TypeError" in message for message in caplog.messages) == FILES - 1


@pytest.mark.skipif(not Path("/proc").exists(), reason="processes are found in /proc")
def test_ctrl_c_keeps_what_is_done_and_can_be_resumed(images: Path, options: Options, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = program(images, out, options)
    wait_until(lambda: rows(out) > 0, process)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does it: to all processes
    errors = process.communicate()[1]
    assert process.returncode == 130, errors
    assert errors == b"", errors.decode()
    table = (out / "statistics.csv").read_text().splitlines()
    assert 1 < len(table) < FILES + 1
    assert json.loads((out / "manifest.json").read_text())["ended"] == "interrupted"
    again = predict_files(images, out, options, resume=True)
    assert again.resumed >= len(table) - 2 and again.counts["ok"] == FILES - 1


@pytest.mark.skipif(not Path("/proc").exists(), reason="processes are found in /proc")
def test_ctrl_c_ends_no_process_that_is_still_starting(images: Path, options: Options, tmp_path: Path) -> None:
    process = program(images, tmp_path / "out", options)
    seen: dict[int, bool] = {}
    while process.poll() is None:
        with suppress(OSError):  # one has ended
            for child in children(process.pid):
                status = dict(line.split(":", 1) for line in Path(f"/proc/{child}/status").read_text().splitlines())
                spared = int(status["SigIgn"], 16) | int(status["SigBlk"], 16)
                seen[child] = seen.get(child, True) and bool(spared >> (signal.SIGINT - 1) & 1)
        time.sleep(0.01)
    assert process.communicate()[1] == b"" and process.returncode == 0
    assert len(seen) == 2 and all(seen.values()), seen


@pytest.mark.skipif(not Path("/proc").exists(), reason="processes are found in /proc")
def test_a_killed_process_ends_the_run_with_a_reason(images: Path, options: Options, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = program(images, out, options)
    wait_until(lambda: rows(out) > 0, process)
    os.kill(children(process.pid)[0], signal.SIGKILL)
    errors = process.communicate()[1].decode()
    assert process.returncode == 1
    assert "a process of this run ended early" in errors and "--resume" in errors
    done = program(images, out, options, "resume")
    assert done.communicate()[1] == b"" and done.returncode == 0
    predict_files(images, tmp_path / "whole", options)
    assert everything(out) == everything(tmp_path / "whole")


@pytest.mark.skipif(not Path("/proc").exists(), reason="processes are found in /proc")
def test_a_killed_run_leaves_no_process(images: Path, options: Options, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = program(images, out, options)
    wait_until(lambda: rows(out) > 0, process)
    pool = children(process.pid)
    assert len(pool) == 2
    process.kill()
    process.communicate()
    ends = time.monotonic() + 60
    while any(Path(f"/proc/{one}").exists() for one in pool):
        assert time.monotonic() < ends, "a process waits for files for ever"
        time.sleep(0.05)


def test_a_full_disk_in_a_process_ends_the_run(images: Path, options: Options, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 100) as disk, pytest.raises(DiskFullError, match=r"no room left|is full"):
        predict_files(images, disk / "out", options, work=on_processes(1))


def test_other_models_in_a_process_end_the_run(
    images: Path, options: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "settings_of", lambda *given: {**settings_of(*given), "cxrseg": "0.0.1"})
    with pytest.raises(CxrsegError, match=r"other settings .* \(not 0\.0\.1\)"):
        predict_files(images, tmp_path / "out", options, work=on_processes(1))


def test_large_films_take_turns() -> None:
    class Lock:
        held = 0

        def __enter__(self) -> None:
            Lock.held += 1

        def __exit__(self, *_: object) -> None:
            Lock.held -= 1

    film = OneLargeFilm(Lock())  # type: ignore[arg-type]
    with film.hold(PIXELS_A_THREAD):
        assert Lock.held == 0
    with film.hold(PIXELS_A_THREAD + 1):
        assert Lock.held == 1
    assert Lock.held == 0
