"""Files on a real Ray cluster of two workers on this machine: a worker that dies, resuming, errors, no telemetry."""

import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cxrseg.cli import main
from cxrseg.errors import CxrsegError, DiskFullError
from cxrseg.inference import ray as ray_backend
from cxrseg.inference import work
from cxrseg.inference.files import JOURNAL, Options, predict_files
from cxrseg.inference.input_sources import Input
from cxrseg.inference.work import Work
from made_batches import draw, everything

# Ray warns of its own defaults; a warning of ours is still an error.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),
    pytest.mark.filterwarnings("ignore::FutureWarning:ray"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.timeout(600),
]

FILES = 30


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 chests of as many sizes in two folders, and a file that is no image."""
    folder = tmp_path_factory.mktemp("images")
    for number in range(FILES - 1):
        draw(folder / ("even", "odd")[number % 2] / f"{number}.png", number % 3 > 0, (180 + number, 200))
    (folder / "broken.png").write_bytes(b"no image")
    return folder


@pytest.fixture(scope="module")
def local(images: Path, options: Options, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("local")
    predict_files(images, out, options)
    return out


@pytest.fixture(scope="module")
def two_workers() -> Iterator[None]:
    """A cluster of this machine, with two processors whatever the machine has."""
    ray = pytest.importorskip("ray", reason="needs pip install 'cxrseg[ray]'")
    pytest.importorskip("ray.data", reason="needs pip install 'cxrseg[ray]'")
    from cxrseg.inference.ray import on_ray

    on_ray()  # what it sets in the environment comes before Ray starts
    store = 100 * 2**20
    ray.init(
        "local",
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=store,
        log_to_driver=False,
        logging_level="ERROR",
    )
    yield
    ray.shutdown()


def test_a_cluster_that_does_not_answer_is_named(images: Path, options: Options, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs pip install 'cxrseg[ray]'")
    from cxrseg.inference.ray import _connected  # this test comes before the ones that connect

    with pytest.raises(CxrsegError, match=r"Ray cluster at 127\.0\.0\.1:1"), _connected("127.0.0.1:1"):
        pass


@pytest.mark.usefixtures("two_workers")
def test_a_worker_killed_in_the_middle_costs_nothing(
    images: Path, options: Options, local: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    out, died = tmp_path / "out", tmp_path / "died"

    class Dying(ray_backend._Worker):
        """Is killed once, in the middle of a group: a file is done but not yet answered, another half written."""

        def _answer(self, path: str, name: str, stem: str, *more: Any) -> dict[str, Any]:
            answer = super()._answer(path, name, stem, *more)
            if name == "odd/15.png" and not died.exists():
                died.touch()
                (out / "odd" / ".17_lungs.png.1.part").write_bytes(b"half")
                os.kill(os.getpid(), signal.SIGKILL)
            return answer

    monkeypatch.setattr(ray_backend, "_Worker", Dying)
    seen: Counter[str] = Counter()

    def see(row: Mapping[str, Any], done: int, total: int) -> None:
        seen[row["path"]] += 1
        assert (done, total) == (sum(seen.values()), FILES)

    result = predict_files(images, out, options, on_row=see, work=ray_backend.on_ray())
    assert died.exists() and set(seen.values()) == {1} and len(seen) == FILES
    assert result.counts == {"ok": FILES - 1, "refused": 0, "failed": 1} and result.resumed == 0
    assert everything(out) == everything(local)
    assert len((out / JOURNAL).read_text().splitlines()) == 2 + FILES  # the header and the claim of all names


@pytest.mark.usefixtures("two_workers")
def test_either_engine_goes_on_where_the_other_stopped(
    images: Path, options: Options, local: Path, tmp_path: Path
) -> None:
    from cxrseg.inference.ray import on_ray

    out = tmp_path / "out"

    def stop(row: Mapping[str, Any], done: int, total: int) -> None:
        if done == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict_files(images, out, options, on_row=stop)
    rest: list[str] = []
    seen = lambda row, done, total: rest.append(row["path"])  # noqa: E731
    result = predict_files(images, out, options, resume=True, on_row=seen, work=on_ray())
    # A file that failed is done again.
    assert result.resumed in (19, 20) and len(set(rest)) == len(rest) == FILES - result.resumed
    assert everything(out) == everything(local)
    assert predict_files(images, out, options, resume=True).resumed == FILES - 1
    assert predict_files(images, out, options, resume=True, work=on_ray()).resumed == FILES - 1


@pytest.mark.usefixtures("two_workers")
def test_no_name_ends_a_batch(images: Path, options: Options, tmp_path: Path) -> None:
    names = ["x" * 246 + ".png", "a.png", "a_infection.png/b.png", "statistics.csv/c.png", "line\rfeed\n.png", "=1.png"]
    names += ["bad\\xff.png", os.fsdecode(b"bad\xff.png")]
    for name in names:
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes((images / "even" / "2.png").read_bytes())
    outs = tmp_path / "local", tmp_path / "ray"
    predict_files(tmp_path / "in", outs[0], options)
    assert predict_files(tmp_path / "in", outs[1], options, work=ray_backend.on_ray()).counts["ok"] == len(names)
    assert everything(outs[1]) == everything(outs[0])
    assert len(everything(outs[1])) == 2 * len(names) + 2


def test_files_that_take_their_worker_with_them_are_failed_rows(
    images: Path, options: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without Ray: what comes back of each round is given by hand."""
    cluster = pytest.importorskip("cxrseg.inference.ray")
    rounds: list[int] = []

    def results(todo: Any, out: Path, segmenter: Any, options: Options, group: int) -> Iterator[Mapping[str, Any]]:
        rounds.append(group)
        for item in todo:
            lost = item.name == "even/4.png" or (group > 1 and item.name == "even/2.png")
            for _ in range(0 if lost else 2):  # each of the others even comes twice
                _, stamp, row = work.predict_one(item, out, segmenter, options)
                yield {"name": item.name, "stamp": stamp, "row": row}

    monkeypatch.setattr(ray_backend, "_results", results)
    names: list[str] = []

    def by_hand(*given: Any) -> Iterator[Any]:
        for done in cluster._every(*given):
            names.append(done[0].name)
            yield done

    result = predict_files(images, tmp_path, options, work=Work("ray", by_hand))
    assert rounds == [8, 1] and len(set(names)) == len(names) == FILES
    assert result.counts == {"ok": FILES - 2, "refused": 0, "failed": 2}
    rows = {row["path"]: row for row in json.loads((tmp_path / "statistics.json").read_text())}
    row = rows["even/4.png"]
    assert row["status"] == "failed" and "died" in row["reason"] and row["model"] == "hand"
    assert predict_files(images, tmp_path, options, resume=True).counts["ok"] == FILES - 1


