"""A segmenter in pools of threads, in forked children, and pickled. Each in a process of its own, since only the first
use can show these faults."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from cxrseg.errors import ModelFileError
from cxrseg.inference.segmenter import Segmenter
from cxrseg.io.radiograph import Radiograph
from made_dicom import LOSSLESS, PIXELS, j2k, make, saved
from made_models import hand_model

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
CHEST = "pixels = np.linspace(0, 1, 64 * 64, dtype=np.float32).reshape(64, 64)"


def run(script: str, model: Path) -> str:
    """What a new Python process prints; a hang is ended after a minute."""
    code = f"import os, sys\nimport numpy as np\nmodel = sys.argv[1]\n{CHEST}\n{script}"
    done = subprocess.run(
        [sys.executable, "-c", code, str(model)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0 and not done.stderr, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("make", ["cxrseg.Segmenter(model, input_check=False)", "cxrseg"])
def test_the_first_use_can_be_in_eight_threads_at_once(tmp_path: Path, make: str) -> None:
    arguments = ", model, input_check=False" if make == "cxrseg" else ""
    script = f"""
import threading
from concurrent.futures import ThreadPoolExecutor
import cxrseg
together = threading.Barrier(8)
def first(_):
    together.wait()
    return {make}.segment(pixels{arguments}).status
with ThreadPoolExecutor(8) as pool:
    print(set(pool.map(first, range(8))))
"""
    assert run(script, hand_model(tmp_path / "model.onnx")) == "{'ok'}"


@needs_fork
def test_a_forked_child_finds_what_its_parent_finds(tmp_path: Path) -> None:
    script = """
import signal, warnings
import cxrseg
warnings.simplefilter("ignore")  # Python's own, of forking a process that has threads
segmenter = cxrseg.Segmenter(model, input_check=False, streams=2)
found = segmenter.segment(pixels).probabilities["infection"]
if child := os.fork():
    print(os.waitpid(child, 0)[1])
else:
    signal.alarm(60)
    same = np.array_equal(segmenter.segment(pixels).probabilities["infection"], found)
    os._exit(0 if same else 1)
"""
    assert run(script, hand_model(tmp_path / "model.onnx")) == "0"


FORK = """
import importlib.abc, signal, threading, time, warnings
warnings.simplefilter("ignore")  # Python's own, of forking a process that has threads
began = threading.Event()

def pause():
    began.set()
    time.sleep(0.5)

def in_thread(work, daemon=False):
    threading.Thread(target=work, daemon=daemon).start()
    assert began.wait(60)

def forked(work):
    if child := os.fork():
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    else:
        signal.alarm(20)
        os._exit(0 if work() else 1)
"""


@needs_fork
@pytest.mark.parametrize(
    ("film", "module"),
    [
        ("image.dcm", "pydicom"),
        ("image.dcm", "imagecodecs"),
        ("image.dcm", "imagecodecs._jpeg2k"),
        ("image.tif", "tifffile"),
    ],
)
def test_a_fork_waits_for_a_thread_that_imports_a_reader(tmp_path: Path, film: str, module: str) -> None:
    saved(tmp_path, make(syntax=".4.90", frame=j2k(PIXELS)))
    tifffile.imwrite(tmp_path / "image.tif", PIXELS)
    script = f"""
from cxrseg.io.read import read_radiograph
class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == {module!r} and not began.is_set():
            pause()
sys.meta_path.insert(0, Finder())
def read():
    return read_radiograph({str(tmp_path / film)!r}).pixels.shape == {PIXELS.shape}
in_thread(read)
forked(read)
"""
    assert run(FORK + script, tmp_path) == "0"


def test_what_a_first_use_imports_is_imported_under_the_lock(tmp_path: Path) -> None:
    for name in ("image.png", "image.jpg", "image.bmp", "image.webp"):
        Image.fromarray((PIXELS >> 4).astype(np.uint8)).save(tmp_path / name)
    for compression in (None, "lzw", "zlib", "zstd", "jpeg2000"):
        settings = {"predictor": True} if compression == "lzw" else {}
        tifffile.imwrite(tmp_path / f"{compression}.tif", PIXELS, compression=compression, **settings)
    saved(tmp_path, make(), "plain.dcm")
    for name, (syntax, encode) in LOSSLESS.items():
        saved(tmp_path, make(syntax=syntax, frame=encode(PIXELS)), f"{name}.dcm")
    hand_model(tmp_path / "model.onnx")
    script = f"""
