"""How `cxrseg predict` grows with the workers of a Ray cluster on one machine, beside the local engine.

    python benchmarks/growth_ray.py --films FOLDER [--times 1] [--workers 1 2 4] [-m MODEL]

For each number of workers, a cluster of so many processors is started on this machine, whatever the machine has, and
the images of the folder are predicted on it as `--engine ray` does; `--times` makes hard links of them, so that each is
predicted so many times. 'start' is the time until the cluster is
there, and 'first row' from then to the first result; 'files/s, all' counts from there on to the end of the command,
'running' from a quarter of the files to the last: what a long run would come to. Each worker has one thread.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cxrseg.inference.files import Options, predict_files
from cxrseg.inference.ray import on_ray
from many_files import link

_STORE = 2**31


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--films", type=Path, required=True)
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("--workers", nargs="+", type=int, default=[1, 2, 4])
    parser.add_argument("-m", "--model", type=Path)
    parser.add_argument("--folder", type=Path, help="where the links are made: on the disk of the films")
    arguments = parser.parse_args()
    images = sorted(path for path in arguments.films.iterdir() if path.is_file())
    options = Options((arguments.model,) if arguments.model else ())
    print("| engine | files | start | first row | files/s, all | files/s, running | load |\n|" + "---|" * 7)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        films = Path(folder) / "films"
        link(images, films, arguments.times * len(images))
        print(_row("local", films, Path(folder) / "local", options, 0), flush=True)
        for workers in arguments.workers:
            name = f"Ray, {workers} worker{'s' * (workers > 1)}"
            print(_row(name, films, Path(folder) / str(workers), options, workers), flush=True)


def _row(name: str, films: Path, out: Path, options: Options, workers: int) -> str:
    began, moments = time.perf_counter(), list[float]()
    work = None
    if workers:
        work = on_ray()  # what it sets in the environment comes before Ray starts
        import ray

        ray.init(
            "local",
            num_cpus=workers,
            include_dashboard=False,
            object_store_memory=_STORE,
            log_to_driver=False,
            logging_level="ERROR",
        )
    started = time.perf_counter()

    def see(row: Mapping[str, Any], done: int, total: int) -> None:
        moments.append(time.perf_counter())

    result = predict_files(films, out, options, on_row=see, work=work)
    ended = time.perf_counter()
    if workers:
        ray.shutdown()
    count, quarter = len(moments), len(moments) // 4
    assert sum(result.counts.values()) == count
    running = (count - 1 - quarter) / (moments[-1] - moments[quarter])
    seconds = f"{started - began:.1f} s | {moments[0] - started:.1f} s"
    return (
        f"| {name} | {count} | {seconds} | {count / (ended - started):.1f} | {running:.1f} | {os.getloadavg()[0]:.1f} |"
    )


if __name__ == "__main__":
    main()
