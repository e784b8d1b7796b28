import dataclasses
import json

import pytest

import dcao
from dcao_lab.baselines import BuildRequest, get_baseline
from dcao_lab.errors import LabError
from dcao_lab.study import Arm, StudyConfig, Task, Variation
from dcao_lab.study.plan import finals, trials, watched
from dcao_lab.study.recipes import get_recipe
from dcao_lab.workloads import StartRequest, get_workload
from helpers.lab_studies import tiny_study

CHOICES = {("digits_mlp", "adamw"): {"lr": 0.01, "beta1": 0.8}, ("digits_mlp", "dcao:adamw"): {"lr": 0.02}}


def test_every_arm_has_the_same_number_of_trials_on_every_task():
    study = tiny_study(tasks=tuple(Task(workload=w, num_steps=4, eval_every=2) for w in ("digits_mlp", "digits_cnn")))
    pairs = [(run.task.workload, run.arm.name) for run in trials(study)]
    assert {pair: pairs.count(pair) for pair in pairs} == {
        (workload, arm): 3 for workload in ("digits_mlp", "digits_cnn") for arm in ("adamw", "dcao:adamw")
    }


def test_trials_train_with_a_seed_of_their_own_and_first_with_the_defaults():
    runs = trials(tiny_study())
    assert {run.config.seed for run in runs} == {100}
    assert [run.config.lr for run in runs[:2]] == [1e-3, 1e-3]
    assert {run.phase for run in runs} == {"trial"}


def test_a_study_without_tuning_has_no_trials_and_starts_from_the_arms_or_the_optimizers_lr():
    arms = (
        Arm(name="own", title="own", optimizer="adamw", lr=0.5),
        Arm(name="default", title="default", optimizer="adamw"),
        Arm(name="wrapped", title="wrapped", optimizer="dcao:sgd"),
    )
    study = tiny_study(tuning=None, arms=arms)
    assert trials(study) == []
    assert [run.config.lr for run in finals(study, {})[:3]] == [0.5, 1e-3, 0.1]
    assert all(run.config.settings == () for run in finals(study, {}))


def test_final_runs_have_what_tuning_chose_and_the_arms_of_a_seed_are_neighbours():
    runs = finals(tiny_study(), CHOICES)
    assert [(run.config.seed, run.arm.name) for run in runs] == [
        (0, "adamw"),
        (0, "dcao:adamw"),
        (1, "adamw"),
        (1, "dcao:adamw"),
    ]
    assert (runs[0].config.lr, runs[0].config.settings) == (0.01, (("beta1", 0.8),))
    assert runs[1].config.lr == 0.02


def test_what_an_arm_fixes_wins_over_what_was_chosen():
    arm = Arm(name="adamw", title="AdamW", optimizer="adamw", settings={"beta1": 0.5}, schedule="cosine")
    config = finals(tiny_study(arms=(arm,)), CHOICES)[0].config
    assert (config.settings, config.schedule) == ((("beta1", 0.5),), "cosine")


def test_the_slow_workload_goes_first():
    tasks = tuple(Task(workload=w, num_steps=4, eval_every=2) for w in ("digits_mlp", "pydoc_lstm", "digits_cnn"))
    order = list(dict.fromkeys(run.task.workload for run in finals(tiny_study(tasks=tasks), {})))
    assert order == ["pydoc_lstm", "digits_cnn", "digits_mlp"]


def test_watched_runs_measure_for_free_and_in_equal_steps():
    task = Task(workload="digits_mlp", num_steps=10, eval_every=5, budget=10.0)
    study = tiny_study(tasks=(task,))
    assert {run.config.budget for run in finals(study, CHOICES)} == {10.0}
    assert {(run.config.watch, run.config.spectrum_every, run.config.budget) for run in watched(study, CHOICES)} == {
        (True, 5, None)
    }
    assert watched(dataclasses.replace(study, watching=None), CHOICES) == []


