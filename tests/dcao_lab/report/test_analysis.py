"""The report's numbers, on made-up runs whose answers are worked by hand."""

import dataclasses
import math

import pytest

from dcao_lab.report.analysis.comparisons import comparisons
from dcao_lab.report.analysis.costs import costs
from dcao_lab.report.analysis.overall import overall
from dcao_lab.report.analysis.results import results, worst_score
from dcao_lab.report.analysis.robustness import sweeps
from dcao_lab.report.analysis.solutions import correlations, solutions
from dcao_lab.report.analysis.spread import spread_words
from dcao_lab.report.analysis.targets import reachings
from dcao_lab.report.analysis.tuning import tunings
from dcao_lab.report.analysis.view import Place, view
from dcao_lab.study import Sweep, Tuning, Variation
from helpers.report_studies import ADAMW, DCAO_ADAMW, SGD, finals, planned, result_of, stored, study, task

MLP = "digits_mlp"


@pytest.mark.parametrize(
    ("values", "median", "ends", "num_diverged"),
    [
        ([0.1, 0.9, 0.5], 0.5, (0.1, 0.9), 0),
        ([0.2, 0.4], pytest.approx(0.3), (0.2, 0.4), 0),
        ([None, 0.9, 0.5], 0.5, (None, 0.9), 1),
        ([None, None, 0.5], None, (None, 0.5), 2),
        ([None, 0.5], None, (None, 0.5), 1),
        ([None, None, None], None, (None, None), 3),
        ([None, 0.2, 0.4, 0.6, 0.8], 0.4, (0.2, 0.6), 1),
        ([None, None, 0.4, 0.6, 0.8], 0.4, (None, 0.6), 2),
    ],
    ids=str,
)
def test_a_diverged_run_counts_as_worse_than_every_other(values, median, ends, num_diverged):
    seen = view(result_of(study(ADAMW), finals(ADAMW, values)))
    found = results(seen)[Place(task=MLP, arm="adamw")]
    assert (found.median, found.num_diverged) == (median, num_diverged)
    assert found.ends == ends


@pytest.mark.parametrize(("num_runs", "spread", "ends"), [(4, "range", (0.0, 3.0)), (5, "quartiles", (1.0, 3.0))])
def test_of_fewer_than_five_runs_the_range_is_shown(num_runs, spread, ends):
    found = results(view(result_of(study(ADAMW), finals(ADAMW, [float(i) for i in range(num_runs)]))))
    result = found[Place(task=MLP, arm="adamw")]
    assert (result.spread, result.ends) == (spread, ends)


@pytest.mark.parametrize(
    ("nums_runs", "words"),
    [
        ([1], ""),
        ([3, 1], "the range over seeds"),
        ([5], "the quartiles over seeds"),
        ([3, 5], "fewer than 5 the range"),
    ],
    ids=str,
)
def test_the_spread_is_called_what_it_is(nums_runs, words):
    assert words in spread_words(nums_runs)
    assert bool(spread_words(nums_runs)) == bool(words)


def test_ranks_are_by_median_and_ties_share_the_better_one():
    seen = view(
        result_of(
            study(ADAMW, SGD, DCAO_ADAMW),
            finals(ADAMW, [0.9] * 3),
            finals(SGD, [0.9] * 3),
            finals(DCAO_ADAMW, [0.8] * 3),
        )
    )
    assert {place.arm: found.rank for place, found in results(seen).items()} == {
        "adamw": 1,
        "sgd": 1,
        "dcao:adamw": 3,
    }


def test_of_perplexity_less_is_better():
    gpt = task("pydoc_gpt")
    seen = view(
        result_of(
            study(ADAMW, DCAO_ADAMW, tasks=(gpt,)),
            finals(ADAMW, [9.0, 9.0, 9.0], on=gpt, untrained=90.0),
            finals(DCAO_ADAMW, [8.0, 8.0, None], on=gpt, untrained=90.0),
        )
    )
    found = results(seen)
    assert found[Place(task="pydoc_gpt", arm="dcao:adamw")].rank == 1
    assert worst_score(seen, "pydoc_gpt") == 90.0
    (comparison,) = comparisons(seen, found)
    assert comparison.found.difference == pytest.approx((-1 - 1 + 81) / 3)  # the diverged run counts as untrained
    assert comparison.gain == pytest.approx(-79 / 3)


