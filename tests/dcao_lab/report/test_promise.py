"""The opening of the demo, on made-up runs: what it says where DCAO keeps its word, loses, diverges or is not done."""

import json
import math
from dataclasses import replace

import pytest

import dcao
from dcao_lab.report.analysis.promise import promise
from dcao_lab.report.figures.course import course
from dcao_lab.report.figures.promise import final_metrics
from dcao_lab.report.html import write_study_report
from dcao_lab.report.html.page import build_context
from dcao_lab.report.numbers import analyse
from dcao_lab.report.openings import opening_of
from helpers.demo_studies import ARMS, DCAO_SGD, GPT, HILL, MLP, demo_of, from_everywhere
from helpers.report_studies import ADAMW, DCAO_ADAMW, SGD, planned, stored


def kept(end=0.965):
    return demo_of(from_everywhere(ADAMW, HILL), from_everywhere(DCAO_ADAMW, [end] * 7, evaluations=6.6))


def opening(result):
    return opening_of(result, analyse(result))


def tiles(result):
    return {tile.label: (tile.value, tile.detail) for tile in opening(result).tiles}


def plain(text):
    return text.replace("\N{NO-BREAK SPACE}", " ")


def test_it_keeps_its_word_where_the_worst_start_is_within_a_point_of_the_best_of_the_sweep():
    assert plain(opening(kept()).verdict) == (
        "DCAO kept its word: from each of 7 initial learning rates, with nothing tuned, "
        "one run ended within 1 point of accuracy of the best of a sweep."
    )


def test_it_does_not_where_one_start_ends_lower_and_the_verdict_has_both_numbers():
    ends = [0.965] * 6 + [0.95]
    result = demo_of(from_everywhere(ADAMW, HILL), from_everywhere(DCAO_ADAMW, ends))
    assert plain(opening(result).verdict) == (
        "DCAO did not keep its word: from each of 7 initial learning rates, with nothing tuned, one "
        "run was to end within 1 point of accuracy of the best of a sweep; it fell short with AdamW on Digits MLP "
        "(95.0 % against 97.0 %)."
    )


def test_a_loss_among_others_is_named_and_perplexity_has_a_limit_of_its_own():
    low = [100.0, 90.0, 50.0, 12.0, 10.0, 30.0, None]
    result = demo_of(
        from_everywhere(ADAMW, HILL),
        from_everywhere(DCAO_ADAMW, [0.98] * 7),
        from_everywhere(SGD, low, on=GPT),
        from_everywhere(DCAO_SGD, [10.3] * 7, on=GPT),  # 3 % more
        arms=ARMS,
        tasks=(MLP, GPT),
        num_missing=2,
    )
    assert plain(opening(result).verdict) == (
        "DCAO kept its word in 1 of 2 cases: from each of 7 initial learning rates, with nothing tuned, one run ended "
        "within 1 point of accuracy or 2 % of perplexity of the best of a sweep; it fell short with SGD on "
        "Documentation GPT (10.3 against 10.0); 2 cases cannot be judged yet, as 2 runs are missing."
    )


def test_a_run_of_dcao_that_diverges_is_a_loss_and_a_sweep_that_diverges_is_none():
    lost = demo_of(from_everywhere(ADAMW, HILL), from_everywhere(DCAO_ADAMW, [0.97] * 6 + [None]))
    assert plain(opening(lost).verdict).endswith("with AdamW on Digits MLP (diverged against 97.0 %).")
    assert tiles(lost)["final metric against the best of the sweep"][0] == "median diverged, worst diverged"
    won = demo_of(from_everywhere(ADAMW, [None] * 7), from_everywhere(DCAO_ADAMW, [0.97] * 7))
    assert opening(won).verdict.startswith("DCAO kept its word: from")
    assert json.dumps(build_context(won), allow_nan=False)


@pytest.mark.parametrize("lacking", ["a seed", "a start", "a learning rate of the sweep", "dcao"])
def test_a_case_without_all_its_runs_is_not_judged(lacking):
    bare, own = from_everywhere(ADAMW, HILL), from_everywhere(DCAO_ADAMW, [0.97] * 7)
    match lacking:
        case "a seed":
            own = own[:-1]
        case "a start":
            own = own[:-3]
        case "a learning rate of the sweep":
            bare = bare[3:]
        case "dcao":
            own = []
    result = demo_of(bare, own, num_missing=1)
    assert opening(result).verdict == "Nothing can be said yet: 1 run is missing."
    assert tiles(result)["final metric against the best of the sweep"] == ("-", "no case has all its runs yet")
    assert tiles(result)["runs spent"] == ("-", "no sweep has all its runs yet")


