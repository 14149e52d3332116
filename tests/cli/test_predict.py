"""`cxrseg predict` as users meet it, most of it in processes of its own: exit codes, output folders, odd names."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from cxrseg.cli import main
from cxrseg.errors import CxrsegError
from cxrseg.inference import files, work
from cxrseg.inference.files import JOURNAL, Options, predict_files
from cxrseg.inference.journal import LockedError
from made_films import make_film
from made_models import chest, hand_model

PIXELS = np.rint(chest((180, 200))[0] * 255).astype(np.uint8)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hand_model(tmp_path_factory.mktemp("model") / "hand.onnx")


def draw(path: Path, pixels: Any = PIXELS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, "PNG")
    return path


def start(model: Path, *arguments: object, **environment: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "cxrseg", "predict", "-m", str(model), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, **environment})


def process(model: Path, *arguments: object, **environment: str) -> tuple[int, bytes, bytes]:
    started = start(model, *arguments, **environment)
    out, errors = started.communicate()
    return started.returncode, out, errors


def invoke(model: Path, *arguments: object) -> Result:
    return CliRunner().invoke(main, ["predict", "-m", str(model), *map(str, arguments)])


def rows(out: Path) -> dict[str, dict[str, Any]]:
    return {row["path"]: row for row in json.loads((out / "statistics.json").read_text(encoding="utf-8"))}


# Exit codes


def test_exit_codes_and_what_is_still_printed_when_quiet(model: Path, tmp_path: Path) -> None:
    fine, bad = draw(tmp_path / "in" / "a.png"), tmp_path / "b.png"
    assert process(model, "-i", fine, "-o", tmp_path / "1", "-q") == (0, b"", b"")
    bad.write_bytes(b"no image")
    code, out, errors = process(model, "-i", fine, "-i", bad, "-o", tmp_path / "2", "-q")
    assert (code, out) == (1, b"") and b"b.png: failed" in errors and errors.count(b"\n") == 1
    Image.new("L", (200, 200), 90).save(tmp_path / "blank.png")
    assert invoke(model, tmp_path / "blank.png", "-o", tmp_path / "3").exit_code == 1
    assert invoke(model, tmp_path / "blank.png", "-o", tmp_path / "4", "--allow-refused").exit_code == 0
    for wrong in ([tmp_path / "none.png"], [fine, "-d", "tpu"], [fine, "--resume", "--overwrite"], []):
        assert invoke(model, *wrong, "-o", tmp_path / "5").exit_code == 2
    code, _, errors = process(tmp_path / "b.png", "-i", fine, "-o", tmp_path / "6", "-q")
    assert code == 3 and b"\nError: " in b"\n" + errors and b"Traceback" not in errors
    assert not list(tmp_path.glob("[56]"))


def test_a_fault_of_ours_is_an_error_with_the_name_of_the_file(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaking(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("a fault of ours")

    monkeypatch.setattr(work, "read_radiograph", breaking)
    done = invoke(model, draw(tmp_path / "a.png"), "-o", tmp_path / "out", "-q")
    assert done.exit_code == 1
    assert "Error: a.png: unexpected ZeroDivisionError: a fault of ours" in done.stderr
    assert "Traceback" not in done.stderr
    monkeypatch.setattr(files, "find_inputs", breaking)
    done = invoke(model, tmp_path / "a.png", "-o", tmp_path / "other")
    assert done.exit_code == 3 and "Traceback" in done.stderr and "please report it" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_the_statistics_and_a_word_on_resume(
    model: Path, tmp_path: Path, number: signal.Signals
) -> None:
    films, out = 150, tmp_path / "out"
    first = draw(tmp_path / "in" / "0.png", np.asarray(Image.fromarray(PIXELS).resize((1800, 1600))))
    for place in range(1, films):
        os.link(first, tmp_path / "in" / f"{place}.png")
    running = start(model, "-i", tmp_path / "in", "-o", out)
    journal = out / JOURNAL
    while running.poll() is None and (not journal.exists() or journal.read_bytes().count(b'"row"') < 3):
        time.sleep(0.01)
    running.send_signal(number)
    _, errors = running.communicate()
    assert running.returncode == 130 and b"--resume" in errors and b"Traceback" not in errors
    done = rows(out)
    assert 3 <= len(done) < films
    masks = {path.name for path in out.glob("*_infection.png")}
    assert masks == {f"{name.removesuffix('.png')}_infection.png" for name in done}
    assert json.loads((out / "manifest.json").read_text())["ended"] == "interrupted"
    code, _, _ = process(model, "-i", tmp_path / "in", "-o", out, "--resume")
    assert code == 0 and len(rows(out)) == films


# Output folders


def test_an_earlier_run_is_kept_replaced_or_continued(model: Path, tmp_path: Path) -> None:
    out, first, second = tmp_path / "out", draw(tmp_path / "in" / "a.png"), draw(tmp_path / "b.png")
    assert invoke(model, tmp_path / "in", "-o", out).exit_code == 0
    refused = invoke(model, second, "-o", out)
    assert refused.exit_code == 3 and "--resume" in refused.output and "--overwrite" in refused.output
    assert list(rows(out)) == ["a.png"]
    assert invoke(model, second, "-o", out, "--resume").exit_code == 0
    assert list(rows(out)) == ["b.png", "a.png"]  # masks of both are there, so both have a row
    (out / "mine_infection.png").write_bytes(b"mine")
    first.unlink()
    assert invoke(model, second, "-o", out, "--overwrite").exit_code == 0
    assert sorted(path.name for path in out.glob("*.png")) == [
        "b_infection.png",
        "b_lungs.png",
        "mine_infection.png",
    ]


@pytest.mark.parametrize("name", ["a_lungs.png", "statistics.csv", "manifest.json", JOURNAL])
@pytest.mark.parametrize("option", [[], ["--overwrite"], ["--resume"]], ids=str)
def test_files_of_the_user_are_never_touched(model: Path, tmp_path: Path, name: str, option: list[str]) -> None:
    own = tmp_path / "own"
    draw(own / "a.png")
    (own / name).write_text("mine\n")
    before = {path.name: path.read_bytes() for path in own.iterdir()}
    done = invoke(model, own / "a.png", "-o", own, *option)
    assert done.exit_code == 3 and name in done.output and "another output folder" in done.output
    assert {path.name: path.read_bytes() for path in own.iterdir()} == before


def test_results_of_earlier_runs_and_masks_are_not_images(model: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    draw(own / "images" / "a.png")
    draw(own / "masks" / "a.png")
    draw(own / "Lungs" / "a.png")
    assert invoke(model, own / "images" / "a.png", "-o", own / "images", "-p").exit_code == 0
    draw(own / "images" / "b_infection.png")  # which no run has written
    done = invoke(model, own, "-o", tmp_path / "out")
    assert done.exit_code == 0
    assert sorted(rows(tmp_path / "out")) == ["images/a.png", "images/b_infection.png"]
    for line in ("6  results of an earlier run in images", "1  in masks", "1  in Lungs"):
        assert line in done.output
    (own / "images" / JOURNAL).unlink()  # then manifest and statistics tell
    assert invoke(model, own, "-o", tmp_path / "out2").exit_code == 0
    assert list(rows(tmp_path / "out2")) == list(rows(tmp_path / "out"))


def test_results_are_known_wherever_they_lie(model: Path, tmp_path: Path) -> None:
    draw(tmp_path / "films" / "a.png")
    command = ("-o", tmp_path / "found", "-p", "--page", "--save-probabilities")
    assert invoke(model, tmp_path / "films", *command).exit_code == 0
    (tmp_path / "films" / "more").mkdir()
    results = [path for path in (tmp_path / "found").iterdir() if path.suffix in (".png", ".jpg")]
    for number, path in enumerate(sorted(results)):
        path.rename(tmp_path / "films" / "more" / f"{number}{path.suffix}")
    done = invoke(model, tmp_path / "films", "-o", tmp_path / "out")
    assert done.exit_code == 1
    found = rows(tmp_path / "out")
    assert len(results) == 5 and found.pop("a.png")["status"] == "ok"
    assert len(found) == 5
    for row in found.values():
        assert row["status"] == "refused" and "was written by cxrseg" in row["reason"]


def test_a_second_process_on_a_folder_ends_at_once(model: Path, tmp_path: Path) -> None:
    draw(tmp_path / "a.png")
    entered, leave = threading.Event(), threading.Event()

    def wait(*_: Any) -> None:
        entered.set()
        leave.wait(120)

    out, options = tmp_path / "out", Options((model,))
    first = threading.Thread(target=predict_files, args=(tmp_path / "a.png", out, options), kwargs={"on_row": wait})
    first.start()
    assert entered.wait(120)
    journal = (out / JOURNAL).read_bytes()
    for option in ([], ["--resume"], ["--overwrite"]):
        code, _, errors = process(model, tmp_path / "a.png", "-o", out, *option)
        assert code == 3 and b"another run of cxrseg is writing into" in errors
    with pytest.raises(LockedError):
        predict_files(tmp_path / "a.png", out, options, overwrite=True)
    assert (out / JOURNAL).read_bytes() == journal
    leave.set()
    first.join()
    assert list(rows(out)) == ["a.png"]


# Several inputs


def test_many_kinds_of_input_in_one_call(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a/x.png", "b/x.png", "c.png", "d.png"):
        draw(tmp_path / name)
    with zipfile.ZipFile("films.zip", "w") as archive:
        for name in ("one/x.png", "../../evil.png", "notes.txt", ".hidden.png"):
            archive.writestr(name, (tmp_path / "c.png").read_bytes())
    Path("list.txt").write_text("# a comment\nd.png\n\nmissing.png\n")
    done = invoke(model, "-i", "a", "-i", "b", "c.png", "a/x.png", "films.zip", "@list.txt", "-o", "out")
    assert done.exit_code == 1, done.output  # one of the list is missing
    found = rows(tmp_path / "out")
    expected = {"a/x.png", "b/x.png", "c.png", "d.png", "films.zip/one/x.png", "films.zip/evil.png"}
    assert {name for name, row in found.items() if row["status"] == "ok"} == expected
    assert found["missing.png"]["status"] == "failed"
    assert "given twice" in done.output and "1  .txt" in done.output
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b", "c.png", "d.png", "films.zip", "list.txt", "out"}
    assert not (tmp_path.parent / "evil_lungs.png").exists()
    invoke(model, "--list", "list.txt", "-o", "listed")
    assert {name: row["status"] for name, row in rows(Path("listed")).items()} == {
        "d.png": "ok",
        "missing.png": "failed",
    }
    small = invoke(model, "d.png", "--max-pixels", "100", "-o", "small")
    assert small.exit_code == 1 and "--max-pixels" in rows(Path("small"))["d.png"]["reason"]
    assert invoke(model, "films.zip", "--resume", "-o", "zipped").exit_code == 0
    assert sorted(rows(tmp_path / "zipped")) == ["evil.png", "one/x.png"]
    again = predict_files(Path("films.zip"), Path("zipped"), Options((model,)), resume=True)
    assert again.resumed == 2


def test_a_dicomdir_names_its_images(model: Path, tmp_path: Path) -> None:
    pytest.importorskip("pydicom")
    from pydicom.fileset import FileSet

    medium = tmp_path / "cd"
    contents = FileSet()
    for number in range(2):
        contents.add(
            make_film(tmp_path / f"{number}.dcm", PIXELS / 255, SOPInstanceUID=f"1.2.3.{number}", InstanceNumber=number)
        )
    contents.write(medium)
    contents.clear()  # removes its temporary folder, which the garbage collector would complain of in a later test
    contents._stage["t"].cleanup()
    listed = [path for path in sorted(medium.rglob("*")) if path.is_file() and path.name != "DICOMDIR"]
    listed[1].unlink()
    done = invoke(model, medium / "DICOMDIR", "-o", tmp_path / "out", "--force")
    found = rows(tmp_path / "out")
    assert {name: row["status"] for name, row in found.items()} == {
        listed[0].relative_to(medium).as_posix(): "ok",
        listed[1].relative_to(medium).as_posix(): "failed",
    }, done.output
    done = invoke(model, medium, "-o", tmp_path / "folder", "--force")
    assert len(rows(tmp_path / "folder")) == 1 and "1  DICOMDIR" in done.output


# Names


def test_no_name_ends_a_batch(model: Path, tmp_path: Path) -> None:
    images = tmp_path / "in"
    names = [
        "=1+1.png",
        "x" * 246 + ".png",
        "a.png",
        "tab\tname.png",
        "line\rfeed\nx.png",
        "esc\x1b[31m.png",
        "łódź.png",
    ]
    for name in names:
        draw(images / name)
    draw(images / "a_infection.png" / "b.png")
    draw(images / "statistics.csv" / "c.png")
    raw = os.fsencode(images) + b"/bad\xff.png"
    with open(raw, "wb") as file:  # noqa: PTH123
        file.write((images / "a.png").read_bytes())
    draw(images / "bad\\xff.png")
    code, _, errors = process(model, "-i", images, "-o", tmp_path / "out", "-v")
    assert code == 0 and b"\x1b" not in errors and b"\r" not in errors, errors
    assert len(rows(tmp_path / "out")) == len(names) + 4
    masks = [path for path in (tmp_path / "out").rglob("*_infection.png") if path.is_file()]
    assert len(masks) == len(names) + 4
    with (tmp_path / "out" / "statistics.csv").open(encoding="utf-8", newline="") as table:
        paths = [row["path"] for row in csv.DictReader(table)]
    assert len(paths) == len(names) + 4 and "'=1+1.png" in paths and "line\\rfeed\\nx.png" in paths
    assert process(model, "-i", images, "-o", tmp_path / "out", "--resume", "-q")[0] == 0


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_a_console_of_another_encoding(model: Path, tmp_path: Path, encoding: str) -> None:
    draw(tmp_path / "łódź.png")
    (tmp_path / "bad-ł.png").write_bytes(b"no image")
    out = tmp_path / "出力"
    code, printed, errors = process(
        model, tmp_path / "łódź.png", tmp_path / "bad-ł.png", "-o", out, "-s", PYTHONIOENCODING=encoding
    )
    assert code == 1 and b"Traceback" not in errors
    if encoding == "cp1252":  # where the console has ASCII only, click writes UTF-8
        assert b"\\u0142" in printed and b"bad-\\u0142.png: failed" in errors
    assert set(rows(out)) == {"łódź.png", "bad-ł.png"}


# The table


def test_the_table_names_studies_and_hides_patients(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    film = make_film(tmp_path / "ü.dcm", PIXELS / 255, PatientID="=SECRET", StudyDate="20200401")
    arguments = ("--force", film)
    assert invoke(model, *arguments, "-o", tmp_path / "1").exit_code == 0
    content = (tmp_path / "1" / "statistics.csv").read_bytes()
    assert b"SECRET" not in content and not content.startswith(b"\xef\xbb\xbf")
    assert b"SECRET" not in (tmp_path / "1" / JOURNAL).read_bytes()
    (row,) = rows(tmp_path / "1").values()
    assert row["study_date"] == "20200401" and len(row["patient_id"]) == 12
    assert all(row[key].count(".") > 1 for key in ("study_uid", "series_uid", "sop_uid"))
    assert invoke(model, *arguments, "-o", tmp_path / "2", "--identities", "--excel").exit_code == 0
    content = (tmp_path / "2" / "statistics.csv").read_bytes()
    assert content.startswith(b"\xef\xbb\xbf")
    (cells,) = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""))
    assert cells["patient_id"] == "'=SECRET" and cells["path"] == "ü.dcm"


def test_a_page_of_a_batch_has_warnings_first_and_pictures(model: Path, tmp_path: Path) -> None:
    draw(tmp_path / "in" / "a.png")
    draw(tmp_path / "in" / "z<b>.png", np.ascontiguousarray(PIXELS[:, ::-1]))
    Image.new("L", (200, 200), 90).save(tmp_path / "in" / "blank.png")
    (tmp_path / "in" / "broken.png").write_bytes(b"no image")
    done = invoke(model, tmp_path / "in", "-o", tmp_path / "out", "--page")
    page = tmp_path / "out" / "page.html"
    assert f"page        {page}" in done.output
    text = page.read_text(encoding="utf-8")
    order = [text.index(f'data-value="{name}"') for name in ("broken.png", "blank.png", "a.png")]
    assert order == sorted(order)
    assert text.count("data:image/jpeg;base64,") == 3 and "<b>.png" not in text and "https:" not in text
    assert invoke(model, tmp_path / "in", "-o", tmp_path / "out", "--overwrite").exit_code == 1
    assert not page.exists() and not list((tmp_path / "out").glob("*_thumbnail.jpg"))


def test_what_is_printed_for_one_file_and_for_several(model: Path, tmp_path: Path) -> None:
    one = invoke(model, draw(tmp_path / "in" / "a.png"), "-o", tmp_path / "1", "-p")
    row = rows(tmp_path / "1")["a.png"]
    assert f"infected     {row['infected_fraction']:.1%} of the lungs" in one.output
    assert f"left lung    {row['infected_fraction_left']:.1%} (the patient's left)" in one.output
    assert f"preview     {tmp_path / '1' / 'a_preview.png'}" in one.output
    draw(tmp_path / "in" / "b.png")
    Image.new("L", (200, 200), 90).save(tmp_path / "in" / "blank.png")
    several = invoke(model, tmp_path / "in", "-o", tmp_path / "2")
    for line in (
        "2 ok, 1 refused in",
        f"median {row['infected_fraction']:.1%}",
        f"{row['infected_fraction']:.1%}  a.png",
        "1  the image is nearly blank",
    ):
        assert line in several.output, several.output


def test_a_refused_film_has_a_picture_but_no_masks(model: Path, tmp_path: Path) -> None:
    Image.new("L", (200, 200), 90).save(tmp_path / "blank.png")
    assert invoke(model, tmp_path / "blank.png", "-o", tmp_path / "out", "-p").exit_code == 1
    assert [path.name for path in (tmp_path / "out").glob("*.png")] == ["blank_preview.png"]


def test_a_picture_of_another_kind_and_size(model: Path, tmp_path: Path) -> None:
    film = draw(tmp_path / "a.png")
    options = ("-p", "--picture-type", "pdf", "--beside", "--fill", "0", "--no-caption", "--picture-size", "0")
    done = invoke(model, film, "-o", tmp_path / "out", *options)
    assert done.exit_code == 0 and "a_preview.pdf" in done.output
    assert (tmp_path / "out" / "a_preview.pdf").read_bytes().startswith(b"%PDF")
    style = json.loads((tmp_path / "out" / "manifest.json").read_text())["options"]["picture"]
    assert style == {"beside": True, "fill": 0.0, "caption": False, "largest": 0, "kind": "pdf"}
    assert invoke(model, film, "-o", tmp_path / "out", "--resume", "-p").exit_code == 3  # other options


def test_wishes_that_exclude_each_other(model: Path, tmp_path: Path) -> None:
    with pytest.raises(CxrsegError, match="got both"):
        predict_files(draw(tmp_path / "a.png"), tmp_path / "out", Options((model,)), resume=True, overwrite=True)
