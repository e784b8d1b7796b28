"""Puts this folder on the import path, for the shared cases and reference twins."""

from hypothesis import settings

# The same examples at every run, and none failed for being slow on a busy machine.
settings.register_profile("dcao", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("dcao")
