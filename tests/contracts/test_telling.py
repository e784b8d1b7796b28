"""DCAO is never silent about what goes wrong for long, says it once, and says nothing in an ordinary run."""

from __future__ import annotations

import copy
import math
import pickle
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

import pytest
import torch
from torch import Tensor, nn, optim
from torch.nn import functional as F
from torch.optim import lr_scheduler as schedulers
from torch.utils.checkpoint import checkpoint

from dcao import DCAO, Guard, ProbeSettings, policies, schedules


class Problem:
    """A classification that a few hundred steps learn; the probes allow an lr of about 1e-2 in AdamW."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.x = torch.randn(64, 8, generator=generator)
        self.y = torch.randint(0, 3, (64,), generator=generator)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 3))
        self.after_step: Callable[[], Any] = lambda: None

    def loss(self) -> Tensor:
        return F.cross_entropy(self.model(self.x), self.y)

    def adamw(self, lr: float = 1e-7, **settings: Any) -> DCAO:
        return DCAO(optim.AdamW(self.model.parameters(), lr=lr), **settings)


def train(optimizer: DCAO, loss_fn: Callable[[], Any], num_steps: int, after: Callable[[], Any] = lambda: None) -> None:
    for _ in range(num_steps):
        optimizer.minimize(loss_fn)
        after()


def told(call: Callable[[], Any]) -> list[str]:
    """The warnings of a call, each of which names a line of this file."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    assert {each.filename for each in caught} <= {__file__}
    return [str(each.message) for each in caught]


def is_one(messages: list[str], *parts: str) -> bool:
    (message,) = messages
    missing = [part for part in parts if part not in message]
    assert not missing, f"{missing} not in: {message}"
    return True


# --- probes that fail


def raising(loss_fn: Callable[[], Tensor], error: Callable[[], Exception], fails: Callable[[int], bool]) -> Any:
    """A loss that raises at those of its evaluations, counted from 0, that ``fails`` names."""
    calls: Iterator[int] = iter(range(10**9))

    def loss() -> Tensor:
        if fails(next(calls)):
            raise error()
        return loss_fn()

    return loss


def once_a_step(problem: Problem, error: Callable[[], Exception]) -> Callable[[], Tensor]:
    """A loss that can be evaluated once a step, and raises in the probe: an iterator cannot be put back."""
    turns = [iter(range(1))]

    def next_step() -> None:
        turns[0] = iter(range(1))

    def loss() -> Tensor:
        if next(turns[0], None) is None:
            raise error()
        return problem.loss()

    problem.after_step = next_step
    return loss


def holding_graphs(problem: Problem) -> Callable[[], Tensor]:
    """A hook collects features for a penalty, where no probe can put them back, until the step is over."""
    features: SimpleQueue[Tensor] = SimpleQueue()
    problem.model[0].register_forward_hook(lambda module, args, output: features.put(output))

    def held() -> list[Tensor]:
        return [features.get() for _ in range(features.qsize())]

    def loss() -> Tensor:
        value = problem.loss()
        for each in held():
            value = value + 1e-3 * each.square().mean()
            features.put(each)
        return value

    problem.after_step = held
    return loss


@dataclass(frozen=True)
class Failing:
    """A loss of which every probe fails."""

    name: str
    make: Callable[[Problem], Callable[[], Tensor]]
    words: tuple[str, ...]


def failing(name: str, error: Callable[[], Exception], *words: str) -> Failing:
    return Failing(name, lambda problem: once_a_step(problem, error), words)


FAILING = [
    Failing("a hook that holds graphs", holding_graphs, ("backward through the graph a second time", "forward hook")),
    failing("a batch that is used up", StopIteration, "StopIteration", "draws its own batch", "draw the batch before"),
    failing(
        "a value error the second time",
        lambda: ValueError("already used"),
        "ValueError: already used",
        "evaluates the loss again",
        "depend on the weights and the batch alone",
    ),
    failing("a type error the second time", lambda: TypeError("no tensor"), "TypeError: no tensor"),
    failing(
        "out of memory",
        lambda: torch.OutOfMemoryError("CUDA out of memory. Tried ..."),
        "OutOfMemoryError: CUDA out of memory",
        "five copies of the parameters",
        "smaller batch as probe_batch=",
    ),
    failing(
        "out of memory on the CPU",
        lambda: RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
        "smaller batch as probe_batch=",
    ),
]


