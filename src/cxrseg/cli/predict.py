"""The command `predict`."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from cxrseg.cli.shared import NOTICE, command, models_option, value_range_option

__all__ = ["predict"]


OUTPUT_TYPES = ("png", "dicom_seg", "dicom_sr", "dicom_sc")
"""Equal to `cxrseg.inference.options.OUTPUT_TYPES`, which the help cannot import without numpy."""


MAX_PIXELS = 250_000_000
"""Equal to `cxrseg.io.settings.MAX_PIXELS`, for the same reason."""


def _more_types(ctx: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    """Check the words after the first --output-type; the command has no other arguments."""
    for one in value:
        if one not in OUTPUT_TYPES:
            raise click.UsageError(
                f"unexpected argument {one!r}: expected another output type ({', '.join(OUTPUT_TYPES)}); "
                f"name images with -i"
            )
    return value


@command("cxrseg predict -i images -o results --preview")
@click.option(
    "-i",
    "--input",
    "source",
    required=True,
    envvar=["MERCURE_IN_DIR", "HOLOSCAN_INPUT_PATH", "MONAI_INPUTPATH"],
    type=click.Path(exists=True, path_type=Path),
    help="An image or a folder.",
)
@click.option(
    "-o",
    "--output",
    "out",
    required=True,
    envvar=["MERCURE_OUT_DIR", "HOLOSCAN_OUTPUT_PATH", "MONAI_OUTPUTPATH"],
    type=click.Path(file_okay=False, path_type=Path),
    help="The output folder.",
)
@models_option
@click.option(
    "-ta",
    "--task",
    type=click.Choice(["opacity", "infection", "covid19"]),
    default="opacity",
    show_default=True,
    help="opacity: what a radiologist would mark, whatever the cause; infection: as the training data define it; "
    "covid19: the same, but only where the whole image looks like COVID-19.",
)
@click.option("-d", "--device", default="cpu", show_default=True, help="cpu, gpu or gpu:N.")
@click.option(
    "--output-type",
    "output_type",
    type=click.Choice(OUTPUT_TYPES),
    default="png",
    show_default=True,
    help="Files to write for each image; several can follow: png dicom_seg dicom_sr dicom_sc. "
    "DICOM objects need DICOM images and cxrseg[hospital].",
)
@click.argument("more_types", nargs=-1, metavar="", callback=_more_types)
@click.option("-p", "--preview", is_flag=True, help="Write a picture of each result.")
@click.option(
    "-s", "--statistics", is_flag=True, help="Print the measurements of each file; statistics.csv always has them."
)
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Probability from which a pixel is infection.  [default: the model file's threshold]",
)
@click.option(
    "--tta", is_flag=True, help="Average with the prediction for the mirrored image: slower, slightly better."
)
@click.option(
    "--precision",
    type=click.Choice(["auto", "float32"]),
    default="auto",
    show_default=True,
    help="auto: bfloat16 where the processor supports it.",
)
@value_range_option
@click.option(
    "--window", type=click.IntRange(0), default=0, show_default=True, help="View of DICOM files that offer several."
)
@click.option(
    "--max-pixels",
    type=click.IntRange(1),
    default=MAX_PIXELS,
    show_default=True,
    help="Refuse images with more pixels; those of more than 50 million are reduced while they are read.",
)
@click.option("--save-probabilities", is_flag=True, help="Write the infection's probability map as a 16-bit PNG.")
@click.option("--force", is_flag=True, help="Segment images that the input check refuses, with a warning.")
@click.option("--allow-refused", is_flag=True, help="Exit with 0 also where images were refused, such as laterals.")
@click.option("--resume", is_flag=True, help="Continue an interrupted run in the same output folder.")
@click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="ray: use a Ray cluster, whose machines must see the same folders.",
)
@click.option(
    "--ray-address",
    metavar="HOST:PORT",
    help="Of the Ray cluster.  [default: $RAY_ADDRESS, or a new cluster on this machine]",
)
@click.option("-q", "--quiet", is_flag=True, help="Print only errors.")
@click.option("-v", "--verbose", is_flag=True, help="Print a line for each file.")
def predict(
    source: Path,
    out: Path,
    statistics: bool,
    output_type: str,
    more_types: tuple[str, ...],
    allow_refused: bool,
    resume: bool,
    engine: str,
    ray_address: str | None,
    quiet: bool,
    verbose: bool,
    **options: Any,
) -> None:
    """Segment and measure infection on X-ray files: write masks, measurements and pictures.

    Exit code 0: all files are ok; 1: some were refused or failed; 2: wrong usage.
    """
    from cxrseg.inference.files import Options, predict_files

    work = None
    if engine == "ray":
        from cxrseg.inference.ray import on_ray

        work = on_ray(ray_address)

    if verbose:
        logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
        logging.getLogger("cxrseg").setLevel(logging.DEBUG)

    def show(row: Mapping[str, Any], done: int, total: int) -> None:
        if not quiet and (verbose or row["status"] != "ok"):
            click.echo(_line(row), err=True)
        if statistics and row["status"] == "ok":
            click.echo(_measures(row))
        if not quiet and not verbose and total > 1 and sys.stderr.isatty():
            click.echo(f"\r{done} of {total}", nl=done == total, err=True)

    types = tuple(dict.fromkeys((output_type, *more_types)))
    chosen = Options(**options, output_types=types)
    if types != ("png",):
        from cxrseg.hospital.objects import write_objects

        chosen = replace(chosen, write_objects=write_objects)
    found = predict_files(source, out, chosen, resume=resume, on_row=show, work=work)
    if not quiet:
        counts = ", ".join(f"{count} {status}" for status, count in found.counts.items() if count)
        click.echo(f"{counts} in {found.seconds:.1f} s\nstatistics  {found.statistics}\n{NOTICE}")
    bad = found.counts["failed"] + (0 if allow_refused else found.counts["refused"])
    sys.exit(1 if bad else 0)


def _line(row: Mapping[str, Any]) -> str:
    said = [row["reason"]] if row["reason"] else row["warnings"]
    return f"{row['path']}: {row['status']}" + (f" ({'; '.join(said)})" if said else "")


def _measures(row: Mapping[str, Any]) -> str:
    if row["infected_fraction"] is None:
        return f"{row['path']}: no lungs found"
    score = "unknown" if row["extent_score"] is None else f"{row['extent_score']} of 8 ({row['grade']})"
    return f"{row['path']}: infected {row['infected_fraction']:.1%} of the lungs, extent score {score}"
