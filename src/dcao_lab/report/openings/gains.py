"""The opening of a comparison: what each arm of DCAO gains over its reference, workload by workload."""

from dataclasses import replace

from dcao_lab.report import formats
from dcao_lab.report.analysis.comparisons import gains as gains_of
from dcao_lab.report.analysis.view import is_default, is_literal
from dcao_lab.report.figures import comparisons
from dcao_lab.report.figures.drawings import BarChart
from dcao_lab.report.numbers import Numbers
from dcao_lab.report.openings.base import Opening, Tile
from dcao_lab.report.sections.base import Section, filled, numbered
from dcao_lab.report.words import comparing, measured
from dcao_lab.report.words.headlines import headlines
from dcao_lab.study.result import StudyResult

CAPTION = (
    "A bar is the mean difference to the arm's reference over the seeds, right of zero where the arm is better; the "
    "line across its end is the 95 % bootstrap interval. One that contains zero decides nothing. Each figure has its "
    "own scale; a triangle marks a bar that goes on beyond it, and its number is beside its name."
)
LITERAL = " Literal DCAO is the algorithm of the proposal that DCAO began with, to the letter."
MOST_COLUMNS = 3


def gains(_: StudyResult, numbers: Numbers) -> Opening:
    """A chart for each workload."""
    charts = [chart for task in numbers.view.tasks for chart in _charts(numbers, task)]
    section = Section(
        key="gains",
        heading="What each arm gains over its reference",
        caption=CAPTION + (LITERAL if any(map(is_literal, numbers.view.study.arms)) else ""),
        figures=numbered("gains", charts),
        columns=min(MOST_COLUMNS, max(1, len(charts))),
    )
    verdict = comparing.winners(numbers) or headlines(numbers)[0]
    return Opening(verdict=verdict, tiles=_tiles(numbers), sections=filled([section]))


def _tiles(numbers: Numbers) -> list[Tile]:
    """How DCAO as it comes does against the optimizers that it wraps, and at what cost; none where it has no runs."""
    own = [arm.name for arm in numbers.view.study.arms if is_default(arm)]
    pairs = [c for c in numbers.comparisons if c.arm in own and "reference" in c.kinds and c.gain is not None]
    if not pairs:
        return []
    better, worse = ([c for c in pairs if sign * (c.gain or 0.0) > 0.0] for sign in (1, -1))
    clear = [sum(c.verdict == verdict for c in pairs) for verdict in ("better", "worse")]
    found = [
        Tile(
            label="DCAO as it comes, against what it wraps",
            value=f"better in {len(better)} of {len(pairs)}, worse in {len(worse)}",
            detail=f"by intervals that leave out zero: better in {clear[0]}, worse in {clear[1]}",
        )
    ]
    paid = [(numbers.title(arm), cost) for arm in own if (cost := measured.paid(numbers, arm))]
    if paid:
        detail = "; ".join(f"{title}: {cost[0]}" for title, cost in paid)
        found.append(
            Tile(label="extra gradient evaluations", value=paid[0][1][0], detail=f"of the same budget. {detail}")
        )
    return found


def _charts(numbers: Numbers, task: str) -> list[BarChart]:
    charts = []
    for variation, found in gains_of(numbers.comparisons, task).items():
        labels = comparisons.short_titles(numbers, {one.arm for one in found})
        title = formats.joined(numbers.view.infos[task].title, formats.variation(variation))
        told = {
            one.arm: f"{labels[one.arm]}: {formats.difference(numbers.view.infos[task], one.gain)}" for one in found
        }
        charts.append(replace(comparisons.gains(numbers, task, found, told, title=title), is_cut=True))
    return charts