def test_an_arm_is_compared_with_its_reference_the_best_other_and_adamw():
    seen = view(
        result_of(
            study(ADAMW, SGD, DCAO_ADAMW),
            finals(ADAMW, [0.80, 0.81, 0.82]),
            finals(SGD, [0.95, 0.96, 0.97]),
            finals(DCAO_ADAMW, [0.90, 0.91, 0.93]),
        )
    )
    found = {(c.arm, c.other): c for c in comparisons(seen, results(seen))}
    assert set(found) == {("dcao:adamw", "adamw"), ("dcao:adamw", "sgd")}
    won, lost = found["dcao:adamw", "adamw"], found["dcao:adamw", "sgd"]
    assert (won.kinds, lost.kinds) == (("reference", "AdamW"), ("best other",))
    assert won.gain == pytest.approx((0.10 + 0.10 + 0.11) / 3)
    assert (won.verdict, lost.verdict) == ("better", "worse")
    assert won.found.p_value == 0.25  # the smallest of three pairs: 2 / 2^3
    assert won.found.p_holm == 0.5  # Holm: the smallest of two p-values twice
    assert not won.is_certain


def test_six_seeds_that_agree_are_certain():
    config = study(ADAMW, DCAO_ADAMW, seeds=range(8))
    low, high = [0.50 + 0.01 * i for i in range(8)], [0.70 + 0.02 * i for i in range(8)]
    seen = view(result_of(config, finals(ADAMW, low), finals(DCAO_ADAMW, high)))
    (found,) = comparisons(seen, results(seen))
    assert found.found.p_holm == pytest.approx(2 / 2**8)
    assert found.is_certain


def test_time_to_target_censors_runs_that_missed_it():
    plans = [planned(ADAMW, seed) for seed in range(3)]
    targets = (2.0, 4.0, None)
    runs = [(plan, stored(plan.config, 0.9, target=target)) for plan, target in zip(plans, targets, strict=True)]
    lost = planned(SGD, 0)
    seen = view(result_of(study(ADAMW, SGD), runs, [(lost, stored(lost.config, None, evaluations=1.0))]))
    found = reachings(seen)
    adamw, sgd = found[Place(task=MLP, arm="adamw")], found[Place(task=MLP, arm="sgd")]
    assert (adamw.median.median, adamw.median.num_reached, adamw.typical) == (4.0, 2, 4.0)
    assert adamw.curve[:3] == ((0.0, 0.0), (2.0, pytest.approx(1 / 3)), (4.0, pytest.approx(2 / 3)))
    assert math.isinf(sgd.typical)
    assert sgd.times.times == (6.0,)  # diverged after one: censored at the longest run's end


def test_profiles_ranks_and_means_are_over_the_workloads_that_all_have():
    cnn = task("digits_cnn")
    seen = view(
        result_of(
            study(ADAMW, SGD, DCAO_ADAMW, tasks=(task(), cnn)),
            finals(ADAMW, [0.9, 0.9], target=3.0),
            finals(ADAMW, [0.5, 0.5], on=cnn, target=2.0),
            finals(SGD, [0.5, 0.5], target=6.0),
            finals(SGD, [0.9, 0.9], on=cnn, target=None),
            finals(DCAO_ADAMW, [0.9, 0.9]),
        )
    )
    found = overall(seen, results(seen), reachings(seen))
    assert (found.arms, found.left_out) == (("adamw", "sgd"), ("dcao:adamw",))
    assert found.profiles["adamw"].ratios == {MLP: 1.0, "digits_cnn": 1.0}
    assert found.profiles["sgd"].ratios == {MLP: 2.0, "digits_cnn": math.inf}
    assert found.ranking.mean_ranks == (1.5, 1.5)
    # untrained 0.1 is 0 and 0.9 is 1, so 0.5 is 1/2; the middle half of (1, 1, 1/2, 1/2) has the mean 3/4
    assert found.means["adamw"].value == pytest.approx(0.75)


def test_the_usable_range_counts_values_near_the_best():
    rates = (1e-4, 1e-3, 1e-2)
    config = study(ADAMW, DCAO_ADAMW, variations=tuple(Variation(axis="lr", value=lr) for lr in rates))
    groups = [
        finals(arm, [value], variation=Variation(axis="lr", value=lr), lr=lr)
        for arm, values in ((ADAMW, (0.3, 0.9, None)), (DCAO_ADAMW, (0.86, 0.88, 0.80)))
        for lr, value in zip(rates, values, strict=True)
    ]
    seen = view(result_of(config, *groups))
    found = {sweep.arm: sweep for sweep in sweeps(seen, results(seen))}
    assert found["adamw"].points == ((1e-4, 0.3, (0.3,)), (1e-3, 0.9, (0.9,)), (1e-2, None, (None,)))
    assert found["adamw"].num_usable == 1
    assert found["dcao:adamw"].num_usable == 2  # 0.9 less 5 % is 0.855


