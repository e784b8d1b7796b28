"""The sections of one workload."""

from collections.abc import Mapping

from dcao_lab.report import formats
from dcao_lab.report.analysis.comparisons import ArmComparison
from dcao_lab.report.analysis.conditions import conditions
from dcao_lab.report.analysis.gains import gains
from dcao_lab.report.analysis.groups import parts
from dcao_lab.report.analysis.robustness import Sweep
from dcao_lab.report.analysis.spread import spread_words
from dcao_lab.report.analysis.view import Runs
from dcao_lab.report.figures import bars, curves, reaching, sweeps
from dcao_lab.report.figures.base import with_extras
from dcao_lab.report.figures.styles import grey_first
from dcao_lab.report.numbers import Numbers
from dcao_lab.report.sections import watched
from dcao_lab.report.sections.base import Context, filled, panel, section
from dcao_lab.report.sections.solutions import solutions
from dcao_lab.report.tables import results
from dcao_lab.report.words import crowding
from dcao_lab.runs.runner import StoredRun
from dcao_lab.study.config import Variation

MOST_TOGETHER = 12  # arms of a sweep in one figure


def task_sections(numbers: Numbers, task: str, number: int) -> list[Context]:
    """Everything about one workload; ``number`` tells its figures' ids from the other workloads'."""
    key = f"t{number}"
    return filled(
        [
            _robustness(numbers, task, key),
            _ablation(numbers, task, key),
            _curves(numbers, task, key),
            _reaching(numbers, task, key),
            watched.traces(numbers, task, key),
            watched.trained(numbers, task, key),
            solutions(numbers, task, key),
        ]
    )


def _robustness(numbers: Numbers, task: str, key: str) -> Context:
    groups: dict[tuple[str, str], list[Sweep]] = {}
    for sweep in numbers.sweeps:
        if sweep.task == task:
            groups.setdefault((sweep.axis, sweep.source), []).append(sweep)
    chosen = [
        (_sweep_title(axis, source) + (f": {name}" if name else ""), part)
        for (axis, source), found in groups.items()
        for name, part in _by_group(numbers, found).items()
    ]
    panels = [
        panel(f"{key}-sweep-{i}", title, sweeps.sweep(part, numbers.view.infos[task], numbers.styles))
        for i, (title, part) in enumerate(chosen)
    ]
    tables = [results.sweep_results(numbers, task, axis) for axis, source in groups if source == "variations"]
    caption = (
        "A flat line is robust: where it starts from matters little. A line goes through the medians over seeds, small "
        "points are runs; a run that diverged has no point. Trials of the tuning vary other settings too, so they are "
        "points without a line. Near the best: within 5 % of the best median of any arm."
    )
    return section("sweep", "Where each starting point ends", caption, figures=panels, tables=tables)


def _by_group(numbers: Numbers, found: list[Sweep]) -> dict[str, list[Sweep]]:
    groups = parts(numbers.view.study, {sweep.arm for sweep in found}, MOST_TOGETHER)
    return {name: [sweep for sweep in found if sweep.arm in arms] for name, arms in groups.items()}


def _sweep_title(axis: str, source: str) -> str:
    title = formats.axis_title(axis)
    return f"{title} (trials of the tuning)" if source == "trials" else title


def _ablation(numbers: Numbers, task: str, key: str) -> Context:
    info, found = numbers.view.infos[task], gains(numbers.comparisons, task)
    panels = []
    for group in dict.fromkeys(arm.group for arm in numbers.view.arms(task)):
        for variation, compared in found.items():
            own = [c for c in compared if numbers.view.study.arm(c.arm).group == group]
            title = _gain_title(numbers, group, variation, own)
            panels.append(panel(f"{key}-gain-{len(panels)}", title, bars.gains(own, info, numbers.styles)))
    caption = (
        "A bar is the mean paired difference to the reference, the line across its end the 95 % bootstrap interval. "
        "Right of zero the arm is better than its reference; an interval that contains zero decides nothing. Each "
        "figure has its own scale."
    )
    return section(
        "gain", "What each arm gains over its reference", caption, figures=panels, columns=len(found), is_grid=True
    )


def _gain_title(numbers: Numbers, group: str, variation: Variation | None, found: list[ArmComparison]) -> str:
    others = list(dict.fromkeys(numbers.styles[c.other].title for c in found))
    against = f"against {others[0]}" if len(others) == 1 else "each against its reference"
    return (f"{group}: " if group else "") + ", ".join(filter(None, [against, formats.variation(variation)]))


def _curves(numbers: Numbers, task: str, key: str) -> Context:
    info = numbers.view.infos[task]
    panels = []
    for i, variation in enumerate(conditions(numbers.view, task, numbers.view.finals)):
        runs = _by_arm(numbers, numbers.view.finals, task, variation)
        suffix = f", {formats.variation(variation)}" if variation else ""
        panels += [
            panel(
                f"{key}-loss-{i}", f"Training loss{suffix}", curves.train_loss(runs, numbers.styles, numbers.leading)
            ),
            panel(
                f"{key}-metric-{i}",
                f"{formats.metric_title(info, 'validation').capitalize()}{suffix}",
                curves.validation_metric(runs, numbers.styles, numbers.leading, info),
            ),
        ]
    spread = spread_words(len(own) for place, own in numbers.view.finals.items() if place.task == task)
    caption = (
        "Thick: the median over seeds, up to where the first of them ended. "
        + (f"Of few arms each seed is a thin line, of many a band shows {spread}. " if spread else "")
        + "The training loss is the mean of the mini-batch losses since the last evaluation."
        + crowding.on_the_page(numbers)
    )
    return section("curves", "Learning curves", caption, figures=panels, clocks=list(curves.CLOCKS))


def _reaching(numbers: Numbers, task: str, key: str) -> Context:
    found = [reached for place, reached in numbers.reachings.items() if place.task == task]
    info = numbers.view.infos[task]
    target = f"{formats.metric_title(info, 'validation')} {formats.metric(info, info.target)}"
    panels = []
    if any(any(reached.times.reached) for reached in found):
        figure = with_extras(reaching.reaching(found, numbers.styles), numbers.leading)
        panels = [panel(f"{key}-target", f"Target: {target}", figure)]
    caption = "The sooner a line is high, the sooner the arm's runs reach the target (Kaplan-Meier estimate)."
    caption += crowding.on_the_page(numbers)
    return section("reaching", "Who reaches the target when", caption, figures=panels)


def _by_arm(
    numbers: Numbers, runs: Runs, task: str, variation: Variation | None
) -> Mapping[str, tuple[StoredRun, ...]]:
    """The runs of each arm; arms that are not highlighted first, so that they are drawn below the others."""
    places = [place for place in runs if (place.task, place.variation) == (task, variation)]
    by_arm = {place.arm: runs[place] for place in places}
    return {arm: by_arm[arm] for arm in grey_first(by_arm, numbers.styles)}
