"""The report's sentences repeat its numbers, losses included."""

import dataclasses

import pytest

from dcao_lab.report.numbers import analyse
from dcao_lab.report.words.comparing import task_sentences
from dcao_lab.report.words.headlines import headlines
from dcao_lab.report.words.measured import coverage, flatter, fragility
from dcao_lab.study import Variation
from helpers.report_studies import ADAMW, DCAO_ADAMW, SGD, finals, result_of, study


@pytest.fixture
def numbers():
    return analyse(
        result_of(
            study(ADAMW, SGD, DCAO_ADAMW),
            finals(ADAMW, [0.80, 0.81, 0.82], target=4.0),
            finals(SGD, [0.95, 0.96, 0.97], target=None),
            finals(DCAO_ADAMW, [0.90, 0.91, 0.93], target=3.0, evaluations=9.0, seconds=0.09),
        )
    )


def test_the_headlines_say_wins_losses_speed_cost_and_certainty(numbers):
    winners, reference, best, speed, cost, certainty = headlines(numbers)
    assert winners == "DCAO has the best median on 0 of 1 workload; elsewhere the best is SGD (Digits MLP)."
    assert "in favour in 1 and against in 0 of 1 comparison;" in reference
    assert "Largest gain in accuracy: +10.3 points (DCAO(AdamW), Digits MLP)." in reference
    assert best.endswith("-4.7 points on Digits MLP (worse).")
    assert "needs 0.75 times the gradient evaluations" in speed
    assert "there are too few seeds for a test." in reference
    assert cost == (
        "Against the bare optimizer a training step takes +50\xa0% gradient evaluations with DCAO(AdamW) (medians over "
        "workloads)."
    )
    assert (
        "with 3 seeds a signed-rank test can never reach p \u2264 0.05 (its smallest p is 0.25; 6 seeds can)"
        in certainty
    )
    assert "covers about 75\xa0%" in certainty


def test_a_workloads_sentences_name_the_best_and_the_distance_to_it(numbers):
    best, distance = task_sentences(numbers, "digits_mlp")
    assert best == "Best: SGD, 96.0\xa0% test accuracy (median of 3)."
    assert distance.startswith("DCAO(AdamW) minus SGD, the best without DCAO: -4.7 points (")
    assert distance.endswith(": worse).")


def test_robustness_is_said_by_axis():
    rates = (1e-3, 1e-1)
    config = study(ADAMW, DCAO_ADAMW, variations=tuple(Variation(axis="lr", value=lr) for lr in rates))
    groups = [
        finals(arm, [value], variation=Variation(axis="lr", value=lr), lr=lr)
        for arm, values in ((ADAMW, (0.9, None)), (DCAO_ADAMW, (0.9, 0.9)))
        for lr, value in zip(rates, values, strict=True)
    ]
    found = [line for line in headlines(analyse(result_of(config, *groups))) if line.startswith("Range of")]
    assert found == [
        "Range of initial learning rate that ends within 5\xa0% of the best median of any arm, mean over "
        "workloads: DCAO(AdamW) 100\xa0% and AdamW 50\xa0%."
    ]


def test_a_study_without_dcao_claims_nothing_about_it():
    found = headlines(analyse(result_of(study(ADAMW, SGD), finals(ADAMW, [0.9]), finals(SGD, [0.8]))))
    assert found == ["No comparison can be made of the runs that are there yet."]


@pytest.mark.parametrize(("pairs", "covered"), [(3, 0.75), (5, 0.85), (10, 0.90), (50, 0.94)])
def test_coverage_is_students(pairs, covered):  # the figures of statistics.bootstrap_interval's docstring
    assert coverage(pairs) == pytest.approx(covered, abs=0.006)


def test_with_seeds_enough_it_is_said_how_many_differences_are_significant():
    seeds = tuple(range(8))
    config = study(ADAMW, DCAO_ADAMW, seeds=seeds)
    result = result_of(
        config,
        finals(ADAMW, [0.80 + 0.001 * seed for seed in seeds]),
        finals(DCAO_ADAMW, [0.90 + 0.001 * seed**2 for seed in seeds]),
    )
    (tally,) = [line for line in headlines(analyse(result)) if line.startswith("DCAO against")]
    assert "1 is significant after Holm's correction." in tally  # p is 2 / 2**8


def test_what_dcao_does_not_make_up_for_is_said_and_what_it_stands_as_well_is_not():
    axes = {"batch_size": ((0.9, 0.9), (0.9, 0.9)), "init_scale": ((0.9, 0.9), (0.9, 0.1))}
    variations = {axis: [Variation(axis=axis, value=value) for value in (1.0, 8.0)] for axis in axes}
    config = study(ADAMW, DCAO_ADAMW, variations=tuple(v for own in variations.values() for v in own))
    groups = [
        finals(arm, [value], variation=variation)
        for axis, ends in axes.items()
        for arm, values in zip((ADAMW, DCAO_ADAMW), ends, strict=True)
        for variation, value in zip(variations[axis], values, strict=True)
    ]
    assert fragility(analyse(result_of(config, *groups))).replace("\xa0", " ") == (
        "Less of the range is usable with DCAO than without it of scale of the initial weights (DCAO(AdamW) 50 %, "
        "AdamW 100 %)."
    )


@pytest.mark.parametrize(("own", "verdict"), [(1.0, "1 of 1 case"), (9.0, "0 of 1 case")])
def test_flatter_is_against_the_reference_at_its_best_lr(own, verdict):
    def solved(arm, lr, end, sharpness):
        variation = Variation(axis="lr", value=lr)
        ((plan, run),) = finals(arm, [end], variation=variation, lr=lr)
        solution = {"sharpness": sharpness, "preconditioned_sharpness": None, "trace": 1.0, "density": None}
        return [(plan, dataclasses.replace(run, result=dataclasses.replace(run.result, solution=solution)))]

    config = study(ADAMW, DCAO_ADAMW, seeds=(0,), variations=tuple(Variation(axis="lr", value=v) for v in (0.01, 0.1)))
    result = result_of(
        config,
        solved(ADAMW, 0.01, 0.9, 5.0),  # its best
        solved(ADAMW, 0.1, 0.8, 0.5),
        solved(DCAO_ADAMW, 0.01, 0.9, own),
        solved(DCAO_ADAMW, 0.1, 0.9, own),
    )
    assert flatter(analyse(result)).endswith(f"in {verdict}.")
