"""The command `predict`."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click
from click.core import ParameterSource

from cxrseg.cli.options import (
    device_option,
    max_pixels_option,
    models_option,
    task_option,
    threshold_option,
    value_range_option,
)
from cxrseg.cli.predict_text import Progress
from cxrseg.cli.shared import INTERRUPTED, SOME_NOT, command, log_to_console
from cxrseg.errors import CxrsegError

if TYPE_CHECKING:
    from cxrseg.inference.files import BatchResult, Options
    from cxrseg.inference.work import Work

__all__ = ["predict"]


OUTPUT_TYPES = ("png", "dicom_seg", "dicom_sr", "dicom_sc")
"""Equal to `cxrseg.inference.options.OUTPUT_TYPES`, which the help cannot import without numpy."""


MAX_PIXELS = 250_000_000
"""Equal to `cxrseg.io.settings.MAX_PIXELS`, for the same reason."""


def _sources(ctx: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> tuple[Path, ...]:
    """What -i names, or the folder that a platform sets in the environment."""
    given = list(value) or [os.environ[name] for name in _INPUT_VARIABLES if os.environ.get(name)][:1]
    return tuple(path for one in given for path in _paths(one))


def _paths(text: str) -> list[Path]:
    """A path that exists, or those of a list: @FILE."""
    if text.startswith("@") and not Path(text).exists():
        return _listed(Path(text[1:]))
    if not Path(text).exists():
        raise click.BadParameter(f"{text} does not exist; expected an image, a folder or an archive")
    return [Path(text)]


def _listed(path: Path) -> list[Path]:
    from cxrseg.inference.input_sources import read_list

    try:
        return read_list(path)
    except CxrsegError as error:
        raise click.BadParameter(str(error)) from None


_INPUT_VARIABLES = ("MERCURE_IN_DIR", "HOLOSCAN_INPUT_PATH", "MONAI_INPUTPATH")


@command("cxrseg predict *.dcm -o results --preview")
@click.argument("words", nargs=-1, metavar="[INPUT]...")
@click.option(
    "-i",
    "--input",
    "sources",
    multiple=True,
    callback=_sources,
    metavar="INPUT",
    help="An image, a folder, a zip archive or a DICOMDIR; @FILE names a list. Can be repeated; -i can be left out.",
)
@click.option(
    "--list",
    "lists",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
    metavar="FILE",
    help="A text file with the path of an image or folder on each line. Can be repeated.",
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
@task_option(
    "opacity: what a radiologist would mark, whatever the cause; infection: as the training data define it; "
    "covid19: the same, but only where the whole image looks like COVID-19."
)
@device_option
@click.option(
    "--output-type",
    "output_type",
    type=click.Choice(OUTPUT_TYPES),
    default="png",
    show_default=True,
    help="Files to write for each image; several can follow: png dicom_seg dicom_sr dicom_sc. "
    "DICOM objects need DICOM images and cxrseg[hospital].",
)
@click.option("-p", "--preview", is_flag=True, help="Write a picture of each result.")
@click.option("--beside", is_flag=True, help="Put the plain film beside the picture.  [with -p]")
@click.option(
    "--fill",
    type=click.FloatRange(0, 1),
    default=0.35,
    show_default=True,
    help="Strength of the colour in the infection; 0 draws its outline only.  [with -p]",
)
@click.option("--no-caption", is_flag=True, help="Leave out legend and measurements.  [with -p]")
@click.option(
    "--picture-size",
    type=click.IntRange(0),
    default=2048,
    show_default=True,
    help="Longest side of larger films in the picture, in pixels; 0 for that of the film.  [with -p]",
)
@click.option(
    "--picture-type",
    type=click.Choice(["png", "svg", "pdf"]),
    default="png",
    show_default=True,
    help="svg and pdf have outlines and text as vectors.  [with -p]",
)
@click.option("--page", is_flag=True, help="Write one HTML page with a small picture of each film, to sort.")
@click.option(
    "-s", "--statistics", is_flag=True, help="Print the measurements of each file; statistics.csv always has them."
)
@threshold_option
@click.option(
    "--tta", is_flag=True, help="Average with the prediction for the mirrored image: slower, slightly better."
)
@click.option(
    "--precision",
    type=click.Choice(["auto", "float32", "int8"]),
    default="auto",
    show_default=True,
    help="Number format. auto: int8 or bfloat16 where the processor is faster with it.",
)
@value_range_option
@click.option(
    "--window", type=click.IntRange(0), default=0, show_default=True, help="View of DICOM files that offer several."
)
@max_pixels_option(MAX_PIXELS, "; those of more than 50 million are reduced while they are read")
@click.option("--save-probabilities", is_flag=True, help="Write the infection's probability map as a 16-bit PNG.")
@click.option("--force", is_flag=True, help="Segment images that the input check refuses, with a warning.")
@click.option("--allow-refused", is_flag=True, help="Exit with 0 also where images were refused, such as laterals.")
@click.option("--resume", is_flag=True, help="Continue an interrupted run in the same output folder.")
@click.option("--overwrite", is_flag=True, help="Remove the results of an earlier run in the output folder first.")
@click.option("--excel", is_flag=True, help="Write statistics.csv so that Excel shows all letters.")
@click.option("--identities", is_flag=True, help="Write the Patient ID of DICOM files instead of a key.")
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
@click.option("-q", "--quiet", is_flag=True, help="Print only errors, such as files that cannot be read.")
@click.option("-v", "--verbose", is_flag=True, help="Print a line for each file.")
def predict(
    words: tuple[str, ...],
    sources: tuple[Path, ...],
    lists: tuple[Path, ...],
    out: Path,
    statistics: bool,
    output_type: str,
    allow_refused: bool,
    resume: bool,
    overwrite: bool,
    excel: bool,
    engine: str,
    ray_address: str | None,
    beside: bool,
    fill: float,
    no_caption: bool,
    picture_size: int,
    picture_type: Literal["png", "svg", "pdf"],
    quiet: bool,
    verbose: bool,
    **options: Any,
) -> None:
    """Segment and measure infection on X-ray files: write masks, measurements and pictures.

    INPUT is an image, a folder, a zip archive or a DICOMDIR, as for -i.

    Exit codes: 0 where all files are ok; 1 where some failed, or were refused (see --allow-refused); 2 for wrong usage;
    3 where the run failed; 130 after Ctrl-C or SIGTERM.
    """
    types, given = _types_and_inputs(output_type, words)
    inputs = [*sources, *given, *(path for one in lists for path in _listed(one))]
    if not inputs:
        raise click.UsageError("expected an image or a folder, got none; name it after 'cxrseg predict' or after -i")
    log_to_console(logging.DEBUG if verbose else logging.ERROR if quiet else logging.WARNING)
    from cxrseg.inference.files import Options, predict_files
    from cxrseg.plots.outlines import PictureStyle

    picture = PictureStyle(beside, fill, not no_caption, picture_size, picture_type)
    chosen = _with_objects(Options(**options, picture=picture, output_types=types))
    shown = Progress(out, quiet=quiet, verbose=verbose, statistics=statistics)
    try:
        found = predict_files(
            inputs,
            out,
            chosen,
            resume=resume,
            overwrite=overwrite,
            excel=excel,
            on_row=shown.add,
            work=_work(engine, ray_address),
        )
    except KeyboardInterrupt:
        shown.interrupted()
        sys.exit(INTERRUPTED)
    shown.done(found, _page(out, found) if chosen.page else None)
    bad = found.counts["failed"] + (0 if allow_refused else found.counts["refused"])
    sys.exit(SOME_NOT if bad else 0)


def _work(engine: str, ray_address: str | None) -> Work:
    if engine == "ray":
        from cxrseg.inference.ray import on_ray

        return on_ray(ray_address)
    from cxrseg.inference.local import on_processes

    return on_processes()


def _with_objects(options: Options) -> Options:
    """Options that write DICOM objects too, where they are among the types."""
    if options.output_types == ("png",):
        return options
    from cxrseg.hospital.objects import write_objects

    return replace(options, write_objects=write_objects)


def _page(out: Path, found: BatchResult) -> Path:
    from cxrseg.report.batch_page import write_batch_page

    return write_batch_page(out, found.stems)


def _types_and_inputs(first: str, words: Sequence[str]) -> tuple[tuple[str, ...], list[Path]]:
    """The output types and the inputs among the words without an option: types can follow --output-type only."""
    context = click.get_current_context()
    typed = context.get_parameter_source("output_type") is not ParameterSource.DEFAULT
    types = [first, *(word for word in words if typed and word in OUTPUT_TYPES)]
    try:
        inputs = [path for word in words if word not in types for path in _paths(word)]
    except click.BadParameter as error:
        raise click.UsageError(error.message) from None
    return tuple(dict.fromkeys(types)), inputs
