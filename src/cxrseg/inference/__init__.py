"""Radiograph to prediction, one or thousands, without torch."""
