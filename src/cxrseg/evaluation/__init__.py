"""A model and a dataset to the truth about both."""
