"""Optimizers by their names and settings in words, and "any" for what has no effect."""

import dataclasses
import re

import pytest

from dcao_lab.baselines import get_baseline
from dcao_lab.baselines.registry import BASELINES
from dcao_lab.report.analysis.view import view
from dcao_lab.report.html.page import build_context
from dcao_lab.report.names import named
from dcao_lab.report.numbers import analyse
from dcao_lab.report.tables.costs import tunings
from dcao_lab.report.tables.runs import all_runs, missing
from dcao_lab.runs.store import RunStore
from dcao_lab.study import Tuning
from dcao_lab.study.recipes import RECIPES, get_recipe
from dcao_lab.study.result import StudyResult
from helpers.lab_runs import finish, small_config
from helpers.report_studies import ADAMW, DCAO_ADAMW, SGD, finals, planned, result_of, study

WORDS = {name for name in BASELINES if ":" not in name} - {"lion"}  # what code calls optimizers
IN_CODE = re.compile(rf"\w\w=|_|\b({'|'.join(sorted(WORDS))})\b")
FINDING = {
    "default": ("dcao:adamw", {}),
    "default around SGD": ("dcao:sgd", {}),
    "another measure": ("dcao:adamw", {"measure": "batch"}),
    "a limit of its own": ("dcao:adamw", {"target": 4.0}),
    "an average": ("dcao:adamw", {"average": 8.0}),
    "with the momentum's rule": ("dcao:adamw", {"rules": "lr+momentum"}),
    "with the weight decay's rule": ("dcao:adamw", {"rules": "lr+weight_decay"}),
    "from the given lr": ("dcao:adamw", {"first_relative_step": "given"}),
    "the proposal's rule": ("dcao:adamw", {"rule": "proposal"}),
    "without the lr's rule": ("dcao:adamw", {"rules": "momentum"}),
    "literal": ("dcao-literal:adamw", {}),
    "bare": ("adamw", {}),
    "Prodigy": ("prodigy", {}),
}


@pytest.mark.parametrize("name", RECIPES)
def test_no_arm_and_no_group_of_a_study_is_called_as_code_has_it(name):
    for arm in named(get_recipe(name)("small")).arms:
        assert not IN_CODE.search(arm.title), arm.title
        assert not IN_CODE.search(arm.group), arm.group


def test_families_of_the_edge_of_stability_are_called_by_their_optimizers():
    groups = dict.fromkeys(arm.group for arm in named(get_recipe("eos")("embedded")).arms)
    assert list(groups) == [
        *("DCAO(SGD)", "SGD, lr 0.05", "SGD, lr 0.2"),
        *("DCAO(AdamW)", "AdamW, lr 0.001", "AdamW, lr 0.01"),
    ]


def test_a_report_names_arms_alike_wherever_it_names_them():
    arm = dataclasses.replace(DCAO_ADAMW, title="DCAO(AdamW), measure=batch", settings={"measure": "batch"})
    runs = [finals(each, [0.5, 0.6, 0.7]) for each in (ADAMW, arm)]
    result = dataclasses.replace(result_of(study(ADAMW, arm), *runs), missing=(planned(arm, 3),))
    numbers = analyse(result)
    titles = ["AdamW", "DCAO(AdamW), measure: batch"]
    assert [numbers.title(each.name) for each in result.study.arms] == titles
    assert [each.title for each in numbers.view.study.arms] == titles
    assert {row[2] for row in all_runs(result, numbers).rows} == set(titles)
    assert [row[2] for row in missing(result).rows] == titles[1:]
    assert "measure=batch" not in str({**build_context(result), "study": None})


def test_a_study_keeps_its_fingerprint_when_its_arms_are_named():
    config = get_recipe("eos")("embedded")
    result = StudyResult(study=config, runs=(), missing=())
    before = config.fingerprint()
    view(result)
    assert result.study.fingerprint() == before


@pytest.mark.parametrize(("optimizer", "settings"), FINDING.values(), ids=FINDING)
def test_an_lr_is_any_where_another_one_trains_the_same_network(tmp_path, optimizer, settings):
    configs = [
        small_config(optimizer=optimizer, lr=lr, settings=settings, num_steps=30, eval_every=10) for lr in (1e-3, 1e-1)
    ]
    first, other = (
        [dataclasses.replace(point, seconds=0.0) for point in run.points]
        for run in finish(RunStore(tmp_path), *configs)
    )
    assert get_baseline(optimizer).ignores_lr(settings) == (first[1:] == other[1:])


def test_tables_say_any_for_an_lr_without_effect_and_for_no_other():
    arms = (ADAMW, DCAO_ADAMW, SGD)
    trials = [finals(arm, [0.5], phase="trial") for arm in arms]
    result = result_of(study(*arms, tuning=Tuning(num_trials=1)), *trials, *(finals(arm, [0.5]) for arm in arms))
    numbers = analyse(result)
    assert [row[2] for row in tunings(numbers).rows] == ["1e-3", "any", "1e-3"]
    rows = all_runs(result, numbers).rows
    assert {(row[2], row[4]) for row in rows} == {("AdamW", "1e-3"), ("DCAO(AdamW)", "any"), ("SGD", "1e-3")}
