"""Shared by the commands: help, exit codes, and errors as messages."""

from __future__ import annotations

import errno
import logging
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any

import click

from cxrseg.errors import ArgumentError, CxrsegError, DiskFullError
from cxrseg.io.signals import handled

__all__ = [
    "EXIT_CODES",
    "FAILED",
    "INTERRUPTED",
    "NOTICE",
    "SOME_NOT",
    "Commands",
    "command",
    "group",
    "log_to_console",
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
  130  stopped with Ctrl-C or SIGTERM; 'serve' and 'node' end with 0"""
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
            # SIGTERM, which schedulers and containers send, stops a command as Ctrl-C does.
            with handled(signal.SIGTERM, signal.default_int_handler):
                return super().invoke(ctx)
        except (click.ClickException, click.Abort, click.exceptions.Exit):
            raise
        except KeyboardInterrupt as stop:
            again = "; continue with --resume" if self._can_resume(ctx) else ""
            click.echo(str(stop) or f"stopped with Ctrl-C or SIGTERM{again}", err=True)
            ctx.exit(INTERRUPTED)
        except ArgumentError as error:
            raise click.UsageError(str(error), ctx) from error
        except Exception as error:
            if isinstance(error, OSError) and error.errno == errno.EPIPE:
                raise  # the reader of our output has exited; click then exits without a message
            raise _Failure(_message(error) + self._how_to_continue(ctx, error)) from error

    def _how_to_continue(self, ctx: click.Context, error: Exception) -> str:
        """What else to say where the disk is full: only some commands can continue what they began."""
        if not isinstance(error, DiskFullError):
            return ""
        return f"; then run the same command again{', with --resume' if self._can_resume(ctx) else ''}"

    def _can_resume(self, ctx: click.Context) -> bool:
        ran = self.get_command(ctx, ctx.invoked_subcommand or "")
        return ran is not None and any(parameter.name == "resume" for parameter in ran.params)


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
