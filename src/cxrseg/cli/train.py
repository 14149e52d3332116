"""The commands that train: `demo`, `train` and `recipes`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cxrseg.cli.options import (
    FOLDER,
    PATH,
    copies_option,
    dataset_option,
    exclude_option,
    mask_values_option,
    open_chosen,
    value_range_option,
)
from cxrseg.cli.shared import INTERRUPTED, NOTICE, command

if TYPE_CHECKING:
    from cxrseg.data.sample import Dataset
    from cxrseg.training.plan import Plan

__all__ = ["demo", "fit_check", "recipes", "train"]


@command("cxrseg demo")
@click.option("-o", "--out", type=FOLDER, default="demo", show_default=True, help="Output folder.")
def demo(out: Path) -> None:
    """Train and evaluate on synthetic X-rays, and draw figures, in about two minutes."""
    from cxrseg.demo import run_demo

    done = run_demo(out, progress=sys.stderr.isatty(), on_step=lambda step: click.echo(f"{step} ..."))
    width = max(len(name) for name, _ in done.table())
    click.echo()
    for name, value in done.table():
        click.echo(f"  {name:<{width}}  {value:>6}")
    click.echo(f"\nfigures     {done.run.folder.figures}\nmodel file  {done.run.folder.model}")
    click.echo(f"scores      {out / 'evaluation' / 'scores.csv'}\n{NOTICE}")


@command("cxrseg train baseline-unet-small --dataset covid-qu-ex -o runs/unet")
@click.argument("recipe")
@dataset_option
@value_range_option
@mask_values_option
@exclude_option
@copies_option
@click.option("-o", "--out", type=FOLDER, default=None, help="The run folder.  [default: runs/RECIPE]")
@click.option("-s", "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a setting of the recipe.")
@click.option("--resume", is_flag=True, help="Continue the run in the run folder.")
@click.option(
    "--init-from",
    type=PATH,
    multiple=True,
    help="Start with the weights of this run folder, checkpoint or model file; of several, with their mean.",
)
@click.option(
    "--distill-from",
    type=FOLDER,
    multiple=True,
    help="Learn the probabilities of this finished run as well; of several runs, their mean.",
)
@click.option(
    "--val-fraction",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    metavar="FRACTION",
    help="Use this fraction of the training images as the split 'val', where the dataset has none; images of one "
    "patient, and copies, stay together.",
)
@click.option(
    "--folds",
    type=click.IntRange(2),
    metavar="N",
    help="Cross-validation: train N models, each without another Nth of the images of 'train' and 'val', and evaluate "
    "each on these.",
)
@click.option("-d", "--device", default="auto", show_default=True, help="auto, cpu, gpu or gpu:N.")
@click.option(
    "--processes", type=click.IntRange(1), default=1, show_default=True, help="Number of GPUs, or of CPU processes."
)
@click.option("-q", "--quiet", is_flag=True, help="Print only the result.")
def train(
    recipe: str,
    dataset_path: Path,
    value_range: tuple[float, float] | None,
    mask_values: dict[str, Any],
    exclude: Path | None,
    copies: Path | None,
    out: Path | None,
    overrides: tuple[str, ...],
    val_fraction: float | None,
    folds: int | None,
    quiet: bool,
    **options: Any,
) -> None:
    """Train a recipe: one that comes with cxrseg (see 'cxrseg recipes') or a YAML file.

    First it says what it will do. Targets of which the dataset has no mask are left out; without a split 'val', a fifth
    of the training images is held out.
    """
    from cxrseg.training.plan import plan_run
    from cxrseg.training.recipe_file import load_recipe

    if folds and val_fraction:
        raise click.UsageError("--folds divides the images itself; leave out --val-fraction")
    chosen = load_recipe(recipe, overrides)
    dataset = open_chosen(dataset_path, value_range, mask_values, exclude=exclude, copies=copies)
    plan = plan_run(chosen, dataset, val_fraction=val_fraction, folds=folds)
    is_main = int(os.environ.get("LOCAL_RANK", "0")) == 0  # the other processes of a run are silent
    if is_main and not quiet:
        for line in plan.lines():
            click.echo(line)
        if options["distill_from"]:
            click.echo("note     the networks of --distill-from see all images first, which takes minutes on a CPU")
    folder = out or Path("runs") / chosen.name
    options["progress"] = not quiet and sys.stderr.isatty()
    options["on_epoch"] = None if quiet else _print_epoch
    sys.exit(_cross_validate(plan, folder, quiet, options) if folds else _run(plan, folder, options))


def _run(plan: Plan, out: Path, options: dict[str, Any]) -> int:
    """Train one model, and return the exit code."""
    from cxrseg.training.fit import train as fit

    done = fit(plan.recipe, plan.dataset, out, **options)
    if not done.is_main:
        return 0
    state = f"stopped after epoch {len(done.history)}; continue with --resume" if done.interrupted else "done"
    found_none = "the val Dice is 0" if done.best["val_dice"] == 0 else "no val image has a mask of the first target"
    by = "" if done.best_by == "val Dice" else f" by {done.best_by}, since {found_none}"
    click.echo(f"{state}. Best epoch {done.best['epoch']:.0f}{by}: {_figures(done.best)}")
    click.echo(f"run         {done.folder.root}\nmodel file  {done.folder.model}\n{NOTICE}")
    return INTERRUPTED if done.interrupted else 0


def _cross_validate(plan: Plan, out: Path, quiet: bool, options: dict[str, Any]) -> int:
    """Cross-validate, and return the exit code."""
    from cxrseg.cross_validation import cross_validate
    from cxrseg.evaluation.evaluate import summary_table

    def on_fold(number: int, dataset: Dataset) -> None:
        if not quiet:
            click.echo(f"fold {number} of {plan.folds}: {dataset.describe()}")

    found = cross_validate(plan, out, on_fold=on_fold, **options)
    if found.evaluation is None:
        click.echo(f"stopped in fold {len(found.runs)} of {plan.folds}; continue with --resume")
        return INTERRUPTED
    for line in summary_table(found.evaluation):
        click.echo(line)
    click.echo(f"\nrows        {out / 'evaluation' / 'scores.csv'}\nmeans       {out / 'evaluation' / 'summary.json'}")
    click.echo("all models  cxrseg predict " + " ".join(f"-m {run.root}" for run in found.runs) + f"\n{NOTICE}")
    return 0


def _print_epoch(row: dict[str, float | None]) -> None:
    from tqdm import tqdm

    tqdm.write(
        f"epoch {row['epoch']:3.0f}  {row['seconds']:6.1f} s  train loss {row['train_loss']:.4f}  {_figures(row)}"
    )


def _figures(row: dict[str, float | None]) -> str:
    names = {"val_loss": "val loss", "val_rmse": "RMSE", "val_dice": "Dice", "val_iou": "IoU"}
    return "  ".join(f"{name} {row[key]:.4f}" for key, name in names.items() if row.get(key) is not None)


@command("cxrseg recipes baseline-unet > mine.yaml")
@click.argument("name", required=False)
def recipes(name: str | None) -> None:
    """List the recipes that come with cxrseg, or print one with every setting and its explanation."""
    from cxrseg.training.recipe_file import explained, load_recipe, shipped_recipes

    if name is not None:
        click.echo(explained(load_recipe(name)), nl=False)
        return
    for shipped in shipped_recipes():
        click.echo(f"{shipped:<22}{load_recipe(shipped).description}")


@command("cxrseg fit-check model.onnx --dataset covid-qu-ex --not-frontal pictures -o checked.onnx")
@click.argument("model", type=PATH)
@dataset_option
@click.option(
    "--not-frontal",
    type=PATH,
    help="A folder with a folder of pictures for each other view: lateral, ct, other-body. "
    "Without it, only views made from frontal films are used: rotated, inverted, mirrored, several, part.",
)
@click.option("--films", type=click.IntRange(100), default=1500, show_default=True, help="Largest number of films.")
@click.option("-o", "--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="The new model file.")
def fit_check(model: Path, dataset_path: Path, not_frontal: Path | None, films: int, out: Path) -> None:
    """Fit a model file's view head, with which the input check recognises frontal chest radiographs.

    The training images of the dataset must be frontal chest radiographs, upright and not mirrored.
    """
    from cxrseg.data.layout import open_dataset
    from cxrseg.training.view_head import fit_views

    fit = fit_views(model, open_dataset(dataset_path), not_frontal, out, films=films).view_fit
    click.echo(f"refused, by {fit['folds']}-fold cross-validation")
    for name, title in (("as_they_are", "unchanged"), ("changed", "changed")):
        for view, found in fit[name].items():
            click.echo(f"  {view:<14}{title:<13}{found['refused']:>7.1%} of {found['pictures']}")
    click.echo(f"model file  {out}\n{NOTICE}")
