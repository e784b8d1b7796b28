"""The sections of one workload."""

from collections.abc import Mapping

from dcao_lab.report import formats
from dcao_lab.report.analysis.robustness import Sweep
from dcao_lab.report.analysis.view import Runs
from dcao_lab.report.figures import bars, curves, hyperparameters, reaching, stability, sweeps
from dcao_lab.report.figures.styles import grey_first
from dcao_lab.report.numbers import Numbers
from dcao_lab.report.sections.base import Context, filled, panel, section
from dcao_lab.report.sections.solutions import solutions
from dcao_lab.report.tables import results
from dcao_lab.runner import StoredRun
from dcao_lab.study.config import Variation

MOST_TOGETHER = 12  # arms of a sweep in one figure
MOST_CONDITIONS = 4  # so many rows an arm can be read


def task_sections(numbers: Numbers, task: str, number: int) -> list[Context]:
    """Everything about one workload; ``number`` tells its figures' ids from the other workloads'."""
    key = f"t{number}"
    return filled(
        [
            _robustness(numbers, task, key),
            _ablation(numbers, task, key),
            _curves(numbers, task, key),
            _reaching(numbers, task, key),
            _stability(numbers, task, key),
            _hyperparameters(numbers, task, key),
            solutions(numbers, task, key),
        ]
    )


def _robustness(numbers: Numbers, task: str, key: str) -> Context:
    groups: dict[tuple[str, str], list[Sweep]] = {}
    for sweep in numbers.sweeps:
        if sweep.task == task:
            groups.setdefault((sweep.axis, sweep.source), []).append(sweep)
    parts = [
        (_sweep_title(axis, source) + (f": {name}" if name else ""), part)
        for (axis, source), found in groups.items()
        for name, part in _by_group(numbers, found).items()
    ]
    panels = [
        panel(f"{key}-sweep-{i}", title, sweeps.sweep(part, numbers.view.infos[task], numbers.styles))
        for i, (title, part) in enumerate(parts)
    ]
    tables = [results.sweep_results(numbers, task, axis) for axis, source in groups if source == "variations"]
    caption = (
        "A flat line is robust: where it starts from matters little. A line goes through the medians over seeds, small "
        "points are runs; a run that diverged has no point. Trials of the tuning vary other settings too, so they are "
        "points without a line. Near the best: within 5 % of the best median of any arm."
    )
    return section("sweep", "Where each starting point ends", caption, figures=panels, tables=tables)


def _by_group(numbers: Numbers, found: list[Sweep]) -> dict[str, list[Sweep]]:
    """Of many arms a figure a group, each with the references of its arms; of few, all in one."""
    arms = {sweep.arm: numbers.view.study.arm(sweep.arm) for sweep in found}
    names = list(dict.fromkeys(arm.group for arm in arms.values()))
    if len(arms) <= MOST_TOGETHER or len(names) < 2:
        return {"": found}
    parts = {}
    for name in names:
        members = {arm.name for arm in arms.values() if arm.group == name}
        shown = members | {arms[member].reference for member in members}
        parts[name or "others"] = [sweep for sweep in found if sweep.arm in shown]
    return parts


def _sweep_title(axis: str, source: str) -> str:
    title = formats.axis_title(axis)
    return f"{title} (trials of the tuning)" if source == "trials" else title


def _ablation(numbers: Numbers, task: str, key: str) -> Context:
    own = [c for c in numbers.comparisons if c.task == task and "reference" in c.kinds]
    if len({c.variation for c in own}) > MOST_CONDITIONS:
        return section("gain", "", "")
    own.sort(key=lambda c: list(numbers.styles).index(c.arm))  # the conditions of an arm are neighbours
    groups = {name: [c for c in own if numbers.view.study.arm(c.arm).group == name and c.gain is not None]
              for name in dict.fromkeys(numbers.view.study.arm(c.arm).group for c in own)}  # fmt: skip
    panels = []
    for i, (name, found) in enumerate(groups.items()):
        others = list(dict.fromkeys(numbers.styles[c.other].title for c in found))
        against = f"against {others[0]}" if len(others) == 1 else "each against its reference"
        figure = bars.gains(found, numbers.view.infos[task], numbers.styles)
        panels.append(panel(f"{key}-gain-{i}", f"{name}: {against}" if name else against, figure))
    caption = (
        "Mean paired difference to the reference with its 95 % bootstrap interval. Right of zero the arm is better "
        "than its reference; an interval that contains zero decides nothing."
    )
    return section("gain", "What each arm gains over its reference", caption, figures=panels, is_wide=True)


