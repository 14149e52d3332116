"""Numbers and masks to pictures."""
