"""For foreign_use.py: threads, forks and pickles, and consoles of other encodings, in processes of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from tempfile import mkdtemp

from foreign_images import FILM, png
from foreign_trials import NO, REFUSED, YES, Ended, Result, Trial, cxrseg, python, write_film, write_mask

BEGIN = """
import sys, warnings
warnings.simplefilter("ignore")  # Python's own, of forking a process that has threads
FILM = sys.argv[1]

def found(segmenter=None, film=None):
    import cxrseg
    done = (segmenter or cxrseg.Segmenter()).segment(film or FILM)
    return f"{done.status} {done.severity.infected_fraction:.3f}"

def once(_):
    return found(SEGMENTER)

def same(results):
    results = set(results)
    print(results.pop() if len(results) == 1 else f"differ: {results}")
"""

_SCRIPTS = {
    "ProcessPoolExecutor, spawn, a Segmenter as argument": """
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
import cxrseg
if __name__ == "__main__":
    segmenter = cxrseg.Segmenter(streams=0)
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        same(pool.map(found, [segmenter] * 3))
""",
    "Pool, forkserver, a Segmenter as argument": """
from multiprocessing import get_context
import cxrseg
if __name__ == "__main__":
    with get_context("forkserver").Pool(2) as pool:
        same(pool.map(found, [cxrseg.Segmenter(streams=0)] * 3))
""",
    "Pool, fork, a Segmenter as a global that was used": """
from multiprocessing import get_context
import cxrseg
SEGMENTER = cxrseg.Segmenter(streams=2)
once(0)
with get_context("fork").Pool(2) as pool:
    same(pool.map(once, range(3)))
""",
    "a fork while threads of the parent segment": """
import os, threading
import cxrseg
SEGMENTER = cxrseg.Segmenter()
threads = [threading.Thread(target=lambda: [once(0) for _ in range(4)]) for _ in range(3)]
[one.start() for one in threads]
child = os.fork()
if not child:
    print(once(0), flush=True)
    os._exit(0)
[one.join() for one in threads]
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
""",
    "a fork of a fork": """
import os
import cxrseg
SEGMENTER = cxrseg.Segmenter(streams=2)
once(0)
if child := os.fork():
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
once(0)
if child := os.fork():
    os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(once(0), flush=True)
os._exit(0)
""",
    "threads in a forked child": """
import os
from concurrent.futures import ThreadPoolExecutor
import cxrseg
SEGMENTER = cxrseg.Segmenter(streams=2)
once(0)
if child := os.fork():
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
with ThreadPoolExecutor(4) as pool:
    same(pool.map(once, range(6)))
sys.stdout.flush()
os._exit(0)
""",
    "asyncio.to_thread, a Segmenter made in each": """
import asyncio
async def main():
    same(await asyncio.gather(*(asyncio.to_thread(found) for _ in range(3))))
asyncio.run(main())
""",
    "threads that import by other names first": """
import threading
results = []
def one(): from cxrseg import Segmenter; results.append(found(Segmenter()))
def two(): import cxrseg; results.append(found(cxrseg.Segmenter()))
def three(): from cxrseg.inference.segmenter import Segmenter; results.append(found(Segmenter()))
threads = [threading.Thread(target=each) for each in (one, two, three)]
[each.start() for each in threads]; [each.join() for each in threads]
same(results) if len(results) == 3 else sys.exit("a thread ended without a result")
""",
    "joblib, processes of loky": """
from joblib import Parallel, delayed
import cxrseg
if __name__ == "__main__":
    same(Parallel(2)(delayed(found)(one) for one in [cxrseg.Segmenter(streams=0)] * 3))
""",
    "copy.deepcopy and copy.copy": """
import copy
import cxrseg
segmenter = cxrseg.Segmenter()
same(found(one) for one in (segmenter, copy.deepcopy(segmenter), copy.copy(segmenter)))
""",
    "cloudpickle, all protocols of pickle": """
import pickle, cloudpickle
import cxrseg
segmenter = cxrseg.Segmenter()
packed = [pickle.dumps(segmenter, protocol) for protocol in range(6)] + [cloudpickle.dumps(segmenter)]
same(found(pickle.loads(one)) for one in packed)
""",
    "pickle of a Segmenter that shares a loaded model": """
import pickle
import cxrseg
SEGMENTER = cxrseg.Segmenter(cxrseg.Segmenter().engines)
print(found(pickle.loads(pickle.dumps(SEGMENTER))))
""",
    "pickle of a Prediction and a Radiograph": """
import pickle
import cxrseg
film = pickle.loads(pickle.dumps(cxrseg.read_radiograph(FILM)))
done = pickle.loads(pickle.dumps(cxrseg.Segmenter().segment(film)))
print(f"{done.status} {done.severity.infected_fraction:.3f}")
""",
    "an error in a process pool": """
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
import cxrseg
def fail(number):
    from cxrseg.errors import DatasetError
    if number:
        raise DatasetError("expected pairs", ["a", "b"])
    return cxrseg.read_radiograph("missing.png")
if __name__ == "__main__":
    with ProcessPoolExecutor(1, get_context("fork")) as pool:
        for number in (0, 1):
            try:
                pool.submit(fail, number).result()
            except cxrseg.CxrsegError as error:
                last = error
    print(found() if last.faults == ("a", "b") else last)
""",
    "a DataLoader with two workers": """
