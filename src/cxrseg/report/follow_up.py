"""Courses of patients as one HTML page that needs nothing else."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cxrseg.io.write import write_bytes
from cxrseg.report.pages import page_environment

__all__ = ["write_follow_up_page"]


def write_follow_up_page(path: Path, courses: Sequence[Mapping[str, Any]], pictures: Mapping[str, Path]) -> None:
    """Write a page with every patient's picture, films and changes.

    The page holds pictures of patients: it is as private as the films.

    Args:
        path: the page.
        courses: as `cxrseg.hospital.follow_up.tables.course_json` makes them.
        pictures: patient to PNG; a patient without a usable film has none.
    """
    environment = page_environment()
    environment.filters["percent"] = lambda value: "" if value is None else f"{100 * value:.1f}%"
    environment.filters["points"] = lambda value: "" if value is None else f"{100 * value:+.1f}"
    inline = {
        patient: f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}"
        for patient, picture in pictures.items()
    }
    page = environment.get_template("follow_up.html.jinja").render(courses=courses, pictures=inline)
    write_bytes(path, page.encode("utf-8", "backslashreplace"))
