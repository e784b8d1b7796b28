"""What a trainer that was not told of DCAO does without a word."""

from __future__ import annotations

from functools import partial

from dcao.telling.notices import Notices

LIGHTNING = ("lightning.", "pytorch_lightning.")


def tell_of_callback(closure: object, notices: Notices) -> None:
    """Say what is missing where a closure that is going to be probed is that of Lightning's automatic optimization.

    Example:
        >>> tell_of_callback(lambda: None, Notices())  # the caller's own
    """
    if not isinstance(closure, partial) or not getattr(closure.func, "__module__", "").startswith(LIGHTNING):
        return
    if any(getattr(each, "automatic_optimization", False) is True for each in closure.args):
        notices.tell(
            "lightning",
            "Lightning trains this optimizer, and was not told of DCAO: what a probe evaluates again is counted in "
            "self.log, and a probe knows neither the Trainer's precision nor all micro-batches of an accumulation. "
            "Fix: Trainer(callbacks=[dcao.integrations.lightning.DCAOCallback()])",
        )
