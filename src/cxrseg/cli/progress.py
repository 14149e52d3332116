"""A progress bar with the time left."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["progress_bar"]


@contextmanager
def progress_bar(title: str, *, quiet: bool = False) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar on standard error while the block runs; nothing where that is not a terminal.

    Args:
        title: what is being done.
        quiet: show nothing on a terminal either.

    Yields:
        A function to call with the number of finished images and of all images.
    """
    from tqdm import tqdm

    hidden = quiet or not sys.stderr.isatty()
    with tqdm(desc=title, unit=" images", disable=hidden, leave=False, dynamic_ncols=True) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show
