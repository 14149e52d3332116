"""The site of the documentation: built without a warning, complete, and read without a server or a network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

import cxrseg
from cxrseg.cli import main
from made_browser import launched_browser

pytest.importorskip("mkdocs", reason="needs mkdocs: pip install 'cxrseg[docs]'")
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def names_of(command: click.Command, path: tuple[str, ...] = ("cxrseg",)) -> list[str]:
    """The command and all below it, as their headings are named."""
    below = command.commands.items() if isinstance(command, click.Group) else ()
    return ["-".join(path), *(name for word, one in below for name in names_of(one, (*path, word)))]


def test_every_text_is_a_page_and_nothing_else(site: Path) -> None:
    pages = {path.relative_to(site).with_suffix("").as_posix() for path in site.rglob("*.html")}
    texts = {path.stem for path in (ROOT / "docs").glob("*.md")}
    assert pages - texts == {"404", "changes", "security", "contributing", "reference/commands", "reference/python"}
    assert texts <= pages
    assert not list(site.rglob("*.py"))


def test_the_reference_has_every_command_option_and_public_name(site: Path) -> None:
    commands = (site / "reference" / "commands.html").read_text(encoding="utf-8")
    assert [name for name in names_of(main) if f'id="{name}"' not in commands] == []
    options = {
        option
        for name in ("predict", "train", "node", "serve")
        for parameter in main.commands[name].params
        for option in parameter.opts
        if option.startswith("--")
    }
    assert [option for option in sorted(options) if f"<code>{option}</code>" not in commands] == []
    names = (site / "reference" / "python.html").read_text(encoding="utf-8")
    public = [name for name in cxrseg.__all__ if name != "__version__"]
    assert [name for name in public if not re.search(rf'id="cxrseg\.[\w.]+\.{name}"', names)] == []
    assert "does not look like a frontal chest radiograph" in " ".join(names.split())  # docstrings, not only signatures


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    loads = re.compile(r'<(?:script|link|img|iframe)\b[^>]*?\b(?:src|href)="((?:https?:)?//[^"]*)"')
    found = {url for path in site.rglob("*.html") for url in loads.findall(path.read_text(encoding="utf-8"))}
    assert found == set()


def test_search_works_in_a_page_that_was_opened_as_a_file(site: Path) -> None:
    with launched_browser() as browser:
        page = browser.new_page()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto((site / "index.html").as_uri())
        words = page.locator("input.md-search__input")
        words.click()
        words.press_sequentially("ground-glass")  # the search listens to keys
        result = page.locator(".md-search-result__link").first
        result.wait_for(state="visible", timeout=60_000)
        found = page.locator(".md-search-result__list").inner_text()
        assert "Glossary" in found
        result.click()
        page.wait_for_url("**/glossary.html*", timeout=60_000)
        assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
        if shot := os.environ.get("CXRSEG_SCREENSHOT"):  # to look at it
            page.screenshot(path=shot)