def test_a_loss_that_is_computed_outside_of_the_function_is_named_as_the_cause():
    problem = Problem()
    optimizer = problem.adamw()

    def step() -> None:
        loss = problem.loss()
        optimizer.minimize(lambda: loss)

    messages = told(lambda: [step() for _ in range(20)])
    assert is_one(
        messages, "The first probe has failed", "a loss that is computed outside of loss_fn", "within the loss"
    )


@pytest.mark.parametrize("case", FAILING, ids=lambda case: case.name)
@pytest.mark.parametrize("way", ["minimize", "closure"])
def test_probes_that_always_fail_are_told_once_at_the_first_with_cause_and_fix(case, way):
    problem = Problem()
    optimizer, loss_fn = problem.adamw(lr=1e-4), case.make(problem)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = loss_fn()
        loss.backward()
        return loss

    def step() -> None:
        optimizer.minimize(loss_fn) if way == "minimize" else optimizer.step(closure)
        problem.after_step()

    before = problem.model[0].weight.clone()
    meanwhile = "Until one succeeds, lr stays as it is, at 0.0001"
    ways_out = ("Fix:", "optimizer.probe(loss_fn) raises the error", "policies.Fixed() trains without probes")
    assert is_one(told(step), "The first probe has failed", *case.words, meanwhile, *ways_out)
    for _ in range(110):
        step()  # a second warning would be an error
    assert optimizer.param_groups[0]["lr"] == 1e-4
    assert not torch.equal(problem.model[0].weight, before)


def test_a_probe_that_fails_under_fixed_is_told_too_and_training_is_as_without():
    problem = Problem()
    optimizer = problem.adamw(lr=1e-3, policy=policies.Fixed(), every=1)
    loss_fn = once_a_step(problem, lambda: RuntimeError("no"))
    messages = told(lambda: train(optimizer, loss_fn, 5, after=lambda: problem.after_step()))
    assert is_one(messages, "Training goes on as without DCAO, at lr 0.001")


@pytest.mark.parametrize(("steps", "is_told"), [({10, 11}, False), ({10, 20, 30}, False), ({10, 14, 19}, True)])
def test_after_a_probe_that_worked_three_failures_among_ten_are_told(steps, is_told):
    problem = Problem()
    optimizer = problem.adamw(every=1)
    # Each step evaluates the loss to train and to probe, and the first once more to see that it repeats.
    fails_at = {2 * step + 2 for step in steps}
    loss_fn = raising(problem.loss, lambda: RuntimeError("a bad disk"), lambda call: call in fails_at)
    messages = told(lambda: train(optimizer, loss_fn, 40))
    if is_told:
        assert is_one(messages, "Probes fail: RuntimeError: a bad disk", "lr goes on from", "without a new limit")
    else:
        assert messages == []


def test_a_mistake_in_the_settings_is_still_an_error_at_the_first_probe():
    problem = Problem()
    base = optim.SGD(problem.model.parameters(), lr=0.1, momentum=1.0)
    with pytest.raises(ValueError, match=r"momentum must be in \[0, 1\), got 1.0"):
        DCAO(base).minimize(problem.loss)


def test_what_the_callers_own_probe_batch_raises_at_first_is_still_an_error():
    problem = Problem()
    optimizer = problem.adamw(probe_batch=lambda: problem.model(problem.x))
    with pytest.raises(ValueError, match=r"loss_fn must return a scalar"):
        optimizer.minimize(problem.loss)


# --- probes that say nothing


def test_a_gradient_of_zero_for_a_hundred_steps_is_told_once():
    problem = Problem()
    optimizer = problem.adamw(lr=1e-4)
    messages = told(lambda: train(optimizer, lambda: 0.0 * problem.loss(), 220))
    words = "no probe since step 0 could be acted on: there is no step: the gradient is zero, or lr is 0"
    assert is_one(messages, words, "detached tensors, dead units and empty batches")