def test_the_usable_range_is_of_the_values_that_every_arm_was_tried_at():
    tried = {ADAMW: {1e-4: 0.9, 2e-4: 0.9, 1e-3: 0.3, 1e-2: 0.9}, DCAO_ADAMW: {1e-4: 0.9, 1e-3: 0.9, 1e-2: 0.9}}
    config = study(ADAMW, DCAO_ADAMW, variations=tuple(Variation(axis="lr", value=lr) for lr in tried[ADAMW]))
    groups = [
        finals(arm, [value], variation=Variation(axis="lr", value=lr), lr=lr)
        for arm, values in tried.items()
        for lr, value in values.items()
    ]
    seen = view(result_of(config, *groups))
    found = {sweep.arm: (sweep.num_usable, sweep.num_shared) for sweep in sweeps(seen, results(seen))}
    assert found == {"adamw": (2, 3), "dcao:adamw": (3, 3)}


def test_without_a_sweep_the_trials_are_one():
    trials = [(plan := planned(ADAMW, 100, phase="trial", lr=lr), stored(plan.config, 0.5)) for lr in (1e-4, 1e-2)]
    config = study(ADAMW, tuning=Tuning(num_trials=2))
    seen = view(result_of(config, trials, finals(ADAMW, [0.9], lr=1e-2)))
    (found,) = sweeps(seen, results(seen))
    assert (found.axis, found.source, len(found.points)) == ("lr", "trials", 2)
    assert (found.num_usable, found.num_shared) == (2, 2)


def test_what_an_arm_swept_is_drawn_also_where_other_arms_have_variations():
    swept = dataclasses.replace(ADAMW, sweep=Sweep(lowest=1e-3))
    varied = Variation(axis="lr", value=0.5, arms=("sgd",))
    seen = view(
        result_of(
            study(swept, SGD, variations=(varied,)),
            finals(swept, [0.8, 0.7], phase="trial", lr=1e-3) + finals(swept, [0.9], phase="trial", lr=1e-2),
            finals(SGD, [0.5], lr=0.5, variation=varied),
        )
    )
    (found,) = [sweep for sweep in sweeps(seen, results(seen)) if sweep.arm == "adamw"]
    assert (found.axis, found.source) == ("lr", "sweep")
    assert found.points == ((1e-3, 0.75, (0.8, 0.7)), (1e-2, 0.9, (0.9,)))


def test_tuning_says_what_was_chosen_and_how_many_trials_come_near():
    values = (0.90, 0.88, 0.5, None)
    trials = [
        (plan := planned(ADAMW, 100, phase="trial", lr=10.0**-i), stored(plan.config, value))
        for i, value in enumerate(values)
    ]
    config = study(ADAMW, tuning=Tuning(num_trials=4))
    chosen = planned(ADAMW, 0, lr=1.0, settings={"weight_decay": 0.1})
    (found,) = tunings(view(result_of(config, trials, [(chosen, stored(chosen.config, 0.9))])))
    assert (found.chosen_lr, found.chosen) == (1.0, {"weight_decay": 0.1})
    assert (found.num_trials, found.num_diverged, found.num_near, found.best) == (4, 1, 2, 0.90)
    assert found.median == 0.5  # of four the worse of the middle two


def test_costs_are_ratios_over_pairs_of_one_seed():
    seen = view(
        result_of(
            study(ADAMW, DCAO_ADAMW),
            finals(ADAMW, [0.9, 0.9], evaluations=6.0, seconds=0.06),
            finals(DCAO_ADAMW, [0.9, 0.9], evaluations=9.0, seconds=0.12),
            finals(DCAO_ADAMW, [0.9], phase="watched", evaluations=600.0, seconds=60.0),
        )
    )
    bare, wrapped = costs(seen)
    assert (bare.evaluations_per_step, bare.time_ratio, bare.peak_megabytes) == (1.0, None, 2.0)
    assert wrapped.evaluations_per_step == 1.5
    assert (wrapped.evaluations_ratio, wrapped.time_ratio) == (pytest.approx(1.5), pytest.approx(2.0))
    assert wrapped.milliseconds == pytest.approx(20.0)
    assert wrapped.seconds_per_epoch == pytest.approx(0.04)


def test_correlation_is_spearmans_over_the_networks():
    runs = []
    for seed, (sharpness, gap) in enumerate(((1.0, 0.3), (2.0, 0.2), (30.0, 0.1))):
        plan = planned(ADAMW, seed)
        solution = {"sharpness": sharpness, "preconditioned_sharpness": None, "trace": 5.0, "density": None}
        runs.append((plan, stored(plan.config, 0.9, generalisation_gap=gap, solution=solution)))
    found = {(c.measure, c.outcome): c for c in correlations(solutions(view(result_of(study(ADAMW), runs))))}
    assert found["sharpness", "generalisation_gap"].rho == pytest.approx(-1.0)
    assert found["trace", "generalisation_gap"].rho is None  # all equal
    assert found["preconditioned_sharpness", "test_metric"].num_runs == 0
