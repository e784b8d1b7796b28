import pytest

from dcao_lab.baselines import BASELINES
from dcao_lab.errors import LabError
from dcao_lab.study import StudyConfig
from dcao_lab.study.estimate import expected_hours, planned_runs
from dcao_lab.study.plan import finals, trials, watched
from dcao_lab.study.recipes import RECIPES, ablation, eos, generalisation, get_recipe, headline, overhead, robustness
from dcao_lab.study.resizing import resized
from dcao_lab.workloads import WORKLOADS

HERE = [("headline", "demo"), *((name, "embedded") for name in RECIPES)]
ELSEWHERE = [(name, size) for name in RECIPES for size in ("small", "full")]


@pytest.mark.parametrize(("name", "size"), [*HERE, *ELSEWHERE], ids=lambda case: case)
def test_a_recipe_gives_a_complete_study_that_survives_json(name, size):
    study = get_recipe(name)(size)
    assert (study.name, study.size) == (name, size)
    assert StudyConfig.from_dict(study.to_dict()) == study
    assert {task.workload for task in study.tasks} <= set(WORKLOADS)
    assert {arm.optimizer for arm in study.arms} <= set(BASELINES)


@pytest.mark.parametrize(("name", "size"), HERE, ids=lambda case: case)
def test_every_run_of_a_recipe_has_a_config_of_its_own(name, size):
    study = get_recipe(name)(size)
    for runs in (trials(study), finals(study, {}), watched(study, {})):
        places = {(run.config, run.task.workload, run.arm.name, run.variation) for run in runs}
        assert len(places) == len(runs)


def test_the_embedded_studies_together_need_less_than_two_hours_of_two_cores():
    hours = {name: expected_hours(planned_runs(recipe("embedded")), jobs=2) for name, recipe in RECIPES.items()}
    assert sum(hours.values()) < 2.0
    assert hours["headline"] > 0.5 * sum(hours.values())


def test_the_demo_is_a_few_minutes_of_the_four_arms_that_matter_most():
    study = headline("demo")
    assert [arm.name for arm in study.arms] == ["adamw", "dcao:adamw", "sgd", "dcao:sgd"]
    assert [task.workload for task in study.tasks] == ["digits_mlp", "digits_cnn"]
    assert study.seeds == (0, 1, 2)
    assert expected_hours(planned_runs(study), jobs=2) < 2.5 / 60


def test_the_headline_compares_every_baseline_under_a_budget_of_gradient_evaluations():
    study = headline("embedded")
    assert {arm.optimizer for arm in study.arms} == set(BASELINES)
    assert all(task.budget == task.num_steps for task in study.tasks)
    assert all(arm.reference is not None for arm in study.arms if arm.optimizer.startswith("dcao"))


def test_the_ablation_has_all_combinations_of_the_rules_and_the_proposals_periods():
    def values(size, name):
        return {dict(arm.settings).get(name) for arm in ablation(size).arms} - {None}

    assert len(values("embedded", "rules")) == 8
    assert values("full", "every") == {100, 500, "epoch"}
    assert values("embedded", "every") == {5, 10, 50, "epoch"}
    assert values("embedded", "k") == {5, 10, 20}
    assert values("embedded", "target") == {0.5, 1.0, 1.5, 1.8}
    assert values("embedded", "measure") == {"load", "batch", "preconditioned", "hessian"}


def test_the_robustness_study_covers_the_ranges_of_the_proposal():
    axes = {}
    for variation in robustness("embedded").variations:
        axes.setdefault(variation.axis, []).append(variation.value)
    assert max(axes["lr"]) / min(axes["lr"]) == pytest.approx(1e8)
    assert max(axes["batch_size"]) / min(axes["batch_size"]) == 2**6
    assert set(axes) == {"lr", "batch_size", "weight_decay", "momentum", "init_scale", "label_noise"}


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
    study = resized(headline("demo"), num_steps=10, num_seeds=1)
    assert study.seeds == (0,)
    assert {(task.num_steps, task.budget) for task in study.tasks} == {(10, 10.0)}
    assert all(task.eval_every <= 10 for task in study.tasks)
    assert resized(headline("demo")) == headline("demo")
