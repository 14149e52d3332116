from __future__ import annotations

import io
import sys

import pytest

from cxrseg.cli.progress import progress_bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "quiet", "shown"), [(Terminal(), False, True), (Terminal(), True, False), (io.StringIO(), False, False)]
)
def test_a_bar_is_shown_on_a_terminal_only(
    monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, quiet: bool, shown: bool
) -> None:
    monkeypatch.setattr(sys, "stderr", stream)
    with progress_bar("reading", quiet=quiet) as show:
        show(0, 4)
        show(4, 4)
    assert ("reading" in stream.getvalue()) == shown
