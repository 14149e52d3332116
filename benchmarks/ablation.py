"""The effect of each setting of a recipe: trains it with one change at a time, and prints a table.

    python benchmarks/ablation.py --dataset covid-qu-ex -o ablation [--base cxrseg-128] [--set data.size=96 ...]
        [--rows 'loss: focal' ...] [--seeds 0 1 2] [--val-fraction 0.2] [--jobs 2] [--threads 1] [--device cpu]

Every row is trained with the function of `cxrseg train` and evaluated with that of `cxrseg evaluate` on images held out
of Train (the same for all rows), which also select the best epoch. Val is not used, so that decisions by this table do
not depend on it; models for --distill-from must not have been trained on these images. Finished rows are not run again,
so a stopped run can be continued. The table of all finished rows is written as table.md and table.csv; differences to
the base are of the means over seeds.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from cxrseg.data.layout import open_dataset
from cxrseg.data.sample import Dataset
from cxrseg.data.splits import hold_out
from cxrseg.io.write import write_bytes, write_csv, write_json

_AS_IT_COMES = ("network.decoder_stride=1", "network.decoder_channels=null")

ROWS: dict[str, list[str]] = {
    "base": [],
    "encoder: EfficientNet-Lite1": ["network.encoder=tu-tf_efficientnet_lite1"],
    "encoder: EfficientNet-Lite2": ["network.encoder=tu-tf_efficientnet_lite2"],
    "encoder: not pretrained": ["network.pretrained=false"],
    "decoder: U-Net to full resolution": ["network.decoder_stride=1"],
    "decoder: U-Net to a quarter": ["network.decoder_stride=4"],
    "decoder: U-Net, half as wide": ["network.decoder_channels=[64, 32, 24, 16, 8]"],
    "decoder: U-Net, twice as wide": ["network.decoder_channels=[256, 128, 96, 64, 32]"],
    "decoder: U-Net++": ["network.name=smp/unetplusplus", "network.decoder_stride=1"],
    "decoder: FPN": ["network.name=smp/fpn", *_AS_IT_COMES],
    "decoder: MAnet": ["network.name=smp/manet", "network.decoder_stride=1"],
    "decoder: SegFormer-like": ["network.name=smp/segformer", *_AS_IT_COMES],
    "decoder: UPerNet-like": ["network.name=smp/upernet", *_AS_IT_COMES],
    "decoder: DeepLabV3+": ["network.name=smp/deeplabv3plus", *_AS_IT_COMES],
    "network: infection not kept within lungs": ["network.within_lungs=false"],
    "network: no classification head": ["network.classification_head=false"],
    "targets: infection alone": [
        "network.within_lungs=false",
        "data.targets=[infection]",
    ],
    "data: COVID-19 images alone": ["data.categories=[COVID-19]", "network.classification_head=false"],
    "data: Non-COVID is background": ["data.non_covid=background"],
    "loss: BCE": ["loss.name=bce"],
    "loss: Dice": ["loss.name=dice"],
    "loss: focal": ["loss.name=focal"],
    "loss: Dice + focal": ["loss.name=dice+focal"],
    "augment: none": [
        *("augment.flip=0", "augment.rotation=0", "augment.scale=0", "augment.shift=0"),
        *("augment.gamma=0", "augment.contrast=0", "augment.brightness=0"),
    ],
    "augment: place alone": ["augment.gamma=0", "augment.contrast=0", "augment.brightness=0"],
    "augment: exposure alone": ["augment.flip=0", "augment.rotation=0", "augment.scale=0", "augment.shift=0"],
    "augment: half the movement, no flip": [
        "augment.flip=0",
        "augment.rotation=6",
        "augment.scale=0.06",
        "augment.shift=0.03",
    ],
    "augment: polarity too": ["augment.invert=0.3"],
    "augment: noise and blur too": ["augment.noise=0.03", "augment.blur=1"],
    "augment: cutout too": ["augment.cutout=0.5"],
    "batch: 8": ["optimiser.batch_size=8"],
    "batch: 32": ["optimiser.batch_size=32"],
    "rate: 3e-4": ["optimiser.learning_rate=3e-4"],
    "rate: 3e-3": ["optimiser.learning_rate=3e-3"],
    "EMA: off": ["optimiser.ema_decay=null"],
    "SGD, as nnU-Net": ["optimiser.name=sgd", "optimiser.learning_rate=0.01", "optimiser.weight_decay=3e-5"],
}
"""Row to its one change of the base; more than one setting only where one needs the other."""

COLUMNS = {
    "dice": ("Dice", 3),
    "iou": ("IoU", 3),
    "rmse": ("RMSE", 4),
    "nsd2": ("NSD, 2 px", 3),
    "normal_marked": ("Normal over 1%", 3),
    "lungs_dice": ("lungs Dice", 3),
    "fraction_error": ("infected fraction, MAE", 3),
    "accuracy": ("category", 3),
}


def run_row(arguments: argparse.Namespace, name: str, seed: int, folder: Path) -> dict[str, Any]:
    """Train and evaluate one row with one seed, in its own process."""
    import torch

    from cxrseg.evaluation.evaluate import evaluate
    from cxrseg.training.fit import train
    from cxrseg.training.recipe_file import load_recipe

    torch.set_num_threads(arguments.threads)
    recipe = load_recipe(arguments.base, [*arguments.settings, *ROWS[name], f"seed={seed}"])
    dataset = data_of(arguments)
    done = train(
        recipe, dataset, folder / "run", device=arguments.device, resume=True, distill_from=arguments.distill_from
    )
    if done.interrupted:
        raise KeyboardInterrupt
    summary = evaluate(done.folder.model, dataset.select("val")).summary()
    figures = {
        "epochs": len(done.history),
        "best_epoch": done.best["epoch"],
        "seconds": sum(row["seconds"] or 0 for row in done.history),
        "accuracy": done.best.get("val_accuracy"),
        **figures_of(summary),
    }
    write_json(folder / "figures.json", figures)
    return figures


def figures_of(summary: Mapping[str, Any]) -> dict[str, float | None]:
    """The figures of the table from the summary of an evaluation; of the COVID-19 images unless named otherwise."""
    infection = summary["infection"]
    covid = infection["by_category"]["COVID-19"]
    severity = summary["severity"]
    return {
        "dice": covid["infected_per_image"]["dice"]["mean"],
        "iou": covid["infected_per_image"]["iou"]["mean"],
        "nsd2": covid["infected_per_image"]["nsd2"]["mean"],
        "rmse": covid["rmse"]["value"],
        "normal_marked": infection["by_category"]["Normal"]["uninfected_marked"]["fraction"],
        "lungs_dice": summary["lungs"]["infected_per_image"]["dice"]["mean"] if "lungs" in summary else None,
        "fraction_error": severity["infected"]["mean_absolute_error"]["mean"] if severity else None,
    }


def data_of(arguments: argparse.Namespace) -> Dataset:
    """Train, with a fraction of it held out as 'val'."""
    return hold_out(open_dataset(arguments.dataset).select("train"), "val", arguments.val_fraction)


def table(out: Path) -> list[list[str]]:
    """Headings, then all rows that are done."""
    done = {
        name: [json.loads(path.read_text()) for path in sorted(out.glob(f"{slug(name)}/*/figures.json"))]
        for name in ROWS
    }
    base = done["base"]
    rows = [["one change", "seeds", *(title for title, _ in COLUMNS.values()), "Dice against base"]]
    for name, runs in done.items():
        if runs:
            cells = [cell([run[key] for run in runs], digits) for key, (_, digits) in COLUMNS.items()]
            gain = f"{mean(runs, 'dice') - mean(base, 'dice'):+.3f}" if base and name != "base" else ""
            rows.append([name, str(len(runs)), *cells, gain])
    return rows


def write_tables(rows: Sequence[Sequence[str]], out: Path) -> None:
    """Print the table as Markdown, and write it as table.md and, for `cxrseg report --ablation`, as table.csv."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    lines.insert(1, "|---" * len(rows[0]) + "|")
    write_bytes(out / "table.md", ("\n".join(lines) + "\n").encode())
    write_csv(out / "table.csv", rows[0], [dict(zip(rows[0], row, strict=True)) for row in rows[1:]])
    print(*lines, sep="\n")


