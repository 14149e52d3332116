"""CSV files as programs write them, and as Excel writes them again: other encodings, other separators."""

from __future__ import annotations

import codecs
import csv
import io
import re
from pathlib import Path

from cxrseg.errors import DatasetError

__all__ = ["read_csv", "read_csv_rows"]

_SEPARATORS = ",;\t|"
_STATED = re.compile(r'"?sep=(.)"?', re.I)
_COMMA = re.compile(r"[+-]?\d+,\d+([eE][+-]?\d+)?")
_AROUND = "\ufeff\0\x1a"
"""More byte order marks at the start; the end mark of DOS, and what fills a block, at the end."""

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_csv(path: Path | str) -> list[list[str]]:
    """Read all lines of a CSV file, the header among them; an empty line is an empty list, and none is at the start.

    Understood are UTF-8, with or without a byte order mark, and UTF-16; commas, semicolons, tabs and bars; every end of
    line; a first line such as 'sep=;', which is left out; whole lines in quotes. Where semicolons or tabs separate,
    '0,5' is the number 0.5 and becomes '0.5'.

    Args:
        path: the file.

    Raises:
        DatasetError: it cannot be read, is of another encoding, or its quotes do not fit.
    """
    text = _text(Path(path)).strip(_AROUND).replace("\r\n", "\n").replace("\r", "\n").lstrip("\n")
    first, _, rest = text.partition("\n")
    if stated := _STATED.fullmatch(first.strip(" ")):
        text = rest.lstrip("\n")
    separator = stated[1] if stated else _separator(text)
    try:
        rows = _parsed(text, separator)
        if not stated and _is_quoted_once_more(rows):
            text = "\n".join(row[0] if row else "" for row in rows)
            separator = _separator(text)
            rows = _parsed(text, separator)
    except csv.Error as error:
        raise DatasetError(f"{path} is not a valid CSV file ({error}); save it again as 'CSV UTF-8'") from error
    if separator in ";\t":
        rows = [[cell.replace(",", ".") if _COMMA.fullmatch(cell.strip()) else cell for cell in row] for row in rows]
    return rows


def read_csv_rows(path: Path | str) -> list[dict[str, str]]:
    """Read a CSV file with a header as a list of column name to cell, without empty lines; missing cells are ''.

    Raises:
        DatasetError: as for `read_csv`.
    """
    header, *rows = read_csv(path) or [[]]
    names = [name.strip() for name in header]
    return [
        dict(zip(names, row + [""] * (len(names) - len(row)), strict=False))
        for row in rows
        if any(cell.strip() for cell in row)
    ]


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror or error}") from error
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), "")
    if not encoding:
        # Without a mark, every second byte of UTF-16 is 0 where the text is mostly Latin.
        halves = content[:200:2].count(0), content[1:200:2].count(0)
        encoding = "utf-8" if max(halves) < 20 else "utf-16-le" if halves[1] > halves[0] else "utf-16-be"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path} is not UTF-8 or UTF-16 text ({error}); save it again as 'CSV UTF-8'") from error


def _separator(text: str) -> str:
    return max(_SEPARATORS, key=_outside_quotes(text.partition("\n")[0]).count)


def _parsed(text: str, separator: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True))


def _is_quoted_once_more(rows: list[list[str]]) -> bool:
    """Whether each line is one cell that holds the whole line, as programs write that take the file for one column."""
    cells = [row[0] for row in rows if len(row) == 1]
    full = [row for row in rows if row]
    return bool(full) and len(cells) == len(full) and all(_separator(cells[0]) in cell for cell in cells)


def _outside_quotes(line: str) -> str:
    return "".join(part for place, part in enumerate(line.split('"')) if place % 2 == 0)
