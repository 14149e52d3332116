"""What mkdocs does beside its settings: pages made of the code and of the repository's own texts, and their links.

The reference is made of `cxrseg.__all__` and of the command line itself, so that it cannot be out of date.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import cxrseg

ROOT = Path(__file__).resolve().parents[2]
TEXTS = {"changes.md": "CHANGELOG.md", "security.md": "SECURITY.md", "contributing.md": "CONTRIBUTING.md"}
"""Page to the text of the repository that it shows."""

OUTSIDE = re.compile(r"\[([^\]]*)\]\((?:\.\./|(?!https?:|mailto:|#)[A-Z])[^)]*\)")
"""A link to a file of the repository that is not a page: only its text is shown."""

COMMANDS = """# Commands

Every command and option, as `cxrseg COMMAND --help` prints them.

::: mkdocs-click
    :module: cxrseg.cli
    :command: main
    :prog_name: cxrseg
    :depth: 1
    :style: table
    :list_subcommands: true
"""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Leave out of the navigation what is not there."""
    there = {path.relative_to(config.docs_dir).as_posix() for path in Path(config.docs_dir).rglob("*")}
    there |= {*TEXTS, "reference/commands.md", "reference/python.md"}
    config.nav = _existing(config.nav or [], there)
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made."""
    made = {page: _text(source) for page, source in TEXTS.items()}
    for name, content in {**made, "reference/commands.md": COMMANDS, "reference/python.md": _python()}.items():
        files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Show links to files outside of the site as text."""
    return OUTSIDE.sub(r"\1", markdown)


def _existing(entries: list[Any], there: set[str]) -> list[Any]:
    kept: list[Any] = []
    for entry in entries:
        ((title, value),) = entry.items()
        inner = _existing(value, there) if isinstance(value, list) else value if value in there else None
        if inner:
            kept.append({title: inner})
    return kept


def _text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8").replace("](docs/", "](")


def _python() -> str:
    public = [name for name in cxrseg.__all__ if name in cxrseg._MODULES]
    lines = ["# Python", "", "Every public name: what it takes, gives and raises. [Examples of each](../api.md).", ""]
    for title, names in (
        ("Functions", [name for name in public if name[0].islower()]),
        ("Classes", [name for name in public if name[0].isupper()]),
    ):
        lines += [f"## {title}", ""]
        lines += [f"::: cxrseg.{cxrseg._MODULES[name]}.{name}\n" for name in names]
    return "\n".join(lines)
