"""The table of commands: each parses, calls the library, prints. No logic lives here, and nothing heavy is imported."""

from __future__ import annotations

import errno
import sys
from pathlib import Path
from typing import Any

import click

from cxrseg._version import __version__
from cxrseg.cli_predict import predict
from cxrseg.errors import CxrsegError

__all__ = ["main"]

NOTICE = "Research use only. Not for diagnosis."
INTERRUPTED = 130


class _Commands(click.Group):
    """Turns the library's errors into a message and exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except CxrsegError as error:
            raise click.ClickException(str(error)) from error
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] == "cxrseg":
                raise
            raise click.ClickException(
                f"this command needs the package {error.name!r}: pip install 'cxrseg[train]'"
            ) from error
        except OSError as error:
            if error.errno == errno.EPIPE:  # whoever read our output has gone; click ends in silence
                raise
            raise click.ClickException(f"{error.filename or 'the system'}: {error.strerror or error}") from error


def _example(text: str) -> dict[str, Any]:
    """Settings of a command whose help ends with an example, and accepts -h."""
    return {"epilog": f"\b\nExample:\n  {text}", "context_settings": {"help_option_names": ["-h", "--help"]}}


_folder = click.Path(file_okay=False, path_type=Path)
_path = click.Path(path_type=Path)
_dataset_option = click.option(
    "--dataset", "dataset_path", required=True, type=_path, help="Folder, .npz or .csv of images and masks."
)
_categories_option = click.option(
    "--category",
    "categories",
    multiple=True,
    type=click.Choice(["COVID-19", "Non-COVID", "Normal"]),
    help="Only this category; may be given several times.",
)


@click.group(cls=_Commands, **_example("cxrseg demo"))
@click.version_option(__version__, prog_name="cxrseg")
def main() -> None:
    """Find and measure COVID-19 and pneumonia infection on chest X-rays.

    Research use only. Not for diagnosis.
    """


@main.command(**_example("cxrseg demo"))
@click.option("-o", "--out", type=_folder, default="demo", show_default=True, help="Where everything goes.")
def demo(out: Path) -> None:
    """Train, evaluate and draw on synthetic X-rays, in about two minutes."""
    from cxrseg.demo import run_demo

    done = run_demo(out, progress=sys.stderr.isatty(), on_step=lambda step: click.echo(f"{step} ..."))
    width = max(len(name) for name, _ in done.table())
    click.echo()
    for name, value in done.table():
        click.echo(f"  {name:<{width}}  {value:>6}")
    click.echo(f"\nfigures     {done.run.folder.figures}\nmodel file  {done.run.folder.model}")
    click.echo(f"scores      {out / 'evaluation' / 'scores.csv'}\n{NOTICE}")


@main.command(**_example("cxrseg train seed-unet-small --dataset covid-qu-ex -o runs/seed"))
@click.argument("recipe")
@_dataset_option
@click.option("-o", "--out", type=_folder, default=None, help="The run folder.  [default: runs/RECIPE]")
@click.option("-s", "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a setting of the recipe.")
@click.option("--resume", is_flag=True, help="Go on with the run in the run folder.")
@click.option("--start-from", type=_path, help="Begin with the weights of this run folder or checkpoint.")
@click.option(
    "--hold-out",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    metavar="SHARE",
    help="Hold this share of the training images out as 'val', for a dataset that has none.",
)
@click.option("-d", "--device", default="auto", show_default=True, help="auto, cpu, gpu or gpu:N.")
@click.option("--processes", type=click.IntRange(1), default=1, show_default=True, help="GPUs, or CPU processes.")
@click.option("-q", "--quiet", is_flag=True, help="Print the result only.")
def train(
    recipe: str,
    dataset_path: Path,
    out: Path | None,
    overrides: tuple[str, ...],
    resume: bool,
    start_from: Path | None,
    hold_out: float | None,
    device: str,
    processes: int,
    quiet: bool,
) -> None:
    """Train a recipe: a shipped one (see 'cxrseg recipes') or a YAML file."""
    from cxrseg.data.layout import open_dataset
    from cxrseg.data.splits import hold_out as held_out
    from cxrseg.learn.fit import train as fit
    from cxrseg.learn.recipe import load_recipe

    chosen = load_recipe(recipe, overrides)
    dataset = open_dataset(dataset_path)
    done = fit(
        chosen,
        dataset if hold_out is None else held_out(dataset, "val", hold_out, chosen.seed),
        out or Path("runs") / chosen.name,
        resume=resume,
        start_from=start_from,
        device=device,
        processes=processes,
        progress=not quiet and sys.stderr.isatty(),
        on_epoch=None if quiet else _print_epoch,
    )
    if not done.is_main:
        return
    state = f"stopped after epoch {len(done.history)}; go on with --resume" if done.interrupted else "done"
    click.echo(f"{state}. Best epoch {done.best['epoch']:.0f}: {_figures(done.best)}")
    click.echo(f"run         {done.folder.root}\nmodel file  {done.folder.model}\n{NOTICE}")
    sys.exit(INTERRUPTED if done.interrupted else 0)


def _print_epoch(row: dict[str, float | None]) -> None:
    from tqdm import tqdm

    tqdm.write(
        f"epoch {row['epoch']:3.0f}  {row['seconds']:6.1f} s  train loss {row['train_loss']:.4f}  {_figures(row)}"
    )


def _figures(row: dict[str, float | None]) -> str:
    names = {"val_loss": "val loss", "val_rmse": "RMSE", "val_dice": "Dice", "val_iou": "IoU"}
    return "  ".join(f"{name} {row[key]:.4f}" for key, name in names.items() if row.get(key) is not None)


@main.command(**_example("cxrseg evaluate runs/seed/model.onnx --dataset covid-qu-ex --split val -o seed-val"))
@click.argument("model", type=_path)
@_dataset_option
@click.option("--split", type=click.Choice(["train", "val", "test"]), default="val", show_default=True)
@_categories_option
@click.option("--threshold", type=click.FloatRange(0, 1, min_open=True, max_open=True), help="Instead of the model's.")
@click.option("-o", "--out", type=_folder, default="evaluation", show_default=True, help="Where results go.")
def evaluate(
    model: Path,
    dataset_path: Path,
    split: str,
    categories: tuple[str, ...],
    threshold: float | None,
    out: Path,
) -> None:
    """Judge a model file on a dataset: a row for each image, and the means that published figures mix."""
    from cxrseg.data.layout import open_dataset
    from cxrseg.judge.evaluate import evaluate as judge
    from cxrseg.judge.evaluate import summary_table, write_evaluation

    found = judge(model, open_dataset(dataset_path).select(split, categories or None), threshold=threshold)
    write_evaluation(found, out)
    for line in summary_table(found):
        click.echo(line)
    click.echo(f"\nrows   {out / 'scores.csv'}\nmeans  {out / 'summary.json'}\n{NOTICE}")


main.add_command(predict)


@main.command(**_example("cxrseg info runs/seed/model.onnx"))
@click.argument("model", type=_path)
def info(model: Path) -> None:
    """Print what a model file says about itself, as JSON."""
    import json

    from cxrseg.model_file import read_model

    click.echo(json.dumps(json.loads(read_model(model)[1].to_json()), indent=2, ensure_ascii=False))


@main.command(**_example("cxrseg recipes seed-unet > mine.yaml"))
@click.argument("name", required=False)
def recipes(name: str | None) -> None:
    """List the shipped recipes, or print one, every setting spelt out and explained."""
    from cxrseg.learn.recipe import explained, load_recipe, shipped_recipes

    if name is not None:
        click.echo(explained(load_recipe(name)), nl=False)
        return
    for shipped in shipped_recipes():
        click.echo(f"{shipped:<18}{load_recipe(shipped).description}")


@main.command(**_example('eval "$(cxrseg completion bash)"'))
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that completes cxrseg's commands and options with the tab key."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(main, {}, "cxrseg", "_CXRSEG_COMPLETE").source())


@main.group(**_example("cxrseg data preview covid-qu-ex"))
def data() -> None:
    """Datasets: download, look at, or make one."""


@data.command(**_example("cxrseg data fetch covid-qu-ex -o datasets"))
@click.argument("which", type=click.Choice(["covid-qu-ex", "medsegbench"]))
@click.option("-o", "--out", type=_folder, default="datasets", show_default=True, help="Where it goes.")
@click.option(
    "--size", type=click.Choice(["128", "256", "512"]), default="256", show_default=True, help="MedSegBench's."
)
@click.option("--archive", type=_path, help="Unpack this zip of COVID-QU-Ex, downloaded already, instead.")
def fetch(which: str, out: Path, size: str, archive: Path | None) -> None:
    """Download COVID-QU-Ex from Kaggle, or its MedSegBench edition from Zenodo; goes on where it broke off."""
    from cxrseg.data.fetch import fetch_covid_qu_ex, fetch_medsegbench

    if which == "covid-qu-ex":
        click.echo(fetch_covid_qu_ex(out, archive=archive))
    else:
        click.echo(fetch_medsegbench(out, int(size), progress=_print_download if sys.stderr.isatty() else None))


def _print_download(done: int, total: int | None) -> None:
    of = f" of {total / 1e6:.0f}" if total else ""
    click.echo(f"\r{done / 1e6:.0f}{of} MB", nl=done == total, err=True)


@data.command(**_example("cxrseg data preview covid-qu-ex --split train -o preview"))
@click.argument("dataset_path", metavar="DATASET", type=_path)
@click.option("--split", type=click.Choice(["train", "val", "test"]), help="Of this split only.")
@_categories_option
@click.option("--count", type=click.IntRange(1, 64), default=8, show_default=True, help="How many images.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Which ones.")
@click.option("-o", "--out", type=_path, default="preview", show_default=True, help="File, without suffix.")
def preview(
    dataset_path: Path, split: str | None, categories: tuple[str, ...], count: int, seed: int, out: Path
) -> None:
    """Draw random images of a dataset with their masks, as PNG and SVG."""
    from cxrseg.data.layout import open_dataset
    from cxrseg.show.samples import draw_samples

    dataset = open_dataset(dataset_path)
    click.echo(f"{dataset.layout}: {dataset.describe()}")
    for path in draw_samples(dataset.select(split, categories or None), out, count, seed):
        click.echo(path)


@data.command(**_example("cxrseg data phantom phantoms --size 256"))
@click.argument("out", type=_folder)
@click.option("--size", type=click.IntRange(64, 2048), default=256, show_default=True, help="Side in pixels.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
def phantom(out: Path, size: int, seed: int) -> None:
    """Write synthetic chest X-rays with known lungs and infection, laid out as COVID-QU-Ex."""
    from cxrseg.data.phantom import write_phantoms

    click.echo(write_phantoms(out, size=size, seed=seed))
