"""The HTTP service: a REST interface to segmentation, and the page that uses it."""
