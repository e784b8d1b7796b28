"""Sentences on what was measured: robustness, stability, curvature, cost and certainty."""

import math
from collections.abc import Sequence
from statistics import median

from scipy import stats

from dcao_lab.report import formats
from dcao_lab.report.analysis.robustness import Sweep
from dcao_lab.report.analysis.solutions import Correlation
from dcao_lab.report.numbers import Numbers

ALPHA = 0.05
STRONG = 0.3  # from here on a correlation is at least of medium strength (Cohen 1988)
FEW_ARMS = 6  # so many are named one by one


def robustness(numbers: Numbers) -> list[str]:
    """How much of each varied axis ends near the best, with and without DCAO."""
    found = [s for s in numbers.sweeps if s.source == "variations" and s.num_shared]
    return [_usable(numbers, [s for s in found if s.axis == axis]) for axis in dict.fromkeys(s.axis for s in found)]


def edge(numbers: Numbers) -> str:
    """How much of the watched training is above the edge, with DCAO and without."""
    shares = {is_wrapped: _share_above(numbers, is_wrapped) for is_wrapped in (True, False)}
    names = {True: "of the probes of DCAO's runs", False: "of those of the runs without"}
    spelled = [f"{100 * share:.0f}{formats.PERCENT} {names[key]}" for key, share in shares.items() if share is not None]
    return f"Edge of stability: s is above 2 in {formats.listed(spelled)} (watched runs)." if spelled else ""


def generalisation(numbers: Numbers) -> list[str]:
    """How each measure of curvature goes with the generalisation gap, by workload."""
    found = [c for c in numbers.correlations if c.outcome == "generalisation_gap" and c.rho is not None]
    return [
        f"Rank correlation of the {measure.replace('_', ' ')} of the solutions with the gap between test and training "
        f"loss: {formats.listed([_rho(numbers, c) for c in found if c.measure == measure])}."
        for measure in dict.fromkeys(c.measure for c in found)
    ]


def flatness(numbers: Numbers) -> str:
    """Whether the sharpness of the solutions says how they generalise; empty without it."""
    found = [c for c in numbers.correlations if (c.measure, c.outcome) == ("sharpness", "generalisation_gap")]
    known = [c for c in found if c.rho is not None]
    if not known:
        return ""
    strong = [c for c in known if abs(c.rho or 0.0) >= STRONG]
    said = formats.listed([_rho(numbers, c) for c in known])
    verb = "goes with" if len(strong) == len(known) else "sometimes goes with" if strong else "says little about"
    return (
        f"The sharpness of a solution {verb} the gap between test and training loss: their rank correlation is {said}."
    )


def cost(numbers: Numbers) -> str:
    """What a training step with DCAO costs more than one without."""
    is_wrapped = numbers.view.is_wrapped
    paid = [c for c in numbers.costs if is_wrapped(c.arm) and c.reference and not is_wrapped(c.reference)]
    times = [c.time_ratio for c in paid if c.time_ratio is not None]
    evaluations = [c.evaluations_ratio for c in paid if c.evaluations_ratio is not None]
    if not times or not evaluations:
        return ""
    arms = list(dict.fromkeys(c.arm for c in paid))
    if len(arms) <= FEW_ARMS:
        return cost_of(numbers, arms)
    return (
        f"Cost: a training step with DCAO takes {formats.more(median(evaluations))} gradient evaluations and "
        f"{formats.more(median(times))} time than the bare optimizer's (medians over workloads and arms; time: "
        f"{formats.percent_change(min(times))} to {formats.percent_change(max(times))})."
    )


def cost_of(numbers: Numbers, arms: Sequence[str]) -> str:
    """What a training step with each of these arms costs more than its reference's; empty without a pair."""
    spelled = [
        f"{numbers.title(arm)} ({found[0]} gradient evaluations, {found[1]} time)"
        for arm in arms
        if (found := paid(numbers, arm))
    ]
    if not spelled:
        return ""
    return f"Cost of a training step against the bare optimizer's: {formats.listed(spelled)} (medians over workloads)."


def paid(numbers: Numbers, arm: str) -> tuple[str, str] | None:
    """How much more gradient evaluations and time a step of an arm takes than its reference's; None without a pair."""
    own = [(c.evaluations_ratio, c.time_ratio) for c in numbers.costs if c.arm == arm]
    evaluations = [spent for spent, time in own if spent is not None and time is not None]
    times = [time for spent, time in own if spent is not None and time is not None]
    return (formats.percent_change(median(evaluations)), formats.percent_change(median(times))) if times else None


def certainty(numbers: Numbers) -> str:
    """What so few seeds can say at all."""
    most = max((c.found.num_pairs for c in numbers.comparisons), default=0)
    if most < 2:
        return "Certainty: one seed an arm says nothing about chance." if most else ""
    smallest = 2.0 ** (1 - most)
    can = (
        f"with {most} seeds a signed-rank test can never reach p \u2264 {ALPHA:g} (its smallest p is {smallest:g}; "
        "6 seeds can)"
        if smallest > ALPHA
        else f"with {most} seeds the smallest p of a signed-rank test is {formats.significant(smallest, 2)}"
    )
    return (
        f"Certainty: {can}, and a 95{formats.PERCENT} bootstrap interval of a mean covers about "
        f"{100 * coverage(most):.0f}{formats.PERCENT}. Holm's correction is over all "
        f"{formats.counted(len(numbers.comparisons), 'comparison')} of this report."
    )


def coverage(num_pairs: int) -> float:
    """How often a 95 % bootstrap interval of the mean of so many normal values covers it.

    As often as Student's t is within ``z sqrt((n - 1) / n)``.

    Example:
        >>> round(coverage(3), 2), round(coverage(10), 2)
        (0.75, 0.9)
    """
    limit = stats.norm.ppf(0.975) * math.sqrt((num_pairs - 1) / num_pairs)
    return float(2 * stats.t.cdf(limit, num_pairs - 1) - 1)


def _usable(numbers: Numbers, own: list[Sweep]) -> str:
    shares = {
        arm: [s.num_usable / s.num_shared for s in own if s.arm == arm] for arm in dict.fromkeys(s.arm for s in own)
    }
    means = sorted(((sum(v) / len(v), arm) for arm, v in shares.items()), key=lambda pair: -pair[0])[:8]
    spelled = [f"{numbers.title(arm)} {100 * share:.0f}{formats.PERCENT}" for share, arm in means]
    return (
        f"Range of {formats.axis_title(own[0].axis)} that ends within 5{formats.PERCENT} of the best median, "
        f"mean over workloads: {formats.listed(spelled)}."
    )


def _share_above(numbers: Numbers, is_wrapped: bool) -> float | None:
    own = [s for s in numbers.smoothness if s.num_probes and numbers.view.is_wrapped(s.place.arm) == is_wrapped]
    total = sum(s.num_probes for s in own)
    return sum((s.share_above_edge or 0.0) * s.num_probes for s in own) / total if total else None


def _rho(numbers: Numbers, c: Correlation) -> str:
    return f"{c.rho:+.2f} on {numbers.view.infos[c.task].title} ({c.num_runs} networks)"
