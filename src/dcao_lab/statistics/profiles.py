"""Performance profiles over workloads, as AlgoPerf defines them (Dahl et al. 2023, section 4)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from dcao_lab.errors import LabError
from dcao_lab.statistics.checks import common_workloads, is_time


@dataclass(frozen=True, kw_only=True)
class PerformanceProfile:
    """On how many workloads an arm is within a factor of the fastest arm.

    Attributes:
        arm: Name of the arm.
        ratios: For each workload the arm's time to target over that of the fastest arm; inf if it missed the target.
        r_max: Largest ratio that counts towards the score.
        score: Integral of the profile over [1, r_max] divided by r_max - 1: 1 for the fastest arm everywhere, 0 for one
            that is never within r_max. It is exact; AlgoPerf's own program uses the trapezoidal rule.
    """

    arm: str
    ratios: Mapping[str, float]
    r_max: float
    score: float

    def at(self, tau: float) -> float:
        """Fraction of the workloads on which the arm needs at most ``tau`` times the fastest arm's time."""
        return sum(ratio <= tau for ratio in self.ratios.values()) / len(self.ratios)


def performance_profiles(
    times: Mapping[str, Mapping[str, float]], *, r_max: float = 4.0
) -> dict[str, PerformanceProfile]:
    """The performance profile of each arm.

    Args:
        times: For each arm and workload the time to the target, in any unit that adds up (steps, gradient evaluations,
            seconds); inf if the target was missed. Summarise several runs first (AlgoPerf takes their median). A
            workload whose target no arm reached counts against all.
        r_max: Largest ratio to the fastest arm that counts towards the score. Default 4, as in AlgoPerf.

    Raises:
        LabError: An arm lacks a workload, a time is not positive, or ``r_max`` is not above 1.

    Example:
        >>> found = performance_profiles({"a": {"mlp": 10.0}, "b": {"mlp": 20.0}})
        >>> found["b"].at(1.5), found["b"].at(2.0), round(found["b"].score, 3)  # 1 from 2 to 4, of 1 to 4
        (0.0, 1.0, 0.667)
    """
    if not 1.0 < r_max < math.inf:
        raise LabError(f"r_max must be finite and above 1, got {r_max}; AlgoPerf uses 4")
    workloads = common_workloads(times)
    for arm, row in times.items():
        for workload, time in row.items():
            if not is_time(time):
                raise LabError(
                    f"a time to target must be positive, got {time} for {arm!r} on {workload!r}; "
                    "write inf where the target was missed"
                )
    fastest = {workload: min(row[workload] for row in times.values()) for workload in workloads}
    return {arm: _profile(arm, row, fastest, r_max) for arm, row in times.items()}


def _profile(arm: str, row: Mapping[str, float], fastest: Mapping[str, float], r_max: float) -> PerformanceProfile:
    # inf / inf would be nan if no arm reached the target
    ratios = {name: row[name] / best if math.isfinite(row[name]) else math.inf for name, best in fastest.items()}
    # a workload's step from 0 to 1 at its ratio r has the integral r_max - r
    score = sum(max(0.0, r_max - ratio) for ratio in ratios.values()) / len(ratios) / (r_max - 1.0)
    return PerformanceProfile(arm=arm, ratios=ratios, r_max=r_max, score=score)
