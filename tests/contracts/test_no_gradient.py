"""A step without any gradient does nothing, as in torch; an optimizer that can never get one is refused."""

from __future__ import annotations

import copy
import math
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn, optim
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from dcao import DCAO, MemoryRecorder, policies
from dcao.gradients.presence import reaches

OTHER_MODEL = "none of the optimizer's parameters gets a gradient from this loss: is it the optimizer of another model"


class Staged:
    """Two layers; the optimizer has the first, which is frozen in some steps or skipped by the trainer."""

    def __init__(self, way: str, wrap: Any = lambda base: base) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 3)
            self.x, self.y = torch.randn(32, 6), torch.randint(0, 3, (32,))
        self.optimizer = wrap(optim.AdamW(self.first.parameters(), lr=1e-2, weight_decay=0.1))
        self.way, self.num_steps = way, 0

    def loss(self) -> Tensor:
        return F.cross_entropy(self.second(torch.tanh(self.first(self.x))), self.y)

    def step(self, *, without: str = "") -> None:
        """``without``: empty, or why this step has no gradient: the layer is ``frozen``, or the batch ``skipped``."""
        self.first.requires_grad_(without != "frozen")
        if self.way == "minimize":
            self.optimizer.minimize(self.loss)
        elif self.way == "closure":
            self.optimizer.step(lambda: self.closure(without))
        else:
            self.closure(without)
            self.optimizer.step()
        self.num_steps += 1

    def closure(self, without: str) -> Tensor | None:
        self.optimizer.zero_grad()
        if without == "skipped":
            return None
        loss = self.loss()
        loss.backward()
        return loss


WAYS = [("minimize", "frozen"), ("closure", "frozen"), ("step", "frozen"), ("closure", "skipped"), ("step", "skipped")]