def test_a_margin_loss_that_is_learnt_to_the_end_is_no_trouble():
    x = torch.eye(3)
    layer = nn.Linear(3, 3)
    optimizer = DCAO(optim.AdamW(layer.parameters(), lr=1e-2))
    assert told(lambda: train(optimizer, lambda: F.multi_margin_loss(layer(x), torch.arange(3)), 300)) == []
    assert F.multi_margin_loss(layer(x), torch.arange(3)) == 0.0


def test_probes_that_are_never_trusted_are_told_with_what_would_make_them_better():
    problem = Problem()
    settings = ProbeSettings("hessian", k=1, num_lanczos_steps=1)
    base = optim.SGD(problem.model.parameters(), lr=1e-3)
    optimizer = DCAO(base, measure=settings, policy=policies.LearningRate(min_trust=0.99), every=10)
    messages = told(lambda: train(optimizer, problem.loss, 150))
    assert is_one(messages, "could be acted on", "num_lanczos_steps", "min_trust")


@pytest.mark.parametrize("num_steps", [60, 260])
def test_an_lr_of_zero_for_long_is_told_and_for_a_while_it_is_not(num_steps):
    problem = Problem()
    optimizer = problem.adamw(lr=1e-2)
    ends_at_0 = schedulers.LambdaLR(optimizer, lambda step: float(step < 30))
    messages = told(lambda: train(optimizer, problem.loss, num_steps, after=ends_at_0.step))
    assert messages == [] if num_steps == 60 else is_one(messages, "lr is 0, so nothing trains: let the scheduler end")


# --- limits far below


@dataclass(frozen=True)
class Limit:
    """Who holds lr far below what the probes allow."""

    name: str
    words: tuple[str, ...]
    schedule: Callable[[DCAO], Any] = lambda optimizer: None
    lr: float = 1e-6
    by_hand: bool = False
    most: float = 1.001e-6  # that trains
    settings: dict[str, Any] = field(default_factory=dict)


def warmup_and_cosine(optimizer: DCAO) -> Any:
    warmup = schedulers.LinearLR(optimizer, 1e-3, total_iters=30)
    return schedulers.SequentialLR(optimizer, [warmup, schedulers.CosineAnnealingLR(optimizer, 300)], milestones=[30])


BELOW = {"policy": policies.Ceiling(never_above_schedule=True)}
BELOW_WORDS = ("so far is 1e-06, and which is never exceeded", "drop never_above_schedule=True")

LIMITS = [
    Limit("cosine", BELOW_WORDS, lambda o: schedulers.CosineAnnealingLR(o, 300), settings=BELOW),
    Limit("warmup and cosine", ("CosineAnnealingLR", *BELOW_WORDS), warmup_and_cosine, settings=BELOW),
    Limit("one cycle", ("OneCycleLR",), lambda o: schedulers.OneCycleLR(o, 1e-6, total_steps=300), settings=BELOW),
    Limit("a step every epoch", ("StepLR",), lambda o: schedulers.StepLR(o, 1000), settings=BELOW),
    Limit("plateau", ("ReduceLROnPlateau",), lambda o: Plateau(o), settings=BELOW),
    Limit(
        "a factor on an lr of 1",
        ("LambdaLR", "no more than 1e-05 of its top", "the one that the optimizer is built with, which may be any"),
        lambda o: schedulers.LambdaLR(o, lambda step: 1e-5),
        lr=1.0,
    ),
    Limit(
        "by hand",
        ('whoever writes group["lr"], which is at', 'leave group["lr"] alone'),
        by_hand=True,
        most=1e-4,  # a thousandth or so of what DCAO had set after the first step, in parts of what it would set later
    ),
    Limit("max_lr", ("the policy's max_lr", "widen max_lr"), settings={"policy": policies.Ceiling(max_lr=1e-6)}),
    Limit(
        "max_lr of a part",
        ("the policy's max_lr", "widen max_lr"),
        settings={"policy": policies.Smoothed(policies.LearningRate(max_lr=1e-6))},
    ),
]  # fmt: skip


class Plateau:
    """``ReduceLROnPlateau`` that is given a loss at its steps, each better than the last."""

    def __init__(self, optimizer: DCAO) -> None:
        self.scheduler, self.loss = schedulers.ReduceLROnPlateau(optimizer), 0.0

    def step(self) -> None:
        self.loss -= 1.0
        self.scheduler.step(self.loss)


