"""Checks of a dataset: near duplicates, unusual masks, shortcuts."""
