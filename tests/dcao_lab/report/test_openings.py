"""What the page of each study opens with, on made-up runs whose numbers are known."""

from dataclasses import replace

import pytest

from dcao_lab.report.analysis.changes import changes
from dcao_lab.report.figures.drawings import BarChart
from dcao_lab.report.html.page import build_context, render
from dcao_lab.report.numbers import analyse
from dcao_lab.report.openings import OPENINGS, opening_of
from dcao_lab.study import Arm
from dcao_lab.study.recipes import RECIPES
from helpers.crowded_studies import ablation
from helpers.demo_studies import ARMS, DCAO_SGD, HILL, demo_of, from_everywhere
from helpers.report_studies import ADAMW, DCAO_ADAMW, SGD, finals, planned, result_of, stored, study, task

GPT = task("pydoc_gpt")


def called(name, result):
    """The study under another name, which decides how its page opens."""
    return replace(result, study=replace(result.study, name=name))


def opening(name, result):
    return opening_of(called(name, result), analyse(called(name, result)))


def charts(found):
    return [drawing for section in found.sections for drawing in section.figures.values()]


def plain(text):
    return text.replace("\N{NO-BREAK SPACE}", " ")


def test_every_study_has_an_opening_of_its_own():
    assert set(OPENINGS) == {*RECIPES, "demo"}


@pytest.mark.parametrize("name", [*OPENINGS, "a study of somebody's own"])
@pytest.mark.parametrize("ends", [[0.9], [None]], ids=["one run", "one run that diverged"])
def test_any_study_opens_with_a_verdict_however_little_of_it_is_there(name, ends):
    result = called(name, result_of(study(ADAMW, DCAO_ADAMW), finals(ADAMW, ends)))
    assert opening_of(result, analyse(result)).verdict
    assert "verdict" in render(build_context(result))


def test_a_comparison_opens_with_the_gains_of_every_workload_and_counts_dcao_as_it_comes():
    result = result_of(
        study(ADAMW, DCAO_ADAMW, tasks=(task(), GPT)),
        finals(ADAMW, [0.90, 0.91, 0.92]),
        finals(DCAO_ADAMW, [0.95, 0.96, 0.97], evaluations=6.6),
        finals(ADAMW, [10.0, 10.1, 10.2], on=GPT),
        finals(DCAO_ADAMW, [11.0, 11.1, 11.2], on=GPT, evaluations=6.6),
    )
    found = opening("headline", result)
    assert [chart.title for chart in charts(found)] == ["Digits MLP", "Documentation GPT"]
    assert [bar.label for chart in charts(found) for bar in chart.bars] == ["DCAO(AdamW): +5.0", "DCAO(AdamW): -1.00"]
    assert found.tiles[0].value == "better in 1 of 2, worse in 1"
    assert plain(found.tiles[1].value) == "+10 %"
    assert found.verdict == (
        "DCAO has the best median on 1 of 2 workloads (Digits MLP); elsewhere the best is AdamW (Documentation GPT)."
    )


def test_a_change_is_held_against_what_it_changes_in_shares():
    changed = Arm(name="changed", title="DCAO(AdamW), x=1", optimizer="dcao:adamw", reference="dcao:adamw")
    result = result_of(
        study(ADAMW, DCAO_ADAMW, changed, tasks=(task(), GPT)),
        finals(DCAO_ADAMW, [0.8] * 3),
        finals(changed, [0.6] * 3),
        finals(DCAO_ADAMW, [10.0] * 3, on=GPT),
        finals(changed, [9.0] * 3, on=GPT),
    )
    numbers = analyse(result)
    (one,) = changes(numbers.view, numbers.results)
    assert (one.arm, one.reference) == ("changed", "dcao:adamw")
    assert one.gains == pytest.approx((-0.25, 0.1))  # 0.6 of 0.8 is a quarter less; a perplexity that is lower, a gain
    assert one.median == pytest.approx(-0.075)


@pytest.mark.parametrize(("own", "other", "gain"), [(None, 0.8, -1.0), (0.8, None, 1.0), (None, None, 0.0)])
def test_a_change_that_diverges_loses_all_and_one_that_mends_it_gains_all(own, other, gain):
    changed = Arm(name="changed", title="changed", optimizer="dcao:adamw", reference="dcao:adamw")
    result = result_of(study(ADAMW, DCAO_ADAMW, changed), finals(DCAO_ADAMW, [other] * 3), finals(changed, [own] * 3))
    numbers = analyse(result)
    assert [one.gains for one in changes(numbers.view, numbers.results)] == [(gain,)]


