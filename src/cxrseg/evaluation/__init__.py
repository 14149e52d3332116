"""From a model and a dataset to scores, comparisons and calibration."""
