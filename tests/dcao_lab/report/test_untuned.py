"""One run that nobody tuned against the best of a sweep, on made-up runs whose answers are worked by hand."""

from dataclasses import replace

import pytest

from dcao_lab.report.analysis.results import results
from dcao_lab.report.analysis.untuned import LEAST_SWEEP, untuned
from dcao_lab.report.analysis.view import view
from dcao_lab.report.html.page import build_context
from dcao_lab.report.numbers import analyse
from dcao_lab.report.paper.latex import to_latex
from dcao_lab.report.paper.write import tables
from dcao_lab.report.words.comparing import untuned as sentences
from dcao_lab.study import Sweep, Variation
from helpers.crowded_studies import ablation
from helpers.report_studies import ADAMW, DCAO_ADAMW, SGD, finals, result_of, study, task

COSINE = replace(ADAMW, name="adamw+cosine", title="AdamW + cosine", schedule="cosine")
GPT = task("pydoc_gpt")


def sweep(arm, values_by_lr, **changes):
    """Runs at each initial learning rate, one for each value."""
    return [
        pair
        for lr, values in values_by_lr.items()
        for pair in finals(arm, values, variation=Variation(axis="lr", value=lr), lr=lr, **changes)
    ]


def search(arm, values_by_lr, **changes):
    """The same with lrs from 1 on at which every run diverged, so that it is as wide as a sweep has to be."""
    num_seeds = len(next(iter(values_by_lr.values())))
    far = {1.0 + number: [None] * num_seeds for number in range(LEAST_SWEEP - len(values_by_lr))}
    return sweep(arm, {**values_by_lr, **far}, **changes)


def studied(*groups, arms=(ADAMW, COSINE, DCAO_ADAMW), tasks=()):
    lrs = dict.fromkeys(plan.variation.value for group in groups for plan, _ in group if plan.variation)
    variations = tuple(Variation(axis="lr", value=lr) for lr in lrs)
    return result_of(study(*arms, tasks=tasks, variations=variations), *groups)


def found_in(study_result):
    seen = view(study_result)
    return {one.other: one for one in untuned(seen, results(seen))}


def test_the_worst_start_is_held_against_the_best_of_each_sweep():
    found = found_in(
        studied(
            search(ADAMW, {1e-3: [0.90, 0.91, 0.92], 1e-2: [0.80, 0.97, 0.98], 1e-1: [None, None, 0.5]}),
            search(COSINE, {1e-3: [0.99, 0.99, 0.99], 1e-2: [0.98, 0.98, 0.98]}),
            sweep(DCAO_ADAMW, {1e-7: [0.97, 0.96, 0.98], 10.0: [0.95, 0.965, 0.97]}, evaluations=6.6),
        )
    )
    constant, cosine = found["adamw"], found["adamw+cosine"]
    assert constant.starts == ((1e-7, 0.97), (10.0, 0.965))
    assert (constant.num_swept, constant.best_lr, constant.best, constant.worst) == (LEAST_SWEEP, 1e-2, 0.97, 0.965)
    assert constant.short == pytest.approx(0.005)
    assert (constant.allowed, constant.is_within) == (0.01, True)
    # paired by seed, the mean over both starts: .96, .9625 and .975 against .80, .97 and .98
    assert constant.found.difference == pytest.approx((0.16 - 0.0075 - 0.005) / 3)
    assert constant.found.num_pairs == 3
    assert (constant.sweep_evaluations, constant.own_evaluations) == (6.0 * LEAST_SWEEP, pytest.approx(6.6))
    assert cosine.short == pytest.approx(0.025)
    assert (cosine.allowed, cosine.is_within) == (0.02, False)


@pytest.mark.parametrize(("worst", "is_within"), [(9.15, True), (9.25, False), (8.0, True)])
def test_of_perplexity_two_percent_are_allowed(worst, is_within):
    (one,) = found_in(
        studied(
            search(ADAMW, {1e-3: [9.0], 1e-2: [12.0]}, on=GPT),
            sweep(DCAO_ADAMW, {1e-7: [8.5], 10.0: [worst]}, on=GPT),
            arms=(ADAMW, DCAO_ADAMW),
            tasks=(GPT,),
        )
    ).values()
    assert one.short == pytest.approx(max(worst, 8.5) - 9.0)
    assert one.allowed == pytest.approx(0.18)
    assert one.is_within is is_within


def test_against_a_schedule_four_percent_of_perplexity_are_allowed():
    (one,) = found_in(
        studied(
            search(COSINE, {1e-3: [9.0], 1e-2: [12.0]}, on=GPT),
            sweep(DCAO_ADAMW, {1e-7: [8.5], 10.0: [9.3]}, on=GPT),
            arms=(ADAMW, COSINE, DCAO_ADAMW),
            tasks=(GPT,),
        )
    ).values()
    assert (one.allowed, one.is_within) == (pytest.approx(0.36), True)


