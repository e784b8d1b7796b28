from collections import Counter

import pytest

from dcao.schedules import SHORT_RUN
from dcao_lab.baselines import BASELINES, BuildRequest
from dcao_lab.baselines.dcao.settings import CEILING_DEFAULTS
from dcao_lab.errors import LabError
from dcao_lab.study import StudyConfig
from dcao_lab.study.estimate import expected_hours, planned_runs
from dcao_lab.study.plan import finals, trials, watched
from dcao_lab.study.recipes import (
    RECIPES,
    ablation,
    eos,
    generalisation,
    get_recipe,
    headline,
    overhead,
    quantities,
    real,
    robustness,
    transfer,
)
from dcao_lab.study.recipes.ablation import NO_LIMIT, ONE_AT_A_TIME
from dcao_lab.study.recipes.demo import demo
from dcao_lab.study.recipes.transfer import KEPT_ASIDE, OTHER_BATCHES
from dcao_lab.study.resizing import resized
from dcao_lab.workloads import MODULES, WORKLOADS, StartRequest, get_workload

EMBEDDED = {name: recipe for name, recipe in RECIPES.items() if name != "real"}  # which has no data of its own
HERE = [("demo", "embedded"), *((name, "embedded") for name in EMBEDDED)]
ELSEWHERE = [*((name, size) for name in EMBEDDED for size in ("small", "full")), ("real", "small")]


def study_of(name, size):
    return demo() if name == "demo" else get_recipe(name)(size)


@pytest.mark.parametrize(("name", "size"), [*HERE, *ELSEWHERE], ids=lambda case: case)
def test_a_recipe_gives_a_complete_study_that_survives_json(name, size):
    study = study_of(name, size)
    assert (study.name, study.size) == (name, size)
    assert StudyConfig.from_dict(study.to_dict()) == study
    assert {task.workload for task in study.tasks} <= set(WORKLOADS)
    assert {arm.optimizer for arm in study.arms} <= set(BASELINES)


@pytest.mark.parametrize(("name", "size"), HERE, ids=lambda case: case)
def test_every_run_of_a_recipe_has_a_config_of_its_own(name, size):
    study = study_of(name, size)
    for runs in (trials(study), finals(study, {}), watched(study, {})):
        places = {(run.config, run.task.workload, run.arm.name, run.variation) for run in runs}
        assert len(places) == len(runs)


@pytest.mark.parametrize(("name", "size"), [*HERE, *ELSEWHERE], ids=lambda case: case)
def test_every_setting_of_an_arm_is_one_that_its_optimizer_takes(name, size):
    problem = get_workload("digits_mlp").start(StartRequest(seed=0))
    for arm in study_of(name, size).arms:
        baseline = BASELINES[arm.optimizer]
        baseline.build(problem, BuildRequest(lr=baseline.lr, settings=dict(arm.settings)))


def test_the_embedded_studies_together_need_less_than_six_hours_of_two_cores():
    hours = {name: expected_hours(planned_runs(recipe("embedded")), jobs=2) for name, recipe in EMBEDDED.items()}
    assert sum(hours.values()) < 6.0
    assert max(hours.values()) < 2.0


@pytest.mark.parametrize("study", [ablation("embedded"), robustness("embedded")], ids=lambda study: study.name)
def test_what_is_held_out_is_in_no_study_that_settings_may_be_chosen_by(study):
    assert {task.workload for task in study.tasks}.isdisjoint({"digits_vit", "mnist1d_mlp", "pydoc_lstm"})


def test_the_demo_is_a_few_minutes_of_dcao_and_its_bases_from_seven_learning_rates():
    study = demo()
    assert [(arm.name, arm.settings) for arm in study.arms] == [
        (name, ()) for name in ("adamw", "dcao:adamw", "sgd", "dcao:sgd")
    ]
    assert [task.workload for task in study.tasks] == ["digits_mlp", "digits_cnn", "pydoc_gpt"]
    assert [variation.value for variation in study.variations] == [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0]
    assert (study.seeds, study.tuning, study.watching) == ((0, 1, 2), None, None)
    assert all(task.budget == task.num_steps for task in study.tasks)
    assert expected_hours(planned_runs(study), jobs=2) < 4.5 / 60


def test_no_run_of_the_demo_is_as_short_as_those_in_which_the_default_probes_less():
    assert all(task.num_steps >= SHORT_RUN for task in demo().tasks)


def test_the_headline_compares_every_baseline_under_a_budget_of_gradient_evaluations():
    study = headline("embedded")
    assert {arm.optimizer for arm in study.arms} == set(BASELINES)
    assert all(task.budget == task.num_steps for task in study.tasks)
    assert all(arm.reference is not None for arm in study.arms if arm.optimizer.startswith("dcao"))