@pytest.mark.parametrize("begins_without", [False, True])
@pytest.mark.parametrize(("way", "why"), WAYS)
def test_it_is_a_no_op_bit_for_bit_as_of_the_bare_optimizer(way, why, begins_without):
    bare = Staged("closure")
    fixed = Staged(way, lambda base: DCAO(base, policy=policies.Fixed(), guard=True))
    for run in (bare, fixed):
        for step in range(12):
            run.step(without=why if (step // 3 + begins_without) % 2 else "")
    assert torch.equal(fixed.first.weight, bare.first.weight)
    assert fixed.optimizer.num_steps == 12
    assert fixed.optimizer.num_skipped == 0
    for p, q in zip(fixed.first.parameters(), bare.first.parameters(), strict=True):
        assert torch.equal(fixed.optimizer.state[p]["exp_avg_sq"], bare.optimizer.state[q]["exp_avg_sq"])


@pytest.mark.parametrize(("way", "why"), [each for each in WAYS if each[0] != "step"])
def test_the_probe_of_such_a_step_is_postponed_to_the_next_with_a_gradient(way, why):
    recorder = MemoryRecorder()
    run = Staged(way, lambda base: DCAO(base, every=4, recorder=recorder))
    for step in range(16):
        run.step(without=why if step in (0, 1, 8, 9, 13) else "")
    assert [record.step for record in recorder.records] == [2, 4, 10, 12]
    assert all(record.estimate.trust == 1.0 for record in recorder.records)


def test_a_postponed_probe_survives_a_checkpoint_and_is_asked_for_once():
    recorder = MemoryRecorder()
    run, resumed = (Staged("closure", lambda base: DCAO(base, every=4, recorder=recorder)) for _ in range(2))
    for step in range(5):
        run.step(without="skipped" if step == 4 else "")
    resumed.optimizer.load_state_dict(run.optimizer.state_dict())
    recorder.records.clear()
    for _ in range(4):
        resumed.step()
    assert [record.step for record in recorder.records] == [5, 8]


@pytest.mark.parametrize("way", ["minimize", "closure"])
def test_a_run_that_begins_frozen_starts_when_it_thaws_where_it_would_have_started(way):
    lrs = []
    for num_frozen in (0, 30):
        run = Staged(way, lambda base: DCAO(base))
        for step in range(num_frozen + 1):
            run.step(without="frozen" if step < num_frozen else "")
        lrs.append(run.optimizer.param_groups[0]["lr"])
    weights = torch.cat([p.detach().flatten() for p in Staged(way).first.parameters()])
    # Adam's displacement is lr for each weight, so that l is lr over their root mean square; l is rounded by 1 / 32.
    assert lrs[0] == lrs[1] == pytest.approx(0.01 * weights.square().mean().sqrt().item(), rel=1 / 32 + 1e-6)


@pytest.mark.parametrize("policy", [None, policies.Fixed()])
def test_parameters_may_be_frozen_when_the_optimizer_is_built(policy):
    layer = nn.Linear(2, 2).requires_grad_(False)
    optimizer = DCAO(optim.SGD(layer.parameters(), lr=0.1), policy=policy)
    optimizer.step()
    optimizer.step(lambda: None)
    layer.requires_grad_(True)
    before = layer.weight.clone()
    optimizer.minimize(lambda: layer(torch.ones(1, 2)).square().sum())
    assert not torch.equal(layer.weight, before)


def test_the_guard_does_not_take_a_frozen_phase_for_what_gradients_look_like():
    run = Staged("minimize", lambda base: DCAO(base))
    for step in range(80):
        run.step(without="frozen" if 10 <= step < 70 else "")
    assert run.optimizer.num_skipped == 0


def test_the_decay_at_the_end_goes_on_through_a_frozen_phase():
    """lr is brought to 0 in a straight line over the last 30 % of the run, with steps that do nothing or without."""
    lrs = []
    for frozen in ((), range(80, 90)):
        run, course = Staged("minimize", lambda base: DCAO(base, total_steps=100)), []
        for step in range(100):
            run.step(without="frozen" if step in frozen else "")
            course.append(run.optimizer.param_groups[0]["lr"])
        lrs.append(course[-1])
    assert lrs[1] == pytest.approx(lrs[0], rel=0.5)  # the level under the decay is that of other batches' probes
    assert lrs[1] < 0.1 * max(course)  # a thirtieth of the level, which may go on rising under the decay


# --- the optimizer of another model


def others(way: str, optimizer: DCAO, loss_fn: Any) -> None:
    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = loss_fn()
        loss.backward()
        return loss

    {"minimize": optimizer.minimize, "probe": optimizer.probe}.get(way, lambda _: optimizer.step(closure))(loss_fn)


@pytest.mark.parametrize("way", ["minimize", "closure", "probe"])
@pytest.mark.parametrize("policy", [None, policies.Fixed()])
@pytest.mark.parametrize("copied", [False, True])
def test_the_optimizer_of_another_model_is_refused_at_once(way, policy, copied):
    model = nn.Linear(3, 1)
    other = copy.deepcopy(model) if copied else nn.Linear(5, 1)
    optimizer = DCAO(optim.AdamW(other.parameters(), lr=1e-3), policy=policy)
    with pytest.raises(ValueError, match=OTHER_MODEL):
        others(way, optimizer, lambda: model(torch.ones(2, 3)).square().mean())
    assert optimizer.num_steps == 0


def test_a_probe_batch_of_another_model_is_refused_at_once():
    model, other = nn.Linear(3, 1), nn.Linear(3, 1)
    optimizer = DCAO(optim.AdamW(model.parameters(), lr=1e-3), probe_batch=lambda: other(torch.ones(2, 3)).sum())
    with pytest.raises(ValueError, match=OTHER_MODEL):
        optimizer.minimize(lambda: model(torch.ones(2, 3)).square().mean())


def test_a_graph_that_hides_the_parameters_is_not_taken_for_another_models():
    block = nn.Sequential(nn.Linear(3, 3), nn.Tanh())
    optimizer = DCAO(optim.AdamW(block.parameters(), lr=1e-3))
    x = torch.ones(2, 3, requires_grad=True)
    optimizer.minimize(lambda: checkpoint(block, x, use_reentrant=True).sum())
    assert optimizer.last_estimate.s is not None


@pytest.mark.parametrize("way", ["minimize", "closure", "probe"])
def test_after_a_step_with_a_gradient_a_loss_may_miss_the_parameters(way):
    """Experts that no batch is routed to, optimizers of parts that take turns."""
    model, other = nn.Linear(3, 1), nn.Linear(3, 1)
    optimizer = DCAO(optim.AdamW(model.parameters(), lr=1e-3))
    optimizer.minimize(lambda: model(torch.ones(2, 3)).square().mean())
    before = model.weight.clone()
    is_told = pytest.warns(UserWarning, match=f"Probes fail: UnreachedError: {OTHER_MODEL}")
    with is_told if way == "probe" else nullcontext():
        for _ in range(12):
            others(way, optimizer, lambda: other(torch.ones(2, 3)).square().mean())
    assert torch.equal(model.weight, before)


@pytest.mark.parametrize("returned", [lambda loss: loss, lambda loss: loss.detach(), lambda loss: float(loss.detach())])
def test_a_closure_that_never_called_backward_is_told_so_at_the_first_step_and_is_a_no_op_later(returned):
    model = nn.Linear(3, 1)
    optimizer = DCAO(optim.AdamW(model.parameters(), lr=1e-3))
    loss_fn = lambda: model(torch.ones(2, 3)).square().mean()  # noqa: E731

    def forgetful() -> Any:
        optimizer.zero_grad()
        return returned(loss_fn())

    with pytest.raises(
        ValueError, match=r"closure must call backward\(\).*another model. To skip a batch, return None"
    ):
        optimizer.step(forgetful)
    optimizer.minimize(loss_fn)
    before = model.weight.clone()
    optimizer.step(forgetful)
    assert torch.equal(model.weight, before)


# --- for long


@pytest.mark.parametrize(
    ("why", "message"),
    [
        ("frozen", r"no parameter of the optimizer has had a gradient for 100 steps: none of them requires grad"),
        ("skipped", r"for 100 steps: every \.grad was empty.*the next one with a gradient is probed\. Fix: check"),
    ],
)
def test_a_hundred_steps_without_a_gradient_are_told_once(why, message):
    run = Staged("closure", lambda base: DCAO(base))
    run.step()
    for _ in range(99):
        run.step(without=why)
    with pytest.warns(UserWarning, match=message) as caught:
        run.step(without=why)
    assert [each.filename for each in caught] == [__file__]
    for _ in range(3):
        run.step()
        for _ in range(100):
            run.step(without=why)  # no second warning: here they are errors


def test_what_a_graph_reaches_is_seen_after_its_backward_pass_too():
    used, unused = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    loss = F.silu(used).sum() * math.pi
    for _ in range(2):
        assert reaches(loss, [unused, used])
        assert not reaches(loss, [unused])
        loss.backward() if used.grad is None else None
    assert reaches(used, [used])
    assert not reaches(1.0, [used])
