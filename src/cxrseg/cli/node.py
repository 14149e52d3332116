"""The command `node`."""

from __future__ import annotations

import logging
import signal
import threading
from pathlib import Path
from typing import Any

import click

from cxrseg.cli.options import max_pixels_option, models_option
from cxrseg.cli.shared import NOTICE, command

__all__ = ["node"]

_KINDS = ("dicom_seg", "dicom_sr", "dicom_sc")


@command("cxrseg node --listen 11112 --send ORTHANC@127.0.0.1:4242")
@click.option(
    "--listen",
    metavar="[HOST:]PORT",
    default="11112",
    show_default=True,
    help="Address for incoming associations; without a host 127.0.0.1. 0.0.0.0 accepts them from every network.",
)
@click.option(
    "--send",
    "destinations",
    metavar="AET@HOST:PORT",
    multiple=True,
    required=True,
    help="Send objects to this node by C-STORE, or to the URL of a DICOMweb server by STOW-RS. Can be repeated.",
)
@click.option("--aet", default="CXRSEG", show_default=True, help="AE title of this node; peers must use it.")
@click.option("--accept-from", metavar="AET", multiple=True, help="Accept only this calling AE title. Can be repeated.")
@click.option(
    "--output-type",
    "kinds",
    type=click.Choice(_KINDS),
    multiple=True,
    default=_KINDS[:2],
    show_default=True,
    help="Kind of objects to make. Can be repeated.",
)
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of images, objects and the queue.  [default: a folder in ~/.local/state/cxrseg]",
)
@models_option
@click.option("--metrics", metavar="[HOST:]PORT", help="Address of the metrics for Prometheus.")
@click.option(
    "--tls",
    type=(click.Path(path_type=Path), click.Path(path_type=Path), click.Path(path_type=Path)),
    metavar="CERTIFICATE KEY AUTHORITY",
    help="PEM files. Both directions are encrypted; peers must have a certificate of the authority.",
)
@click.option(
    "--max-associations",
    type=click.IntRange(1, 1000),
    default=10,
    show_default=True,
    help="Largest number of associations at the same time.",
)
@click.option(
    "--max-mb", type=click.IntRange(1, 512), default=128, show_default=True, help="Largest image in megabytes."
)
@max_pixels_option(20_000_000)
@click.option(
    "--timeout", type=click.FloatRange(1), default=30.0, show_default=True, help="Network timeout in seconds."
)
@click.option("-v", "--verbose", is_flag=True, help="Also log the DICOM network.")
def node(
    listen: str,
    destinations: tuple[str, ...],
    folder: Path | None,
    models: tuple[Path, ...],
    metrics: str | None,
    tls: tuple[Path, Path, Path] | None,
    max_mb: int,
    max_pixels: int,
    verbose: bool,
    **others: Any,
) -> None:
    """Receive radiographs over DICOM, segment the frontal ones, and send SEG and SR back.

    An image is saved to the disk before it is acknowledged. A node that was killed continues where it stopped.
    """
    from cxrseg.hospital.node.service import Node
    from cxrseg.hospital.node.settings import NodeSettings, Tls, parse_address, parse_destination, state_folder
    from cxrseg.inference.options import Options

    settings = NodeSettings(
        folder or state_folder(),
        tuple(parse_destination(text) for text in destinations),
        parse_address(listen),
        options=Options(models, max_pixels=max_pixels),
        tls=None if tls is None else Tls(*tls),
        metrics=None if metrics is None else parse_address(metrics),
        max_bytes=max_mb * 2**20,
        **others,
    )
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("pynetdicom").setLevel(logging.INFO if verbose else logging.CRITICAL)
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    click.echo(NOTICE, err=True)
    Node(settings).run(stopped)
