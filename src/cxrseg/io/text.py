"""Text from files, such as their names and DICOM tags, made safe for terminals, tables and file names."""

from __future__ import annotations

import unicodedata

__all__ = ["harmless_cell", "printable", "shortened"]

_ESCAPED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})  # control characters, halves of pairs, separators of lines
_DIRECTIONS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that change the direction of the text around them, and so can show a name backwards."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def printable(text: str) -> str:
    r"""Write characters that control a terminal, break a line or cannot be encoded as escapes, such as \\x1b.

    Bytes of a file name that are not UTF-8, which Python holds as surrogates, become \\xNN too.
    """
    if text.isprintable():
        return text
    return "".join(_escaped(letter) for letter in text)


def harmless_cell(text: str) -> str:
    """Text for a cell of a table: with a ' before it where a spreadsheet would take it for a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def shortened(text: str, length: int = 60) -> str:
    """Text of at most so many characters: of a longer one the beginning and the end, where names differ most."""
    if len(text) <= length:
        return text
    end = (length - 3) * 2 // 3
    return f"{text[: length - 3 - end]}...{text[-end:]}"


def _escaped(letter: str) -> str:
    if letter in _ESCAPED:
        return _ESCAPED[letter]
    if unicodedata.category(letter) not in _CATEGORIES and letter not in _DIRECTIONS:
        return letter
    code = ord(letter)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
