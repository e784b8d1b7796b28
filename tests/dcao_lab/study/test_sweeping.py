"""Sweeps of the learning rate on made-up results, whose best lr is known."""

import json
import math
from collections import Counter

import optuna
import pytest

from dcao_lab.errors import LabError
from dcao_lab.study import Arm, StudyConfig, Sweep, Task, Tuning, Variation
from dcao_lab.study.conduct import Selection, conduct, failures, load_study
from dcao_lab.study.estimate import planned_runs
from dcao_lab.study.export import export_trials
from dcao_lab.study.folders import StudyFolder
from dcao_lab.study.plan import finals
from dcao_lab.study.sweeping import sweep_choices, swept
from helpers.lab_studies import HereExecutor, silent, tiny_study

SWEEP = Sweep(lowest=1e-3, num_lrs=3, per_decade=1)  # 1e-3, 1e-2, 1e-1
SWEPT = Arm(name="swept", title="AdamW", optimizer="adamw", sweep=SWEEP)
GIVEN = Arm(name="given", title="SGD", optimizer="sgd", lr=0.5)
PAIR = ("digits_mlp", "swept")


def swept_study(**changes):
    return tiny_study(**{"arms": (SWEPT, GIVEN), "tuning": None, "watching": None, "seeds": (0, 1, 2), **changes})


def play(study, accuracy_of):
    """Do what the sweep asks for until it asks for nothing new; the lrs by seed, in order, and the choice."""
    done = {}
    while new := [run.config for run in swept(study, done.get) if run.config not in done]:
        done |= {config: (accuracy_of(config.lr, config.seed), 1.0) for config in new}
    return [(config.lr, config.seed) for config in done], sweep_choices(study, done.get).get(PAIR)


def peaked(best):
    """An accuracy that falls by a tenth for every decade from ``best``."""
    return lambda lr, seed: 1.0 - 0.1 * abs(math.log10(lr / best))


def test_a_best_lr_inside_the_grid_needs_the_grid_and_the_best_two_with_the_other_seeds():
    runs, choice = play(swept_study(), peaked(2e-2))  # a third of a decade from 1e-2, 0.7 from 1e-1
    assert runs == [(1e-3, 0), (1e-2, 0), (1e-1, 0), (1e-2, 1), (1e-1, 1), (1e-2, 2), (1e-1, 2)]
    assert choice == {"lr": 1e-2}


@pytest.mark.parametrize(
    ("best", "beyond"), [(1e-5, [1e-4, 1e-5, 1e-6]), (10.0, [1.0, 10.0, 100.0])], ids=["below", "above"]
)
def test_the_grid_grows_until_the_best_is_inside(best, beyond):
    runs, choice = play(swept_study(), peaked(best))
    assert [lr for lr, seed in runs if seed == 0] == [1e-3, 1e-2, 1e-1, *beyond]
    assert choice == {"lr": best}


def test_an_end_at_which_runs_diverge_is_not_the_best_and_a_grid_of_which_all_do_grows_downward():
    trains_below = lambda lr, seed: None if lr > 3e-4 else peaked(1e-4)(lr, seed)  # noqa: E731
    runs, choice = play(swept_study(), trains_below)
    assert [lr for lr, seed in runs if seed == 0] == [1e-3, 1e-2, 1e-1, 1e-4, 1e-5]
    assert choice == {"lr": 1e-4}


def test_a_sweep_that_always_gets_better_outward_ends():
    runs, choice = play(swept_study(), lambda lr, seed: lr / (1.0 + lr))
    assert sum(seed == 0 for _, seed in runs) == 3 + 8
    assert choice == {"lr": 1e7}


def test_the_best_median_counts_and_not_the_best_first_seed():
    accuracies = {(1e-1, 0): 0.9, (1e-2, 0): 0.8, (1e-3, 0): 0.1, (1e-1, 1): 0.5, (1e-2, 1): 0.7}
    accuracies |= {(1e-1, 2): 0.6, (1e-2, 2): 0.85, (1.0, 0): 0.2}
    assert play(swept_study(), lambda lr, seed: accuracies[lr, seed])[1] == {"lr": 1e-2}


def test_a_seed_that_diverges_counts_as_the_worst():
    accuracies = {(1e-2, 0): 0.9, (1e-1, 0): 0.8, (1e-3, 0): 0.1, (1e-2, 1): None, (1e-2, 2): None}
    assert play(swept_study(), lambda lr, seed: accuracies.get((lr, seed), 0.8))[1] == {"lr": 1e-1}


def test_while_runs_are_missing_nothing_is_chosen():
    study = swept_study()
    done = {run.config: (0.5, 1.0) for run in swept(study, lambda config: None)}
    assert sweep_choices(study, lambda config: None) == {}
    assert sweep_choices(study, done.get) == {}  # a grid in which all are alike grows


