"""Radiograph to prediction, without torch."""
