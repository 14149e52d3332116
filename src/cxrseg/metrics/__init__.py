"""From masks to numbers, with numpy and SciPy only."""
