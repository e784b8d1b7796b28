"""Sentences on what was measured: robustness, stability, curvature, cost and certainty."""

import math
from collections.abc import Collection, Sequence
from statistics import mean, median

from scipy import stats

from dcao_lab.report import formats
from dcao_lab.report.analysis.robustness import Sweep
from dcao_lab.report.analysis.solutions import Correlation, flatter_cases
from dcao_lab.report.analysis.view import is_default
from dcao_lab.report.numbers import Numbers

ALPHA = 0.05
STRONG = 0.3  # from here on a correlation is at least of medium strength (Cohen 1988)
FEW_ARMS = 6  # so many are named one by one


def robustness(numbers: Numbers) -> list[str]:
    """How much of each varied axis ends near the best, with and without DCAO."""
    found = [s for s in numbers.sweeps if s.source == "variations" and s.num_shared]
    return [_usable(numbers, [s for s in found if s.axis == axis]) for axis in dict.fromkeys(s.axis for s in found)]


def edge(numbers: Numbers, arms: Collection[str] = ()) -> str:
    """How much of the watched training is above the edge, with DCAO and without; of ``arms``, if some are given."""
    shares = {is_wrapped: _share_above(numbers, is_wrapped, arms) for is_wrapped in (True, False)}
    names = {True: "of the probes with DCAO", False: "of those without"}
    spelled = [f"{100 * share:.0f}{formats.PERCENT} {names[key]}" for key, share in shares.items() if share is not None]
    if not spelled:
        return ""
    return f"Steps are too long for the curvature that they meet (s is above 2) in {formats.listed(spelled)}."


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


def flatter(numbers: Numbers) -> str:
    """Whether the solutions of DCAO are flatter than those of the bare optimizer; empty without them."""
    cases = flatter_cases(numbers.view, numbers.results)
    if not cases:
        return ""
    of = f"{sum(cases)} of {formats.counted(len(cases), 'case')}"
    return f"Those that DCAO finds are flatter than those of the bare optimizer at its best lr in {of}."


def cost(numbers: Numbers) -> str:
    """How many more gradient evaluations a training step with DCAO costs than one without.

    Not how much more time, which depends on what else ran meanwhile; the study ``overhead`` measures that alone.
    """
    is_wrapped = numbers.view.is_wrapped
    paid = [c for c in numbers.costs if is_wrapped(c.arm) and c.reference and not is_wrapped(c.reference)]
    evaluations = [c.evaluations_ratio for c in paid if c.evaluations_ratio is not None]
    if not evaluations:
        return ""
    arms = list(dict.fromkeys(c.arm for c in paid))
    if len(arms) <= FEW_ARMS:
        return cost_of(numbers, arms)
    return (
        f"Cost: a training step with DCAO takes {formats.more(median(evaluations))} gradient evaluations than the bare "
        "optimizer's (median over workloads and arms)."
    )


def cost_of(numbers: Numbers, arms: Sequence[str], *, has_time: bool = False) -> str:
    """What a training step with each of these arms costs more than its reference's; empty without a pair."""
    spelled = [
        f"{found[0]} gradient evaluations{f' and {found[1]} time' if has_time else ''} with {numbers.title(arm)}"
        for arm in arms
        if (found := paid(numbers, arm))
    ]
    if not spelled:
        return ""
    return f"Against the bare optimizer a training step takes {formats.listed(spelled)} (medians over workloads)."


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


def _shares(sweeps: Sequence[Sweep]) -> dict[str, float]:
    """The share of the range that is usable, for each arm the mean over workloads."""
    arms = dict.fromkeys(s.arm for s in sweeps)
    return {arm: mean(s.num_usable / s.num_shared for s in sweeps if s.arm == arm) for arm in arms}


def _usable(numbers: Numbers, own: list[Sweep]) -> str:
    means = sorted(((share, arm) for arm, share in _shares(own).items()), key=lambda pair: -pair[0])[:8]
    spelled = [f"{numbers.title(arm)} {100 * share:.0f}{formats.PERCENT}" for share, arm in means]
    return (
        f"Range of {formats.axis_title(own[0].axis)} that ends within 5{formats.PERCENT} of the best median of any "
        f"arm, mean over workloads: {formats.listed(spelled)}."
    )


def fragility(numbers: Numbers) -> str:
    """Beside lr: what DCAO as it comes stands less of than its reference alone, by the usable range; empty: nothing."""
    found = [s for s in numbers.sweeps if s.source == "variations" and s.num_shared and s.axis != "lr"]
    said = []
    for axis in dict.fromkeys(s.axis for s in found):
        own = _shares([s for s in found if s.axis == axis])
        for arm in filter(is_default, numbers.view.study.arms):
            if arm.reference in own and own.get(arm.name, 1.0) < own[arm.reference]:
                shares = [
                    f"{numbers.title(each)} {100 * own[each]:.0f}{formats.PERCENT}"
                    for each in (arm.name, arm.reference)
                ]
                said.append(f"{formats.axis_title(axis)} ({formats.joined(*shares)})")
    return f"Less of the range is usable with DCAO than without it of {formats.listed(said)}." if said else ""


def _share_above(numbers: Numbers, is_wrapped: bool, arms: Collection[str]) -> float | None:
    found = [s for s in numbers.smoothness if s.num_probes and (not arms or s.place.arm in arms)]
    own = [s for s in found if numbers.view.is_wrapped(s.place.arm) == is_wrapped]
    total = sum(s.num_probes for s in own)
    return sum((s.share_above_edge or 0.0) * s.num_probes for s in own) / total if total else None


def _rho(numbers: Numbers, c: Correlation) -> str:
    return f"{c.rho:+.2f} on {numbers.view.infos[c.task].title} ({c.num_runs} networks)"