def grown(arm, trials, chosen_lr, values):
    """The runs of a sweep that grows: one trial each on the first seed, and what counts at the chosen lr."""
    first = [pair for lr, value in trials.items() for pair in finals(arm, [value], phase="trial", lr=lr)]
    return [*first, *finals(arm, values, lr=chosen_lr)]


def test_one_run_is_held_against_a_sweep_that_grew():
    swept = replace(ADAMW, sweep=Sweep(lowest=1e-3, num_lrs=3, per_decade=1))
    result = studied(
        grown(swept, {1e-3: 0.5, 1e-2: 0.8, 1e-1: 0.9, 1.0: 0.7}, 1e-1, [0.90, 0.92, 0.94]),
        finals(DCAO_ADAMW, [0.89, 0.915, 0.95], lr=1e-3, evaluations=7.5),
        arms=(swept, DCAO_ADAMW),
    )
    (one,) = found_in(result).values()
    assert one.starts == ((1e-3, 0.915),)
    assert (one.num_swept, one.best_lr, one.best) == (4, 1e-1, 0.92)
    assert (one.short, one.is_within) == (pytest.approx(0.005), True)
    assert (one.sweep_evaluations, one.own_evaluations) == (24.0, 7.5)
    assert sentences(analyse(result))[0].startswith(
        "Untuned, DCAO(AdamW) is, whatever learning rate it is given, as good as the best of 4 with AdamW"
    )


def test_another_optimizer_and_one_lr_for_all_are_held_against_the_sweep_that_they_refer_to():
    swept = replace(ADAMW, sweep=Sweep(lowest=1e-3, num_lrs=3, per_decade=1))
    given = replace(ADAMW, name="adamw[lr=0.001]", lr=1e-3, reference="adamw")
    prodigy = replace(ADAMW, name="prodigy", title="Prodigy", optimizer="prodigy", reference="adamw")
    result = studied(
        grown(swept, {1e-3: 0.5, 1e-2: 0.9, 1e-1: 0.8}, 1e-2, [0.90, 0.92, 0.94]),
        finals(given, [0.50, 0.51, 0.52], lr=1e-3),
        finals(prodigy, [0.915, 0.915, 0.915], lr=1.0),
        arms=(swept, given, prodigy),
    )
    numbers = analyse(result)
    found = {one.arm: one for one in numbers.untuned}
    assert {name: (one.other, one.is_within) for name, one in found.items()} == {
        "adamw[lr=0.001]": ("adamw", False),
        "prodigy": ("adamw", True),
    }
    assert "AdamW is, from the learning rate 1e-3 that it was given, as good as" in sentences(numbers)[0]


def test_a_sweep_that_has_not_chosen_yet_is_no_rival():
    swept = replace(ADAMW, sweep=Sweep(lowest=1e-3))
    trials = finals(swept, [0.9], phase="trial")
    assert found_in(studied(trials, finals(DCAO_ADAMW, [0.9] * 3), arms=(swept, DCAO_ADAMW))) == {}


def test_a_start_that_diverges_is_out_and_a_sweep_that_does_is_no_rival():
    lost = found_in(studied(search(ADAMW, {1e-3: [0.9], 1e-2: [0.8]}), sweep(DCAO_ADAMW, {1e-7: [0.99], 10.0: [None]})))
    assert (lost["adamw"].worst, lost["adamw"].short, lost["adamw"].is_within) == (None, None, False)
    won = found_in(studied(search(ADAMW, {1e-3: [None], 1e-2: [None]}), sweep(DCAO_ADAMW, {1e-7: [0.9], 10.0: [0.8]})))
    assert (won["adamw"].best, won["adamw"].short, won["adamw"].is_within) == (None, None, True)


def test_only_the_same_optimizer_is_a_rival_and_only_where_lr_was_varied():
    arms = (ADAMW, SGD, DCAO_ADAMW)
    groups = (search(SGD, {1e-3: [0.9], 1e-2: [0.8]}), sweep(DCAO_ADAMW, {1e-7: [0.9], 10.0: [0.8]}))
    assert found_in(studied(*groups, arms=arms)) == {}
    assert found_in(studied(finals(ADAMW, [0.9]), finals(DCAO_ADAMW, [0.9]), arms=arms)) == {}


def test_only_an_arm_as_it_comes_is_held_against_a_sweep_and_a_wrapped_one_is_none():
    variant = replace(DCAO_ADAMW, name="of dcao", title="variant of dcao", reference="dcao:adamw")
    setting = replace(DCAO_ADAMW, name="set", title="with a setting", settings={"growth": 2.0})
    arms = (ADAMW, DCAO_ADAMW, variant, setting)
    seen = view(studied(*(search(arm, {1e-3: [0.9], 1e-2: [0.8]}) for arm in arms), arms=arms))
    assert [(one.arm, one.other) for one in untuned(seen, results(seen))] == [("dcao:adamw", "adamw")]


