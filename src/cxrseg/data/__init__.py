"""Folders of images to samples."""
