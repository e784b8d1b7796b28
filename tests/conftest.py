"""Puts this folder on the import path, for the shared cases and reference twins."""

import signal

import pytest
from hypothesis import settings

# The same examples at every run, and none failed for being slow on a busy machine.
settings.register_profile("dcao", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("dcao")


@pytest.fixture
def interruptible():
    """Ctrl-C works, here and in processes that start from here; what a shell runs in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
