"""Reading recipes from YAML, and writing them with explanations."""

from __future__ import annotations

import difflib
import textwrap
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from cxrseg.errors import RecipeError
from cxrseg.training.recipe import Recipe, Section

__all__ = ["explained", "load_recipe", "shipped_recipes"]


def shipped_recipes() -> dict[str, Path]:
    """Name to file of the recipes that come with cxrseg."""
    folder = Path(str(resources.files("cxrseg") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"), key=lambda path: path.stem)}


class _Loader(yaml.SafeLoader):
    """Refuses aliases: a few lines of them can make billions of values."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            where = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "found an alias (*name); write the value itself", where)
        return super().compose_node(parent, index)


def _load_yaml(text: str) -> Any:
    """Read YAML.

    Raises:
        YAMLError: it is not valid, has aliases, or is nested too deeply.
    """
    try:
        return yaml.load(text, _Loader)
    except RecursionError:
        raise yaml.YAMLError("it is nested too deeply") from None


def load_recipe(name_or_path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe and change some of its settings.

    Args:
        name_or_path: name of a shipped recipe, or a YAML file.
        overrides: 'SECTION.KEY=VALUE' each, VALUE in YAML: 'optimiser.epochs=20', 'data.targets=[infection, lungs]'.

    Raises:
        RecipeError: there is no such recipe, its YAML is invalid, or settings are unknown or out of range (lists all).
    """
    shipped = shipped_recipes()
    path = shipped.get(str(name_or_path), Path(name_or_path))
    try:
        values = _load_yaml(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError):
        raise RecipeError(
            f"no recipe {name_or_path}: expected a YAML file or one of {', '.join(shipped)}"
            + _nearest(str(name_or_path), shipped)
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise RecipeError(f"expected settings ('name: ...') in {path}, got {type(values).__name__}")
    for override in overrides:
        _override(values, override)
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        faults = "\n  - ".join(_fault(fault) for fault in error.errors())
        raise RecipeError(f"the recipe {path.name} has invalid settings; correct:\n  - {faults}") from error


def explained(recipe: Recipe) -> str:
    """The recipe as YAML that `load_recipe` reads, with a comment above each setting that explains it."""
    return "\n".join(_explained(recipe, "")) + "\n"


def _explained(section: Section, indent: str) -> list[str]:
    lines = []
    for key, entry in type(section).model_fields.items():
        value = getattr(section, key)
        meaning = " ".join((entry.description or "").split())
        lines += textwrap.wrap(meaning, 100, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")
        if isinstance(value, Section):
            lines += [f"{indent}{key}:", *_explained(value, indent + "  ")]
        else:
            plain = section.model_dump(mode="json")[key]
            # YAML writes any value on one line as a list of one in brackets; the brackets are then removed.
            lines.append(f"{indent}{key}: {yaml.safe_dump([plain], default_flow_style=True, width=1000).strip()[1:-1]}")
    return lines


def _override(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals:
        raise RecipeError(f"expected KEY=VALUE such as optimiser.epochs=20, got {override!r}")
    *sections, last = key.strip().split(".")
    place = values
    for section in sections:
        place = place.setdefault(section, {})
        if not isinstance(place, dict):
            raise RecipeError(f"{key!r}: {section!r} is a setting, not a section of settings")
    try:
        place[last] = _load_yaml(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"the value of {override!r} is not valid YAML") from error


def _fault(fault: Any) -> str:
    place = [str(part) for part in fault["loc"]]
    where = ".".join(place) or "recipe"
    if fault["type"] == "extra_forbidden":
        section: Any = Recipe
        for part in place[:-1]:
            section = section.model_fields[part].annotation
        return f"{where}: unknown setting{_nearest(place[-1], section.model_fields)}"
    message = fault["msg"].removeprefix("Value error, ")
    return f"{where}: {message}" + ("" if isinstance(fault["input"], dict) else f" (got {fault['input']!r})")


def _nearest(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; the known ones are: {', '.join(known)}"