import importlib.abc
from pathlib import Path
import cxrseg
from cxrseg.loading import LOADING
from cxrseg.model_file import shipped_model
late = []
class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if not LOADING._is_owned():
            late.append(name)
sys.meta_path.insert(0, Finder())
shipped_model()
for path in sorted(Path({str(tmp_path)!r}).iterdir()):
    if path.suffix != ".onnx":
        assert cxrseg.read_radiograph(path).pixels.shape == {PIXELS.shape}
found = cxrseg.segment(pixels, model, input_check=False)
found.severity, found.overlay(), found._repr_html_(), str(found)
print(late)
"""
    assert run(script, tmp_path / "model.onnx") == "[]"


SEGMENTER = """
import cxrseg
segmenter = cxrseg.Segmenter(model, input_check=False)
runner, left = segmenter.engines[0]._runner, []
class Slow:
    def run(self, given):
        pause()
        found = runner.run(given)
        left.append("left")
        return found
segmenter.engines[0]._runner = Slow()
in_thread(lambda: segmenter.segment(pixels), daemon=True)
"""


@needs_fork
def test_a_fork_waits_for_a_thread_that_computes(tmp_path: Path) -> None:
    script = 'forked(lambda: left == ["left"] and segmenter.segment(pixels).status == "ok")'
    assert run(FORK + SEGMENTER + script, hand_model(tmp_path / "model.onnx")) == "0"


def test_the_end_of_the_program_waits_for_a_daemon_thread_that_computes(tmp_path: Path) -> None:
    script = "import atexit\natexit.register(lambda: print(left))\n"  # the last one, since it is registered first
    assert run(FORK + script + SEGMENTER, hand_model(tmp_path / "model.onnx")) == "['left']"


@needs_fork
def test_a_fork_while_another_thread_measures_a_prediction(tmp_path: Path) -> None:
    script = """
import cxrseg
from cxrseg.inference import prediction
first, second = (cxrseg.segment(pixels, model, input_check=False) for _ in range(2))
measure = prediction.measure_severity
def slow(*given, **named):
    if not began.is_set():
        pause()
    return measure(*given, **named)
prediction.measure_severity = slow
in_thread(lambda: first.severity)
forked(lambda: second.severity is not None)
"""
    assert run(FORK + script, hand_model(tmp_path / "model.onnx")) == "0"


def test_a_pickled_segmenter_loads_the_same_model_with_the_same_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand_model(tmp_path / "model.onnx")
    monkeypatch.chdir(tmp_path)
    segmenter = Segmenter("model.onnx", 0.3, input_check=False, tta=True)
    data = pickle.dumps(segmenter)
    monkeypatch.chdir("/")
    loaded = pickle.loads(data)
    image = Radiograph(np.random.default_rng(0).random((64, 64), np.float32))
    assert loaded.thresholds == segmenter.thresholds
    expected = segmenter.segment(image).probabilities["infection"]
    np.testing.assert_array_equal(loaded.segment(image).probabilities["infection"], expected)


def test_segmenters_that_share_a_loaded_model_are_pickled(tmp_path: Path) -> None:
    engines = Segmenter(hand_model(tmp_path / "model.onnx")).engines
    segmenter = Segmenter(engines, input_check=False)
    image = Radiograph(np.random.default_rng(0).random((64, 64), np.float32))
    loaded = pickle.loads(pickle.dumps(segmenter))
    expected = segmenter.segment(image).probabilities["infection"]
    np.testing.assert_array_equal(loaded.segment(image).probabilities["infection"], expected)
    data = pickle.dumps(engines[0])
    hand_model(tmp_path / "model.onnx", infected_above=0.6)
    with pytest.raises(ModelFileError, match="has changed since the model was pickled"):
        pickle.loads(data)


def test_a_pickled_segmenter_whose_model_file_changed_is_refused(tmp_path: Path) -> None:
    path = hand_model(tmp_path / "model.onnx")
    data = pickle.dumps(Segmenter(path))
    hand_model(path, infected_above=0.6)
    with pytest.raises(ModelFileError, match=r"model\.onnx to be those of the pickled Segmenter"):
        pickle.loads(data)
