"""A fixture for files that start hundreds of runs."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="module")
def few_objects() -> Iterator[None]:
    """A probe finds the model's modules among the garbage collector's objects: leave out those of imported packages.

    Hundreds of runs are started here, and each would look through a quarter of a million objects.
    """
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