def test_what_has_no_stability_threshold_is_not_asked_to_be_watched():
    study = get_recipe("headline")("embedded")
    asked = {run.arm.optimizer for run in watched(study, {})}
    first_order = {"lion", "prodigy", "dadapt_adam", "schedule_free_adamw"}
    curvature = {"adahessian", "sophia", "adler", "cdat"}
    refused = first_order | curvature | {"kfac", "soap", "muon"}
    assert asked == {arm.optimizer for arm in study.arms} - refused
    for name in asked:
        problem = get_workload("digits_mlp").start(StartRequest(seed=0))
        get_baseline(name).build(problem, BuildRequest(lr=1e-3, watch=True, recorder=dcao.MemoryRecorder()))


def test_solutions_are_measured_of_the_runs_that_count_alone():
    study = tiny_study(measure_solution=True)
    assert all(run.config.measure_solution for run in finals(study, CHOICES))
    assert not any(run.config.measure_solution for run in [*trials(study), *watched(study, CHOICES)])


def test_a_variation_may_be_for_some_arms_and_for_fewer_seeds():
    variations = (
        Variation(axis="lr", value=0.1, num_seeds=1),
        Variation(axis="lr", value=0.2, arms=("adamw",)),
        Variation(axis="lr", value=0.3, arms=("dcao:adamw",), num_seeds=99),
    )
    runs = finals(tiny_study(tuning=None, variations=variations), {})
    assert [(run.config.lr, run.config.seed, run.arm.name) for run in runs] == [
        (0.1, 0, "adamw"),
        (0.1, 0, "dcao:adamw"),
        (0.2, 0, "adamw"),
        (0.2, 1, "adamw"),
        (0.3, 0, "dcao:adamw"),
        (0.3, 1, "dcao:adamw"),
    ]


def test_which_arms_go_through_a_variation_survives_json_and_makes_another_study_but_no_other_condition():
    everyone, some = Variation(axis="lr", value=0.1), Variation(axis="lr", value=0.1, arms=("adamw",), num_seeds=1)
    assert everyone == some
    study = tiny_study(variations=(some,))
    (back,) = StudyConfig.from_dict(json.loads(json.dumps(study.to_dict()))).variations
    assert (back.arms, back.num_seeds) == (("adamw",), 1)
    assert study.fingerprint() != tiny_study(variations=(everyone,)).fingerprint()


def test_a_study_that_was_written_before_variations_had_arms_can_be_read():
    data = tiny_study(variations=(Variation(axis="lr", value=0.1),)).to_dict()
    data["variations"] = [{"axis": "lr", "value": 0.1}]
    assert StudyConfig.from_dict(data).variations[0].arms is None


def test_a_variation_for_an_arm_that_is_not_there_is_refused():
    with pytest.raises(LabError, match=r"lr=0\.1 is for 'adam', which is no arm of the study"):
        tiny_study(variations=(Variation(axis="lr", value=0.1, arms=("adamw", "adam")),))


@pytest.mark.parametrize(
    ("optimizer", "axis", "value", "expected"),
    [
        ("adamw", "lr", 0.3, {"lr": 0.3}),
        ("adamw", "batch_size", 32.0, {"batch_size": 32}),
        ("adamw", "init_scale", 2.0, {"init_scale": 2.0}),
        ("adamw", "label_noise", 0.1, {"label_noise": 0.1}),
        ("adamw", "weight_decay", 0.1, {"settings": (("weight_decay", 0.1),)}),
        ("adamw", "momentum", 0.5, {"settings": (("beta1", 0.5),)}),
        ("dcao:adamw", "momentum", 0.5, {"settings": (("beta1", 0.5),)}),
        ("sgd", "momentum", 0.5, {"settings": (("momentum", 0.5),)}),
        ("dcao-literal:sgd", "momentum", 0.5, {"settings": (("momentum", 0.5),)}),
    ],
    ids=str,
)
def test_a_variation_changes_one_condition_of_the_run(optimizer, axis, value, expected):
    arm = Arm(name="a", title="a", optimizer=optimizer)
    plain = finals(tiny_study(arms=(arm,), tuning=None), {})[0].config
    study = tiny_study(arms=(arm,), tuning=None, variations=(Variation(axis=axis, value=value),))
    assert finals(study, {})[0].config == dataclasses.replace(plain, **expected)
