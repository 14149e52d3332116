"""Synthetic chest radiographs with known lungs and infection."""
