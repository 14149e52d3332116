"""The commands `cache ...`: the compiled models that are kept."""

from __future__ import annotations

import click

from cxrseg.cli.shared import command, group

__all__ = ["cache"]


@group("cxrseg cache clear")
def cache() -> None:
    """Show or remove the compiled models that are kept, so that the next call starts faster."""


@command("cxrseg cache show")
def show() -> None:
    """Print the folder of the cache and its size."""
    from cxrseg.inference.compiled_cache import cache_folder, cached_files

    files = cached_files()
    click.echo(f"{cache_folder()}: {_size(sum(file.stat().st_size for file in files))} in {len(files)} files")


@command("cxrseg cache clear")
def clear() -> None:
    """Remove the compiled models; they are made again when they are needed."""
    from cxrseg.inference.compiled_cache import cache_folder, clear_cache

    click.echo(f"{cache_folder()}: removed {_size(clear_cache())}")


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB"


cache.add_command(show)
cache.add_command(clear)
