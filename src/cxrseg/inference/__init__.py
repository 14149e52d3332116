"""From radiographs to predictions, for one image or thousands. Needs no torch."""
