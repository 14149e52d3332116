"""The page templates, and how they are filled in."""

from __future__ import annotations

from importlib.resources import files

from jinja2 import Environment, FunctionLoader, StrictUndefined

__all__ = ["page_environment", "read_part"]


def page_environment() -> Environment:
    """Jinja's environment for the files of templates/: escaping, and an error for a name that is missing."""
    return Environment(
        loader=FunctionLoader(read_part),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def read_part(name: str) -> str:
    """The text of a file in templates/, such as a style sheet to put into a page."""
    return (files("cxrseg.report") / "templates" / name).read_text(encoding="utf-8")