import torch
import cxrseg
SEGMENTER = cxrseg.Segmenter()
once(0)
class Films(torch.utils.data.Dataset):
    def __len__(self): return 4
    def __getitem__(self, place): return once(place)
same(one for batch in torch.utils.data.DataLoader(Films(), num_workers=2) for one in batch)
""",
    "daemon threads at the end of the program": """
import threading
import cxrseg
SEGMENTER = cxrseg.Segmenter(streams=2)
print(once(0), flush=True)
[threading.Thread(target=lambda: [once(0) for _ in range(50)], daemon=True).start() for _ in range(4)]
""",
}


@cache
def _film() -> tuple[Path, str]:
    """A film, and what one process finds on it."""
    path = Path(mkdtemp()) / "film.png"
    png(FILM)(path)
    script = path.with_name("alone.py")
    script.write_text(f"{BEGIN}\nprint(found())\n")
    return path, python(script, path).out.strip()


def _script(text: str, folder: Path) -> Result:
    film, right = _film()
    (folder / "script.py").write_text(BEGIN + text)
    done = python(folder / "script.py", film)
    came = done.broken or done.out.strip() or done.last
    if not done.broken and done.out.strip() == right and right:
        return came, YES
    return came, REFUSED if "cxrseg.errors" in done.err and "cannot be pickled" in done.err else NO


def processes() -> Iterator[Trial]:
    """First use, forks and pickles in ways that neither the issue nor the tests name."""
    for name, text in _SCRIPTS.items():
        yield Trial("threads, forks, pickles", name, "as in one process", partial(_script, text))


def _console(
    make: Callable[[Path], list[object]],
    environment: Mapping[str, str],
    expected: Callable[[Path, Ended], bool],
    folder: Path,
) -> Result:
    done = cxrseg(*make(folder), environment=environment, folder=folder)
    came = done.broken or f"exit {done.code}: {(done.last or done.out.strip().splitlines()[-1:] or [''])[:100]}"
    return came, NO if done.broken else YES if expected(folder, done) else NO


def _named(name: str, folder: Path) -> Path:
    path = folder / name
    png(FILM)(path)
    return path


def _list(encoding: str, folder: Path, quote: str = "") -> list[object]:
    film = _named("łódź 1.png", folder)
    (folder / "list.txt").write_bytes(f"{quote}{film}{quote}\r\n".encode(encoding))
    return ["predict", "@list.txt", "-o", "out"]


def _dataset(folder: Path) -> list[object]:
    for number, name in enumerate(("ż", "ź", "出力")):
        write_film(folder / f"dane ł/images/{name}.png", number)
        write_mask(folder / f"dane ł/masks/{name}.png", number)
    return ["data", "check", "dane ł", "-o", "wyniki ł"]


def _rows(folder: Path, ended: Ended) -> bool:
    table = folder / "out/statistics.csv"
    return ended.code == 0 and table.is_file() and "ok" in table.read_text(encoding="utf-8")


def consoles() -> Iterator[Trial]:
    """Consoles and lists in encodings that neither the issue nor the tests name."""
    kind = "consoles and encodings"
    plain = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C", "LANG": "C"}

    def predict(name: str) -> Callable[[Path], list[object]]:
        return lambda folder: ["predict", _named(name, folder), "-o", "out", "-p", "-s", "-v"]

    for encoding in ("ascii", "cp437", "cp932", "koi8-r", "latin-1:strict", "utf-16", "cp1252:strict"):
        environment = {"PYTHONIOENCODING": encoding}
        yield Trial(
            kind, f"{encoding}: predict", "a table", partial(_console, predict("łódź ü.png"), environment, _rows)
        )
    yield Trial(kind, "locale C: predict", "a table", partial(_console, predict("łódź 出力.png"), plain, _rows))
    surrogate = "film\udcff.png"
    for name, environment in (("cp1252", {"PYTHONIOENCODING": "cp1252"}), ("UTF-8", {})):
        yield Trial(
            kind, f"{name}: a name of bytes", "a table", partial(_console, predict(surrogate), environment, _rows)
        )
    ascii_only = {"PYTHONIOENCODING": "ascii"}
    yield Trial(kind, "ascii: data check", "a page", partial(_console, _dataset, ascii_only, _has_page))
    yield Trial(kind, "locale C: data check", "a page", partial(_console, _dataset, plain, _has_page))
    help_texts = ([], ["train"], ["predict"], ["data", "fetch"], ["recipes"])
    for words in help_texts:
        make = lambda _, words=words: [*words, "--help"]  # noqa: E731
        name = f"ascii: {' '.join(['cxrseg', *words])} --help"
        yield Trial(kind, name, "the help", partial(_console, make, ascii_only, lambda _, ended: ended.code == 0))
    missing = lambda _: ["info", "модель.onnx"]  # noqa: E731
    yield Trial(kind, "cp1252: a missing модель.onnx", "exit 3", partial(_console, missing, ascii_only, _failed))
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        make = partial(_list, encoding)
        yield Trial(kind, f"@list.txt in {encoding}", "a table", partial(_console, make, {}, _rows))
    make = partial(_list, "utf-8", quote='"')
    yield Trial(kind, "@list.txt with quoted paths", "a table", partial(_console, make, {}, _rows))


def _has_page(folder: Path, _: Ended) -> bool:
    return any((folder / "wyniki ł").glob("*.html"))


def _failed(_: Path, ended: Ended) -> bool:
    return ended.code == 3