def test_the_tiles_have_the_worst_case_the_median_and_the_gradients_that_were_counted():
    result = demo_of(
        from_everywhere(ADAMW, HILL),
        from_everywhere(DCAO_ADAMW, [0.9506] * 7, evaluations=6.6),  # 2 % less than 0.97, and 0.6 probes in 6 steps
        from_everywhere(SGD, HILL),
        from_everywhere(DCAO_SGD, [0.9797] * 7, evaluations=6.6),  # 1 % more
        arms=ARMS,
    )
    found = {label: (plain(value), plain(detail)) for label, (value, detail) in tiles(result).items()}
    assert found == {
        "final metric against the best of the sweep": (
            "median -2.0 %, worst -2.0 %",  # of two in the middle the worse
            "2 cases; plus is better; worst with AdamW on Digits MLP",
        ),
        "runs spent": ("1 against 7", "one run from any start; a sweep makes 7 like it"),
        "extra gradients": ("+10.0 %", "spent on probes, out of the same budget"),
    }


def test_a_lower_perplexity_is_a_gain():
    bare = from_everywhere(ADAMW, [100.0, 90.0, 50.0, 12.0, 10.0, 30.0, None], on=GPT)
    own = from_everywhere(DCAO_ADAMW, [9.0] * 7, on=GPT)
    result = demo_of(bare, own, tasks=(GPT,))
    assert plain(tiles(result)["final metric against the best of the sweep"][0]) == "median +10.0 %, worst +10.0 %"


def test_time_is_given_with_what_a_step_takes():
    bare = from_everywhere(ADAMW, HILL, seconds=0.06)  # of 6 steps
    own = from_everywhere(DCAO_ADAMW, [0.97] * 7, seconds=0.09)
    assert (
        opening(demo_of(bare, own)).note
        == "A training step took, without DCAO and with it, 10 and 15 ms on Digits MLP."
    )


def panel_of(result):
    numbers = analyse(result)
    found = promise(numbers.view, numbers.cells, numbers.untuned, numbers.costs)
    (panel,) = [panel for pair in found.pairs for panel in final_metrics(numbers, pair)]
    return panel


def test_the_picture_has_both_lines_their_names_and_the_best_of_the_sweep():
    panel = panel_of(kept())
    lines = {series.style.arm: list(series.y) for series in panel.series}
    assert lines["dcao:adamw"] == [0.965] * 7
    assert lines["adamw"][:6] == HILL[:6]
    assert [level.y for level in panel.levels] == [0.97]
    words = {plain(label.text): label for label in panel.labels}
    assert set(words) == {"<b>DCAO: 96.5 %</b>", "best of 7: 97.0 %", "AdamW", "diverged"}
    # The name is beside the steepest step, from 0.5 at 1e-4 to 0.9 at 1e-3; the other two are above both lines.
    assert (words["AdamW"].x, words["AdamW"].y) == (pytest.approx(10**-3.5), pytest.approx(0.7))
    assert {words[name].y for name in ("<b>DCAO: 96.5 %</b>", "best of 7: 97.0 %")} == {0.97}


def words_of(*, dcao, bare=HILL):
    panel = panel_of(demo_of(from_everywhere(ADAMW, bare), from_everywhere(DCAO_ADAMW, dcao)))
    return {plain(label.text): label for label in panel.labels}


def test_a_start_that_ends_elsewhere_is_in_the_name_of_the_line():
    assert words_of(dcao=[0.965] * 6 + [0.5])["<b>DCAO: 50.0\N{EN DASH}96.5 %</b>"].y == 0.97


def test_the_name_of_a_line_far_below_the_level_is_beside_it():
    assert words_of(dcao=[0.6] * 7)["<b>DCAO: 60.0 %</b>"].y == 0.6


@pytest.mark.parametrize(
    ("bare", "side", "x"),
    [([0.9, 0.97, 0.5, 0.4, 0.3, 0.2, 0.1], "right", 10**-4.5), ([0.3] * 7, None, None)],
    ids=["a hill at the left", "no hill"],
)
def test_a_name_is_outside_of_the_hill_or_nowhere(bare, side, x):
    label = words_of(dcao=[0.97] * 7, bare=bare).get("AdamW")
    assert (label and label.side, label and label.x) == (side, x and pytest.approx(x))


