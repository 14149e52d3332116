"""From arrays and numbers to pictures."""