def run_limited(limit: Limit, num_steps: int) -> tuple[DCAO, list[str]]:
    problem = Problem()
    optimizer = problem.adamw(lr=limit.lr, **limit.settings)
    schedule = limit.schedule(optimizer)

    def after() -> None:
        if schedule is not None:
            schedule.step()
        if limit.by_hand:
            optimizer.param_groups[0]["lr"] = limit.lr

    return optimizer, told(lambda: train(optimizer, problem.loss, num_steps, after))


@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: limit.name)
def test_a_limit_far_below_what_probes_allow_is_told_once_with_its_name_and_fix(limit):
    optimizer, messages = run_limited(limit, 250)
    assert max(optimizer.effective_lrs) <= limit.most
    assert is_one(messages, "for 100 steps", *limit.words, "10 times or more under the", "that probes allow", "Fix:")


@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: limit.name)
def test_it_takes_a_hundred_steps(limit):
    assert run_limited(limit, 95)[1] == []


def test_an_initial_lr_that_a_scheduler_has_left_behind_holds_nothing():
    problem = Problem()
    base = optim.AdamW(problem.model.parameters(), lr=1e-6)
    base.param_groups[0]["initial_lr"] = 1e-6  # what loading the checkpoint of a scheduled run brings
    optimizer = DCAO(base)
    assert told(lambda: train(optimizer, problem.loss, 150)) == []
    assert optimizer.effective_lrs[0] > 1e-3


@pytest.mark.parametrize("limit", [limit for limit in LIMITS if limit.settings is BELOW], ids=lambda limit: limit.name)
def test_a_small_lr_under_a_scheduler_is_no_limit(limit):
    problem = Problem()
    optimizer = problem.adamw(lr=limit.lr)
    schedule = limit.schedule(optimizer)
    trained = []

    def after() -> None:
        schedule.step()
        trained.extend(optimizer.effective_lrs)

    assert told(lambda: train(optimizer, problem.loss, 250, after)) == []
    assert max(trained) > 1e-3


def test_a_policy_of_ones_own_that_wants_far_more_than_it_gets_is_heard():
    class Wants(policies.Policy):
        never_above_schedule = True

        def propose(self, observation, state):
            here = observation.hyperparameters
            return policies.Decision(hyperparameters=policies.Hyperparameters(lr=1e-2), reason=f"from {here.lr}"), state

    problem = Problem()
    optimizer = problem.adamw(lr=1e-4, policy=Wants(), every=10)
    schedule = schedulers.CosineAnnealingLR(optimizer, 300)
    assert is_one(told(lambda: train(optimizer, problem.loss, 150, schedule.step)), "under the 0.01 that probes allow")


def test_a_valley_that_flattens_late_says_nothing_against_the_lr_that_has_led_there():
    class Flattens(policies.Policy):
        never_above_schedule = True

        def propose(self, observation, state):
            allowed = 0.08 if observation.step < 100 else 1e3
            return policies.Decision(hyperparameters=policies.Hyperparameters(lr=allowed), reason="as it is"), state

    problem = Problem()
    optimizer = problem.adamw(lr=1e-2, policy=Flattens(), every=10)
    schedule = schedulers.CosineAnnealingLR(optimizer, 400)
    assert told(lambda: train(optimizer, problem.loss, 390, schedule.step)) == []


ORDINARY_SCHEDULES: dict[str, Callable[[DCAO], Any]] = {
    "cosine to 0": lambda o: schedulers.CosineAnnealingLR(o, 400),
    "warmup and cosine": warmup_and_cosine,
    "long warmup": lambda o: schedulers.LinearLR(o, 1e-6, total_iters=400),
    "warmup a step an epoch": lambda o: EveryEpoch(schedulers.LinearLR(o, 1e-3, total_iters=3), 130),
    "one cycle": lambda o: schedulers.OneCycleLR(o, 3e-2, total_steps=400, div_factor=1e5),
    "cyclic": lambda o: schedulers.CyclicLR(o, 1e-6, 1e-2, step_size_up=200, cycle_momentum=False),
    "steps": lambda o: schedulers.MultiStepLR(o, [100, 150, 200], gamma=0.05),
    "exponential": lambda o: schedulers.ExponentialLR(o, 0.97),
    "noam": lambda o: schedulers.LambdaLR(o, lambda step: min((200 / (step + 1)) ** 0.5, (step + 1) / 200)),
    "restarts": lambda o: schedulers.CosineAnnealingWarmRestarts(o, 200),
    "plateau that cuts": lambda o: Stuck(o),
}


