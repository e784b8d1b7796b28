"""What training and its tuning cost, and how smoothly training goes."""

from collections.abc import Iterable
from typing import Any

from dcao_lab.report import formats
from dcao_lab.report.analysis.costs import Cost
from dcao_lab.report.analysis.stability import Smoothness
from dcao_lab.report.analysis.tuning import Tuned
from dcao_lab.report.numbers import Numbers
from dcao_lab.report.tables.base import DIVERGED, Column, Row, Table, by_workload
from dcao_lab.workloads import WorkloadInfo


def costs(numbers: Numbers) -> Table:
    """Time, gradient evaluations and memory of each arm."""

    def row(_: WorkloadInfo, c: Cost) -> Row:
        return (
            numbers.styles[c.arm].title,
            formats.ratio(c.evaluations_per_step),
            formats.percent_change(c.evaluations_ratio),
            formats.significant(c.milliseconds),
            formats.percent_change(c.time_ratio),
            formats.significant(c.seconds_per_epoch),
            formats.significant(c.held_copies, 2),
            formats.DASH if c.peak_megabytes is None else formats.count(c.peak_megabytes),
            formats.DASH if c.reference is None else numbers.styles[c.reference].title,
        )

    return Table(
        name="overhead",
        label="What it costs",
        columns=(
            Column(title="arm", paper="Arm", is_text=True),
            Column(title="gradient evaluations a step", paper="Evaluations"),
            Column(title="against reference", paper="Change"),
            Column(title="ms a step", paper="ms"),
            Column(title="against reference", paper="Change"),
            Column(title="seconds an epoch"),
            Column(title="held, copies of the parameters", paper="Copies"),
            Column(title="peak memory, MB", paper="MB"),
            Column(title="reference", is_text=True),
        ),
        groups=by_workload(numbers, numbers.costs, row),
        grouped_by="workload",
        note="Medians over the runs that count; the watched ones are not among them. One gradient evaluation is one "
        "forward and one backward pass. Ratios are medians over pairs of one seed and equal conditions. What is held "
        "is what the optimizer keeps from one step to the next; peak memory is of the whole process.",
    )


def smoothness(numbers: Numbers) -> Table:
    """Oscillation and norms of each arm, under the workloads' own conditions where there are such runs."""
    own = [s for s in numbers.smoothness if s.place.variation is None] or list(numbers.smoothness)
    titles = ("conditions", "arm", "oscillation", "largest rise", "gradient norm", "parameter norm", "update norm",
              "median s", "probes with s above 2")  # fmt: skip

    def row(_: WorkloadInfo, s: Smoothness) -> Row:
        values = (s.oscillation, s.largest_rise, s.gradient_norm, s.parameter_norm, s.update_norm, s.median_s)
        share = s.share_above_edge
        above = formats.DASH if share is None else f"{100 * share:.0f}{formats.PERCENT} of {s.num_probes}"
        conditions = formats.variation(s.place.variation) or "its own"
        return (conditions, numbers.styles[s.place.arm].title, *map(formats.significant, values), above)

    return Table(
        name="smoothness",
        label="How smoothly it trains",
        columns=[Column(title=title) for title in titles],
        groups=by_workload(numbers, own, row),
        grouped_by="workload",
        note="With l the logarithm of the mini-batch loss of a step and m its running median over 11 steps: "
        "oscillation is the mean of |l - m|, largest rise the maximum of m minus the smallest m before it. Norms are "
        "of the last step before the last evaluation. s is the stability number of the watched runs.",
    )


def tunings(numbers: Numbers) -> Table:
    """What the tuning of each arm chose, and how many trials come near."""

    def row(info: WorkloadInfo, t: Tuned) -> Row:
        return (
            numbers.styles[t.arm].title,
            formats.DASH if t.chosen_lr is None else formats.learning_rate(t.chosen_lr),
            settings(t.chosen.items()) or formats.DASH,
            str(t.num_trials),
            str(t.num_diverged),
            DIVERGED if t.median is None else formats.metric(info, t.median),
            f"{t.num_near} of {t.num_trials}",
            formats.metric(info, t.best),
        )

    return Table(
        name="tuned",
        label="Tuning",
        columns=(
            Column(title="arm", paper="Arm", is_text=True),
            Column(title="chosen lr", paper="Learning rate"),
            Column(title="other settings", paper="Other settings", is_text=True),
            Column(title="trials", paper="Trials"),
            Column(title="diverged", paper="Diverged"),
            Column(title="median validation"),
            Column(title=f"within 5{formats.PERCENT} of the best"),
            Column(title="best validation", paper="Best"),
        ),
        groups=by_workload(numbers, numbers.tunings, row),
        grouped_by="workload",
        note="Hyperparameters that tuning chose, by the best validation metric of its trials. The more trials come "
        "near the best, the less the arm depends on its tuning.",
    )


def settings(pairs: Iterable[tuple[str, Any]]) -> str:
    """Settings in words, for example ``beta2=0.99, momentum=0.9``."""
    return ", ".join(f"{k}={formats.significant(v) if isinstance(v, float) else v}" for k, v in pairs)