def test_an_ablation_opens_with_a_bar_for_each_change_called_by_what_differs():
    found = opening("ablation", ablation())
    bars = [bar for chart in charts(found) for bar in chart.bars]
    # Its variants end at 0.50, 0.52 ... where DCAO ends at 0.49, all with 0.01 for the median seed.
    assert plain(bars[0].label) == "x=dcao-0: +2.0 %"
    assert len(bars) == 20
    assert {len(chart.bars) for chart in charts(found)} == {10}
    assert len({chart.limits for chart in charts(found)}) == 1
    assert plain(found.verdict) == (
        "Of 20 changes to DCAO the final metric is worse by more than 1 % with 0, hardly different with 0 and better "
        "with 20 (most with x=dcao-19: +78.0 %)."
    )


def half_kept():
    """Sweeps of AdamW and SGD, and DCAO of each, of which that of SGD ends low from one start."""
    return demo_of(
        from_everywhere(ADAMW, HILL),
        from_everywhere(DCAO_ADAMW, [0.97] * 7),
        from_everywhere(SGD, HILL),
        from_everywhere(DCAO_SGD, [0.97] * 6 + [0.5]),
        arms=ARMS,
    )


def test_a_study_of_robustness_opens_with_a_panel_for_each_workload_and_optimizer():
    found = opening("robustness", half_kept())
    assert [panel.title for panel in charts(found)] == ["Digits MLP, AdamW", "Digits MLP, SGD"]
    assert [{series.style.arm for series in panel.series} for panel in charts(found)] == [
        {"adamw", "dcao:adamw"},
        {"sgd", "dcao:sgd"},
    ]
    assert "kept its word in 1 of 2 cases" in found.verdict


def test_a_study_of_cells_opens_with_their_share_of_each_arm_the_most_first():
    found = opening("transfer", half_kept())
    (chart,) = charts(found)
    assert isinstance(chart, BarChart)
    assert [(bar.name, bar.value) for bar in chart.bars] == [("DCAO(AdamW): 1 of 1", 1.0), ("DCAO(SGD): 0 of 1", 0.0)]
    assert found.verdict == (
        "One run that nobody tuned matched the best of a sweep in 1 of 1 comparisons with DCAO(AdamW) and 0 of 1 "
        "comparisons with DCAO(SGD), on 1 workload."
    )
    assert found.note == "DCAO(SGD) misses a cell or both on Digits MLP."


def test_a_study_of_costs_opens_with_what_each_arm_spends_more_and_how_long_a_step_is():
    result = result_of(
        study(ADAMW, DCAO_ADAMW),
        finals(ADAMW, [0.9] * 3, seconds=0.06),
        finals(DCAO_ADAMW, [0.9] * 3, seconds=0.09, evaluations=6.6),
    )
    found = opening("overhead", result)
    evaluations, time = charts(found)[:2]
    assert [(plain(bar.label), bar.value) for bar in evaluations.bars] == [("DCAO(AdamW): +10 %", pytest.approx(0.1))]
    assert [(plain(bar.label), bar.value) for bar in time.bars] == [("DCAO(AdamW): +50 %", pytest.approx(0.5))]
    assert found.sections[0].caption.endswith("a step without DCAO takes 10 ms on Digits MLP.")


@pytest.mark.parametrize(
    ("gaps", "verb"), [([0.1, 0.2, 0.3, 0.4], "goes with"), ([0.2, 0.1, 0.4, 0.15], "says little")]
)
def test_a_study_of_solutions_opens_with_what_their_sharpness_says(gaps, verb):
    runs = []
    for seed, gap in enumerate(gaps):
        plan = planned(ADAMW, seed)
        solution = {"sharpness": 1.0 + seed, "preconditioned_sharpness": None, "trace": 5.0, "density": None}
        runs.append((plan, stored(plan.config, 0.9, generalisation_gap=gap, solution=solution)))
    found = opening("generalisation", result_of(study(ADAMW, seeds=(0, 1, 2, 3)), runs))
    assert f"The sharpness of a solution {verb}" in found.verdict
    assert charts(found)[0].title.startswith("Digits MLP; rho ")


def test_a_study_of_the_edge_opens_with_dcao_and_what_it_wraps_in_one_panel_each(study_result):
    found = opening("eos", study_result)
    assert [panel.title for panel in charts(found)] == [
        "Preconditioned s, Digits MLP",
        "Stability number s, Digits MLP",
        "Preconditioned s, MNIST-1D MLP",
        "Stability number s, MNIST-1D MLP",
    ]
    for panel in charts(found):
        assert {series.style.arm for series in panel.series} <= {"adamw", "dcao:adamw"}  # no sgd
        assert panel.edge == 2.0
    assert found.verdict.startswith("Steps are too long for the curvature that they meet (s is above 2) in ")
