"""Many files: names, rows, failures, and going on after a kill."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cxrseg.errors import CxrsegError, DiskFullError, ImageError
from cxrseg.inference import local, work
from cxrseg.inference.files import JOURNAL, Options, predict_files
from cxrseg.inference.input_files import find_inputs
from cxrseg.inference.journal import Journal
from cxrseg.io.masks import read_mask
from cxrseg.io.signals import handled
from made_batches import draw, everything

COLUMNS = (
    "path,status,reason,warnings,steps,width,height,spacing_mm,"
    "infected_fraction,infected_fraction_left,infected_fraction_right,"
    "infected_fraction_left_upper,infected_fraction_left_middle,infected_fraction_left_lower,infected_fraction_right_upper,"
    "infected_fraction_right_middle,infected_fraction_right_lower,infected_area_mm2,extent_score,grade,"
    "ranking_score,expected_dice,model,model_version,model_sha256,threshold,probability_covid19,probability_non_covid,probability_normal,emptied,"
    "patient_id,study_date,study_uid,series_uid,sop_uid"
)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXRSEG_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def rows_of(out: Path) -> dict[str, dict[str, str]]:
    with (out / "statistics.csv").open(newline="") as file:
        return {row["path"]: row for row in csv.DictReader(file)}


def test_files_and_columns_are_named_as_promised(options: Options, tmp_path: Path) -> None:
    draw(tmp_path / "in" / "sub" / "one.png")
    draw(tmp_path / "in" / "two.jpg", infected=False)
    out = tmp_path / "out"
    result = predict_files(tmp_path / "in", out, Options(options.models, preview=True, save_probabilities=True))
    kinds = ("infection", "lungs", "preview", "probability")
    expected = [*(f"sub/one_{kind}.png" for kind in kinds), *(f"two_{kind}.png" for kind in kinds)]
    found = list(everything(out))
    assert found == sorted([*expected, "statistics.csv", "statistics.json"])
    assert (out / "statistics.csv").read_text().splitlines()[0] == COLUMNS
    table, listed = rows_of(out), json.loads((out / "statistics.json").read_text())
    assert [row["path"] for row in listed] == ["two.jpg", "sub/one.png"] == list(table)
    assert list(listed[0]) == COLUMNS.split(",")
    sick, healthy = table["sub/one.png"], table["two.jpg"]
    assert float(sick["infected_fraction_left"]) > 0.1 > float(sick["infected_fraction_right"]) == 0
    assert (healthy["infected_fraction"], healthy["extent_score"], healthy["grade"]) == ("0.0", "0", "none")
    assert (sick["width"], sick["height"], sick["spacing_mm"], sick["infected_area_mm2"]) == ("200", "180", "", "")
    assert set(np.unique(np.asarray(Image.open(out / "sub" / "one_infection.png")))) == {0, 255}
    probability = np.asarray(Image.open(out / "sub" / "one_probability.png"))
    assert probability.dtype == np.uint16 and probability.max() > 65000 and probability.shape == (180, 200)
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["counts"] == {"ok": 2, "refused": 0, "failed": 0} == dict(result.counts)
    assert manifest["engine"] == "local"
    assert manifest["models"][0]["sha256"] == sick["model_sha256"] and manifest["versions"]["openvino"]


def test_inputs_with_one_name_stay_apart(options: Options, tmp_path: Path) -> None:
    for name in ("a/x.png", "b/x.png", "b/x.jpg", "b/x.png.png", "x.bmp"):
        draw(tmp_path / "in" / name, infected=name != "b/x.png")
    out = tmp_path / "out"
    assert predict_files(tmp_path / "in", out, options).counts["ok"] == 5
    stems = ["a/x", "b/x.jpg", "b/x.png", "b/x.png.png", "x"]
    assert {name for name in everything(out) if "infection" in name} == {f"{stem}_infection.png" for stem in stems}
    assert [bool(read_mask(out / f"{stem}_infection.png").any()) for stem in stems] == [True, True, False, True, True]


def test_the_search_is_natural_and_passes_over_what_is_hidden_and_its_own(tmp_path: Path) -> None:
    for name in ("x10.png", "x2.png", ".hidden.png", ".git/y.png", "out/z.png", "__MACOSX/w.png", "deep/er/v.PNG"):
        draw(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "IM0001").write_bytes(bytes(128) + b"DICM")
    (tmp_path / "deep" / "up").symlink_to(tmp_path)
    inputs, others = find_inputs(tmp_path, tmp_path / "out")
    assert [item.name for item in inputs] == ["IM0001", "x2.png", "x10.png", "deep/er/v.PNG"]
    assert inputs[0].stem == "IM0001" and others == {".txt": 1, "files in the output folder": 1}
    with pytest.raises(ImageError, match="is also the output folder"):
        find_inputs(tmp_path, tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageError, match="found nothing"):
        find_inputs(tmp_path / "empty", tmp_path / "out")
    with pytest.raises(ImageError, match="found none"):
        find_inputs(tmp_path / "missing", tmp_path / "out")


def test_every_mask_of_an_interrupted_run_has_its_row(options: Options, tmp_path: Path) -> None:
    films, out = 40, tmp_path / "out"
    for number in range(films):
        draw(tmp_path / "in" / f"{number}.png")

    def interrupt(_: object, finished: int, __: int) -> None:  # while a row is kept
        if finished == 3:
            signal.raise_signal(signal.SIGINT)

    with handled(signal.SIGINT, signal.default_int_handler), pytest.raises(KeyboardInterrupt):
        predict_files(tmp_path / "in", out, options, on_row=interrupt)
    found = rows_of(out)
    assert 3 < len(found) < films
    assert {path.name for path in out.glob("*_infection.png")} == {
        f"{name.removesuffix('.png')}_infection.png" for name in found
    }


def test_a_second_interrupt_does_not_wait(options: Options, tmp_path: Path) -> None:
    for number in range(40):
        draw(tmp_path / "in" / f"{number}.png")
    seen: list[int] = []

    def interrupt(_: object, finished: int, __: int) -> None:
        seen.append(finished)
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with handled(signal.SIGINT, signal.default_int_handler), pytest.raises(KeyboardInterrupt):
        try:
            predict_files(tmp_path / "in", tmp_path / "out", options, on_row=interrupt)
        finally:
            assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert seen == [1]


def test_names_that_are_no_text_are_written_as_text(options: Options, tmp_path: Path) -> None:
    odd = os.fsdecode(b"caf\xe9.png")
    try:
        draw(tmp_path / "in" / odd)
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    assert predict_files(tmp_path / "in", tmp_path / "out", options).counts["ok"] == 1
    assert list(rows_of(tmp_path / "out")) == ["caf\\xe9.png"]


def test_failures_are_rows_and_leave_no_masks(
    options: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    for name in ("bad", "blank", "broken", "good"):
        draw(tmp_path / "in" / f"{name}.png")
    predict_files(tmp_path / "in", out, options)  # so that masks of an earlier run lie there
    whole = (tmp_path / "in" / "bad.png").read_bytes()
    (tmp_path / "in" / "bad.png").write_bytes(whole[: len(whole) // 2])
    Image.new("L", (200, 200), 90).save(tmp_path / "in" / "blank.png")
    draw(tmp_path / "in" / "broken.png", infected=False)
    read = work.read_radiograph

    def breaking(path: Path, **settings: Any) -> Any:
        if path.stem == "broken":  # which was changed too, so that it is read again
            raise ZeroDivisionError("a fault of ours")
        return read(path, **settings)

    monkeypatch.setattr(work, "read_radiograph", breaking)
    result = predict_files(tmp_path / "in", out, options, resume=True)
    assert result.counts == {"ok": 1, "refused": 1, "failed": 2}
    table = rows_of(out)
    assert table["bad.png"]["status"] == "failed" and str(tmp_path) not in table["bad.png"]["reason"]
    assert "blank" in table["blank.png"]["reason"] and table["blank.png"]["width"] == "200"
    assert table["broken.png"]["reason"] == "ZeroDivisionError: a fault of ours"
    assert table["blank.png"]["infected_fraction"] == "" and table["blank.png"]["grade"] == ""
    assert [name for name in everything(out) if name.endswith(".png")] == ["good_infection.png", "good_lungs.png"]
    monkeypatch.setattr(work, "read_radiograph", read)
    again = predict_files(tmp_path / "in", out, options, resume=True)
    assert (again.counts["ok"], again.resumed) == (2, 2)  # what failed is tried again


def test_a_killed_run_goes_on_to_the_same_end(options: Options, tmp_path: Path) -> None:
    count = 80
    for number in range(count):
        draw(tmp_path / "in" / f"{number % 3}" / f"x{number}.png", infected=number % 2 == 0, shape=(900, 800 + number))
    (tmp_path / "in" / "bad.png").write_bytes(b"no image")
    out, whole = tmp_path / "out", tmp_path / "whole"
    command = [sys.executable, "-m", "cxrseg", "predict", "-i", str(tmp_path / "in"), "-m", str(options.models[0])]
    process = subprocess.Popen([*command, "-o", str(out), "-q"])
    journal = out / JOURNAL
    while process.poll() is None and (not journal.exists() or journal.read_bytes().count(b"\n") < 6):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it was done before it could be killed"
    done = journal.read_bytes().count(b"\n") - 1 - journal.read_bytes().count(b'"failed"')  # these are tried again
    assert 4 <= done < count + 1 and not (out / "statistics.csv").exists()
    with journal.open("ab") as file:
        file.write(b'{"name": "half a li')
    for name in (".statistics.csv.123.part", f"{(count - 1) % 3}/.x{count - 1}_lungs.png.123.part", ".mine.part"):
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).touch()  # which a killed run may leave, but for the last
    assert subprocess.run([*command, "-o", str(out), "--resume"], capture_output=True, check=False).returncode == 1
    assert json.loads((out / "manifest.json").read_text())["resumed"] in (
        done,
        done - 1,
    )
    predict_files(tmp_path / "in", whole, options)
    assert [path.name for path in out.rglob("*.part")] == [".mine.part"]
    (out / ".mine.part").unlink()
    assert everything(out) == everything(whole)
    assert len(rows_of(out)) == count + 1


def test_resuming_looks_at_options_and_at_changed_files(options: Options, tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        draw(tmp_path / "in" / name)
    out = tmp_path / "out"
    predict_files(tmp_path / "in", out, options)
    with pytest.raises(CxrsegError, match=r"tta False \(now True\)"):
        predict_files(tmp_path / "in", out, Options(options.models, tta=True), resume=True)
    draw(tmp_path / "in" / "b.png", infected=False, shape=(190, 200))
    seen: list[tuple[str, int, int]] = []
    result = predict_files(
        tmp_path / "in",
        out,
        options,
        resume=True,
        on_row=lambda row, done, total: seen.append((row["path"], done, total)),
    )
    assert seen == [("b.png", 2, 2)] and result.resumed == 1
    assert rows_of(out)["b.png"]["grade"] == "none" and rows_of(out)["a.png"]["grade"] == "mild"
    assert predict_files(tmp_path / "in", out, options, overwrite=True).resumed == 0


def test_after_the_clock_was_set_back_a_resumed_run_does_what_changed_and_no_more(
    options: Options, tmp_path: Path
) -> None:
    folder, out, tomorrow = tmp_path / "in", tmp_path / "out", time.time() + 86_400
    for name in ("a.png", "b.png", "c.png"):
        draw(folder / name)
        os.utime(folder / name, (tomorrow, tomorrow))  # what a clock leaves that is a day ahead
    predict_files(folder, out, options)
    for path in out.rglob("*"):
        os.utime(path, (tomorrow, tomorrow))
    assert predict_files(folder, out, options, resume=True).resumed == 3
    size = (folder / "b.png").stat().st_size
    draw(folder / "b.png", infected=False)
    with (folder / "b.png").open("ab") as file:  # as many bytes as before: only the time tells of the change
        file.write(bytes(size - (folder / "b.png").stat().st_size))
    assert (folder / "b.png").stat().st_size == size
    seen: list[str] = []
    result = predict_files(folder, out, options, resume=True, on_row=lambda row, *_: seen.append(row["path"]))
    assert (seen, result.resumed) == (["b.png"], 2)
    assert {name: row["grade"] for name, row in rows_of(out).items()} == {
        "a.png": "mild",
        "b.png": "none",
        "c.png": "mild",
    }


def test_resuming_makes_masks_again_that_are_missing_or_cut_short(options: Options, tmp_path: Path) -> None:
    """As a power failure may leave them, since nobody waits until they are on the disk."""
    for name in ("a.png", "b.png", "c.png"):
        draw(tmp_path / "in" / name)
    Image.new("L", (200, 200), 90).save(tmp_path / "in" / "refused.png")
    out = tmp_path / "out"
    predict_files(tmp_path / "in", out, options)
    before = list(everything(out))
    (out / "a_infection.png").write_bytes(b"")
    (out / "c_lungs.png").unlink()
    assert predict_files(tmp_path / "in", out, options, resume=True).resumed == 2
    assert list(everything(out)) == before


def test_a_full_disk_ends_the_run(options: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(30):
        draw(tmp_path / "in" / f"{number}.png")
    tried: list[str] = []

    def full(out: Path, stem: str, *rest: Any, **more: Any) -> None:
        tried.append(stem)
        raise DiskFullError("no room left")

    monkeypatch.setattr(work, "write_outputs", full)
    with pytest.raises(DiskFullError):
        predict_files(tmp_path / "in", tmp_path / "out", options)
    assert len(tried) < 30


def test_a_folder_that_cannot_be_written_is_named(options: Options, tmp_path: Path) -> None:
    draw(tmp_path / "a.png")
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(CxrsegError, match="another output folder"):
        predict_files(tmp_path / "a.png", tmp_path / "file" / "out", options)


def test_few_files_are_on_their_way_at_any_time(options: Options, tmp_path: Path) -> None:
    given: list[int] = []

    def items() -> Iterator[int]:
        for number in range(50):
            given.append(number)
            yield number

    with ThreadPoolExecutor(2) as pool:
        results = local._each(pool, lambda number: number, items(), 2, Event())
        taken = [next(results)]
        assert len(given) <= 5
        taken += list(results)
    assert sorted(taken) == list(range(50))


def test_a_damaged_journal_keeps_what_comes_before(tmp_path: Path) -> None:
    path = tmp_path / JOURNAL
    with Journal(path) as journal:
        journal.start({"cxrseg": 1})
        journal.claim("xyz", ["_lungs.png"])
        for name in "xyz":
            journal.add(name, f"s{name}", [1, 2], {"path": name})
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"name": "z"', b'"name: "z"'))
    with Journal(path) as journal:
        assert [row["path"] for row in journal.rows("zyx")] == ["y", "x"]
        assert journal.has("x", "sx", [1, 2]) and not journal.has("x", "sx", [1, 3])
        assert not journal.has("x", "other", [1, 2]) and not journal.has("z", "sz", [1, 2])
        assert journal.claimed("z", "_lungs.png") and not journal.claimed("z", "_seg.dcm")
        journal.add("z", "sz", None, {"path": "z"})
        assert not journal.has("z", "sz", None)
    shutil.copy(path, tmp_path / "copy")
    with Journal(tmp_path / "copy") as journal:
        assert [row["path"] for row in journal.rows("xyz")] == ["x", "y", "z"]
        with pytest.raises(CxrsegError, match=r"cxrseg 1 \(now 2\)"):
            journal.compare({"cxrseg": 2})