def values(size, name, **fixed):
    """What the arms of the ablation set ``name`` to, those that have ``fixed`` too."""
    settings = [dict(arm.settings) for arm in ablation(size).arms]
    return {each[name] for each in settings if name in each and all(each.get(key) == v for key, v in fixed.items())}


def test_the_ablation_leaves_out_each_idea_of_the_default_alone():
    alone = [dict(arm.settings) for arm in ablation("embedded").arms if arm.reference == "dcao:adamw"]
    for without in [
        {"target": NO_LIMIT},
        {"max_relative_step": NO_LIMIT},
        {"first_relative_step": "given"},
        {"decay": 0.0},
        {"decay": 0.3},  # whatever the gradients say
        {"watched": 0.0},
        {"first_relative_step": 0.003},
        {"window": 1},
        {"growth": 1.3},
        {"gamma_arrival": CEILING_DEFAULTS["gamma_down"]},  # no harder cut at the end of the rise
        {"rule": "proposal"},
    ]:
        assert without in alone


def test_the_ablation_varies_every_setting_of_the_default_and_repeats_it_in_none():
    assert set(ONE_AT_A_TIME) - {"measure"} == set(CEILING_DEFAULTS)
    assert not any(CEILING_DEFAULTS.get(name) in values for name, values in ONE_AT_A_TIME.items())


def test_the_ablation_has_all_combinations_of_the_rules_and_the_proposals_periods():
    assert len(values("embedded", "rules")) == 8
    assert values("full", "every") == {100, 500, "epoch"}
    assert values("embedded", "every") == {1, 5, 50, 100, "epoch"}
    assert values("embedded", "k") == {5, 10, 20}
    assert values("embedded", "every", k=10) == {100, "epoch"}
    assert values("embedded", "target", rule="proposal") == {1.0, 1.8}
    assert values("embedded", "measure") == {"batch", "preconditioned", "hessian"}
    assert values("embedded", "alpha_beta") == values("embedded", "alpha_wd") == {0.01, 0.2}
    assert values("embedded", "alpha_beta", rules="lr+momentum") == {0.01, 0.2}


def test_the_ablation_starts_from_bad_lrs_what_depends_on_them_and_compares_within_a_start():
    study = ablation("embedded")
    arms = {variation.value: set(variation.arms) for variation in study.variations}
    from_bad = arms[1e-5]
    assert from_bad == arms[1e-3] & arms[1e-1]
    assert {"adamw", "dcao:adamw", "dcao:adamw[first_relative_step=given]", "dcao-literal:adamw[k=5]"} <= from_bad
    assert "dcao:adamw[growth=1.3]" not in from_bad
    assert set.union(*arms.values()) == {arm.name for arm in study.arms}
    for present in arms.values():
        assert all(study.arm(name).reference in present | {None} for name in present)


def test_the_ablation_and_the_robustness_study_are_a_night_at_most():
    counts = {name: len(planned_runs(get_recipe(name)("embedded"))) for name in ("ablation", "robustness")}
    assert counts["ablation"] <= 960
    assert counts["robustness"] <= 2920


def test_the_robustness_study_covers_the_ranges_of_the_proposal():
    axes = {}
    for variation in robustness("embedded").variations:
        axes.setdefault(variation.axis, []).append(variation.value)
    assert max(axes["lr"]) / min(axes["lr"]) == pytest.approx(1e8)
    assert max(axes["batch_size"]) / min(axes["batch_size"]) == 2**6
    assert set(axes) == {"lr", "batch_size", "weight_decay", "momentum", "init_scale", "label_noise"}
    assert all(len(values) > 1 for values in axes.values())  # one value is no range


def test_the_robustness_study_tunes_the_lr_of_the_bases_where_they_live_with_every_seed():
    runs = [run for run in planned_runs(robustness("embedded")) if run.variation.axis == "lr"]
    seeds = Counter((run.arm.name, run.config.lr) for run in runs if run.task.workload == "digits_mlp")
    sweep = [float(f"{10.0 ** (third / 3):.3g}") for third in range(-12, 0)]
    for name in ("adamw", "sgd", "adamw+cosine", "sgd+cosine"):
        assert [seeds[name, lr] for lr in sweep] == [5] * 12
    decades = [float(f"1e{exponent}") for exponent in range(-7, 2)]
    for arm in robustness("embedded").arms:
        assert [seeds[arm.name, lr] for lr in decades] == [5] * 9


def test_the_other_recipes_measure_what_they_are_about():
    assert generalisation("embedded").measure_solution
    assert eos("embedded").watching.spectra >= 40
    assert {"dcao-literal:adamw[k=10,every=50]", "adamw"} <= {arm.name for arm in overhead("embedded").arms}


def test_an_unknown_recipe_and_an_unknown_size_are_sentences():
    with pytest.raises(LabError, match="unknown study 'headlines'; did you mean headline"):
        get_recipe("headlines")
    with pytest.raises(LabError, match="unknown size 'demo'; there are: embedded, small, full"):
        ablation("demo")


