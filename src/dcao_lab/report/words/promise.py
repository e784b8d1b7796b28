"""The promise in words, made from its numbers: a verdict, three tiles, and what a step takes."""

import math
from collections.abc import Sequence

from dcao_lab.report import formats
from dcao_lab.report.analysis.promise import Pair, Promise
from dcao_lab.report.analysis.untuned import POINTS, SHARE
from dcao_lab.report.numbers import Numbers
from dcao_lab.workloads import get_workload


def verdict(numbers: Numbers, found: Promise, num_missing: int) -> str:
    """Whether one untuned run was as good as the sweep, where it was not, and what cannot be said yet."""
    judged, lost = found.judged, [pair for pair in found.judged if not pair.is_kept]
    missing = f"{formats.counted(num_missing, 'run')} {'is' if num_missing == 1 else 'are'} missing"
    if not judged:
        return f"Nothing can be said yet: {missing}."
    num_open = len(found.pairs) - len(judged)
    parts = [
        _kept(numbers, judged, lost),
        f"it fell short {formats.listed([_lost(numbers, pair) for pair in lost])}" if lost else "",
        f"{formats.counted(num_open, 'case')} cannot be judged yet, as {missing}" if num_open else "",
    ]
    return "; ".join(filter(None, parts)) + "."


def _of_schedules(numbers: Numbers, judged: Sequence[Pair]) -> str:
    """That twice as much is allowed against sweeps with a schedule, where there are some."""
    scheduled = any(numbers.view.study.arm(pair.other).schedule != "constant" for pair in judged)
    return ", and within twice that with a schedule" if scheduled else ""


def _kept(numbers: Numbers, judged: Sequence[Pair], lost: Sequence[Pair]) -> str:
    starts, goal = max(pair.num_starts for pair in judged), _goal(judged)
    run = f"from each of {starts} initial learning rates, with nothing tuned, one run"
    end = f"within {goal} of the best of a sweep{_of_schedules(numbers, judged)}"
    if len(lost) == len(judged):
        return f"DCAO did not keep its word{_counted(len(judged), ' in any of')}: {run} was to end {end}"
    counted = f" in {len(judged) - len(lost)} of {len(judged)} cases" if lost else _counted(len(judged), " in all")
    return f"DCAO kept its word{counted}: {run} ended {end}"


def _counted(number: int, words: str) -> str:
    """Of several cases how many; nothing of a single one."""
    return f"{words} {number} cases" if number > 1 else ""


def _goal(judged: Sequence[Pair]) -> str:
    """How much worse is still level, for each metric there is."""
    metrics = dict.fromkeys(get_workload(pair.task).info.metric for pair in judged)
    named = {"accuracy": f"{100 * POINTS:.0f} point of accuracy"}
    share = f"{100 * SHARE:.0f}{formats.PERCENT}"
    return " or ".join(named.get(metric, f"{share} of {metric.replace('_', ' ')}") for metric in metrics)


def _lost(numbers: Numbers, pair: Pair) -> str:
    own, best = (_metric(numbers, pair, value) for value in (pair.worst, pair.best))
    return f"{place(numbers, pair)} ({own} against {best})"


def _metric(numbers: Numbers, pair: Pair, value: float | None) -> str:
    return "diverged" if value is None else formats.metric(numbers.view.infos[pair.task], value)


def place(numbers: Numbers, pair: Pair) -> str:
    """Which case it is, for example ``with SGD on Digits CNN``."""
    return f"with {numbers.title(pair.other)} on {numbers.view.infos[pair.task].title}"


def final_metric(numbers: Numbers, found: Promise) -> tuple[str, str]:
    """The median and the worst gain over the best of the sweep, and what they are of."""
    worst = found.worst
    if worst is None or worst.gain is None or found.median_gain is None:
        return formats.DASH, "no case has all its runs yet"
    counted = f"{formats.counted(len(found.judged), 'case')}; plus is better; worst {place(numbers, worst)}"
    return f"median {gain(found.median_gain)}, worst {gain(worst.gain)}", counted


def gain(value: float) -> str:
    """A gain in percent, with its sign; in words where one side diverged."""
    if math.isinf(value):
        return "better than a sweep that diverged" if value > 0.0 else "diverged"
    return formats.signed_share(value)


def runs_spent(found: Promise) -> tuple[str, str]:
    """One, against the learning rates of the sweep."""
    swept = max((pair.num_swept for pair in found.judged), default=0)
    if not swept:
        return formats.DASH, "no sweep has all its runs yet"
    return f"1 against {swept}", f"one run from any start; a sweep makes {swept} like it"


def extra_gradients(found: Promise) -> tuple[str, str]:
    """What probes add to the gradient evaluations that train."""
    if found.extra_gradients is None:
        return formats.DASH, "no run with DCAO is there yet"
    return formats.signed_share(found.extra_gradients), "spent on probes, out of the same budget"


def times(numbers: Numbers, found: Promise) -> str:
    """What a step takes without DCAO and with it; empty without runs."""
    spelled = [
        f"{_milliseconds(one.milliseconds)} and {_milliseconds(one.milliseconds * one.ratio)} ms on "
        f"{numbers.view.infos[one.task].title}"
        for one in found.times
    ]
    return f"A training step took, without DCAO and with it, {formats.listed(spelled)}." if spelled else ""


def _milliseconds(value: float) -> str:
    return formats.significant(value, 2)
