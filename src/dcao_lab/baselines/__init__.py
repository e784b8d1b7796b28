"""The optimizers that a study compares, by name. The lab builds a ``dcao.DCAO`` in this folder alone."""

from dcao_lab.baselines.base import Baseline, BuildRequest
from dcao_lab.baselines.dcao.arms import watch
from dcao_lab.baselines.registry import BASELINES
from dcao_lab.errors import look_up

__all__ = ["BASELINES", "Baseline", "BuildRequest", "get_baseline", "watch"]


def get_baseline(name: str) -> Baseline:
    """The optimizer called ``name``, such as ``adamw`` or ``dcao:sgd``.

    Raises:
        LabError: There is none of this name; the message lists those there are.

    Example:
        >>> get_baseline("dcao:adamw").title
        'DCAO(AdamW)'
    """
    return look_up(BASELINES, name, "optimizer")
