"""One training run: from its config to a folder in the store."""
