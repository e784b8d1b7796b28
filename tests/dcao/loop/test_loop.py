"""When probes happen, what they cost by the count of the loss function's calls, and what an update sees of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn, optim

from dcao import DCAO, MemoryRecorder, ProbeLoader, ProbeSettings, is_probing, policies, schedules
from dcao.loop.turns import MAX_PROBES_BEFORE_START
from dcao.policies.proposal import ALARM, SETTLING_STEPS
from helpers.cases import NETWORKS, Problem
from helpers.counting import Count
from helpers.reference import dense_hessian, directional_parts, hand_step

FIXED = policies.Fixed()
EXACT = ProbeSettings(hvp="exact")
CHECK = 1  # evaluation by which the first probe sees whether the loss repeats


class Counted:
    """A loss function that counts its calls."""

    def __init__(self, loss: Callable[[], Tensor]) -> None:
        self.loss, self._count = loss, Count()

    def __call__(self) -> Tensor:
        self._count.add()
        return self.loss()

    @property
    def calls(self) -> int:
        return int(self._count)


def mlp(dtype: torch.dtype = torch.float64) -> Problem:
    return NETWORKS["mlp"].problem(dtype)


def sgd(problem: Problem, lr: float = 0.05, **options) -> optim.SGD:
    return optim.SGD(problem.params, lr=lr, momentum=0.9, **options)


def steps_probed(recorder: MemoryRecorder) -> list[int]:
    return [record.step for record in recorder.records]


# --- cost


@pytest.mark.parametrize("measure", ["load", "batch"])
@pytest.mark.parametrize("make", [sgd, lambda problem: optim.AdamW(problem.params)], ids=["sgd", "adamw"])
def test_a_probe_along_the_step_costs_one_gradient_evaluation_beyond_the_training_step(measure, make):
    problem = mlp()
    loss, recorder = Counted(problem.loss), MemoryRecorder()
    optimizer = DCAO(make(problem), measure=measure, policy=FIXED, every=2, recorder=recorder)
    for _ in range(6):
        optimizer.minimize(loss)
    assert steps_probed(recorder) == [0, 2, 4]
    assert loss.calls == 6 + 3 + CHECK
    assert optimizer.probe_cost == 3.0 + CHECK
    assert [record.cost for record in recorder.records] == [1.0 + CHECK, 1.0, 1.0]
    assert [record.total_cost for record in recorder.records] == [1.0 + CHECK, 2.0 + CHECK, 3.0 + CHECK]


def test_a_closure_is_evaluated_once_more_for_a_probe_along_the_step():
    problem = mlp()
    loss = Counted(problem.loss)
    optimizer = DCAO(sgd(problem), policy=FIXED, every=1)

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    optimizer.step(closure)
    assert loss.calls == 2 + CHECK
    assert optimizer.probe_cost == 1.0 + CHECK


# (measure, hvp, gradient evaluations a product, of the base) and what a call of the loss function stands for
LANCZOS = [
    ("hessian", "central", 2.0, 0.0),
    ("hessian", "forward", 1.0, 1.0),
    ("preconditioned", "central", 2.0, 0.0),
    ("preconditioned", "exact", 2.0, 1.0),
]


@pytest.mark.parametrize(("measure", "hvp", "a_product", "base"), LANCZOS)
def test_a_lanczos_probe_costs_what_its_products_do(measure, hvp, a_product, base):
    problem = mlp()
    loss = Counted(problem.loss)
    optimizer = DCAO(
        sgd(problem), policy=FIXED, every=1, measure=ProbeSettings(measure, hvp=hvp, k=2, num_lanczos_steps=6)
    )
    optimizer.minimize(loss)
    estimate = optimizer.last_estimate
    assert 2 <= estimate.num_matvecs <= 6
    assert estimate.cost == optimizer.probe_cost == a_product * estimate.num_matvecs + base + CHECK
    if hvp == "exact":  # the graph is built by one evaluation and kept: a product is a double backward
        assert loss.calls == 1 + 1 + CHECK
    else:
        assert loss.calls == 1 + estimate.cost


def test_a_probe_of_the_callers_own_loss_pays_for_its_gradient_too():
    problem = mlp()
    loss = Counted(problem.loss)
    optimizer = DCAO(sgd(problem), policy=FIXED)
    assert optimizer.probe(loss).cost == loss.calls == 2 + CHECK
    assert optimizer.probe(loss).cost == 2


def test_several_batches_cost_two_evaluations_each():
    problem = mlp()
    loss = Counted(problem.loss)
    loader = ProbeLoader([torch.zeros(1)] * 5, lambda batch: loss(), num_batches=3)
    optimizer = DCAO(sgd(problem), policy=FIXED, every=1, probe_batch=loader)
    optimizer.minimize(problem.loss)
    assert optimizer.probe_cost == loss.calls == 6 + CHECK


@pytest.mark.parametrize("measure", ["load", "hessian"])
@pytest.mark.parametrize("share", [0.02, 0.1, 0.3])
def test_an_overhead_is_kept_over_a_run_by_the_count_of_evaluations_and_used(measure, share):
    problem = mlp()
    loss, recorder = Counted(problem.loss), MemoryRecorder()
    hvp = "central" if measure == "hessian" else "auto"
    settings = ProbeSettings(measure, hvp=hvp, k=1, num_lanczos_steps=3)
    optimizer = DCAO(sgd(problem), recorder=recorder, measure=settings, every=schedules.Overhead(share))
    num_steps = 300
    for _ in range(num_steps):
        optimizer.minimize(loss)
    spent = loss.calls - num_steps - CHECK  # which no schedule pays for
    assert optimizer.probe_cost == spent + CHECK
    assert spent <= share * loss.calls
    # one more would not have been paid for
    costs = [record.cost for record in recorder.records]
    assert spent + max(costs[0] - CHECK, *costs[1:], 0.0) > share * (loss.calls - 1)


# --- schedules


def test_every_is_kept_where_nothing_settles():
    problem, recorder = mlp(), MemoryRecorder()
    optimizer = DCAO(sgd(problem), every=4, recorder=recorder)
    for _ in range(10):
        optimizer.minimize(problem.loss)
    assert steps_probed(recorder) == [0, 4, 8]


def test_a_schedule_of_the_users_own_is_asked_with_the_step_and_the_cost_to_come():
    problem, recorder = mlp(), MemoryRecorder()
    asked: dict[int, float] = {}

    def schedule(step: int, cost: float) -> bool:
        asked[step] = cost
        return step in (3, 7)

    optimizer = DCAO(sgd(problem), every=schedule, recorder=recorder)
    for _ in range(9):
        optimizer.minimize(problem.loss)
    assert steps_probed(recorder) == [3, 7]
    assert {step: asked[step] for step in (0, 3, 4, 7, 8)} == {0: 1.0, 3: 1.0, 4: 2.0, 7: 2.0, 8: 3.0}


def test_a_spectrum_comes_by_its_own_schedule_and_only_informs():
    problem, recorder = mlp(), MemoryRecorder()
    optimizer = DCAO(
        sgd(problem), policy=FIXED, every=3, spectrum_every=4, measure=ProbeSettings(k=2), recorder=recorder
    )
    for _ in range(9):
        optimizer.minimize(problem.loss)
    assert steps_probed(recorder) == [0, 3, 4, 6, 8]
    has_spectrum = [bool(record.estimate.ritz_values) for record in recorder.records]
    assert has_spectrum == [True, False, True, False, True]
    assert all(record.estimate.s == record.estimate.stability["load"] for record in recorder.records)


def test_one_step_is_probed_once():
    problem, recorder = mlp(), MemoryRecorder()
    optimizer = DCAO(sgd(problem), policy=FIXED, every=1, recorder=recorder)
    optimizer.probe(problem.loss)
    optimizer.minimize(problem.loss)
    assert steps_probed(recorder) == [0]


# --- settling, on a quadratic of curvature 2 without momentum: s is 2 * lr

CURVATURE, TARGET = 2.0, 1.5
PROPOSAL = policies.Smoothed(policies.LearningRate(TARGET))
UNSETTLING = policies.Smoothed(policies.LearningRate(TARGET, settle=False))


def settling_run(lr: float, num_steps: int, **options) -> tuple[DCAO, MemoryRecorder, list[float]]:
    weight, recorder = nn.Parameter(torch.ones(1, dtype=torch.float64)), MemoryRecorder()
    options = {"policy": PROPOSAL, "every": 10, **options}
    optimizer = DCAO(optim.SGD([weight], lr=lr), recorder=recorder, measure=EXACT, **options)
    losses = [float(optimizer.minimize(lambda: 0.5 * CURVATURE * weight.square().sum())) for _ in range(num_steps)]
    return optimizer, recorder, losses


def test_a_wild_lr_is_cut_before_the_first_update():
    _, recorder, losses = settling_run(lr=100.0, num_steps=3)
    before_start = [record for record in recorder.records if record.step == 0]
    # down by 0.8 at a time from s = 200 to 1.5; the last decision of those is no longer clipped
    assert len(before_start) == math.ceil(math.log(TARGET / (100.0 * CURVATURE)) / math.log(0.8))
    assert before_start[-1].after.lr * CURVATURE == pytest.approx(TARGET, rel=1e-9)
    assert losses[1] < losses[0]


def test_the_cuts_before_the_first_update_end_also_where_nothing_helps():
    optimizer, recorder, _ = settling_run(lr=1e9, num_steps=1, policy=policies.LearningRate(TARGET, max_lr=1e9))
    assert len(recorder.records) == MAX_PROBES_BEFORE_START
    assert optimizer.param_groups[0]["lr"] == pytest.approx(1e9 * 0.8**MAX_PROBES_BEFORE_START)


def test_every_step_is_probed_while_the_rule_is_at_its_clip_and_every_tenth_after():
    _, recorder, _ = settling_run(lr=1e-2, num_steps=80)
    # up by 1.1 a step from s = 0.02 to 1.5; the last of those is inside the clip
    count = math.ceil(math.log(TARGET / (1e-2 * CURVATURE)) / math.log(1.1))
    assert steps_probed(recorder) == [*range(count), *range(10 * math.ceil(count / 10), 80, 10)]


def test_an_lr_that_cannot_move_is_settled():
    # s is 0.02 and the rule wants more: a scheduler that is never exceeded, or the rule's own bound, says no; probing
    # faster gains nothing.
    weight, recorder = nn.Parameter(torch.ones(1, dtype=torch.float64)), MemoryRecorder()
    rule = policies.Smoothed(policies.LearningRate(TARGET, never_above_schedule=True))
    optimizer = DCAO(optim.SGD([weight], lr=1e-2), policy=rule, every=10, recorder=recorder, measure=EXACT)
    optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    for _ in range(30):
        optimizer.minimize(lambda: 0.5 * CURVATURE * weight.square().sum())
    assert steps_probed(recorder) == [0, 10, 20]
    _, recorder, _ = settling_run(lr=1e-2, num_steps=30, policy=policies.LearningRate(TARGET, max_lr=1e-2))
    assert steps_probed(recorder) == [0, 10, 20]


@pytest.mark.parametrize(
    "rule",
    [policies.Momentum(), policies.Compose(policies.Momentum(), policies.WeightDecay()), policies.Fixed()],
    ids=["momentum", "both", "fixed"],
)
def test_rules_that_move_no_lr_are_probed_by_the_schedule_alone(rule):
    weight, recorder = nn.Parameter(torch.ones(1, dtype=torch.float64)), MemoryRecorder()
    base = optim.SGD([weight], lr=20.0, momentum=0.5, weight_decay=0.1)
    optimizer = DCAO(base, policy=rule, every=10, recorder=recorder, guard=False)
    for _ in range(21):
        optimizer.minimize(lambda: 0.5 * CURVATURE * weight.square().sum())
    assert recorder.records[0].estimate.s > ALARM
    assert steps_probed(recorder) == [0, 10, 20]


def test_what_moves_an_lr_and_a_momentum_settles():
    def probed(*rules):
        _, recorder, _ = settling_run(lr=1e-2, num_steps=5, policy=policies.Compose(*rules))
        return steps_probed(recorder)

    assert probed(PROPOSAL, policies.Fixed()) == [0, 1, 2, 3, 4]
    assert probed(policies.Ceiling(), policies.Fixed()) == [0]


@pytest.mark.parametrize(
    "wrapped",
    [lambda rule: rule, policies.Smoothed, lambda rule: policies.Compose(rule, policies.WeightDecay())],
    ids=["alone", "smoothed", "composed"],
)
def test_a_rule_that_finds_its_own_start_is_probed_by_the_schedule_alone(wrapped):
    # from lr 100, s is 200: a rule that settles would be asked again before the first update, and at the next step
    weight, recorder = nn.Parameter(torch.ones(1, dtype=torch.float64)), MemoryRecorder()
    rule = wrapped(policies.Ceiling(first_relative_step=None))
    optimizer = DCAO(optim.SGD([weight], lr=100.0), policy=rule, every=10, recorder=recorder, guard=False)
    for _ in range(21):
        optimizer.minimize(lambda: 0.5 * CURVATURE * weight.square().sum())
    assert recorder.records[0].estimate.s == pytest.approx(200.0)
    assert steps_probed(recorder) == [0, 10, 20]


def test_the_rise_goes_on_through_a_step_whose_probe_had_nothing_to_measure():
    weight = nn.Parameter(torch.ones(1, dtype=torch.float64))
    optimizer = DCAO(optim.SGD([weight], lr=1e-2))
    lrs = []
    for step in range(8):
        if step == 0:
            optimizer.minimize(lambda: 0.5 * CURVATURE * weight.square().sum())
        else:
            weight.grad = CURVATURE * weight.detach()
            optimizer.step()  # at step 5 a probe is due
        lrs.append(optimizer.effective_lrs[0])
    assert [later / lr for lr, later in pairwise(lrs)] == pytest.approx([1.1] * 7)


def test_settling_ends_where_no_probe_is_ever_trusted():
    weight, recorder = nn.Parameter(torch.ones(1)), MemoryRecorder()
    optimizer = DCAO(optim.SGD([weight], lr=0.1), policy=PROPOSAL, every=10, recorder=recorder)

    def loss() -> Tensor:
        if is_probing():
            raise RuntimeError("no second look")
        return weight.square().sum()

    steps = (optimizer.minimize(loss) for _ in range(SETTLING_STEPS + 25))
    with pytest.warns(UserWarning, match="The first probe has failed: RuntimeError: no second look"):
        list(steps)
    assert steps_probed(recorder) == [*range(SETTLING_STEPS), SETTLING_STEPS, SETTLING_STEPS + 10, SETTLING_STEPS + 20]
    assert optimizer.param_groups[0]["lr"] == 0.1


def test_a_probe_along_a_gradient_of_zero_is_postponed_to_the_next_that_is_not():
    weight, recorder = nn.Parameter(torch.ones(1)), MemoryRecorder()
    optimizer = DCAO(optim.SGD([weight], lr=0.1), every=5, recorder=recorder)
    for step in range(20):
        optimizer.minimize(lambda share=float(step % 5 == 2): share * weight.square().sum())
    assert steps_probed(recorder) == [2, 7, 12, 17]
    assert optimizer.probe_cost == 4 + CHECK


@pytest.mark.parametrize("options", [{"policy": UNSETTLING}, {"policy": FIXED, "every": 10}], ids=["off", "fixed"])
def test_nothing_settles_when_told_not_to_or_when_nothing_adapts(options):
    _, recorder, _ = settling_run(lr=1e-2, num_steps=20, **options)
    assert steps_probed(recorder) == [0, 10]


# --- the batch before


def test_the_signal_comes_from_the_training_batch_before():
    problem = mlp()
    first, second = problem.batch(slice(0, 3)), problem.batch(slice(3, 7))
    optimizer = DCAO(sgd(problem), policy=FIXED, every=1, measure=EXACT)
    optimizer.minimize(first.loss)
    past = torch.cat([p.grad.reshape(-1) for p in problem.params])
    optimizer.minimize(lambda: second.loss())  # at what `first` has left
    measured = optimizer.last_estimate

    twin = mlp()  # the same run by the bare optimizer, stopped before the second update
    bare = sgd(twin)
    twin.batch(slice(0, 3)).loss().backward()
    bare.step()
    now = twin.batch(slice(3, 7))
    gradient = torch.cat([g.reshape(-1) for g in torch.autograd.grad(now.loss(), twin.params)])
    step, H = hand_step(bare, twin.params, gradient), dense_hessian(now)
    slope = step.gradient @ step.displacement
    total, _ = directional_parts([step], [H])
    eta = 0.05 / (1.0 - 0.9)
    assert measured.stability["batch"] == pytest.approx(total, rel=1e-9)
    assert measured.load_signal == pytest.approx(float(eta * past @ H @ step.displacement / slope), rel=1e-9)


def test_the_first_probe_has_no_batch_before_it_and_takes_all_for_noise():
    problem = mlp()
    optimizer = DCAO(sgd(problem), policy=FIXED, every=1)
    optimizer.minimize(problem.loss)
    assert optimizer.last_estimate.load_signal == 0.0
    assert optimizer.last_estimate.s == optimizer.last_estimate.stability["batch"]


def test_a_parameter_that_the_loss_does_not_use_does_not_cost_the_signal():
    problem = NETWORKS["tied_frozen_unused"].problem()
    optimizer = DCAO(sgd(problem), policy=FIXED, every=1)
    for _ in range(2):
        optimizer.minimize(problem.loss)
    assert optimizer.last_estimate.load_signal != 0.0


# --- a probe never stops training


def test_what_a_probe_raises_is_a_reason_in_the_log_and_holds_the_lr():
    problem, recorder = mlp(), MemoryRecorder()
    count = Count()

    def fails_when_probed() -> Tensor:
        if count.add() == 2:
            raise RuntimeError("out of memory, say")
        return problem.loss()

    optimizer = DCAO(sgd(problem), policy=UNSETTLING, every=5, recorder=recorder)
    before = [p.detach().clone() for p in problem.params]
    with pytest.warns(UserWarning, match=r"The first probe has failed: RuntimeError: out of memory, say"):
        optimizer.minimize(fails_when_probed)
    (record,) = recorder.records
    assert record.estimate.reason == "the probe failed: RuntimeError: out of memory, say"
    assert (record.estimate.s, record.estimate.trust) == (None, 0.0)
    assert record.decision.reason == "lr held: s was not measured"
    assert record.after == record.before
    assert all(not torch.equal(p, q) for p, q in zip(problem.params, before, strict=True))


def test_what_the_callers_own_probe_raises_passes_through():
    problem = mlp()
    optimizer = DCAO(sgd(problem), policy=FIXED)

    def broken() -> Tensor:
        raise RuntimeError("the caller's own")

    with pytest.raises(RuntimeError, match=r"the caller's own"):
        optimizer.probe(broken)


def test_a_probe_that_is_due_with_nothing_to_probe_is_refused():
    problem = mlp()
    optimizer = DCAO(sgd(problem))
    problem.loss().backward()
    with pytest.raises(ValueError, match=r"a probe is due at step 0 and there is nothing to probe: call .*minimize"):
        optimizer.step()


def test_a_loss_that_blows_up_one_step_away_cuts_the_lr():
    weight, recorder = nn.Parameter(torch.tensor([0.5], dtype=torch.float64)), MemoryRecorder()
    optimizer = DCAO(
        optim.SGD([weight], lr=1.0),
        policy=UNSETTLING,
        every=1,
        measure=ProbeSettings(step_length="step"),
        recorder=recorder,
    )
    optimizer.minimize(lambda: weight.sqrt().sum())
    (record,) = recorder.records
    assert record.estimate.s == math.inf
    assert record.after.lr == pytest.approx(0.8)
    assert "the gradient one step away is not finite" in record.estimate.reason


def test_a_gradient_of_before_a_new_group_is_not_taken_for_the_past():
    first, second = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3))
    recorder = MemoryRecorder()
    optimizer = DCAO(torch.optim.SGD([first], lr=0.1), every=2, recorder=recorder)
    for _ in range(2):
        optimizer.minimize(lambda: first.square().sum() + second.square().sum())
    optimizer.add_param_group({"params": [second]})
    optimizer.minimize(lambda: first.square().sum() + second.square().sum())
    assert recorder.records[-1].step == 2
    assert recorder.records[-1].estimate.reason == ""


def test_both_ends_of_the_spectrum_share_one_graph():
    problem = mlp()
    optimizer = DCAO(sgd(problem), policy=FIXED, measure=ProbeSettings("hessian", smallest=True))
    estimate = optimizer.probe(problem.loss, spectrum=True)
    assert estimate.hvp == "exact"
    assert estimate.smallest < estimate.sharpness
    assert estimate.cost == 2 + 2 * estimate.num_matvecs + CHECK  # the gradient, the graph; two a product


def test_a_probe_loader_that_fails_in_mid_training_is_a_reason_in_the_log():
    class Flaky:
        reads = 0

        def __iter__(self):
            for batch in (torch.ones(2), torch.ones(2)):
                Flaky.reads += 1
                if Flaky.reads > 2:
                    raise OSError("the disk is gone")
                yield batch

    weight = nn.Parameter(torch.ones(2))
    recorder = MemoryRecorder()
    loader = ProbeLoader(Flaky(), lambda batch: (batch * weight**2).sum(), num_batches=2)
    base = torch.optim.SGD([weight], lr=0.1)
    optimizer = DCAO(base, policy=UNSETTLING, every=2, probe_batch=loader, recorder=recorder)
    for _ in range(3):
        optimizer.minimize(lambda: weight.square().sum())
    assert recorder.records[0].estimate.reason == ""
    assert recorder.records[-1].estimate.reason == "the probe failed: OSError: the disk is gone"
    assert recorder.records[-1].after == recorder.records[-1].before
