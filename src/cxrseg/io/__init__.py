"""Files to values and back. Imports no other package of cxrseg."""