def mean(runs: Sequence[Mapping[str, float]], key: str) -> float:
    """Over seeds."""
    return statistics.fmean(run[key] for run in runs)


def cell(values: Sequence[float | None], digits: int) -> str:
    """Mean over seeds, with their standard deviation where there are several."""
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    spread = f" ± {statistics.stdev(known):.{digits}f}" if len(known) > 1 else ""
    return f"{statistics.fmean(known):.{digits}f}{spread}"


def slug(name: str) -> str:
    """A row's folder."""
    return "".join(letter if letter.isalnum() else "-" for letter in name)


def check_same(arguments: argparse.Namespace) -> None:
    """Exit where OUT has rows of another base or of other images."""
    made_of = {
        "base": arguments.base,
        "set": arguments.settings,
        "val_fraction": arguments.val_fraction,
        "distill_from": [str(run) for run in arguments.distill_from],
        "images": data_of(arguments).fingerprint,
    }
    path = arguments.out / "ablation.json"
    if not path.exists():
        write_json(path, made_of)
    elif (before := json.loads(path.read_text(encoding="utf-8"))) != made_of:
        raise SystemExit(f"{arguments.out} has rows with {before}, now {made_of}; name another folder with -o")


def run_rows(arguments: argparse.Namespace, waiting: Sequence[tuple[str, int, Path]]) -> int:
    """Run what is missing, some rows at a time, and say how each ended; returns how many failed."""
    faults = 0
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(arguments.jobs, spawn, max_tasks_per_child=1)
    try:
        runs = {
            pool.submit(run_row, arguments, name, seed, folder): f"{name}, seed {seed}"
            for name, seed, folder in waiting
        }
        for run in as_completed(runs):
            fault = run.exception()
            faults += fault is not None
            print(f"{runs[run]}: {fault or 'Dice {dice:.4f}'.format(**run.result())}", flush=True)
    finally:
        pool.shutdown(cancel_futures=True)
    return faults


def main() -> None:
    """Read the command line, run the rows that are missing, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--base", default="cxrseg-128")
    parser.add_argument("--set", dest="settings", nargs="*", default=[])
    parser.add_argument("--rows", nargs="*", choices=ROWS, default=list(ROWS))
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    parser.add_argument(
        "--distill-from", nargs="*", type=Path, default=[], help="run folders that every row is distilled from"
    )
    parser.add_argument("--val-fraction", type=float, default=0.2)
    parser.add_argument("--jobs", type=int, default=1, help="rows at a time")
    parser.add_argument("--threads", type=int, default=1, help="threads of each")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    waiting = [
        (name, seed, folder)
        for seed in arguments.seeds
        for name in arguments.rows
        if not ((folder := arguments.out / slug(name) / str(seed)) / "figures.json").exists()
    ]
    check_same(arguments)
    faults = run_rows(arguments, waiting)
    write_tables(table(arguments.out), arguments.out)
    if faults:
        raise SystemExit(f"{faults} rows failed, see above")


if __name__ == "__main__":
    main()
