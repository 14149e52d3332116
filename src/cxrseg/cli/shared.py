"""Shared by the commands: turning errors into exit codes, and common options."""

from __future__ import annotations

import errno
import logging
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cxrseg.errors import ArgumentError, CxrsegError

if TYPE_CHECKING:
    from cxrseg.data.sample import Dataset

__all__ = [
    "EXIT_CODES",
    "FAILED",
    "FOLDER",
    "INTERRUPTED",
    "NOTICE",
    "PATH",
    "SOME_NOT",
    "Commands",
    "categories_option",
    "command",
    "copies_option",
    "dataset_option",
    "device_option",
    "exclude_option",
    "group",
    "log_to_console",
    "mask_values_option",
    "models_option",
    "open_chosen",
    "quiet_option",
    "task_option",
    "threshold_option",
    "value_range_option",
]

NOTICE = "Research use only. Not for diagnosis."
"""Printed below every result."""

_HOSPITAL = frozenset({"dicomweb_client", "highdicom", "prometheus_client", "pynetdicom"})
"""Packages of cxrseg[hospital]."""

_SERVE = frozenset({"fastapi", "multipart", "python_multipart", "starlette", "uvicorn"})
"""Packages of cxrseg[serve]; others that may be missing belong to cxrseg[train]."""


SOME_NOT, FAILED, INTERRUPTED = 1, 3, 130
"""Exit codes beside 0 and click's 2, see `EXIT_CODES`."""

EXIT_CODES = """\b
Exit codes:
  0    done
  1    done, but some files are not as they should be: 'predict' could not
       read or refused some, 'data check' found faults
  2    wrong usage
  3    the command failed; the message says why
  130  stopped with Ctrl-C"""
"""At the end of `cxrseg --help`."""


class _Failure(click.ClickException):
    exit_code = FAILED


class Listing(click.Group):
    """Lists its commands with the whole first sentence of their help, which click would cut."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list."""
        rows = [(name, command.get_short_help_str(limit=1000)) for name, command in self.commands.items()]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


class Commands(Listing):
    """Turns the library's errors into a message and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):  # a console may lack letters of a file's name: then \u0142 stands for it
                stream.reconfigure(errors="backslashreplace")
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.Abort, click.exceptions.Exit):
            raise
        except KeyboardInterrupt:
            click.echo("stopped with Ctrl-C", err=True)
            ctx.exit(INTERRUPTED)
        except ArgumentError as error:
            raise click.UsageError(str(error), ctx) from error
        except Exception as error:
            if isinstance(error, OSError) and error.errno == errno.EPIPE:
                raise  # the reader of our output has exited; click then exits without a message
            raise _Failure(_message(error)) from error


def _message(error: Exception) -> str:
    """What went wrong, in one message; after the traceback where cxrseg itself is at fault."""
    if isinstance(error, CxrsegError):
        return str(error)
    if isinstance(error, OSError):
        return f"{error.filename or 'the system'}: {error.strerror or error}"
    missing = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else "cxrseg"
    if missing != "cxrseg":
        extra = "hospital" if missing in _HOSPITAL else "serve" if missing in _SERVE else "train"
        return f"this command needs the package {missing!r}: pip install 'cxrseg[{extra}]'"
    if isinstance(error, MemoryError):
        return "the memory is full; close other programs, or use smaller images"
    traceback.print_exception(error)
    return f"{type(error).__name__}: {error}. This is a fault in cxrseg: please report it with the lines above"


class _Console(logging.Handler):
    """Writes to the standard error of the moment, which tests exchange."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record."""
        click.echo(f"{record.levelname.capitalize()}: {self.format(record)}", err=True)


def log_to_console(level: int) -> None:
    """Print what cxrseg logs from this level on."""
    logger = logging.getLogger("cxrseg")
    if not any(isinstance(handler, _Console) for handler in logger.handlers):
        logger.addHandler(_Console())
    logger.setLevel(level)


def command(example: str) -> Callable[[Callable[..., Any]], click.Command]:
    """A command whose help ends with an example, and that accepts -h."""
    decorator: Callable[[Callable[..., Any]], click.Command] = click.command(**_help(example))
    return decorator


def group(
    example: str, cls: type[click.Group] = Listing, epilog: str = ""
) -> Callable[[Callable[..., Any]], click.Group]:
    """A group of commands whose help ends with an example, and that accepts -h."""
    decorator: Callable[[Callable[..., Any]], click.Group] = click.group(cls=cls, **_help(example, epilog))
    return decorator


def _help(example: str, epilog: str = "") -> dict[str, Any]:
    epilog = f"{epilog}\n\n" if epilog else ""
    return {"epilog": f"{epilog}\b\nExample:\n  {example}", "context_settings": {"help_option_names": ["-h", "--help"]}}


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