class EveryEpoch:
    """A scheduler that is stepped once an epoch."""

    def __init__(self, scheduler: Any, length: int) -> None:
        self.scheduler, self.length, self.num_steps = scheduler, length, 0

    def step(self) -> None:
        self.num_steps += 1
        if self.num_steps % self.length == 0:
            self.scheduler.step()


class Stuck(Plateau):
    """A plateau without end: the scheduler cuts every eleven steps."""

    def step(self) -> None:
        self.scheduler.step(1.0)


@pytest.mark.parametrize("name", ORDINARY_SCHEDULES)
def test_a_schedule_whose_peak_is_right_may_start_and_end_as_low_as_it_likes(name):
    problem = Problem()
    optimizer = problem.adamw(lr=1e-2)
    schedule = ORDINARY_SCHEDULES[name](optimizer)
    assert told(lambda: train(optimizer, problem.loss, 390, schedule.step)) == []


@pytest.mark.parametrize(("settings", "last"), [(BELOW, 1e-6), ({}, 1e-4)], ids=["below", "scaled"])
def test_the_end_of_a_decay_after_a_checkpoint_is_not_taken_for_all_of_it(settings, last):
    def make() -> tuple[Problem, DCAO, Any]:
        problem = Problem()
        optimizer = problem.adamw(lr=1e-2, **settings)
        return problem, optimizer, schedulers.CosineAnnealingLR(optimizer, 500)

    problem, optimizer, schedule = make()
    train(optimizer, problem.loss, 380, schedule.step)
    resumed_problem, resumed, resumed_schedule = make()
    resumed_problem.model.load_state_dict(problem.model.state_dict())
    resumed.load_state_dict(optimizer.state_dict())
    resumed_schedule.load_state_dict(schedule.state_dict())
    assert told(lambda: train(resumed, resumed_problem.loss, 119, resumed_schedule.step)) == []
    assert max(resumed.effective_lrs) < last


def test_a_scheduler_that_is_resumed_alone_in_its_decay_is_believed_what_it_began_with():
    """As torch has it: DCAO begins anew, and has seen no peak."""
    problem = Problem()
    base = optim.AdamW(problem.model.parameters(), lr=1e-2)
    base.param_groups[0]["initial_lr"] = 1e-2
    optimizer = DCAO(base)
    schedule = schedulers.CosineAnnealingLR(optimizer, 500, last_epoch=380)
    assert told(lambda: train(optimizer, problem.loss, 119, schedule.step)) == []


# --- past the end


@pytest.mark.parametrize("wrap", [lambda rule: rule, lambda rule: policies.Compose(rule), policies.Smoothed])
@pytest.mark.parametrize("total_steps", [3, 40, 200])
def test_training_past_the_end_is_told_at_the_first_step_past_it(total_steps, wrap):
    problem = Problem()
    optimizer = problem.adamw(policy=wrap(policies.Ceiling(total_steps=total_steps)))
    train(optimizer, problem.loss, total_steps)
    messages = told(lambda: train(optimizer, problem.loss, 1))
    words = f"step {total_steps} is past the end of the run, for total_steps={total_steps} was given"
    assert is_one(messages, words, "not epochs: give len(loader) * num_epochs", "trains from here on")
    train(optimizer, problem.loss, 50)  # a second warning would be an error
    assert 0.0 < optimizer.param_groups[0]["lr"] < math.inf


def test_a_run_resumed_past_its_end_is_told():
    problem = Problem()
    optimizer = problem.adamw(total_steps=20)
    train(optimizer, problem.loss, 20)
    resumed = problem.adamw(total_steps=20)
    resumed.load_state_dict(optimizer.state_dict())
    assert is_one(told(lambda: train(resumed, problem.loss, 3)), "step 20 is past the end of the run")


