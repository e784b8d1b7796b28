"""Whether DCAO is evaluating the loss at this moment, for code that has to know."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

_evaluating = False  # of the process, because a backward pass runs in threads of its own


def is_probing() -> bool:
    """Whether the loss is being evaluated by DCAO, and not by the training step.

    After a probe, state that the loss reaches through variables, attributes, containers, modules, random generators,
    hooks and optimizers of other parameters is what it was. The position of an iterator, what a library keeps inside,
    and what has left the process cannot be put back: let code that writes a log, sends a metric or moves a progress bar
    ask this. True in every evaluation that DCAO makes, those of :func:`dcao.hessian_spectrum` and the like included.
    Code under ``torch.compile`` may ask too, and is then compiled once for each answer.

    Example:
        >>> is_probing()
        False
    """
    return _evaluating


@contextmanager
def probing() -> Iterator[None]:
    """Context in which :func:`is_probing` says True."""
    global _evaluating
    outer, _evaluating = _evaluating, True
    try:
        yield
    finally:
        _evaluating = outer
