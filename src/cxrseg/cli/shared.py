"""Shared by the commands: turning errors into exit codes, and common options."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from cxrseg.errors import CxrsegError

__all__ = [
    "FOLDER",
    "NOTICE",
    "PATH",
    "Commands",
    "categories_option",
    "command",
    "dataset_option",
    "exclude_option",
    "group",
    "mask_values_option",
    "models_option",
    "value_range_option",
]

NOTICE = "Research use only. Not for diagnosis."
"""Printed below every result."""

_HOSPITAL = frozenset({"dicomweb_client", "highdicom", "prometheus_client", "pynetdicom"})
"""Packages of cxrseg[hospital]."""

_SERVE = frozenset({"fastapi", "multipart", "python_multipart", "starlette", "uvicorn"})
"""Packages of cxrseg[serve]; others that may be missing belong to cxrseg[train]."""


class Commands(click.Group):
    """Turns the library's errors into a message and exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except CxrsegError as error:
            raise click.ClickException(str(error)) from error
        except ModuleNotFoundError as error:
            missing = (error.name or "").partition(".")[0]
            if missing == "cxrseg":
                raise
            extra = "hospital" if missing in _HOSPITAL else "serve" if missing in _SERVE else "train"
            raise click.ClickException(
                f"this command needs the package {error.name!r}: pip install 'cxrseg[{extra}]'"
            ) from error
        except OSError as error:
            if error.errno == errno.EPIPE:  # the reader of our output has exited; click then exits without a message
                raise
            raise click.ClickException(f"{error.filename or 'the system'}: {error.strerror or error}") from error


def command(example: str) -> Callable[[Callable[..., Any]], click.Command]:
    """A command whose help ends with an example, and that accepts -h."""
    decorator: Callable[[Callable[..., Any]], click.Command] = click.command(**_help(example))
    return decorator


def group(example: str, cls: type[click.Group] = click.Group) -> Callable[[Callable[..., Any]], click.Group]:
    """A group of commands whose help ends with an example, and that accepts -h."""
    decorator: Callable[[Callable[..., Any]], click.Group] = click.group(cls=cls, **_help(example))
    return decorator


def _help(example: str) -> dict[str, Any]:
    return {"epilog": f"\b\nExample:\n  {example}", "context_settings": {"help_option_names": ["-h", "--help"]}}


FOLDER = click.Path(file_okay=False, path_type=Path)
"""An output folder."""

PATH = click.Path(path_type=Path)
"""A file or folder that a command reads; the library checks it."""

dataset_option = click.option(
    "--dataset", "dataset_path", required=True, type=PATH, help="Folder, .npz or .csv of images and masks."
)
"""Which dataset."""

categories_option = click.option(
    "--category",
    "categories",
    multiple=True,
    type=click.Choice(["COVID-19", "Non-COVID", "Normal"]),
    help="Use images of this category only; can be repeated.",
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

models_option = click.option(
    "-m",
    "--model",
    "models",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Use this model file instead of the weights that come with cxrseg; several are averaged.",
)
"""Which weights."""

exclude_option = click.option(
    "--exclude",
    type=PATH,
    metavar="FILE",
    help="Leave out the images that this file names; 'cxrseg data check --write-exclusions' writes such a file.",
)
"""Which images of a dataset to leave out."""