def test_a_length_that_decays_nothing_has_no_end():
    problem = Problem()
    assert (
        told(lambda: train(problem.adamw(policy=policies.Ceiling(total_steps=10, decay=0.0)), problem.loss, 20)) == []
    )


# --- what is decided and not done, due and not made, measured and not kept


class Answers(policies.Policy):
    """Answers with these hyperparameters, whatever is seen."""

    def __init__(self, **wanted: float) -> None:
        self.wanted = wanted

    def propose(self, observation, state):
        here = observation.hyperparameters
        wanted = {"lr": here.lr, "momentum": here.momentum, "weight_decay": here.weight_decay, **self.wanted}
        return policies.Decision(hyperparameters=policies.Hyperparameters(**wanted), reason="wanted"), state


IGNORED = [
    ("lr", optim.SGD, {"lr": math.nan}, "answered nan, which is no learning rate. It stays as it is"),
    ("momentum", optim.Adagrad, {"momentum": 0.5}, "momentum is not carried out: this optimizer has none"),
    ("weight decay", optim.SGD, {"weight_decay": 0.1}, "weight_decay is not carried out: there is none to scale"),
]


@pytest.mark.parametrize(("name", "make", "wanted", "words"), IGNORED, ids=[row[0] for row in IGNORED])
def test_a_decision_that_cannot_be_carried_out_is_told_once(name, make, wanted, words):
    problem = Problem()
    optimizer = DCAO(make(problem.model.parameters(), lr=0.01), policy=Answers(**wanted), every=1)
    assert is_one(told(lambda: train(optimizer, problem.loss, 10)), words, "what Answers decides on", "Fix:")
    assert "held" in optimizer.last_decision.reason


def test_a_momentum_that_a_scheduler_cycles_is_told_to_the_rule_for_momentum():
    problem = Problem()
    optimizer = DCAO(optim.SGD(problem.model.parameters(), lr=0.1, momentum=0.9), policy=policies.Momentum(), every=1)
    cycle = schedulers.OneCycleLR(optimizer, 0.1, total_steps=50)
    assert is_one(
        told(lambda: train(optimizer, problem.loss, 20, cycle.step)), "somebody else sets it", "cycle_momentum"
    )


def test_a_schedule_that_is_never_due_is_told():
    problem = Problem()
    optimizer = problem.adamw(every=lambda step, cost: False)
    messages = told(lambda: train(optimizer, problem.loss, 120))
    assert is_one(messages, "no probe has been due in 100 steps, because every= never says so", "lr stays as it is")


def test_a_loop_that_probes_once_by_hand_and_never_again_is_told():
    problem = Problem()
    optimizer = problem.adamw()
    optimizer.probe(problem.loss)

    def step_by_hand() -> None:
        optimizer.zero_grad()
        problem.loss().backward()
        optimizer.step()

    messages = told(lambda: [step_by_hand() for _ in range(150)])
    assert is_one(messages, "the last probe was before step 0, and step() alone", "call optimizer.probe(loss_fn) every")


@pytest.mark.parametrize(("base", "takes_minimize"), [(optim.Rprop, True), (optim.LBFGS, False)])
def test_a_probe_that_the_closure_of_an_unknown_optimizer_cannot_have_is_told(base, takes_minimize):
    problem = Problem()
    optimizer = DCAO(base(problem.model.parameters(), lr=1e-3), policy=policies.Fixed(), measure="hessian", every=5)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = problem.loss()
        loss.backward()
        return loss

    messages = told(lambda: [optimizer.step(closure) for _ in range(10)])
    assert is_one(
        messages, f"hands the closure to {base.__name__}, which DCAO does not know", "optimizer.probe(loss_fn)"
    )
    assert ("train with minimize(loss_fn)" in messages[0]) == takes_minimize