def test_few_learning_rates_are_no_sweep_and_one_start_is_none():
    few = sweep(ADAMW, {1.0 + number: [0.9] for number in range(LEAST_SWEEP - 1)})
    anywhere = sweep(DCAO_ADAMW, {1e-7: [0.9], 10.0: [0.8]})
    assert found_in(studied(few, anywhere)) == {}
    assert found_in(studied(search(ADAMW, {1e-3: [0.9]}), sweep(DCAO_ADAMW, {1e-3: [0.9]}))) == {}


def test_what_was_tried_with_fewer_seeds_is_no_part_of_the_sweep_and_seeds_are_compared_that_all_starts_have():
    (one,) = found_in(
        studied(
            search(ADAMW, {1e-3: [0.90, 0.92], 1e-2: [0.80, 0.82]}),
            sweep(ADAMW, {100.0: [0.99]}),
            sweep(DCAO_ADAMW, {1e-7: [0.94], 10.0: [0.96, 0.10]}),
        )
    ).values()
    assert (one.num_swept, one.best_lr, one.best) == (LEAST_SWEEP, 1e-3, pytest.approx(0.91))
    assert (one.found.num_pairs, one.found.difference) == (1, pytest.approx((0.94 + 0.96) / 2 - 0.90))


def test_the_ablation_which_has_no_sweep_opens_with_none():
    assert sentences(analyse(ablation())) == []


def test_it_is_said_shown_and_tabulated():
    result = studied(
        search(ADAMW, {1e-3: [0.90], 1e-2: [0.97]}),
        search(COSINE, {1e-3: [0.90], 1e-2: [0.995]}),
        sweep(DCAO_ADAMW, {1e-7: [0.97], 10.0: [0.965]}),
    )
    numbers = analyse(result)
    assert sentences(numbers) == [
        "Untuned, DCAO(AdamW) is, from the worst initial learning rate between 1e-7 and 1e1, as good as the best of 7 "
        "with AdamW on 1 of 1 workload and the best of 7 with AdamW + cosine on 0 of 1 workload (to 1 point "
        "of accuracy or 2 % of another metric against constant learning rates, twice that against a schedule); such a "
        "sweep costs 7.00 times the one run."
    ]
    context = build_context(result)
    (section,) = [each for each in context["overview"] if each["key"] == "untuned"]
    first, second = section["tables"][0]["rows"]
    assert [each["text"] for each in first[3:9]] == [
        "97.0\xa0%",
        "96.5\xa0%",
        "97.0\xa0%",
        "+0.5 points",
        "+1.0",
        "yes",
    ]
    assert [each["text"] for each in second[3:9]] == [
        "99.5\xa0%",
        "96.5\xa0%",
        "97.0\xa0%",
        "+3.0 points",
        "+2.0",
        "no",
    ]
    assert context["numbers"]["untuned"][0]["short"] == pytest.approx(0.005)
    (latex,) = [to_latex(table) for table in tables(numbers) if table.name == "untuned"]
    assert "allowed, and then in bold: " in latex.splitlines()[0]
    rows = [line.split(" & ") for line in latex.splitlines() if "DCAO(AdamW)" in line]
    assert [row[3:6] for row in rows] == [
        [r"97.0~\%", r"96.5~\%", r"{\boldmath\textbf{$+0.5$}}"],
        [r"99.5~\%", r"96.5~\%", r"$+3.0$"],
    ]


def test_beside_dcao_the_others_have_the_table_of_cells_and_no_sentences():
    swept = replace(ADAMW, sweep=Sweep(lowest=1e-3, num_lrs=3, per_decade=1))
    prodigy = replace(ADAMW, name="prodigy", title="Prodigy", optimizer="prodigy", reference="adamw")
    runs = grown(swept, {1e-3: 0.5, 1e-2: 0.8, 1e-1: 0.9}, 1e-1, [0.90, 0.92, 0.94]), finals(prodigy, [0.9] * 3, lr=1.0)
    alone = studied(*runs, arms=(swept, prodigy))
    beside = studied(*runs, finals(DCAO_ADAMW, [0.9] * 3, lr=1e-3), arms=(swept, prodigy, DCAO_ADAMW))
    assert [each.split(" is,")[0] for each in sentences(analyse(alone))] == ["Untuned, Prodigy"]
    assert [each.split(" is,")[0] for each in sentences(analyse(beside))] == ["Untuned, DCAO(AdamW)"]
    assert {one.arm for one in analyse(beside).cells} == {"prodigy", "dcao:adamw"}