def test_what_counts_has_the_chosen_lr_and_what_was_run_for_it_is_not_run_again():
    study = swept_study()
    for_the_sweep = {run.config for run in swept(study, lambda config: (peaked(1e-2)(config.lr, 0), 1.0))}
    counted = [run for run in finals(study, {PAIR: {"lr": 1e-2}}) if run.arm == SWEPT]
    assert [(run.config.lr, run.config.seed, run.variation) for run in counted] == [(1e-2, s, None) for s in (0, 1, 2)]
    assert {run.config for run in counted} <= for_the_sweep


def test_before_it_starts_a_sweep_is_counted_as_if_it_did_not_grow():
    lrs = Counter(run.config.lr for run in planned_runs(swept_study()) if run.arm == SWEPT and run.phase == "trial")
    assert lrs == {1e-3: 3, 1e-2: 3, 1e-1: 1}
    assert [run.config.lr for run in planned_runs(swept_study()) if run.phase == "final"] == [1e-2, 0.5] * 3


def test_a_swept_arm_takes_no_part_in_variations_that_are_for_others():
    study = swept_study(variations=(Variation(axis="lr", value=3.0, arms=("given",)),), seeds=(0,))
    conditions = {run.arm.name: run.variation and run.variation.value for run in finals(study, {PAIR: {"lr": 0.2}})}
    assert conditions == {"swept": None, "given": 3.0}


def test_a_study_does_its_sweeps_and_reads_back_what_it_did(tmp_path):
    task = Task(workload="digits_mlp", num_steps=30, eval_every=15)
    study, executor = swept_study(tasks=(task,), seeds=(0, 1)), HereExecutor()
    folder = StudyFolder.of(study, tmp_path)
    result = conduct(study, folder, executor, silent())
    assert result.missing == ()
    assert len(executor.done) == len(set(executor.done))
    tried = {run.config.lr for run, _ in result.runs if run.phase == "trial"}
    (chosen,) = {run.config.lr for run, _ in result.runs if run.phase == "final" and run.arm == SWEPT}
    assert min(tried) < chosen < max(tried)
    assert load_study(folder) == result
    storage = optuna.storages.InMemoryStorage()
    assert export_trials(result, storage) == sum(run.phase == "trial" for run, _ in result.runs)
    (exported,) = [optuna.load_study(study_name=s.study_name, storage=storage) for s in storage.get_all_studies()]
    assert {trial.params["lr"] for trial in exported.trials} == tried
    again = HereExecutor()
    conduct(study, folder, again, silent())
    assert again.done == []


def test_a_selection_leaves_out_the_sweeps_of_other_arms(tmp_path):
    study, executor = swept_study(seeds=(0,)), HereExecutor()
    conduct(study, StudyFolder.of(study, tmp_path), executor, silent(), Selection(arms=("given",)))
    assert {config.optimizer for config in executor.done} == {"sgd"}


def test_a_sweep_with_a_run_that_failed_waits_for_it_and_others_go_on(tmp_path):
    study, folder = swept_study(seeds=(0,)), StudyFolder.of(swept_study(seeds=(0,)), tmp_path)
    failing = HereExecutor(fail=lambda config: RuntimeError("no memory") if config.lr == 1e-2 else None)
    result = conduct(study, folder, failing, silent())
    assert folder.choices() == {}
    assert [config.lr for config in failing.done] == [1e-3, 1e-1, 0.5]  # the last is of the arm that has its lr
    assert [run.config.lr for run in failures(result)] == [1e-2]
    again = HereExecutor()
    conduct(study, folder, again, silent())
    assert again.done[0].lr == 1e-2
    assert PAIR in folder.choices()


def test_a_sweep_survives_json():
    study = swept_study()
    assert StudyConfig.from_dict(json.loads(json.dumps(study.to_dict()))) == study


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Sweep(lowest=0.0), r"the lowest lr of a sweep must be positive and finite, got 0\.0"),
        (lambda: Sweep(lowest=1.0, num_lrs=2), "a sweep needs num_lrs of 3 or more .*, got 2 and 2"),
        (lambda: Sweep(lowest=1.0, per_decade=0), "per_decade of 1 or more, got 6 and 0"),
        (lambda: Sweep(lowest=1.0, num_best=7), "num_best must be between 1 and num_lrs = 6, got 7"),
        (lambda: Arm(name="a", title="a", optimizer="sgd", lr=0.1, sweep=SWEEP), r"arm 'a' has lr=0\.1 and a sweep"),
        (
            lambda: swept_study(tuning=Tuning(num_trials=2)),
            "the study tunes every arm, and 'swept' has a sweep; leave one of them out",
        ),
    ],
    ids=["lowest", "num_lrs", "per_decade", "num_best", "lr", "tuning"],
)
def test_a_sweep_that_cannot_be_is_refused(make, sentence):
    with pytest.raises(LabError, match=sentence):
        make()
