import dataclasses

import pytest

from dcao_lab.baselines import BASELINES
from dcao_lab.baselines.space import Continuous
from dcao_lab.runs.result import Outcome
from dcao_lab.study import Arm
from dcao_lab.study.conduct import conduct
from dcao_lab.study.folders import StudyFolder
from dcao_lab.study.plan import trials
from dcao_lab.study.tuning import choices, rank
from helpers.lab_studies import HereExecutor, ended, silent, tinier_study, tiny_study

PAIR = ("digits_mlp", "adamw")
ONE_ARM = tiny_study(arms=(Arm(name="adamw", title="AdamW", optimizer="adamw"),))


def chosen(study, outcomes):
    """What tuning chooses when the trials end with ``outcomes`` in turn; None could not be done."""
    runs = trials(study)
    results = {run.config: outcome for run, outcome in zip(runs, outcomes, strict=True) if outcome is not None}
    return choices(runs, results)


def point(run):
    return {"lr": run.config.lr, **dict(run.config.settings)}


@pytest.mark.parametrize(
    ("candidates", "higher_is_better", "expected"),
    [
        ([(0.5, 1.0), (0.9, 1.0), (0.7, 1.0)], True, 1),
        ([(5.0, 1.0), (9.0, 1.0), (7.0, 1.0)], False, 0),
        ([(0.9, 0.4), (0.9, 0.3), (0.5, 0.1)], True, 1),
        ([(0.9, 0.3), (0.9, 0.3)], True, 0),
        ([(None, None), (0.1, 9.0)], True, 1),
        ([(None, None), (99.0, 9.0)], False, 1),
        ([(0.9, None), (0.9, 0.3)], True, 1),
        ([(None, None), (None, None)], True, 0),
    ],
    ids=[
        "highest",
        "lowest",
        "tie by loss",
        "tie by order",
        "diverged",
        "diverged of losses",
        "no loss",
        "all diverged",
    ],
)
def test_the_best_trial_is_by_value_then_loss_and_diverged_ones_come_last(candidates, higher_is_better, expected):
    order = sorted(range(len(candidates)), key=lambda index: rank(candidates[index], higher_is_better))
    assert order[0] == expected


def test_the_choice_is_the_best_point_of_the_design():
    assert chosen(ONE_ARM, [ended(0.1), ended(0.9), ended(0.2)])[PAIR] == point(trials(ONE_ARM)[1])


def test_a_diverged_trial_is_behind_all_others_whatever_its_last_numbers_were():
    diverged = ended(None)
    diverged.final.update(validation_accuracy=1.0, validation_loss=0.0)
    assert chosen(ONE_ARM, [diverged, ended(0.0), diverged])[PAIR] == point(trials(ONE_ARM)[1])


def test_an_arm_of_which_every_trial_diverged_takes_the_defaults():
    assert chosen(ONE_ARM, [ended(None)] * 3)[PAIR] == {"lr": 1e-3, "beta1": 0.9, "weight_decay": 0.01}


def test_a_trial_that_could_not_be_done_is_not_chosen():
    assert chosen(ONE_ARM, [ended(0.1), None, ended(0.2)])[PAIR] == point(trials(ONE_ARM)[2])


def test_arms_that_differ_in_name_alone_are_tuned_by_the_same_runs():
    arms = tuple(Arm(name=name, title=name, optimizer="adamw") for name in ("one", "two"))
    study = tiny_study(arms=arms)
    assert len({run.config for run in trials(study)}) == 3
    of_both = chosen(study, [ended(value) for value in (0.1, 0.1, 0.9, 0.9, 0.2, 0.2)])
    assert of_both["digits_mlp", "one"] == of_both["digits_mlp", "two"] == point(trials(study)[2])


def test_a_study_whose_first_trial_diverges_counts_with_another(tmp_path, monkeypatch):
    wide = {"lr": Continuous(low=1e-4, high=1e30, default=1e20)}
    monkeypatch.setitem(BASELINES, "sgd", dataclasses.replace(BASELINES["sgd"], space=wide))
    study = tinier_study(
        arms=(Arm(name="sgd", title="SGD", optimizer="sgd"),),
        tasks=(dataclasses.replace(tiny_study().tasks[0], num_steps=30, eval_every=30),),
        tuning=dataclasses.replace(tiny_study().tuning, num_trials=6),
    )
    result = conduct(study, StudyFolder.of(study, tmp_path), HereExecutor(), silent())
    tried = {run.config.lr: stored.result.outcome for run, stored in result.runs if run.phase == "trial"}
    (counted,) = [run.config.lr for run, _ in result.runs if run.phase == "final"]
    assert tried[1e20] is Outcome.DIVERGED
    assert tried[counted] is Outcome.FINISHED


def test_a_failed_trial_is_done_at_the_next_start_and_may_then_be_chosen(tmp_path):
    study, folder = ONE_ARM, StudyFolder.of(ONE_ARM, tmp_path)
    runs = trials(study)
    whole = conduct(study, StudyFolder.of(study, tmp_path / "whole"), HereExecutor(), silent())
    broken = next(run.config for run in runs if point(run) == StudyFolder.of(study, tmp_path / "whole").choices()[PAIR])
    failing = HereExecutor(fail=lambda config: RuntimeError("out of memory") if config == broken else None)
    conduct(study, folder, failing, silent())
    assert folder.choices()[PAIR] in [point(run) for run in runs if run.config != broken]
    again = HereExecutor()
    assert [run for run, _ in conduct(study, folder, again, silent()).runs] == [run for run, _ in whole.runs]
    assert again.done[0] == broken
    assert not {run.config for run in runs if run.config != broken} & set(again.done)
