"""Everything that the report knows, computed once from a study's runs."""

from dataclasses import dataclass

from dcao_lab.report.analysis.cells import ArmCells, HeadToHead, cells, head_to_heads
from dcao_lab.report.analysis.comparisons import ArmComparison, comparisons
from dcao_lab.report.analysis.costs import Cost, costs
from dcao_lab.report.analysis.forgetting import Forgetting, forgetting
from dcao_lab.report.analysis.overall import Overall, overall
from dcao_lab.report.analysis.results import Results, results
from dcao_lab.report.analysis.robustness import Sweep, sweeps
from dcao_lab.report.analysis.shown import leading
from dcao_lab.report.analysis.solutions import Correlation, Solution, correlations, solutions
from dcao_lab.report.analysis.stability import Smoothness, smoothness
from dcao_lab.report.analysis.targets import Reaching, reachings
from dcao_lab.report.analysis.tuning import Tuned, tunings
from dcao_lab.report.analysis.untuned import Untuned, untuned
from dcao_lab.report.analysis.view import Place, StudyView, view
from dcao_lab.report.figures.styles import Styles, styles
from dcao_lab.study.result import StudyResult


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """A study's numbers.

    Attributes:
        view: The runs by place.
        styles: How each arm is drawn.
        leading: Names of the arms that a crowded figure shows.
        results: Where the runs ended, by place.
        comparisons: Arms against each other.
        reachings: Times to the target, by place.
        overall: Arms over all workloads; None where no arm has all.
        sweeps: Arms along what was varied.
        untuned: Arms that nobody tuned, from every initial learning rate, against sweeps without DCAO.
        cells: In how many of these comparisons each such arm is within the goal.
        head_to_heads: DCAO against the others among them.
        forgetting: What pretrained networks forget.
        costs: Cost of each arm and task.
        smoothness: Norms and oscillation of each place.
        tunings: What the tuning chose.
        solutions: Curvature of the trained networks.
        correlations: Of that with generalisation.
    """

    view: StudyView
    styles: Styles
    leading: tuple[str, ...]
    results: Results
    comparisons: tuple[ArmComparison, ...]
    reachings: dict[Place, Reaching]
    overall: Overall | None
    sweeps: tuple[Sweep, ...]
    untuned: tuple[Untuned, ...]
    cells: tuple[ArmCells, ...]
    head_to_heads: tuple[HeadToHead, ...]
    forgetting: tuple[Forgetting, ...]
    costs: tuple[Cost, ...]
    smoothness: tuple[Smoothness, ...]
    tunings: tuple[Tuned, ...]
    solutions: tuple[Solution, ...]
    correlations: tuple[Correlation, ...]

    def title(self, arm: str) -> str:
        """What the report calls an arm."""
        return self.styles[arm].title


def analyse(result: StudyResult) -> Numbers:
    """The numbers of ``result``."""
    seen = view(result)
    ended = results(seen)
    shown = leading(seen, ended)
    reached = reachings(seen)
    solved = solutions(seen)
    once = untuned(seen, ended)
    counted = cells(seen, ended, once)
    return Numbers(
        view=seen,
        styles=styles(seen.study, shown),
        leading=shown,
        results=ended,
        comparisons=comparisons(seen, ended),
        reachings=reached,
        overall=overall(seen, ended, reached),
        sweeps=sweeps(seen, ended),
        untuned=once,
        cells=counted,
        head_to_heads=head_to_heads(seen, counted),
        forgetting=forgetting(seen, counted),
        costs=costs(seen),
        smoothness=smoothness(seen),
        tunings=tunings(seen),
        solutions=solved,
        correlations=correlations(solved),
    )
