"""Files to values and back. Knows no other room of the house."""
