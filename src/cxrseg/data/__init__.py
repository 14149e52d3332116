"""From folders of images to samples: layouts, splits, exclusions, downloads."""