def test_a_study_made_smaller_has_its_budget_and_evaluations_in_proportion():
    study = resized(demo(), num_steps=10, num_seeds=1)
    assert study.seeds == (0,)
    assert {(task.num_steps, task.budget) for task in study.tasks} == {(10, 10.0)}
    assert all(task.eval_every <= 10 for task in study.tasks)
    assert resized(demo()) == demo()


def test_the_transfer_study_is_of_what_no_study_of_settings_has_and_of_other_batches():
    study = transfer("embedded")
    chosen_by = {task.workload for recipe in (ablation, robustness) for task in recipe("embedded").tasks}
    unseen = {w.info.name for module in MODULES if ".unseen." in module.__name__ for w in module.WORKLOADS}
    assert len(unseen) == 24
    assert (set(KEPT_ASIDE) | unseen).isdisjoint(chosen_by)
    assert {get_workload(name).info.batch_size for name in OTHER_BATCHES} == {16, 1024}
    assert {task.workload for task in study.tasks} == {*KEPT_ASIDE, *OTHER_BATCHES, *unseen}


def test_the_transfer_study_sweeps_the_bases_and_tunes_nothing_else():
    study = transfer("embedded")
    swept = {arm.name for arm in study.arms if arm.sweep is not None}
    assert swept == {"adamw", "adamw+cosine", "sgd", "sgd+cosine"}
    runs = [run for run in planned_runs(study) if run.task.workload == "siren"]
    counting = Counter(run.arm.name for run in runs if run.phase == "final")
    assert counting == {arm.name: 10 for arm in study.arms}
    trials = Counter((run.arm.name, run.config.seed) for run in runs if run.phase == "trial")
    assert trials == {(name, seed): 6 if seed == 0 else 2 for name in swept for seed in range(10)}


def test_adamw_with_cosine_at_one_lr_for_all_shares_the_runs_of_the_sweep():
    runs = [run for run in planned_runs(transfer("embedded")) if run.task.workload == "siren"]
    swept = {run.config for run in runs if run.arm.name == "adamw+cosine"}
    fixed = [run.config for run in runs if run.arm.name.startswith("adamw[lr=") and "cosine" in run.arm.name]
    assert len(fixed) == 3 * 10
    assert {config for config in fixed if config.seed == 0} <= swept


def test_the_study_of_quantities_leaves_each_out_on_the_workloads_and_sweeps_of_transfer():
    study, whole = quantities("embedded"), transfer("embedded")
    assert study.tasks == whole.tasks
    assert [arm for arm in study.arms if arm.sweep] == [arm for arm in whole.arms if arm.sweep]
    left_out = {(arm.reference, *dict(arm.settings)) for arm in study.arms if arm.group == "left out"}
    names = ("target", "max_relative_step", "watched", "agreement")
    assert left_out == {(base, name) for base in ("adamw", "sgd") for name in names}


def test_the_real_study_is_a_night_of_two_cores_on_real_data():
    study = real("small")
    assert all(get_workload(task.workload).info.needs for task in study.tasks)
    assert expected_hours(planned_runs(study), jobs=2) < 6.0
    assert all(task.budget == task.num_steps for task in study.tasks)


def test_the_real_study_holds_one_run_against_sweeps_and_against_what_needs_no_tuning():
    arms = {arm.name: arm for arm in real("small").arms}
    swept = {name for name, arm in arms.items() if arm.sweep}
    assert swept == {"adamw", "adamw+cosine", "sgd", "sgd+cosine"}
    assert set(arms) - swept == {
        *("dcao:adamw", "dcao:sgd", "prodigy+annealing", "schedule_free_adamw", "dadapt_adam"),
        *("adamw[lr=0.001]", "adamw[lr=0.01]+cosine"),
    }
    seeds = Counter(run.config.lr for run in planned_runs(real("small"))
                    if (run.arm.name, run.task.workload, run.phase) == ("adamw", "mnist_mlp", "trial"))  # fmt: skip
    assert seeds == {1e-4: 1, 3.16e-4: 1, 1e-3: 1, 3.16e-3: 3, 1e-2: 1, 3.16e-2: 1} | {1e-3: 3}


@pytest.mark.parametrize("study", [transfer("embedded"), real("small")], ids=lambda study: study.name)
def test_what_else_trains_without_tuning_is_held_against_the_sweeps_of_adamw(study):
    arms = [arm for arm in study.arms if arm.group == "untuned"]
    assert {arm.optimizer for arm in arms} == {"adamw", "prodigy", "schedule_free_adamw", "dadapt_adam"}
    assert {arm.reference for arm in arms} == {"adamw"}


@pytest.mark.parametrize("name", ["robustness", "transfer", "headline"])
def test_where_optimizers_are_compared_probes_pay_for_themselves(name):
    assert all(task.budget == task.num_steps for task in get_recipe(name)("embedded").tasks)