def test_what_diverged_or_is_worse_than_no_training_is_a_triangle_below():
    bare = from_everywhere(ADAMW, [60.0, 50.0, 40.0, 12.0, 10.0, 3e11, None], on=GPT, untrained=70.0)
    own = from_everywhere(DCAO_ADAMW, [10.0] * 7, on=GPT, untrained=70.0)
    panel = panel_of(demo_of(bare, own, tasks=(GPT,)))
    bottom, top = panel.y.limits
    assert top < 10.0 < 70.0 < bottom < 100.0  # better is up, and an untrained network is in view
    marks = next(series for series in panel.series if series.style.arm == "adamw").marks
    assert [mark.at[0] for mark in marks] == [0.1, 1.0]
    assert marks[0].point[1] == pytest.approx(3e11)
    assert math.isnan(marks[1].point[1])
    assert all(mark.direction == "down" and top < mark.at[1] < bottom for mark in marks)


def test_better_is_up_where_every_run_is_worse_than_no_training():
    bare = from_everywhere(ADAMW, [1e4] * 7, on=GPT, untrained=70.0)
    own = from_everywhere(DCAO_ADAMW, [1e5] * 7, on=GPT, untrained=70.0)
    panel = panel_of(demo_of(bare, own, tasks=(GPT,)))
    bottom, top = panel.y.limits
    assert top < 70.0 < bottom
    assert all(len(series.marks) == 7 for series in panel.series)


def record(step, phase, lr, s, length):
    hyperparameters = dcao.Hyperparameters(lr=lr, momentum=0.9)
    return dcao.StepRecord(
        step=step,
        loss=1.0,
        estimate=dcao.CurvatureEstimate(step=step, measure="load", s=s, relative_step=length),
        observation=None,
        decision=dcao.Decision(hyperparameters=hyperparameters, reason=f"{phase}: lr {lr}"),
        before=hyperparameters,
        after=hyperparameters,
        cost=1.0,
        total_cost=1.0,
        seconds=0.0,
    )


def test_the_course_of_a_run_has_the_phases_the_edge_and_the_limit():
    plan = planned(DCAO_ADAMW, 0)
    probes = (
        record(0, "start", 0.001, 1e-9, 1e-9),  # measured at the lr that was given
        record(5, "rise", 0.01, 0.5, 0.02),
        record(10, "arrived", 0.02, 9.0, 0.2),
        record(15, "under the ceiling", 0.02, 2.0, 0.05),
        record(18, "under the ceiling", 0.02, math.inf, 0.05),  # the loss is not finite one step away
        record(20, "lr held", 0.02, None, None),
        record(25, "decay", 0.01, 1.0, 0.02),
    )
    result = stored(plan.config, 0.9)
    run = replace(result, probes=probes, result=replace(result.result, num_steps=30))
    style = analyse(kept()).styles["dcao:adamw"]
    lr, length, s = course(run, style, 0.01, "best of the sweep")
    assert [(span.first, span.end, span.name) for span in lr.spans] == [
        (0, 10, "rise"),
        (10, 25, "under the ceiling"),
        (25, 30, "decay"),
    ]
    assert list(lr.series[0].y) == [0.001, 0.01, 0.02, 0.02, 0.02, 0.01]
    assert [(level.y, level.name) for level in lr.levels] == [(0.01, "best of the sweep")]
    assert list(length.series[0].y) == [0.02, 0.2, 0.05, 0.05, 0.02]
    assert length.levels[0].y == 0.1
    assert list(s.series[0].x) == [5, 10, 15, 25]
    assert s.edge == 2.0
    assert course(stored(plan.config, 0.9), style, None, "") == []


def test_the_page_begins_with_the_verdict_and_folds_all_the_rest(tmp_path):
    page, printed = write_study_report(kept(), tmp_path)
    html = page.read_text()
    verdict = opening(kept()).verdict
    assert printed == verdict
    first, rest = html.split('<details class="part" id="sure">')
    assert verdict in first
    assert "Holm" not in first
    assert "Holm" in rest
    data = json.loads((tmp_path / "data.json").read_text())
    assert data["numbers"]["opening"]["pairs"][0]["worst"] == 0.965
