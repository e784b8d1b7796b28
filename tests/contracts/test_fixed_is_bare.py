"""Under ``policies.Fixed()`` training is bit for bit the bare optimizer's, however much is probed."""

from __future__ import annotations

import pytest
import torch
from torch import optim

from dcao import DCAO, policies
from helpers.contract_cases import (
    ALL_CASES,
    DCAO_WAYS,
    FEW_CASES,
    MEASURES,
    UNKNOWN_CASE,
    WHERE,
    Run,
    assert_same,
    bare_run,
    case_name,
    dcao_run,
    make_model,
    options,
    seed_everything,
    snapshot,
    trainable,
    watching,
)

NUM_STEPS = 30


def assert_bare_and_watched_are_one(bare: Run, watched: Run, num_steps: int = NUM_STEPS) -> None:
    seed_everything()
    bare.advance(num_steps)
    expected = snapshot(bare)
    seed_everything()
    watched.advance(num_steps)
    assert watched.losses == bare.losses
    assert_same(snapshot(watched), expected, ignore=WHERE)  # random streams included


@pytest.mark.parametrize("case", ALL_CASES, ids=case_name)
def test_every_optimizer_probed_at_every_step_trains_as_if_bare(case):
    watched = dcao_run(case, **watching())
    assert_bare_and_watched_are_one(bare_run(case), watched)
    assert watched.optimizer.last_estimate.sharpness is None  # step 29: no spectrum
    assert watched.optimizer.last_estimate.s is not None
    assert watched.optimizer.probe_cost > NUM_STEPS


@pytest.mark.parametrize("way", DCAO_WAYS)
@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("case", FEW_CASES, ids=case_name)
def test_every_measure_and_way_in_trains_as_if_bare(case, measure, way):
    watched = dcao_run(case, way=way, **watching(measure=measure))
    assert_bare_and_watched_are_one(bare_run(case), watched, num_steps=10)
    assert watched.optimizer.last_estimate.stability[measure] is not None


@pytest.mark.parametrize("hvp", ["exact", "central", "forward"])
@pytest.mark.parametrize("way", DCAO_WAYS)
def test_every_kind_of_product_trains_as_if_bare(way, hvp):
    case = FEW_CASES[1]
    watched = dcao_run(case, way=way, **watching(hvp=hvp, smallest=True, step_length="step"))
    assert_bare_and_watched_are_one(bare_run(case), watched, num_steps=6)


@pytest.mark.parametrize("case", ALL_CASES, ids=case_name)
def test_a_closure_is_the_bare_optimizers_closure(case):
    watched = dcao_run(case, way="closure", policy=policies.Fixed())
    assert_bare_and_watched_are_one(bare_run(case, way="closure"), watched, num_steps=10)


@pytest.mark.parametrize("way", ["step", "closure", "minimize"])
def test_an_optimizer_that_dcao_does_not_know_trains_as_if_bare(way):
    bare = bare_run(UNKNOWN_CASE, way="step" if way == "minimize" else way)
    assert_bare_and_watched_are_one(bare, dcao_run(UNKNOWN_CASE, way=way, policy=policies.Fixed()))


def lbfgs_run(wrap: bool) -> Run:
    model = make_model().eval()  # LBFGS wants a deterministic loss
    base = optim.LBFGS(trainable(model), lr=0.5, max_iter=4, history_size=5, line_search_fn="strong_wolfe")
    return Run(model, DCAO(base) if wrap else base, "closure")


def test_lbfgs_passes_through_its_closure():
    bare, wrapped = lbfgs_run(wrap=False).advance(10), lbfgs_run(wrap=True).advance(10)
    assert len(set(bare.losses)) == 10
    assert wrapped.losses == bare.losses
    for expected, p in zip(bare.model.parameters(), wrapped.model.parameters(), strict=True):
        assert torch.equal(p, expected)
    assert wrapped.optimizer.num_steps == 10


@pytest.mark.parametrize("every", [1, 3])
def test_a_batch_of_its_own_leaves_training_alone_too(every):
    case = FEW_CASES[1]
    model = make_model()
    watched = Run(model, DCAO(case.make(trainable(model), case.lr)), "minimize")
    watched.optimizer = DCAO(watched.optimizer.base, **options(**watching(every=every, probe_batch=watched.loss)))
    assert_bare_and_watched_are_one(bare_run(case), watched, num_steps=10)
