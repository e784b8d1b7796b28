"""The curves of each panel, as plain numbers from records."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from dcao.plotting.spelling import spelled
from dcao.policies.base import Policy
from dcao.policies.ceiling import Ceiling
from dcao.policies.compose import Compose, Smoothed
from dcao.probing.estimate import CurvatureEstimate
from dcao.telemetry import StepRecord

EDGE = 2.0
"""The stability number at which every optimizer stops being stable."""

Read = Callable[[CurvatureEstimate], float | None]
Pair = tuple[int, float]


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A line of a panel.

    Attributes:
        steps: Optimizer step of each point.
        values: Its height; nan is a gap, infinities are beyond the axis.
        label: What stands at its right end; empty where the panel's own label says it.
        ink: Whether it is what the panel is about, stands behind that, or limits it.
    """

    steps: Sequence[int]
    values: Sequence[float]
    label: str = ""
    ink: Literal["main", "faint", "limit"] = "main"

    @property
    def has_values(self) -> bool:
        """Whether there is a finite one."""
        return any(map(math.isfinite, self.values))


def losses(records: Sequence[StepRecord]) -> list[Curve]:
    """The training loss before the steps that have a record."""
    return [_curve((record.step, _number(record.loss)) for record in records)]


def lrs(records: Sequence[StepRecord]) -> list[Curve]:
    """The lr that trains from there on."""
    return [_curve((record.step, record.after.lr) for record in records)]


def relative_steps(records: Sequence[StepRecord], policy: Policy | None) -> list[Curve]:
    """The relative step, and the limit that a ceiling sets to it."""
    measured = _curve(_measured(records, lambda estimate: estimate.relative_step, at_every_probe=True))
    rule, label = _ceiling(policy), "limit"
    if policy is None and any(_is_of_a_ceiling(record) for record in records):
        rule, label = Ceiling(), "default limit"
    if rule is None:
        return [measured]
    pairs = [(record.step, rule.largest_relative_step(record.after.momentum or 0.0)) for record in records]
    return [measured, _limit(pairs, label, digits=2)]


def stability_numbers(records: Sequence[StepRecord]) -> list[Curve]:
    """The stability number, and its edge."""
    measured = _curve(_measured(records, lambda estimate: estimate.s, at_every_probe=True))
    ends = [record.step for record in records]
    return [measured, _limit([(min(ends, default=0), EDGE), (max(ends, default=0), EDGE)], "edge")]


def ritz_values(records: Sequence[StepRecord]) -> list[Curve]:
    """The largest Ritz values of the Hessian by rank, the smallest one, and 2 / lr where s is measured by the first."""
    estimates = [record.estimate for record in records if record.estimate is not None]
    num_ranks = max((len(estimate.ritz_values) for estimate in estimates), default=0)
    curves = [_curve(_measured(records, _largest), label="largest")]
    for rank in range(1, num_ranks):
        label = f"rank {rank + 1}" if rank + 1 == num_ranks else ""
        curves.append(_curve(_measured(records, partial(_ranked, rank)), label=label, ink="faint"))
    curves.append(_curve(_measured(records, lambda estimate: estimate.smallest), label="smallest", ink="faint"))
    curves.append(_limit(_measured(records, _edge_of_hessian), "edge"))
    return curves


def preconditioned(records: Sequence[StepRecord]) -> list[Curve]:
    """The largest Ritz value of the preconditioned Hessian, and the optimizer's threshold for it."""
    return [
        _curve(_measured(records, lambda estimate: estimate.preconditioned_sharpness)),
        _limit(_measured(records, _edge_of_preconditioned), "edge"),
    ]


def _curve(pairs: Iterable[Pair], *, label: str = "", ink: Literal["main", "faint", "limit"] = "main") -> Curve:
    """The curve of some points, with a gap where a log goes back to an earlier step, as that of a resumed run does."""
    steps: list[int] = []
    values: list[float] = []
    for step, value in pairs:
        if steps and step < steps[-1]:
            steps.append(step)
            values.append(math.nan)
        steps.append(step)
        values.append(value)
    return Curve(steps=steps, values=values, label=label, ink=ink)


def _limit(pairs: Iterable[Pair], name: str, digits: int = 3) -> Curve:
    """The curve of a limit, which is called by its number too where that is the same throughout."""
    found = list(pairs)
    numbers = {spelled(value, digits) for _, value in found}
    return _curve(found, label=f"{name} {min(numbers)}" if len(numbers) == 1 else name, ink="limit")


def _measured(records: Iterable[StepRecord], read: Read, *, at_every_probe: bool = False) -> Iterator[Pair]:
    """What was measured; where every probe should have a value, one that has none leaves a gap."""
    for record in records:
        value = None if record.estimate is None else read(record.estimate)
        if value is not None or (at_every_probe and record.observation is not None):
            yield record.step, _number(value)


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _largest(estimate: CurvatureEstimate) -> float | None:
    return estimate.ritz_values[0] if estimate.ritz_values else estimate.sharpness


def _ranked(rank: int, estimate: CurvatureEstimate) -> float | None:
    return estimate.ritz_values[rank] if rank < len(estimate.ritz_values) else None


def _edge_of_hessian(estimate: CurvatureEstimate) -> float | None:
    return _edge(_largest(estimate), estimate.s) if estimate.measure == "hessian" else None


def _edge_of_preconditioned(estimate: CurvatureEstimate) -> float | None:
    return _edge(estimate.preconditioned_sharpness, estimate.stability.get("preconditioned"))


def _edge(curvature: float | None, s: float | None) -> float | None:
    """The curvature whose s is 2, from one whose s was measured; None where that says nothing."""
    if curvature is None or s is None or not (0.0 < curvature < math.inf and 0.0 < s < math.inf):
        return None
    return EDGE * curvature / s


def _ceiling(policy: Policy | None) -> Ceiling | None:
    """The ceiling that is, or is within, a policy."""
    if isinstance(policy, Compose):
        return next((found for rule in policy.policies if (found := _ceiling(rule)) is not None), None)
    if isinstance(policy, Smoothed):
        return _ceiling(policy.policy)
    return policy if isinstance(policy, Ceiling) else None


def _is_of_a_ceiling(record: StepRecord) -> bool:
    return "; this probe allows " in record.decision.reason