def _curves(numbers: Numbers, task: str, key: str) -> Context:
    info = numbers.view.infos[task]
    panels = []
    for i, variation in enumerate(conditions(numbers, task)):
        runs = _by_arm(numbers, numbers.view.finals, task, variation)
        suffix = f", {formats.variation(variation)}" if variation else ""
        panels += [
            panel(f"{key}-loss-{i}", f"Training loss{suffix}", curves.train_loss(runs, numbers.styles)),
            panel(
                f"{key}-metric-{i}",
                f"{formats.metric_title(info, 'validation').capitalize()}{suffix}",
                curves.validation_metric(runs, numbers.styles, info),
            ),
        ]
    caption = (
        "Thick: the median over seeds, up to where the first of them ended. Of few arms each seed is a thin line, of "
        "many the band of a highlighted arm lies between the quartiles. The training loss is the mean of the "
        "mini-batch losses since the last evaluation."
    )
    return section("curves", "Learning curves", caption, figures=panels, clocks=list(curves.CLOCKS))


def _reaching(numbers: Numbers, task: str, key: str) -> Context:
    found = [reached for place, reached in numbers.reachings.items() if place.task == task]
    info = numbers.view.infos[task]
    target = f"{formats.metric_title(info, 'validation')} {formats.metric(info, info.target)}"
    panels = []
    if any(any(reached.times.reached) for reached in found):
        panels = [panel(f"{key}-target", f"Target: {target}", reaching.reaching(found, numbers.styles))]
    caption = "The sooner a line is high, the sooner the arm's runs reach the target (Kaplan-Meier estimate)."
    return section("reaching", "Who reaches the target when", caption, figures=panels)


def _stability(numbers: Numbers, task: str, key: str) -> Context:
    panels = []
    for i, variation in enumerate(conditions(numbers, task, numbers.view.watched)):
        runs = _first_watched(numbers, task, variation)
        suffix = f", {formats.variation(variation)}" if variation else ""
        panels += [
            panel(f"{key}-s-{i}", f"Stability number s{suffix}", stability.stability(runs, numbers.styles)),
            panel(
                f"{key}-raw-{i}", f"lr times largest Ritz value{suffix}", stability.raw_stability(runs, numbers.styles)
            ),
            panel(f"{key}-sharp-{i}", f"Largest Ritz value{suffix}", stability.sharpness(runs, numbers.styles)),
        ]
    caption = (
        "Above 2 the steps are too long for the curvature that they meet. s counts in what the optimizer does to the "
        "step (preconditioner, momentum); lr times the largest Ritz value of the loss Hessian is the proposal's raw "
        "form, whose edge is at 2 for plain gradient descent alone. One watched run an arm; dots are probes, lines "
        "their running median; a value that is not above zero has no point."
    )
    return section("stability", "Stability against the edge", caption, figures=panels)


def _hyperparameters(numbers: Numbers, task: str, key: str) -> Context:
    panels = []
    for i, variation in enumerate(conditions(numbers, task, numbers.view.watched)):
        runs = _first_watched(numbers, task, variation)
        suffix = f", {formats.variation(variation)}" if variation else ""
        panels += [
            panel(
                f"{key}-{name}-{i}",
                f"{title.capitalize()}{suffix}",
                hyperparameters.hyperparameter(runs, name, numbers.styles),
            )
            for name, title in hyperparameters.TITLES.items()
        ]
    caption = "What trained at each step of the watched run of each arm. A level line was left alone."
    return section("hyper", "Learning rate, momentum and weight decay over time", caption, figures=panels)


def conditions(numbers: Numbers, task: str, runs: Runs | None = None) -> list[Variation | None]:
    """Under which conditions curves are drawn: the workload's own, or else a few values of what varies first."""
    runs = numbers.view.finals if runs is None else runs
    present = {place.variation for place in runs if place.task == task}
    if None in present or not present:
        return [None] if present else []
    ordered = [variation for variation in numbers.view.study.variations if variation in present]
    first = sorted((v for v in ordered if v.axis == ordered[0].axis), key=lambda v: v.value)
    chosen = {0, (len(first) - 1) // 2, len(first) - 1}
    return [first[i] for i in sorted(chosen)]


def _by_arm(
    numbers: Numbers, runs: Runs, task: str, variation: Variation | None
) -> Mapping[str, tuple[StoredRun, ...]]:
    """The runs of each arm; arms that are not highlighted first, so that they are drawn below the others."""
    places = [place for place in runs if (place.task, place.variation) == (task, variation)]
    by_arm = {place.arm: runs[place] for place in places}
    return {arm: by_arm[arm] for arm in grey_first(by_arm, numbers.styles)}


def _first_watched(numbers: Numbers, task: str, variation: Variation | None) -> dict[str, StoredRun]:
    return {arm: runs[0] for arm, runs in _by_arm(numbers, numbers.view.watched, task, variation).items()}
