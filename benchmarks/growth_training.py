"""How the training grows with threads and processes on one machine: images a second and Val Dice, one row for each run.

    python benchmarks/growth_training.py --dataset covid-qu-ex [--recipe cxrseg-128] [--train 960] [--val 480]
        [--epochs 4] [--runs 1x1 1x2 2x1] [--seeds 0] [--set optimiser.precision=float32 ...]

A run 'PxT' is `cxrseg train` with P processes (gloo) of T threads each, on the CPU. All runs have the same images: the
first `--train` of Train and the first `--val` of Val after mixing the list, with one seed. A step has the recipe's
batch over all processes. The rate is that of the epochs after the first, with their validation, from history.csv; the
Dice is that of the best epoch on these images of Val.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from cxrseg.data.layout import open_dataset
from cxrseg.io.write import write_csv


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--recipe", default="cxrseg-128")
    parser.add_argument("--train", type=int, default=960)
    parser.add_argument("--val", type=int, default=480)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--runs", nargs="+", default=["1x1", "1x2", "2x1"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--set", nargs="+", default=[], dest="settings")
    arguments = parser.parse_args()
    print(f"{arguments.recipe}, {arguments.train} images of Train, {arguments.val} of Val, {arguments.epochs} epochs")
    print(
        "| processes x threads | seed | seconds of each epoch | images/s | val Dice | val loss | load |\n|" + "---|" * 7
    )
    with tempfile.TemporaryDirectory() as folder:
        films = Path(folder) / "films.csv"
        _write_films(films, arguments.dataset, {"train": arguments.train, "val": arguments.val})
        for seed in arguments.seeds:
            for run in arguments.runs:
                settings = [f"optimiser.epochs={arguments.epochs}", f"seed={seed}", *arguments.settings]
                rows = _train(Path(folder) / f"{run}-{seed}", films, arguments.recipe, run, settings)
                seconds = [float(row["seconds"]) for row in rows]
                rate = arguments.train * len(seconds[1:]) / sum(seconds[1:])
                best = max(rows, key=lambda row: float(row["val_dice"]))
                figures = f"{rate:.1f} | {float(best['val_dice']):.4f} | {float(best['val_loss']):.4f}"
                times = ", ".join(f"{one:.0f}" for one in seconds)
                print(f"| {run} | {seed} | {times} | {figures} | {os.getloadavg()[0]:.1f} |", flush=True)


def _write_films(path: Path, dataset: Path, counts: dict[str, int]) -> None:
    """A table of some images of each split, drawn with one seed."""
    samples = list(open_dataset(dataset).samples)
    random.Random(0).shuffle(samples)
    rows: list[dict[str, object]] = []
    for split, count in counts.items():
        chosen = [sample for sample in samples if sample.split == split][:count]
        rows += [
            {"image": one.image, **one.masks, "split": split, "category": one.category, "name": one.name}
            for one in chosen
        ]
    write_csv(path, ["image", "infection", "lungs", "split", "category", "name"], rows)


def _train(out: Path, films: Path, recipe: str, run: str, settings: Sequence[str]) -> list[dict[str, str]]:
    """The rows of history.csv of one run."""
    processes, _, threads = run.partition("x")
    command = [sys.executable, "-m", "cxrseg", "train", recipe, "--dataset", str(films), "-o", str(out), "-d", "cpu"]
    command += ["--processes", processes, "--quiet", *(part for one in settings for part in ("-s", one))]
    # MKL and OpenMP take the number of threads from here, in each of the processes.
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode != 0:
        sys.exit(done.stdout + done.stderr)
    with (out / "history.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    main()
