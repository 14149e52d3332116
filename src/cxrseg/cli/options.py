"""Options that several commands have, and opening the dataset that they describe."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cxrseg.errors import CxrsegError

if TYPE_CHECKING:
    from cxrseg.data.sample import Dataset

__all__ = [
    "FOLDER",
    "PATH",
    "categories_option",
    "copies_option",
    "dataset_option",
    "device_option",
    "exclude_option",
    "mask_values_option",
    "max_pixels_option",
    "models_option",
    "open_chosen",
    "quiet_option",
    "task_option",
    "threshold_option",
    "value_range_option",
]

FOLDER = click.Path(file_okay=False, path_type=Path)
"""An output folder."""

PATH = click.Path(path_type=Path)
"""A file or folder that a command reads; the library checks it."""

dataset_option = click.option(
    "--dataset", "dataset_path", required=True, type=PATH, help="Folder, .npz or .csv of images and masks."
)
"""Which dataset."""


def max_pixels_option(default: int, more: str = "") -> Callable[[Any], Any]:
    """How large an image may be. `more` is said after that."""
    about = f"Refuse images with more pixels{more}."
    return click.option("--max-pixels", type=click.IntRange(1), default=default, show_default=True, help=about)


categories_option = click.option(
    "--category",
    "categories",
    multiple=True,
    help="Use images of this category only: COVID-19, Non-COVID, Normal or one of the dataset's own; can be repeated.",
)
"""Which categories of a dataset."""


def _value_range(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[float, float] | None:
    if value is None:
        return None
    from cxrseg.io.value_range import parse_value_range

    try:
        return parse_value_range(value)
    except CxrsegError as error:
        raise click.BadParameter(str(error)) from None


def _mask_values(ctx: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> dict[str, Any]:
    if not value:
        return {}
    from cxrseg.io.masks import MaskValues

    found = {}
    for one in value:
        target, _, values = one.partition("=")
        if target not in _TARGETS:
            raise click.BadParameter(f"expected {' or '.join(_TARGETS)}, then = and values, got {one!r}")
        try:
            found[target] = MaskValues.parse(values)
        except CxrsegError as error:
            raise click.BadParameter(str(error)) from None
    return found


_TARGETS = ("infection", "lungs")
"""Equal to `cxrseg.data.sample.TARGETS`, which the help cannot import without numpy."""

value_range_option = click.option(
    "--value-range",
    callback=_value_range,
    metavar="LOW:HIGH",
    help="Stored values of black and of white in the images, such as 0:4095, or 12bit.  [default: what the file says, "
    "or an estimate]",
)
"""Which values of images are black and white."""

mask_values_option = click.option(
    "--mask-values",
    multiple=True,
    callback=_mask_values,
    metavar="TARGET=VALUES",
    help="Values that are marked in the masks, where these hold several classes: infection=1,2 or lungs=#ff0000; can "
    "be repeated.",
)
"""Which values of masks are marked."""


def _models(ctx: click.Context, parameter: click.Parameter, value: tuple[Path, ...]) -> tuple[Path, ...]:
    if not value:
        return ()
    from cxrseg.run_folder import model_file_in

    try:
        return tuple(model_file_in(path) for path in value)
    except CxrsegError as error:
        raise click.BadParameter(str(error)) from None


models_option = click.option(
    "-m",
    "--model",
    "models",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    callback=_models,
    metavar="MODEL",
    help="Use this model file or run folder instead of the weights that come with cxrseg; several are averaged.",
)
"""Which weights."""


def task_option(help_text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Which map of the model is used."""
    tasks = click.Choice(["opacity", "infection", "covid19"])
    return click.option("-ta", "--task", type=tasks, default="opacity", show_default=True, help=help_text)


threshold_option = click.option(
    "--threshold",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Probability from which a pixel is infection.  [default: the model file's threshold]",
)
"""From which probability a pixel is marked."""

device_option = click.option("-d", "--device", default="cpu", show_default=True, help="cpu, gpu or gpu:N.")
"""Where models run."""

quiet_option = click.option("-q", "--quiet", is_flag=True, help="Print only errors.")
"""Whether to print results and progress."""

exclude_option = click.option(
    "--exclude",
    type=PATH,
    metavar="FILE",
    help="Leave out the images that this file names; 'cxrseg data check --write-exclusions' writes such a file.",
)
"""Which images of a dataset to leave out."""

copies_option = click.option(
    "--copies",
    type=PATH,
    metavar="FOLDER",
    help="Treat copies of one image as a group, in splits and intervals: the output folder of 'cxrseg data check'.",
)
"""Which images of a dataset are copies of each other."""


def open_chosen(
    path: Path,
    value_range: tuple[float, float] | None = None,
    mask_values: dict[str, Any] | None = None,
    *,
    exclude: Path | None = None,
    copies: Path | None = None,
) -> Dataset:
    """Open the dataset that the options describe."""
    from cxrseg.data.exclusions import exclude as without
    from cxrseg.data.groups import with_copies
    from cxrseg.data.layout import open_dataset
    from cxrseg.data.sample import Reading

    dataset = open_dataset(path, Reading(value_range, mask_values or {}))
    if dataset.unused:
        click.echo(f"{path}: {dataset.unused_line}", err=True)
    if copies is not None:
        dataset = with_copies(dataset, copies)
    return dataset if exclude is None else without(dataset, exclude)
