"""Colours and words that all pictures of cxrseg use."""

from __future__ import annotations

__all__ = ["BLUE", "COLOURS", "GREEN", "NOTICE", "SKY_BLUE", "VERMILLION", "YELLOW", "hex_colour"]

NOTICE = "Research use only. Not for diagnosis."
"""Text on every picture of a prediction."""

# Okabe & Ito 2008, "Color Universal Design": distinguishable with every kind of colour blindness.
BLUE = (0, 114, 178)
GREEN = (0, 158, 115)
SKY_BLUE = (86, 180, 233)
VERMILLION = (213, 94, 0)
YELLOW = (240, 228, 66)

COLOURS = {"infection": VERMILLION, "lungs": SKY_BLUE, "truth": YELLOW}
"""Kind of mask to its colour, (red, green, blue) of 0 to 255."""


def hex_colour(colour: tuple[int, int, int]) -> str:
    """(red, green, blue) of 0 to 255 as '#rrggbb'."""
    return "#{:02x}{:02x}{:02x}".format(*colour)
