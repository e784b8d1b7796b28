"""The sections of one workload."""

from collections.abc import Mapping

from dcao_lab.report import formats
from dcao_lab.report.analysis.comparisons import ArmComparison, gains
from dcao_lab.report.analysis.shown import parts
from dcao_lab.report.analysis.solutions import MEASURES, OUTCOMES
from dcao_lab.report.analysis.spread import spread_words
from dcao_lab.report.figures import comparisons, curves, solutions, traces
from dcao_lab.report.figures.drawings import Panel
from dcao_lab.report.figures.sweeps import sweep
from dcao_lab.report.numbers import Numbers
from dcao_lab.report.sections.base import Drawing, Section, filled, numbered
from dcao_lab.report.tables.comparisons import correlations
from dcao_lab.report.tables.results import sweep_results
from dcao_lab.study.config import Variation

MOST_TOGETHER = 12  # arms of a sweep in one figure
NOT_VARIED = {"trials": " (trials of the tuning)", "sweep": " (sweeps)"}  # by the source of what is drawn
FEW_COLUMNS, MOST_COLUMNS = 2, 3
ROBUSTNESS = (
    "A flat line is robust: where it starts from matters little. A line goes through the medians over seeds, small "
    "points are runs; a run that diverged has no point. Trials of the tuning vary other settings too, so they are "
    "points without a line. Near the best: within 5 % of the best median of any arm."
)
GAINS = (
    "A bar is the mean paired difference to the reference, the line across its end the 95 % bootstrap interval. "
    "Right of zero the arm is better than its reference; an interval that contains zero decides nothing. Each "
    "figure has its own scale."
)
REACHING = "The sooner a line is high, the sooner the arm's runs reach the target (Kaplan-Meier estimate)."
STABILITY = (
    "Above 2 the steps are too long for the curvature that they meet. s counts in what the optimizer does to the step "
    "(preconditioner, momentum); the preconditioned s is by the largest eigenvalue of the preconditioned Hessian "
    "alone, what there is of it in full batch; lr times the largest Ritz value of the loss Hessian is the proposal's "
    "raw form, whose edge is at 2 for plain gradient descent alone. One watched run an arm; dots are probes, lines "
    "their running median; a value that is not above zero has no point. The largest Ritz value of SGD alone has an "
    "edge of its own, 2 (1 + momentum) / lr, wide and pale. A value a hundred times beyond 90 % of the others may be "
    "out of view; it is in the data."
)
TRAINED = "What trained at each step of the watched run of each arm. A level line was left alone."
SOLUTIONS = (
    "A point is a trained network. Spearman's rho is over all of them: 1 where the sharper one is always higher, -1 "
    "where it is always lower. Networks of one arm are alike, so its p is too small. The density is that of one "
    "network an arm, its quadrature nodes drawn as bells of a hundredth of the range. A triangle at the edge is a "
    "network out of view, further from the middle half of all than three times its length (on a logarithmic axis at "
    "least a factor of 30); point at it for its values."
)


def task_sections(numbers: Numbers, task: str) -> list[Section]:
    """Everything about one workload."""
    builds = (_robustness, _gains, _curves, _reaching, _stability, _trained, _solutions)
    return filled(build(numbers, task) for build in builds)


def _robustness(numbers: Numbers, task: str) -> Section:
    own = [sweep for sweep in numbers.sweeps if sweep.task == task]
    found = dict.fromkeys((sweep.axis, sweep.source) for sweep in own)
    panels = []
    for axis, source in found:
        arms = {sweep.arm for sweep in own if (sweep.axis, sweep.source) == (axis, source)}
        title = formats.axis_title(axis) + NOT_VARIED.get(source, "")
        for name, part in parts(numbers.view.study, arms, MOST_TOGETHER).items():
            panels += sweep(numbers, task, axis, part, source=source, title=": ".join(filter(None, (title, name))))
    return Section(
        key="sweep",
        heading="Where each starting point ends",
        caption=ROBUSTNESS,
        figures=numbered("sweep", panels),
        tables=[sweep_results(numbers, task, axis) for axis, source in found if source == "variations"],
    )


