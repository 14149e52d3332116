"""The commands. Each parses its arguments, calls one library function and prints; heavy imports are inside it."""

from __future__ import annotations

from pathlib import Path

import click

from cxrseg._version import __version__
from cxrseg.cli.cache import cache
from cxrseg.cli.data import data
from cxrseg.cli.evaluate import compare, evaluate, report
from cxrseg.cli.follow import follow
from cxrseg.cli.node import node
from cxrseg.cli.options import PATH
from cxrseg.cli.predict import predict
from cxrseg.cli.serve import serve
from cxrseg.cli.shared import EXIT_CODES, Commands, command, group
from cxrseg.cli.train import demo, fit_check, recipes, train

__all__ = ["main"]


@group("cxrseg demo", cls=Commands, epilog=EXIT_CODES)
@click.version_option(__version__, prog_name="cxrseg")
def main() -> None:
    """Segment and measure COVID-19 and pneumonia infection on chest X-rays.

    Research use only. Not for diagnosis.
    """


@command("cxrseg info")
@click.argument("model", type=PATH, required=False)
def info(model: Path | None) -> None:
    """Print the metadata of a model file or run folder as JSON; without MODEL, of the weights that come with cxrseg.

    "checksum" says whether the file has a checksum, which is checked whenever the file is loaded, and "int8_ranges" for
    how many convolutions it has ranges for int8.
    """
    import json

    from cxrseg.model_file import has_checksum, read_model, shipped_model
    from cxrseg.run_folder import model_file_in

    path = model_file_in(model) if model else shipped_model()
    found = read_model(path)[1]
    shortened = {"int8_ranges": len(found.int8_ranges), "checksum": has_checksum(path)}
    metadata = json.loads(found.to_json()) | shortened
    click.echo(json.dumps(metadata, indent=2, ensure_ascii=False))


@command('eval "$(cxrseg completion bash)"')
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the shell script that completes commands and options with the tab key."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(main, {}, "cxrseg", "_CXRSEG_COMPLETE").source())


for one in (
    demo,
    train,
    fit_check,
    evaluate,
    compare,
    report,
    predict,
    follow,
    node,
    serve,
    info,
    recipes,
    data,
    cache,
    completion,
):
    main.add_command(one)
