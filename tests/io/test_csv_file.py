"""CSV files as Excel and others write them again."""

from __future__ import annotations

from pathlib import Path

import pytest

from cxrseg.errors import DatasetError
from cxrseg.io.csv_file import read_csv, read_csv_rows

ROWS = [["name", "value", "remark"], ["Łódź, 1", "0.5", 'say "a"'], ["出力", "-12", ""]]


def written(folder: Path, separator: str, encoding: str, first: str = "", ending: str = "\n") -> Path:
    cells = [['"' + cell.replace('"', '""') + '"' for cell in row] for row in ROWS]
    text = first + "".join(separator.join(row) + ending for row in cells)
    path = folder / "a.csv"
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_encodings_and_separators(tmp_path: Path, encoding: str, separator: str, ending: str) -> None:
    if encoding in ("utf-16-le", "utf-16-be"):  # without a mark, only mostly Latin text is recognised
        encoded = written(tmp_path, separator, encoding, ending=ending)
        assert read_csv(encoded)[0] == ROWS[0]
        return
    assert read_csv(written(tmp_path, separator, encoding, ending=ending)) == ROWS


@pytest.mark.parametrize("first", ["sep=;\n", "SEP=;\r\n", '"sep=;"\n', "\ufeffsep=;\n"])
def test_a_separator_that_is_stated(tmp_path: Path, first: str) -> None:
    assert read_csv(written(tmp_path, ";", "utf-8", first)) == ROWS


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("first", ["", "\n\n", "sep=\t\n", "\ufeff\ufeff", "sep=\t\n\n"])
@pytest.mark.parametrize("last", ["", "\x1a", "\0\0\0"])
def test_what_stands_around_the_table(tmp_path: Path, ending: str, first: str, last: str) -> None:
    path = written(tmp_path, "\t", "utf-8", first.replace("\n", ending), ending)
    path.write_bytes(path.read_bytes() + last.encode())
    assert read_csv(path) == ROWS


def test_lines_that_are_quoted_as_one_cell(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('"name;value"\n"a;0,5"\n"b;""x;y"""\n')
    assert read_csv(path) == [["name", "value"], ["a", "0.5"], ["b", "x;y"]]
    path.write_text('"a,1"\n"b"\n')  # one column of names
    assert read_csv(path) == [["a,1"], ["b"]]


def test_decimal_commas_beside_semicolons(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("name;value;more\na,b;0,5;1,5E-3\n1,2,3;-12,25\n\n;;\n")
    assert read_csv_rows(path) == [
        {"name": "a,b", "value": "0.5", "more": "1.5E-3"},
        {"name": "1,2,3", "value": "-12.25", "more": ""},
    ]
    path.write_text("name\tvalue\na\t 0,5\n")
    assert read_csv_rows(path) == [{"name": "a", "value": " 0.5"}]
    path.write_text('name,value\n"a;b","0,5"\n')
    assert read_csv_rows(path) == [{"name": "a;b", "value": "0,5"}]


@pytest.mark.parametrize(
    ("content", "words"),
    [("é".encode("cp1252"), "not UTF-8"), (b'a,"b\n', "not a valid CSV"), (None, "cannot be read")],
)
def test_what_cannot_be_read(tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "a.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DatasetError, match=words) as caught:
        read_csv(path)
    assert str(path) in str(caught.value)


def test_an_empty_file_has_no_rows(tmp_path: Path) -> None:
    (tmp_path / "a.csv").touch()
    assert read_csv(tmp_path / "a.csv") == read_csv_rows(tmp_path / "a.csv") == []