def test_a_worker_answers_errors_that_end_the_run(
    images: Path, options: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = pytest.importorskip("cxrseg.inference.ray")
    settings = cluster.settings_of(options.segmenter(), options)
    item = Input(images / "even" / "0.png", "even/0.png", "even/0")
    batch = {"file": [json.dumps(ray_backend._as_json(item))]}

    def answer(**changed: Any) -> dict[str, Any]:
        (text,) = ray_backend._Worker(tmp_path, options, {**settings, **changed})(batch)["answer"]
        found: dict[str, Any] = json.loads(text)
        return found

    assert answer()["row"]["status"] == "ok" and (tmp_path / "even" / "0_lungs.png").exists()
    other = answer(computes_with="int1", cxrseg="0.0.1")
    assert other["error"] == "CxrsegError" and "not 0.0.1" in other["message"] and "not int1" in other["message"]

    def full(*given: Any) -> None:
        raise DiskFullError("no room left")

    monkeypatch.setattr(work, "predict_one", full)
    assert answer()["error"] == "DiskFullError" and "no room left" in answer()["message"]
    gone = ray_backend._Worker(tmp_path, Options((tmp_path / "gone.onnx",)), settings)
    assert json.loads(gone(batch)["answer"][0])["error"] == "ModelFileError"


def test_without_ray_its_extra_is_named(monkeypatch: pytest.MonkeyPatch, images: Path, options: Options) -> None:
    for name in [name for name in sys.modules if name == "ray" or name.startswith("ray.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ray", None)
    run = ["predict", "-i", str(images), "-o", "out", "-m", str(options.models[0]), "--engine", "ray"]
    found = CliRunner().invoke(main, run)
    assert found.exit_code == 3 and "pip install 'cxrseg[ray]'" in found.output
