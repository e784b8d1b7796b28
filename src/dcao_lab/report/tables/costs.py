"""What training and its tuning cost, and how smoothly training goes."""

from collections.abc import Iterable
from typing import Any

from dcao_lab.report import formats
from dcao_lab.report.analysis.costs import Cost
from dcao_lab.report.analysis.stability import Smoothness
from dcao_lab.report.analysis.tuning import Tuned
from dcao_lab.report.numbers import Numbers
from dcao_lab.report.tables.base import DIVERGED, Columns, Table, by_workload, values, words

COST_NOTE = (
    "Medians over the runs that count; the watched ones are not among them. One gradient evaluation is one forward and "
    "one backward pass. Changes are against the arm's reference: medians over pairs of one seed and equal "
    "conditions. Copies of the parameters: what the optimizer keeps from one step to the next. Peak memory is of the "
    "whole process."
)
SMOOTHNESS_NOTE = (
    "With l the logarithm of the mini-batch loss of a step and m its running median over 11 steps: oscillation is the "
    "mean of |l - m|, largest rise the maximum of m minus the smallest m before it. Norms are of the last step before "
    "the last evaluation. s is the stability number of the watched runs."
)
TUNING_NOTE = (
    "Hyperparameters that tuning chose, by the best validation metric of its trials. The more trials come near the "
    "best, the less the arm depends on its tuning."
)


def costs(numbers: Numbers) -> Table:
    """Time, gradient evaluations and memory of each arm."""
    columns: Columns[Cost] = (
        words("arm", "Arm", lambda c, _: numbers.title(c.arm)),
        values("gradient evaluations a step", "Evaluations", lambda c, _: formats.ratio(c.evaluations_per_step)),
        values("against reference", "Change", lambda c, _: formats.percent_change(c.evaluations_ratio)),
        values("ms a step", "ms", lambda c, _: formats.significant(c.milliseconds)),
        values("against reference", "Change", lambda c, _: formats.percent_change(c.time_ratio)),
        values("seconds an epoch", "", lambda c, _: formats.significant(c.seconds_per_epoch)),
        values("held, copies of the parameters", "Copies", lambda c, _: formats.significant(c.held_copies, 2)),
        values("peak memory, MB", "MB", lambda c, _: formats.count(c.peak_megabytes)),
        words("reference", "", lambda c, _: formats.DASH if c.reference is None else numbers.title(c.reference)),
    )
    return by_workload(numbers, numbers.costs, columns, name="overhead", label="What it costs", note=COST_NOTE)


def smoothness(numbers: Numbers) -> Table:
    """Oscillation and norms of each arm, under the workloads' own conditions where there are such runs."""
    own = [s for s in numbers.smoothness if s.place.variation is None] or numbers.smoothness
    columns: Columns[Smoothness] = (
        words("conditions", "", lambda s, _: formats.variation(s.place.variation) or "its own"),
        words("arm", "", lambda s, _: numbers.title(s.place.arm)),
        values("oscillation", "", lambda s, _: formats.significant(s.oscillation)),
        values("largest rise", "", lambda s, _: formats.significant(s.largest_rise)),
        values("gradient norm", "", lambda s, _: formats.significant(s.gradient_norm)),
        values("parameter norm", "", lambda s, _: formats.significant(s.parameter_norm)),
        values("update norm", "", lambda s, _: formats.significant(s.update_norm)),
        values("median s", "", lambda s, _: formats.significant(s.median_s)),
        values("probes with s above 2", "", lambda s, _: _share_above(s)),
    )
    label = "How smoothly it trains"
    return by_workload(numbers, own, columns, name="smoothness", label=label, note=SMOOTHNESS_NOTE)


def _share_above(s: Smoothness) -> str:
    share = s.share_above_edge
    return formats.DASH if share is None else f"{100 * share:.0f}{formats.PERCENT} of {s.num_probes}"


def tunings(numbers: Numbers) -> Table:
    """What the tuning of each arm chose, and how many trials come near."""
    columns: Columns[Tuned] = (
        words("arm", "Arm", lambda t, _: numbers.title(t.arm)),
        values("chosen lr", "Learning rate", lambda t, _: _lr(t)),
        words("other settings", "Other settings", lambda t, _: settings(t.chosen.items()) or formats.DASH),
        values("trials", "Trials", lambda t, _: str(t.num_trials)),
        values("diverged", "Diverged", lambda t, _: str(t.num_diverged)),
        values(
            "median validation", "", lambda t, info: DIVERGED if t.median is None else formats.metric(info, t.median)
        ),
        values(f"within 5{formats.PERCENT} of the best", "", lambda t, _: f"{t.num_near} of {t.num_trials}"),
        values("best validation", "Best", lambda t, info: formats.metric(info, t.best)),
    )
    return by_workload(numbers, numbers.tunings, columns, name="tuned", label="What tuning chose", note=TUNING_NOTE)


def _lr(one: Tuned) -> str:
    return formats.ANY if one.ignores_lr else formats.learning_rate(one.chosen_lr)


def settings(pairs: Iterable[tuple[str, Any]]) -> str:
    """Settings in words, for example ``beta2 0.990, momentum 0.900``."""
    return ", ".join(formats.setting(name, value, formats.significant) for name, value in pairs)
