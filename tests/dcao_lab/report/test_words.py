"""The report's sentences repeat its numbers, losses included."""

import pytest

from dcao_lab.report.numbers import analyse
from dcao_lab.report.words.comparing import task_sentences
from dcao_lab.report.words.headlines import headlines
from dcao_lab.report.words.measured import coverage
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
    assert winners == "An arm of DCAO has the best median on 0 of 1 workload; elsewhere it is SGD on Digits MLP."
    assert "in favour in 1 and against in 0 of 1 comparison;" in reference
    assert "Largest gain in accuracy: +10.3 points (DCAO(AdamW), Digits MLP)." in reference
    assert best.endswith("-4.7 points on Digits MLP (worse).")
    assert "needs 0.75 times the gradient evaluations" in speed
    assert "DCAO(AdamW) (+50\xa0% gradient evaluations, +50\xa0% time)" in cost
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
        "Range of initial learning rate that ends within 5\xa0% of the best median, mean over workloads: "
        "DCAO(AdamW) 100\xa0% and AdamW 50\xa0%."
    ]


def test_a_study_without_dcao_claims_nothing_about_it():
    found = headlines(analyse(result_of(study(ADAMW, SGD), finals(ADAMW, [0.9]), finals(SGD, [0.8]))))
    assert found == ["No comparison can be made of the runs that are there yet."]


@pytest.mark.parametrize(("pairs", "covered"), [(3, 0.75), (5, 0.85), (10, 0.90), (50, 0.94)])
def test_coverage_is_students(pairs, covered):  # the figures of statistics.bootstrap_interval's docstring
    assert coverage(pairs) == pytest.approx(covered, abs=0.006)
