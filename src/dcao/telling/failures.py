"""Why a probe failed, in words, and what helps."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from dcao.operators.base import Unsupported

LONGEST = 300
"""Characters of an error's text that go into a warning."""

_OUT_OF_MEMORY = ("out of memory", "can't allocate memory")

# Parts of an error's text, what they mean for a loss that is evaluated once more, and what helps.
_CAUSES = (
    (
        _OUT_OF_MEMORY,
        "a probe needs the memory of a training step's passes and of five copies of the parameters",
        "give a smaller batch as probe_batch=, or train with smaller ones",
    ),
    (
        ("a second time",),
        "something keeps the graph of an earlier evaluation: a loss that is computed outside of loss_fn, a forward "
        "hook, a cached tensor, a hidden state",
        "compute it within the loss, or detach() what is kept",
    ),
    (
        ("inplace operation",),
        "the loss changes a tensor that its own gradient needs",
        "write the result into a new tensor",
    ),
    (
        ("StopIteration",),
        "the loss draws its own batch, and there is none left",
        "draw the batch before minimize or step, so that the loss finds the same one again",
    ),
    (
        ("FailedElsewhere",),
        "the loss raised an error on another rank, and a probe fails on all ranks or on none",
        "look at what that rank says",
    ),
)


@dataclass(frozen=True, kw_only=True)
class Failure:
    """An error in a probe: what it said, what it probably means, and what helps. It keeps no graph alive.

    Example:
        >>> failure = Failure.of(RuntimeError("Trying to backward through the graph a second time (or ...)"))
        >>> failure.fix
        'compute it within the loss, or detach() what is kept'
    """

    error: str
    cause: str
    fix: str

    @classmethod
    def of(cls, error: Exception, *, is_again: bool = True) -> Failure:
        """What is known of ``error``; ``is_again``: the loss is that of the training step, evaluated once more."""
        name = type(error).__name__
        first_line = (str(error).strip().splitlines() or [""])[0]
        text = f"{name}: {first_line}".removesuffix(": ")
        text = text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
        if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
            return cls(error=text, cause=_CAUSES[0][1], fix=_CAUSES[0][2])
        for signs, cause, fix in _CAUSES:
            if any(sign in f"{name}: {error}" for sign in signs):
                return cls(error=text, cause=cause, fix=fix)
        if isinstance(error, Unsupported):
            return cls(error=text, cause="torch cannot differentiate this loss twice", fix='set hvp="auto"')
        if is_of_dcao(error) or not is_again:
            return cls(error=text, cause="", fix="")
        return cls(
            error=text,
            cause="a probe evaluates the loss again, with the same batch, which this one did not stand",
            fix="let it depend on the weights and the batch alone",
        )


def is_of_dcao(error: BaseException) -> bool:
    """Whether this package has raised the error itself, rather than a loss, a closure or torch inside one."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_globals.get("__name__", "").split(".")[0] == "dcao"
