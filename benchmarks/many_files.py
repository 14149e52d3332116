"""Speed and memory of `cxrseg predict` on many files: whether memory stays flat, and what a million films would take.

    python benchmarks/many_files.py --dataset COVID-QU-EX [--count 100000] [--split val]
    python benchmarks/many_files.py --films FOLDER [--count 100000]

The files are hard links of the images of a split, or of the files in a folder, each under a name of its own, so every
file is read, segmented and written by itself. Memory is that of the command and its threads (resident, in MB), read
every second.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from cxrseg.data.layout import open_dataset


def link(images: list[Path], folder: Path, count: int) -> None:
    """Make `count` files in folders of 1,000, in the order of the images, again and again."""
    for number in range(count):
        place = folder / f"{number // 1000:04d}"
        place.mkdir(parents=True, exist_ok=True)
        image = images[number % len(images)]
        os.link(image, place / f"{number}{image.suffix}")


def watched(command: list[str]) -> tuple[float, list[float]]:
    """Seconds that a command takes, and the memory of all its processes in MB at each second."""
    began, memory = time.perf_counter(), []
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        seen = psutil.Process(process.pid)
        while process.poll() is None:
            try:
                memory.append(sum(one.memory_info().rss for one in (seen, *seen.children(recursive=True))) / 1e6)
            except psutil.NoSuchProcess:
                break
            time.sleep(1)
    if process.returncode not in (0, 1):  # 1: some film was refused
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return time.perf_counter() - began, memory


def main() -> None:
    """Read the command line, measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--dataset", type=Path)
    source.add_argument("--films", type=Path)
    parser.add_argument("--split", default="val")
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, help="where the links are made: on the disk of the dataset")
    given = parser.parse_args()
    if given.films:
        images = sorted(path for path in given.films.iterdir() if path.is_file())
    else:
        samples = open_dataset(given.dataset).select(given.split).samples
        images = [sample.image for sample in samples if isinstance(sample.image, Path)]
    with tempfile.TemporaryDirectory(dir=given.folder) as temporary:
        films, out = Path(temporary) / "films", Path(temporary) / "results"
        link(images, films, given.count)
        seconds, memory = watched([sys.executable, "-m", "cxrseg", "predict", str(films), "-o", str(out), "--quiet"])
        rows = sum(1 for _ in (out / "statistics.csv").open(encoding="utf-8")) - 1
    print(f"{given.count} files, {rows} rows, {seconds:.0f} s, {given.count / seconds:.1f} files/s")
    print(f"a million at this rate: {1e6 / given.count * seconds / 3600:.1f} hours")
    print("memory after a tenth, two tenths, ... of the time, MB:")
    places = [round((len(memory) - 1) * part / 10) for part in range(1, 11)]
    print("  ".join(f"{memory[place]:.0f}" for place in places))


if __name__ == "__main__":
    main()
