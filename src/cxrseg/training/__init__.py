"""From samples to weights. The only package that imports torch."""
