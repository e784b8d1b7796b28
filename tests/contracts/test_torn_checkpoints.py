"""A checkpoint that does not fit is refused as a whole, and the error names what is wrong and what to do."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn, optim

from dcao import DCAO, Guard, policies
from helpers.contract_cases import Run, adapting, assert_same, bare_run, dcao_run, named, snapshot

FIX = 'from which DCAO starts afresh, delete the entry "dcao"'
SETTINGS = [
    {},
    {"policy": policies.Compose(policies.Smoothed(policies.LearningRate(0.2)), policies.WeightDecay(0.2))},
    {"policy": policies.Fixed(), "measure": "hessian", "spectrum_every": 2, "guard": Guard(snapshot_every=1)},
]


def paths(state: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where each entry of nested dictionaries is."""
    if not isinstance(state, dict):
        return []
    return [each for key in state for each in [(*path, key), *paths(state[key], (*path, key))]]


def at(state: dict[str, Any], path: tuple[Any, ...]) -> dict[str, Any]:
    for key in path[:-1]:
        state = state[key]
    return state


def assert_nothing_was_loaded(run: Run, state: Any, error: type[Exception], message: str) -> None:
    before, own = snapshot(run), run.optimizer.state_dict()["dcao"]
    groups = run.optimizer.param_groups
    with pytest.raises(error, match=message):
        run.optimizer.load_state_dict(state)
    assert_same(snapshot(run), before)
    assert run.optimizer.param_groups is groups
    after = run.optimizer.state_dict()["dcao"]
    assert str(after) == str(own)  # tensors included


@pytest.mark.parametrize("settings", SETTINGS, ids=["default", "rules", "watching"])
def test_whatever_key_is_missing_nothing_is_loaded(settings):
    saved = dcao_run(named("adamw-wd"), **adapting(**settings)).advance(6).optimizer.state_dict()
    run = dcao_run(named("adamw-wd"), **adapting(**settings)).advance(2)
    by_run = {"starts", "num_runs"}  # entries of those Lanczos runs that there have been
    missing = [path for path in paths(saved["dcao"]) if not by_run & set(path[:-1])]
    assert len(missing) > 25
    for path in missing:
        torn = copy.deepcopy(saved)
        del at(torn["dcao"], path)[path[-1]]
        assert_nothing_was_loaded(run, torn, ValueError, f"state_dict.*lacks the key {path[-1]!r}.*{FIX}")


def test_whatever_value_is_of_another_type_nothing_is_loaded():
    saved = dcao_run(named("adamw-wd"), **adapting()).advance(6).optimizer.state_dict()
    run = dcao_run(named("adamw-wd"), **adapting()).advance(2)
    tried = 0
    for path in paths(saved["dcao"]):
        holder = at(saved["dcao"], path)[path[-1]]
        free = "starts" in path[:-1] or "policy_state" in path[:-1] or path[-1] == "loader"
        if free or isinstance(holder, str):
            continue
        torn = copy.deepcopy(saved)
        at(torn["dcao"], path)[path[-1]] = "nonsense"
        assert_nothing_was_loaded(run, torn, ValueError, f'"{path[-1]}"\\] must be .*, got str; .*{FIX}')
        tried += 1
    assert tried > 20


@dataclass(frozen=True)
class Torn:
    """A checkpoint that somebody has changed, and what the error says."""

    name: str
    change: Callable[[dict[str, Any]], Any]
    error: type[Exception]
    message: str


