"""Puts this folder on the import path, for the shared cases and reference twins."""