def test_a_guard_that_skips_more_than_half_of_a_hundred_steps_is_told_once():
    problem = Problem()
    optimizer = problem.adamw(guard=Guard(snapshot_every=None))
    losses = iter(range(10**9))
    bad = lambda: problem.loss() * (math.nan if next(losses) % 20 >= 8 else 1.0)  # noqa: E731  # 12 of 20
    messages = told(lambda: train(optimizer, bad, 300))
    words = "skipped more than half of the last 100 steps, the last one because of this: guard: loss or gradients"
    assert is_one(messages, words, "look at the data and at the loss")


def test_a_guard_that_skips_less_than_half_is_not():
    problem = Problem()
    optimizer = problem.adamw(guard=Guard(snapshot_every=None))
    losses = iter(range(10**9))
    bad = lambda: problem.loss() * (math.nan if next(losses) % 20 >= 12 else 1.0)  # noqa: E731  # 8 of 20
    assert told(lambda: train(optimizer, bad, 300)) == []


# --- once, and where


@pytest.mark.parametrize("how", ["deepcopy", "pickle"])
def test_a_copy_does_not_tell_again(how):
    problem = Problem()
    optimizer = problem.adamw(total_steps=5)
    assert len(told(lambda: train(optimizer, problem.loss, 8))) == 1
    both = (problem.model, optimizer)
    problem.model, copied = copy.deepcopy(both) if how == "deepcopy" else pickle.loads(pickle.dumps(both))
    assert told(lambda: train(copied, problem.loss, 8)) == []


# --- an ordinary run


def closures(problem: Problem, optimizer: DCAO) -> Callable[[], Any]:
    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = problem.loss()
        loss.backward()
        return loss

    return lambda: optimizer.step(closure)


def clipped(problem: Problem, optimizer: DCAO) -> Callable[[], Any]:
    calls = iter(range(10**9))

    def step() -> None:
        if next(calls) % 5 == 0:
            optimizer.probe(problem.loss)
        optimizer.zero_grad()
        problem.loss().backward()
        nn.utils.clip_grad_norm_(problem.model.parameters(), 1.0)
        optimizer.step()

    return step


def accumulated(problem: Problem, optimizer: DCAO) -> Callable[[], Any]:
    calls = iter(range(10**9))

    def step() -> None:
        if next(calls) % 5 == 0:
            optimizer.probe(problem.loss)
        optimizer.zero_grad()
        for part in range(4):
            (F.cross_entropy(problem.model(problem.x[part::4]), problem.y[part::4]) / 4).backward()
        optimizer.step()

    return step


def checkpointed(*, use_reentrant: bool) -> Callable[[Problem, DCAO], Callable[[], Any]]:
    def make(problem: Problem, optimizer: DCAO) -> Callable[[], Any]:
        first, rest = problem.model[0], problem.model[1:]
        forward = lambda: checkpoint(rest, first(problem.x), use_reentrant=use_reentrant)  # noqa: E731
        return lambda: optimizer.minimize(lambda: F.cross_entropy(forward(), problem.y))

    return make


ORDINARY_LOOPS: dict[str, Callable[[Problem, DCAO], Callable[[], Any]]] = {
    "minimize": lambda problem, optimizer: lambda: optimizer.minimize(problem.loss),
    "closure": closures,
    "clipping": clipped,
    "accumulation": accumulated,
    "checkpointing": checkpointed(use_reentrant=False),
    "re-entrant checkpointing": checkpointed(use_reentrant=True),
}
ORDINARY_SETTINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "length": {"total_steps": 210},
    "fixed": {"policy": policies.Fixed()},
    "watched": {"policy": policies.Fixed(), "every": 5, "spectrum_every": 100},
    "proposal": {"policy": policies.Smoothed(policies.LearningRate())},
    "budget": {"every": schedules.Overhead(0.05)},
    "hessian": {"measure": ProbeSettings("hessian"), "every": 25},
}


@pytest.mark.parametrize("settings", ORDINARY_SETTINGS)
@pytest.mark.parametrize("loop", ORDINARY_LOOPS)
def test_an_ordinary_run_is_silent(loop, settings):
    """In this suite every warning is an error."""
    problem = Problem()
    optimizer = problem.adamw(lr=1e-3, **ORDINARY_SETTINGS[settings])
    step = ORDINARY_LOOPS[loop](problem, optimizer)
    for _ in range(210):
        step()
    assert optimizer.num_steps == 210
