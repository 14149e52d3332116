"""Samples to weights. The only room that needs torch."""
