"""A dataset to its faults: near duplicates, odd masks, shortcuts."""
