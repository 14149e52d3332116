"""Masks to numbers, with numpy and SciPy alone."""
