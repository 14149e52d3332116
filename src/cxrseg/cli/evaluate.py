"""The commands that evaluate: `evaluate`, `compare` and `report`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cxrseg.cli.options import (
    FOLDER,
    PATH,
    categories_option,
    copies_option,
    dataset_option,
    exclude_option,
    mask_values_option,
    open_chosen,
    quiet_option,
    task_option,
    threshold_option,
    value_range_option,
)
from cxrseg.cli.progress import progress_bar
from cxrseg.cli.shared import NOTICE, command

if TYPE_CHECKING:
    from cxrseg.data.sample import Dataset
    from cxrseg.evaluation.evaluate import Evaluation

__all__ = ["compare", "evaluate", "report"]


@command("cxrseg evaluate runs/mine/model.onnx --dataset covid-qu-ex --split val -o mine-val")
@click.argument("model", required=False, type=PATH)
@click.option("--predictions", type=PATH, help="Evaluate this output folder of 'cxrseg predict' instead of a model.")
@dataset_option
@value_range_option
@mask_values_option
@exclude_option
@copies_option
@click.option(
    "--split", type=click.Choice(["train", "val", "test"]), default="val", show_default=True, help="Split to evaluate."
)
@categories_option
@task_option("What is segmented, as for 'cxrseg predict'.")
@threshold_option
@click.option(
    "--fit",
    "fit_split",
    type=click.Choice(["train", "val"]),
    help="First fit threshold and temperature on this split; OUT/fitted.onnx has them and is then evaluated.",
)
@click.option("--allow-same-split", is_flag=True, help="Allow --fit on the split that is evaluated.")
@click.option("--stress", "stressed", is_flag=True, help="Also evaluate the same images stored in other ways.")
@click.option(
    "--stress-images",
    type=click.IntRange(min=1),
    default=60,
    show_default=True,
    help="Number of images of each category for --stress, drawn at random; each is segmented some 40 times.",
)
@click.option("-o", "--out", type=FOLDER, default="evaluation", show_default=True, help="Output folder.")
@quiet_option
def evaluate(
    model: Path | None,
    predictions: Path | None,
    dataset_path: Path,
    value_range: tuple[float, float] | None,
    mask_values: dict[str, Any],
    exclude: Path | None,
    copies: Path | None,
    split: str,
    categories: tuple[str, ...],
    task: str,
    threshold: float | None,
    fit_split: str | None,
    allow_same_split: bool,
    stressed: bool,
    stress_images: int,
    out: Path,
    quiet: bool,
) -> None:
    """Evaluate a model, or predicted masks, on a dataset: a row for each image, and means with intervals.

    MODEL is a model file or a run folder. Without it, the weights that come with cxrseg are evaluated. Images that the
    run trained on count as 'train', those that it held out as 'val'.
    """
    from cxrseg.data.splits import with_splits
    from cxrseg.evaluation.calibrate import Calibration, write_calibration
    from cxrseg.evaluation.evaluate import evaluate as evaluate_model
    from cxrseg.evaluation.evaluate import write_evaluation
    from cxrseg.model_file import shipped_model
    from cxrseg.run_folder import model_file_in, read_split

    _check_options(model, predictions, stressed, threshold, fit_split, task)
    dataset = open_chosen(dataset_path, value_range, mask_values, exclude=exclude, copies=copies)
    if model is not None:
        dataset = with_splits(dataset, read_split(model))
    selected = dataset.select(split, categories or None)
    if predictions is not None:
        _evaluate_stored(predictions, selected, out, quiet)
        return
    model = model_file_in(model) if model else shipped_model()
    if fit_split is not None:
        others = dataset.select(fit_split, categories or None)
        model = _fitted(model, others, out / "fitted.onnx", None if allow_same_split else selected, quiet)
    calibration = Calibration()
    with progress_bar("evaluating", quiet=quiet) as on_image:
        found = evaluate_model(
            model, selected, threshold=threshold, task=task, on_image=on_image, callback=calibration.callback
        )
    write_evaluation(found, out)
    write_calibration(calibration, found.thresholds, out)
    files = [*([("model", model)] if fit_split else []), ("curves", out / "calibration.json")]
    files += [("stress", out / "stress.json"), ("stored", out / "stress.csv")] if stressed else []
    lines = _stress(found, model, stress_images, out, quiet) if stressed else []
    if not quiet:
        _print_evaluation(found, out, *files, lines=lines)


def _fitted(model: Path, dataset: Dataset, out: Path, evaluated: Dataset | None, quiet: bool) -> Path:
    """The model file `out`, with threshold and temperature fitted on a dataset."""
    from cxrseg.evaluation.calibrate import fit

    with progress_bar("fitting", quiet=quiet) as on_image:
        fitted = fit(model, dataset, out, evaluated=evaluated, on_image=on_image)
    if not quiet:
        split = "+".join(sorted({sample.split for sample in dataset.samples}))
        click.echo(f"fitted on {split}: threshold {fitted.threshold:g}, temperature {fitted.temperature:g}")
    return out


def _evaluate_stored(predictions: Path, dataset: Dataset, out: Path, quiet: bool) -> None:
    from cxrseg.evaluation.evaluate import evaluate_predictions, write_evaluation

    with progress_bar("evaluating", quiet=quiet) as on_image:
        found = evaluate_predictions(predictions, dataset, on_image=on_image)
    write_evaluation(found, out)
    if not quiet:
        _print_evaluation(found, out)


def _check_options(
    model: Path | None,
    predictions: Path | None,
    stressed: bool,
    threshold: float | None,
    fit_split: str | None,
    task: str,
) -> None:
    """Raise a usage error where options contradict each other."""
    if model is not None and predictions is not None:
        raise click.UsageError("expected a model file or --predictions, got both; remove one of them")
    if predictions is not None and (threshold is not None or fit_split is not None or task != "opacity"):
        raise click.UsageError(
            "--task, --threshold and --fit cannot change stored predictions; use them with 'cxrseg predict'"
        )
    if predictions is not None and stressed:
        raise click.UsageError("--stress segments changed images, so it needs a model file instead of --predictions")
    if threshold is not None and fit_split is not None:
        raise click.UsageError("--fit finds a threshold and --threshold sets one; use one of them")


def _stress(found: Evaluation, model: Path, images: int, out: Path, quiet: bool) -> list[str]:
    """Evaluate the same images stored in other ways, write the figures, and return them as lines of text."""
    from cxrseg.evaluation.stress import stress
    from cxrseg.evaluation.stress_summary import write_stress
    from cxrseg.inference.segmenter import Segmenter

    threshold = found.thresholds.get("infection")
    segmenter = Segmenter(model, threshold, input_check=False, precision="float32", task=found.task)
    with progress_bar("stored in other ways", quiet=quiet) as on_image:
        stressed = stress(segmenter, found.dataset.samples, count=images, on_image=on_image)
    write_stress(stressed, out)
    return ["", *stressed.lines()]


def _print_evaluation(found: Evaluation, out: Path, *others: tuple[str, Path], lines: Sequence[str] = ()) -> None:
    from cxrseg.evaluation.evaluate import summary_table

    for line in (*summary_table(found), *lines):
        click.echo(line)
    click.echo()
    for name, path in (("rows", out / "scores.csv"), ("means", out / "summary.json"), *others):
        click.echo(f"{name:<7}{path}")
    click.echo(NOTICE)


@command("cxrseg compare unet-val mine-val")
@click.argument("first", type=PATH)
@click.argument("second", type=PATH)
@click.option("-o", "--out", type=click.Path(dir_okay=False, path_type=Path), help="Also write a JSON file.")
def compare(first: Path, second: Path, out: Path | None) -> None:
    """Compare two evaluations of the same images: paired differences with intervals.

    FIRST and SECOND are output folders of 'cxrseg evaluate'. Differences are SECOND - FIRST.
    """
    from cxrseg.evaluation.compare import compare as compare_evaluations
    from cxrseg.evaluation.compare import comparison_lines, write_comparison

    found = compare_evaluations(first, second)
    for line in comparison_lines(found):
        click.echo(line)
    if out is not None:
        write_comparison(found, out)
        click.echo(f"\ncomparison  {out}")
    click.echo(NOTICE)


@command("cxrseg report runs/mine --dataset covid-qu-ex --evaluation mine-val")
@click.argument("run", type=PATH, required=False)
@click.option(
    "--dataset", "dataset_path", type=PATH, help="The images of the evaluation. Without it, the page has no gallery."
)
@click.option(
    "--evaluation",
    type=FOLDER,
    help="Output folder of 'cxrseg evaluate'. Without it, the model is evaluated first.  "
    "[default: RUN/evaluation-SPLIT, or evaluation-SPLIT for the weights that come with cxrseg]",
)
@click.option(
    "--split", type=click.Choice(["train", "val", "test"]), default="val", show_default=True, help="Split to evaluate."
)
@categories_option
@click.option("--ablation", type=PATH, help="A CSV file with a header row, shown as a table.")
@click.option(
    "-o",
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The page.  [default: RUN/report.html, or report.html]",
)
@quiet_option
def report(
    run: Path | None,
    dataset_path: Path | None,
    evaluation: Path | None,
    split: str,
    categories: tuple[str, ...],
    ablation: Path | None,
    out: Path | None,
    quiet: bool,
) -> None:
    """Write a report of a run and its evaluation: one HTML file that needs no network.

    RUN is a run folder or a model file; without it, the weights that come with cxrseg. With --dataset the page
    contains images, and their licence applies to it.
    """
    from cxrseg.data.layout import open_dataset
    from cxrseg.data.splits import with_splits
    from cxrseg.model_file import shipped_model
    from cxrseg.report.report import evaluate_run, write_report
    from cxrseg.report.stored_evaluation import read_evaluation
    from cxrseg.run_folder import read_run, read_split

    if dataset_path is None and evaluation is None:
        raise click.UsageError("expected --evaluation, --dataset or both, got neither")
    stored = read_run(run or shipped_model())
    # Never into the package, also where its weights are named.
    folder = Path() if stored.model.resolve() == shipped_model().resolve() else stored.model.parent
    dataset = open_dataset(dataset_path) if dataset_path is not None else None
    if evaluation is None:
        assert dataset is not None
        selected = with_splits(dataset, read_split(stored.model)).select(split, categories or None)
        with progress_bar("evaluating", quiet=quiet) as on_image:
            evaluated = evaluate_run(stored, selected, folder / f"evaluation-{split}", on_image=on_image)
    else:
        evaluated = read_evaluation(evaluation)
    page = out or folder / "report.html"
    write_report(stored, evaluated, page, dataset=dataset, ablation=ablation)
    if not quiet:
        click.echo(f"report  {page}\n{NOTICE}")
