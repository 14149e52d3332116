"""The command `follow`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cxrseg.cli.options import FOLDER, PATH, models_option
from cxrseg.cli.shared import NOTICE, command

if TYPE_CHECKING:
    from cxrseg.hospital.follow_up.films import Film

__all__ = ["follow"]


@command("cxrseg follow -i films -o course")
@click.option("-i", "--input", "source", required=True, type=PATH, help="A folder of films of one or more patients.")
@click.option("-o", "--output", "out", required=True, type=FOLDER, help="The output folder.")
@click.option("--csv", "table", type=PATH, help="Columns file, patient, and date or day.  [default: DICOM tags]")
@models_option
@click.option(
    "--identities", is_flag=True, help="Write patient identifiers, file names and dates instead of keys and days."
)
@click.option("-q", "--quiet", is_flag=True, help="Print only errors.")
def follow(
    source: Path, out: Path, table: Path | None, models: tuple[Path, ...], identities: bool, quiet: bool
) -> None:
    """Follow patients over time: the infected fraction of each film, and which changes are larger than the noise.

    Writes follow_up.csv, follow_up.json, follow_up.html and a picture for each patient.
    """
    from cxrseg.hospital.follow_up.run import follow_folder
    from cxrseg.inference.segmenter import Segmenter
    from cxrseg.report.follow_up import write_follow_up_page

    def show(film: Film, reason: str) -> None:
        if reason and not quiet:
            click.echo(f"{film.name}: not used: {reason}", err=True)

    found = follow_folder(source, out, Segmenter(models or None), table=table, identities=identities, on_film=show)
    page = out / "follow_up.html"
    write_follow_up_page(page, found.courses, found.pictures)
    for fault in found.faults:
        click.echo(fault, err=True)
    if quiet:
        return
    films = [film for course in found.courses for film in course["films"]]
    counts = Counter(film["since_last"]["verdict"] for film in films if "since_last" in film)
    used = sum(film["status"] == "ok" for film in films)
    click.echo(f"patients {len(found.courses)}, films used {used}, not used {len(films) - used}")
    said = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    click.echo(f"changes from film to film: {said or 'none, since no patient has two films'}")
    click.echo(f"page  {page}\n{NOTICE}")
