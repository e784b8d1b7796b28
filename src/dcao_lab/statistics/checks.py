"""Checks of arguments that several statistics share."""

import math
from collections.abc import Mapping

from dcao_lab.errors import LabError


def check_confidence(confidence: float) -> None:
    """Raise if ``confidence`` is outside (0, 1).

    Raises:
        LabError: ``confidence`` is outside (0, 1), for example a percentage.

    Example:
        >>> check_confidence(95)
        Traceback (most recent call last):
        ...
        dcao_lab.errors.LabError: confidence must be in (0, 1), got 95; write 95 % as 0.95
    """
    if not 0.0 < confidence < 1.0:
        raise LabError(f"confidence must be in (0, 1), got {confidence}; write 95 % as 0.95")


def common_workloads(table: Mapping[str, Mapping[str, float]]) -> list[str]:
    """The workloads of a table of arms, after a check that every arm has the same ones; in the first arm's order.

    Raises:
        LabError: There is no arm or no workload, or an arm lacks a workload that another has.
    """
    if not table or not all(table.values()):
        raise LabError("there must be at least one arm and every arm must have a workload; got an empty table")
    everything = list(dict.fromkeys(workload for row in table.values() for workload in row))
    for arm, row in table.items():
        lacking = [workload for workload in everything if workload not in row]
        if lacking:
            raise LabError(
                f"every arm must have every workload, but {arm!r} lacks {', '.join(lacking)}; "
                "finish its runs or leave those workloads out for all arms"
            )
    return everything


def is_time(value: float) -> bool:
    """Whether ``value`` can be a time: positive, and infinite for "never"."""
    return value > 0.0 and not math.isnan(value)
