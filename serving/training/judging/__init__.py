"""After the fit: what is calibrated on its slice, and one reading of the slice that was left untouched."""
