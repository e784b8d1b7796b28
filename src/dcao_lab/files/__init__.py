"""Files that other processes may be reading or writing: JSON with one spelling, whole-file writes, locks."""