def _gains(numbers: Numbers, task: str) -> Section:
    found = gains(numbers.comparisons, task)
    charts = []
    for group in dict.fromkeys(arm.group for arm in numbers.view.arms(task)):
        for variation, compared in found.items():
            own = [c for c in compared if numbers.view.study.arm(c.arm).group == group]
            if own:
                labels = comparisons.short_titles(numbers, {c.arm for c in own})
                title = _gain_title(numbers, group, variation, own)
                charts.append(comparisons.gains(numbers, task, own, labels, title=title))
    return Section(
        key="gain",
        heading="What each arm gains over its reference",
        caption=GAINS,
        figures=numbered("gain", charts),
        columns=len(found),
        is_grid=len(found) > 1,
    )


def _gain_title(numbers: Numbers, group: str, variation: Variation | None, found: list[ArmComparison]) -> str:
    others = list(dict.fromkeys(numbers.title(c.other) for c in found))
    against = f"against {others[0]}" if len(others) == 1 else "each against its reference"
    return (f"{group}: " if group else "") + formats.joined(against, formats.variation(variation))


def _curves(numbers: Numbers, task: str) -> Section:
    spread = spread_words(len(own) for place, own in numbers.view.finals.items() if place.task == task)
    caption = (
        "Thick: the median over seeds, up to where the first of them ended. "
        + (f"Of few arms each seed is a thin line, of many a band shows {spread}. " if spread else "")
        + "The training loss is the mean of the mini-batch losses since the last evaluation. What is a hundred times "
        "beyond 90 % of the other values may be out of view; it is in the data."
    )
    losses, metrics = curves.training_loss(numbers, task), curves.validation_metric(numbers, task)
    return Section(
        key="curves",
        heading="Learning curves",
        caption=caption,
        figures=numbered("loss", losses) | numbered("metric", metrics),
        clocks=list(curves.CLOCKS),
        columns=max(len(losses), 2),
    )


def _reaching(numbers: Numbers, task: str) -> Section:
    figures = numbered("target", comparisons.target_times(numbers, task))
    return Section(key="reaching", heading="Who reaches the target when", caption=REACHING, figures=figures)


def _stability(numbers: Numbers, task: str) -> Section:
    draws = {"s": traces.stability, "preconditioned": traces.preconditioned_stability, "raw": traces.raw_stability,
             "sharp": traces.sharpness}  # fmt: skip
    panels = {name: draw(numbers, task) for name, draw in draws.items()}
    return _watched(numbers, task, "stability", "Stability against the edge", STABILITY, panels)


def _trained(numbers: Numbers, task: str) -> Section:
    panels = {name: traces.hyperparameter(numbers, task, name) for name in traces.HYPERPARAMETERS}
    return _watched(numbers, task, "hyper", "Learning rate, momentum and weight decay over time", TRAINED, panels)


def _watched(
    numbers: Numbers, task: str, key: str, heading: str, caption: str, panels: Mapping[str, list[Panel]]
) -> Section:
    """A row for each quantity; of a single family of arms, as many as fit in a row."""
    families = traces.watched(numbers, task)
    return Section(
        key=key,
        heading=heading,
        caption=caption,
        figures={name: panel for kind, own in panels.items() for name, panel in numbered(kind, own).items()},
        columns=len(families) if 1 < len(families) <= MOST_COLUMNS else FEW_COLUMNS,
    )


def _solutions(numbers: Numbers, task: str) -> Section:
    figures: dict[str, Drawing] = {
        f"{measure}-{outcome}": panel
        for outcome in OUTCOMES
        for measure in MEASURES
        for panel in solutions.scatter(numbers, task, measure, outcome)
    }
    figures |= numbered("density", solutions.densities(numbers, task))
    return Section(
        key="solutions",
        heading="Curvature of the solutions, and generalisation",
        caption=SOLUTIONS,
        figures=figures,
        tables=[correlations(numbers, task)],
        columns=len(MEASURES),
    )
