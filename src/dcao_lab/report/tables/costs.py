"""What training costs, and how smoothly it goes."""

from dcao_lab.report import formats
from dcao_lab.report.numbers import Numbers
from dcao_lab.report.tables.base import Context, table


def costs(numbers: Numbers) -> Context:
    """Time, gradient evaluations and memory of each arm."""
    columns = ["workload", "arm", "gradient evaluations a step", "against reference", "ms a step", "against reference",
               "seconds an epoch", "held, copies of the parameters", "peak memory, MB", "reference"]  # fmt: skip
    rows = [
        [
            numbers.view.infos[c.task].title,
            numbers.styles[c.arm].title,
            formats.ratio(c.evaluations_per_step),
            formats.percent_change(c.evaluations_ratio),
            formats.significant(c.milliseconds),
            formats.percent_change(c.time_ratio),
            formats.significant(c.seconds_per_epoch),
            formats.significant(c.held_copies, 2),
            formats.count(c.peak_megabytes) if c.peak_megabytes is not None else formats.DASH,
            numbers.styles[c.reference].title if c.reference else formats.DASH,
        ]
        for c in numbers.costs
    ]
    note = (
        "Medians over the runs that count; the watched ones are not among them. One gradient evaluation is one forward "
        "and one backward pass. Ratios are medians over pairs of one seed and equal conditions. What is held "
        "is what the optimizer keeps from one step to the next; peak memory is of the whole process."
    )
    return table("What it costs", columns, rows, note=note)


def smoothness(numbers: Numbers) -> Context:
    """Oscillation and norms of each arm, under the workloads' own conditions where there are such runs."""
    own = [s for s in numbers.smoothness if s.place.variation is None] or list(numbers.smoothness)
    columns = ["workload", "conditions", "arm", "oscillation", "largest rise", "gradient norm", "parameter norm",
               "update norm", "median s", "probes with s above 2"]  # fmt: skip
    rows = [
        [
            numbers.view.infos[s.place.task].title,
            formats.variation(s.place.variation) or "its own",
            numbers.styles[s.place.arm].title,
            *map(
                formats.significant,
                (s.oscillation, s.largest_rise, s.gradient_norm, s.parameter_norm, s.update_norm, s.median_s),
            ),
            formats.DASH
            if s.share_above_edge is None
            else f"{100 * s.share_above_edge:.0f}{formats.PERCENT} of {s.num_probes}",
        ]
        for s in own
    ]
    note = (
        "With l the logarithm of the mini-batch loss of a step and m its running median over 11 steps: oscillation is "
        "the mean of |l - m|, largest rise the maximum of m minus the smallest m before it. Norms are of the last step "
        "before the last evaluation. s is the stability number of the watched runs."
    )
    return table("How smoothly it trains", columns, rows, note=note)
