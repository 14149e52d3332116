"""The command `serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cxrseg.cli.options import (
    FOLDER,
    device_option,
    max_pixels_option,
    models_option,
    task_option,
    threshold_option,
)
from cxrseg.cli.shared import NOTICE, command

__all__ = ["serve"]


@command("cxrseg serve --folder films --keep corrections")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 takes a free port.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; others need --token.")
@models_option
@task_option("Task of requests that name none.")
@click.option(
    "--token",
    envvar="CXRSEG_TOKEN",
    help="Clients must send this as 'Authorization: Bearer TOKEN'. Also read from $CXRSEG_TOKEN.",
)
@device_option
@threshold_option
@click.option("--folder", type=FOLDER, help="List the images of this folder, and say which to correct next.")
@click.option("--keep", type=FOLDER, help="Save corrections into this folder, as a dataset to train on.")
@click.option("--max-mb", type=click.IntRange(1, 4096), default=64, show_default=True, help="Largest request.")
@max_pixels_option(50_000_000)
@click.option(
    "--max-waiting",
    type=click.IntRange(1),
    default=100,
    show_default=True,
    help="Most requests in progress or waiting; others are told to come back later.",
)
@click.option("--timeout", type=click.FloatRange(0.1), default=60.0, show_default=True, help="Seconds for a request.")
@click.option("--no-browser", is_flag=True, help="Do not open the page in a browser.")
def serve(
    port: int,
    host: str,
    models: tuple[Path, ...],
    task: str,
    token: str | None,
    device: str,
    threshold: float | None,
    max_mb: int,
    max_pixels: int,
    no_browser: bool,
    **others: Any,
) -> None:
    """Serve a page on which X-rays are segmented and masks corrected, and the REST interface behind it.

    Ctrl-C ends it.
    """
    from cxrseg.inference.options import Options
    from cxrseg.serve.run import serve as run
    from cxrseg.serve.settings import ServeSettings

    options = Options(models, task, device, threshold, max_pixels=max_pixels)
    settings = ServeSettings(host, port, options, token, max_bytes=max_mb * 2**20, **others)

    def ready(address: str) -> None:
        click.echo(f"Serving at {address}\n{NOTICE} Press Ctrl-C to end.")
        if not no_browser:
            click.launch(f"{address}#token={token}" if token else address)

    run(settings, ready)
