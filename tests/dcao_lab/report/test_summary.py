import dataclasses

import pytest

from dcao_lab.report.summary import compare, summarise
from dcao_lab.report.words import headlines
from dcao_lab.runner import Outcome, RunResult, StoredRun
from dcao_lab.training import EvaluationPoint
from lab_runs import small_config


def stored(optimizer, lr, seed, value, *, evaluations=6.0, seconds=0.06, watch=False):
    """A run that ended with this accuracy, or diverged where it is None."""
    config = small_config(optimizer=optimizer, lr=lr, seed=seed, watch=watch)
    result = RunResult(
        outcome=Outcome.DIVERGED if value is None else Outcome.FINISHED,
        num_steps=6,
        gradient_evaluations=evaluations,
        probe_evaluations=evaluations - 6,
        final={"test_accuracy": value, "test_loss": 1.0},
        best=value,
    )
    point = EvaluationPoint(
        step=6,
        epoch=1.0,
        gradient_evaluations=evaluations,
        lr=lr,
        train_loss=1.0,
        metrics={"test_accuracy": value, "test_loss": 1.0},
        seconds=seconds,
    )
    return StoredRun(config=config, result=result, points=(point,), probes=(), provenance={})


@pytest.mark.parametrize(
    ("values", "median", "num_diverged"),
    [
        ([0.1, 0.9, 0.5], 0.5, 0),
        ([0.2, 0.4], pytest.approx(0.3), 0),
        ([None, 0.9, 0.5], 0.5, 1),
        ([None, None, 0.5], None, 2),
        ([None, 0.5], None, 1),
    ],
    ids=str,
)
def test_a_diverged_run_counts_as_worse_than_every_other(values, median, num_diverged):
    (summary,) = summarise(stored("adamw", 1e-3, seed, value) for seed, value in enumerate(values))
    arm = summary.arms["adamw", 1e-3]
    assert (arm.median, arm.num_diverged) == (median, num_diverged)


BARE = [stored("adamw", 1e-3, 0, 0.9), stored("adamw", 1e-1, 0, None)]


@pytest.mark.parametrize(
    ("wrapped", "worst_is_better", "best_is_as_good", "worst_beats_best"),
    [
        ((0.95, 0.92), True, True, True),
        ((0.95, 0.3), True, True, False),
        ((0.8, 0.7), True, False, False),
        ((0.9, None), False, True, False),
    ],
    ids=str,
)
def test_an_optimizer_is_compared_at_its_worst_and_at_its_best(
    wrapped, worst_is_better, best_is_as_good, worst_beats_best
):
    runs = [stored("dcao:adamw", lr, 0, value) for lr, value in zip((1e-3, 1e-1), wrapped, strict=True)]
    (comparison,) = compare(summarise([*BARE, *runs])[0])
    assert comparison.worst_is_better is worst_is_better
    assert comparison.best_is_as_good is best_is_as_good
    assert comparison.worst_beats_best is worst_beats_best


def test_cost_is_of_the_runs_that_are_not_watched():
    runs = [
        stored("adamw", 1e-3, 0, 0.9, evaluations=60, seconds=9.0, watch=True),
        stored("adamw", 1e-3, 1, 0.9),
        stored("dcao:adamw", 1e-3, 1, 0.9, evaluations=9.0, seconds=0.09),
    ]
    costs = summarise(runs)[0].costs
    assert costs["adamw"].evaluations_per_step == 1.0
    assert costs["adamw"].time_ratio == 1.0
    assert costs["dcao:adamw"].evaluations_per_step == 1.5
    assert costs["dcao:adamw"].time_ratio == pytest.approx(1.5)


def test_the_words_are_the_numbers():
    wrapped = [stored("dcao:adamw", 1e-3, 0, 0.85), stored("dcao:adamw", 1e-1, 0, 0.8)]
    wrapped = [
        dataclasses.replace(run, result=dataclasses.replace(run.result, gradient_evaluations=9.0)) for run in wrapped
    ]
    robust, best, cost = headlines(summarise([*BARE, *wrapped]))
    assert "ends better with DCAO than without in 1 of 1 comparisons, and at least as well as" in robust
    assert robust.endswith("bare optimizer's best in 0.")
    assert "in 0 of 1 comparisons; where it is behind, the largest gap is 85.0\xa0% against 90.0\xa0%" in best
    assert "takes 1.50 gradient evaluations (bare: 1) and 1.00 times the time" in cost
