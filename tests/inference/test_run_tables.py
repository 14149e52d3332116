"""The summary of many rows."""

from __future__ import annotations

from cxrseg.inference.run_tables import summarise


def row(*warnings: str) -> dict[str, object]:
    return {"path": "a.png", "status": "ok", "reason": "", "warnings": list(warnings), "infected_fraction": 0.5}


def test_warnings_that_differ_in_their_numbers_are_of_one_kind() -> None:
    low = [f"the lung mask is uncertain (its expected Dice is 0.7{digit}, below 0.78)" for digit in (1, 2, 2)]
    found = summarise([row("mirrored", text) for text in low] + [row("cut by 0.31 of the border")] * 2)
    assert list(found.warnings.items()) == [
        ("mirrored", 3),
        ("the lung mask is uncertain (its expected Dice is ..., below ...)", 3),
        ("cut by 0.31 of the border", 2),  # always the same number: it is told
    ]