ROWS = [
    Torn("own-text", lambda s: s.update(dcao="abc"), ValueError, r'state_dict\["dcao"\] must be a dict, got str'),
    Torn("own-list", lambda s: s.update(dcao=[]), ValueError, r'state_dict\["dcao"\] must be a dict, got list'),
    Torn("foreign", lambda s: s.update(dcao={"weights": 1}), ValueError, r"lacks the key 'version'.*delete the entry"),
    Torn("unknown", lambda s: s["dcao"]["loop"].update(more=1), ValueError, r'"loop"\] has unknown keys: \[.more.\]'),
    Torn(
        "outliers-of-another-kind",
        lambda s: s["dcao"]["guard"].update(outliers=[[1]]),
        ValueError,
        r'\["guard"\] is of no use: .*delete the entry "dcao"',
    ),
    Torn("newer", lambda s: s["dcao"].update(version=9), ValueError, r'\["version"\] must be 1, got 9; .*delete'),
    Torn(
        "groups-of-another-number",
        lambda s: s["dcao"]["controller"].update(written=[0.1, 0.2]),
        ValueError,
        r'\["written"\] must have 1 entries, one a param group, got 2',
    ),
    Torn(
        "generator-of-another-kind",
        lambda s: s["dcao"]["loop"]["probe"].update(generator=torch.zeros(3, dtype=torch.uint8)),
        ValueError,
        r'\["probe"\] is of no use: .*delete the entry "dcao"',
    ),
    Torn(
        "base-groups", lambda s: s.update(param_groups=[]), ValueError, "must have 0 entries, one a param group, got 1"
    ),
    Torn("base-no-groups", lambda s: s.pop("param_groups"), KeyError, "param_groups"),
    Torn("base-no-state", lambda s: s.pop("state"), KeyError, "state"),
    Torn(
        "base-of-another-size",
        lambda s: s["param_groups"][0].update(params=[0]),
        ValueError,
        "parameter group that doesn't match the size of optimizer's group",
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_changed_checkpoint_is_refused_as_a_whole(row):
    saved = dcao_run(named("adamw-wd"), **adapting()).advance(6).optimizer.state_dict()
    row.change(saved)
    run = dcao_run(named("adamw-wd"), **adapting()).advance(2)
    assert_nothing_was_loaded(run, saved, row.error, row.message)


def test_without_dcaos_part_the_base_is_loaded_and_dcao_starts_afresh():
    run = dcao_run(named("adamw-wd"), **adapting()).advance(6)
    saved = run.optimizer.state_dict()
    del saved["dcao"]
    resumed = dcao_run(named("adamw-wd"), **adapting())
    resumed.optimizer.load_state_dict(saved)
    assert resumed.optimizer.num_steps == 0
    assert {int(state["step"]) for state in resumed.optimizer.state.values()} == {6}
    assert resumed.optimizer.effective_lrs == run.optimizer.effective_lrs


def test_a_warning_that_is_an_error_leaves_nothing_half_loaded():
    saved = dcao_run(named("adamw-wd"), **adapting(policy=policies.LearningRate(0.5))).advance(5).optimizer.state_dict()
    run = dcao_run(named("adamw-wd"), **adapting()).advance(2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_nothing_was_loaded(run, saved, UserWarning, "the checkpoint is of another policy")


def test_the_warning_of_another_policy_points_at_the_line_that_loads():
    saved = dcao_run(named("adamw-wd"), **adapting(policy=policies.LearningRate(0.5))).advance(5).optimizer.state_dict()
    with pytest.warns(UserWarning, match="the checkpoint is of another policy") as caught:
        dcao_run(named("adamw-wd"), **adapting()).optimizer.load_state_dict(saved)
    assert caught[0].filename == __file__


def test_a_base_that_refuses_leaves_dcao_as_it_was():
    class Picky(optim.SGD):
        def load_state_dict(self, state_dict):
            raise ValueError("not this one")

    weight = nn.Parameter(torch.ones(2))
    optimizer = DCAO(Picky([weight], lr=0.1))
    for _ in range(3):
        optimizer.minimize(lambda: weight.square().sum())
    own = str(optimizer.state_dict()["dcao"])
    with pytest.raises(ValueError, match="not this one"):
        optimizer.load_state_dict(DCAO(optim.SGD([weight], lr=0.1)).state_dict())
    assert str(optimizer.state_dict()["dcao"]) == own


def test_the_bare_optimizers_own_dictionary_is_not_changed_by_a_load():
    bare = bare_run(named("adamw-wd")).advance(3)
    saved = bare.optimizer.state_dict()
    kept = copy.deepcopy(saved)
    run = dcao_run(named("adamw-wd"), **adapting())
    run.optimizer.load_state_dict(saved)
    run.advance(2)
    assert str(saved["param_groups"]) == str(kept["param_groups"])


@pytest.mark.parametrize("kind", [np.float64, np.float32])
def test_numbers_of_numpy_are_loaded_and_can_be_saved_again(kind):
    def converted(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: converted(each) for key, each in value.items()}
        return kind(value) if isinstance(value, float) else value

    saved = dcao_run(named("adamw-wd"), **adapting()).advance(6).optimizer.state_dict()
    run = dcao_run(named("adamw-wd"), **adapting())
    run.optimizer.load_state_dict({**saved, "dcao": converted(saved["dcao"])})
    again = run.optimizer.state_dict()
    assert again["dcao"]["loop"]["cost"] == pytest.approx(saved["dcao"]["loop"]["cost"], rel=1e-6)
    assert run.advance(3).optimizer.num_steps == 9
