"""The commands `data ...`: download, preview, make and check datasets."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from cxrseg.cli.options import (
    FOLDER,
    PATH,
    categories_option,
    mask_values_option,
    quiet_option,
    value_range_option,
)
from cxrseg.cli.progress import progress_bar
from cxrseg.cli.shared import SOME_NOT, command, group

__all__ = ["data"]


@group("cxrseg data preview covid-qu-ex")
def data() -> None:
    """Download, preview, make and check datasets."""


@command("cxrseg data fetch covid-qu-ex -o datasets")
@click.argument("which", type=click.Choice(["covid-qu-ex", "medsegbench"]))
@click.option("-o", "--out", type=FOLDER, default="datasets", show_default=True, help="Output folder.")
@click.option(
    "--size",
    type=click.Choice(["128", "256", "512"]),
    default="256",
    show_default=True,
    help="Width and height of the images of MedSegBench.",
)
@click.option("--archive", type=PATH, help="Unpack this zip file of COVID-QU-Ex instead of downloading it.")
def fetch(which: str, out: Path, size: str, archive: Path | None) -> None:
    """Download COVID-QU-Ex from Kaggle, or its MedSegBench edition from Zenodo.

    A download from Kaggle that was interrupted continues where it stopped. Needs cxrseg[fetch].
    """
    from cxrseg.data.fetch import fetch_covid_qu_ex, fetch_medsegbench

    if which == "covid-qu-ex":
        click.echo(fetch_covid_qu_ex(out, archive=archive))
    else:
        click.echo(fetch_medsegbench(out, int(size), progress=sys.stderr.isatty()))


@command("cxrseg data preview covid-qu-ex --split train -o preview")
@click.argument("dataset_path", metavar="DATASET", type=PATH)
@value_range_option
@mask_values_option
@click.option("--split", type=click.Choice(["train", "val", "test"]), help="Use this split only.")
@categories_option
@click.option("--count", type=click.IntRange(1, 64), default=8, show_default=True, help="Number of images.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Random seed of the choice.")
@click.option("-o", "--out", type=PATH, default="preview", show_default=True, help="Output file without suffix.")
def preview(
    dataset_path: Path,
    value_range: tuple[float, float] | None,
    mask_values: dict[str, Any],
    split: str | None,
    categories: tuple[str, ...],
    count: int,
    seed: int,
    out: Path,
) -> None:
    """Draw random images of a dataset with their masks, as PNG and SVG."""
    from cxrseg.data.layout import open_dataset
    from cxrseg.data.sample import Reading
    from cxrseg.plots.cases import draw_samples

    dataset = open_dataset(dataset_path, Reading(value_range, mask_values))
    click.echo(f"{dataset.layout}: {dataset.describe()}")
    for path in draw_samples(dataset.select(split, categories or None), out, count, seed):
        click.echo(path)


@command("cxrseg data phantom phantoms --size 256")
@click.argument("out", type=FOLDER)
@click.option(
    "--size", type=click.IntRange(64, 2048), default=256, show_default=True, help="Width and height in pixels."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Random seed of the phantoms.")
def phantom(out: Path, size: int, seed: int) -> None:
    """Write synthetic chest X-rays with known lungs and infection, in the folder layout of COVID-QU-Ex."""
    from cxrseg.phantom.generate import write_phantoms

    click.echo(write_phantoms(out, size=size, seed=seed))


@command("cxrseg data check covid-qu-ex -o audit --write-exclusions exclusions.csv")
@click.argument("dataset_path", metavar="DATASET", type=PATH)
@value_range_option
@mask_values_option
@click.option("-o", "--out", type=FOLDER, default="audit", show_default=True, help="Output folder.")
@click.option(
    "--write-exclusions",
    "exclusions",
    type=PATH,
    metavar="FILE",
    help="Write the images to leave out to this file, for --exclude of 'train' and 'evaluate'.",
)
@quiet_option
def check(
    dataset_path: Path,
    value_range: tuple[float, float] | None,
    mask_values: dict[str, Any],
    out: Path,
    exclusions: Path | None,
    quiet: bool,
) -> None:
    """Audit a dataset: damaged files, faults in masks, copies within and across splits, shortcuts.

    Exit code 1 where it found damaged files, faults in masks, or copies of one image in two splits.
    """
    from cxrseg.audit.audit import audit_dataset
    from cxrseg.data.exclusions import write_exclusions
    from cxrseg.data.layout import list_dataset
    from cxrseg.data.sample import Reading
    from cxrseg.report.audit_page import audit_lines, write_audit

    dataset, misfits = list_dataset(dataset_path, Reading(value_range, mask_values))
    if dataset.unused:
        click.echo(f"{dataset_path}: {dataset.unused_line}", err=True)
    with progress_bar("reading", quiet=quiet) as on_image:
        audit = audit_dataset(dataset, misfits, on_image=on_image)
    page, _ = write_audit(audit, out)
    if exclusions is not None:
        write_exclusions(exclusions, audit.exclusions)
    if not quiet:
        for line in audit_lines(audit):
            click.echo(line)
        click.echo(f"\npage   {page}")
        if exclusions is not None:
            click.echo(f"names  {exclusions}")
    sys.exit(SOME_NOT if audit.misfits or audit.unreadable or audit.faults or audit.leaks else 0)


for one in (fetch, preview, phantom, check):
    data.add_command(one)
