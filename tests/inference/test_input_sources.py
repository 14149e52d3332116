"""Lists of files, as editors and consoles write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from cxrseg.errors import ImageError
from cxrseg.inference.input_sources import read_list


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("quote", ["", '"', "'"])
def test_encodings_and_quotes(tmp_path: Path, encoding: str, quote: str) -> None:
    lines = ["# films", "", f"{quote}łódź 1.png{quote}", f"  {quote}b's.png{quote} "]
    (tmp_path / "list.txt").write_bytes("\r\n".join(lines).encode(encoding))
    assert read_list(tmp_path / "list.txt") == [Path("łódź 1.png"), Path("b's.png")]


def test_a_list_of_nothing_is_named(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("# nothing\n")
    with pytest.raises(ImageError, match=r"list\.txt, one a line, found none"):
        read_list(tmp_path / "list.txt")
