"""Loops that call backward themselves, and steps of several micro-batches."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from dcao import ProbeLoader, ProbeSettings
from dcao.gradients.step_scaling import StepScaling
from helpers.stepping_problem import BASES, CLIP, DIFFERENCE, Problem, clip_norm, quotient

ADAPTING = {"policy": None, "measure": "load", "every": None}


def own_step(problem: Problem, batch: int, change: Callable[[Problem], None] = lambda problem: None) -> None:
    problem.optimizer.probe_if_due(lambda: problem.loss(batch))
    problem.optimizer.zero_grad()
    problem.loss(batch).backward()
    change(problem)
    problem.optimizer.step()


# --- probe_if_due


@pytest.mark.parametrize("base", BASES)
def test_a_loop_with_probe_if_due_decides_as_minimize_does(base):
    ours, own = Problem(base, **ADAPTING), Problem(base, **ADAPTING)
    for step in range(12):
        ours.optimizer.minimize(lambda step=step: ours.loss(step % 8))
        own_step(own, step % 8)
    assert [r.step for r in own.recorder.records] == [r.step for r in ours.recorder.records] == [0, 5, 10]
    assert own.optimizer.effective_lrs == pytest.approx(ours.optimizer.effective_lrs, rel=1e-12)
    assert torch.equal(own.weights(), ours.weights())


@pytest.mark.parametrize("base", BASES)
def test_a_clip_between_probe_and_step_is_learned_from_the_step(base):
    """From the second probe on with a denominator, and from the first step on without, as if minimize had clipped."""
    ours, own = Problem(base, **ADAPTING), Problem(base, **ADAPTING)
    for step in range(12):
        ours.optimizer.minimize(lambda step=step: ours.loss(step % 8), clip_norm=CLIP)
        own_step(own, step % 8, clip_norm)
    # clip_grad_norm_ adds 1e-6 to the norm of 0.5, and what was learned from one length is used at another; where
    # eps = 1e-8 is 1e-4 of a denominator, the probe before the first step has not met it at the clipped length.
    assert own.optimizer.effective_lrs == pytest.approx(ours.optimizer.effective_lrs, rel=1e-3)
    last, expected = own.estimate(), ours.estimate()
    assert last.s == pytest.approx(expected.s, rel=1e-3)
    assert last.relative_step == pytest.approx(expected.relative_step, rel=1e-3)
    assert last.reason == expected.reason != ""
    assert (own.probe_cost(), ours.probe_cost()) == (2.0, 1.0)  # a probe by itself evaluates both gradients


@pytest.mark.parametrize("base", ["sgd", "adamw"])
def test_a_clip_in_a_hook_of_the_base_is_learned_too(base):
    between, hooked = Problem(base, **ADAPTING), Problem(base, **ADAPTING)
    hooked.optimizer.base.register_step_pre_hook(lambda *_: clip_norm(hooked))
    for step in range(12):
        own_step(between, step % 8, clip_norm)
        own_step(hooked, step % 8)
    assert hooked.estimate() == between.estimate()
    assert torch.equal(hooked.weights(), between.weights())


def test_the_first_decision_without_a_denominator_is_put_right_at_the_first_step():
    problem = Problem("sgd", **ADAPTING)
    own_step(problem, 0, clip_norm)
    first, second = (record.estimate for record in problem.recorder.records)
    share = CLIP / float(Problem("sgd").gradient(0).norm())
    assert second.relative_step == pytest.approx(share * first.relative_step, rel=1e-4)
    assert second.s == pytest.approx(first.s, rel=1e-9)
    assert second.cost == 0.0
    assert second.reason == f"the gradient was clipped to {share:.3g} of its length"
    lrs = [record.after.lr for record in problem.recorder.records]
    assert lrs[1] == pytest.approx(lrs[0] / share, rel=0.02)  # first lrs are rounded to 64 values an octave


def test_a_clip_that_lets_go_is_corrected_too_and_told_once():
    problem = Problem("sgd", **ADAPTING, guard=False)
    own_step(problem, 0, clip_norm)
    for step in range(1, 6):
        own_step(problem, step)
    assumed, found = (record.estimate for record in problem.recorder.records[-2:])
    assert "clipped" in assumed.reason
    assert (found.reason, found.step) == ("", 5)
    assert found.relative_step > 1.5 * assumed.relative_step
    assert found.s == pytest.approx(assumed.s, rel=1e-9)


def test_parts_that_are_summed_and_not_divided_count_as_often_as_they_are():
    problem = Problem("sgd", every=1)
    for _ in range(2):
        gradient, hessian = problem.gradient(0, 1, 2, 3), problem.hessian(0, 1, 2, 3)
        problem.optimizer.probe_if_due([lambda batch=batch: problem.loss(batch) for batch in range(4)])
        problem.optimizer.zero_grad()
        for batch in range(4):
            problem.loss(batch).backward()
        problem.optimizer.step()
    expected = quotient(hessian, gradient, 4.0 * problem.displacement(gradient))
    assert problem.estimate().s == pytest.approx(expected, rel=DIFFERENCE)
    assert problem.estimate().reason == "the gradient was multiplied by 4 after backward"


@pytest.mark.parametrize("base", ["sgd-momentum", "adamw"])
def test_the_lr_after_a_clip_does_not_depend_on_the_scale_of_the_loss(base):
    """A summed loss: AdamW trains as if the loss were not scaled, and a clip takes the scale away for SGD."""
    lrs = []
    for scale in (1.0, 64.0):
        problem = Problem(base, **ADAPTING)
        for step in range(30):
            loss = lambda: scale * problem.loss(step % 8)  # noqa: B023, E731
            problem.optimizer.probe_if_due(loss)
            problem.optimizer.zero_grad()
            loss().backward()
            clip_norm(problem)
            problem.optimizer.step()
        lrs.append(problem.optimizer.effective_lrs[0])
    # Without a denominator s is of the loss once the clip lets go, and so goes with its scale.
    assert lrs[1] == pytest.approx(lrs[0], rel=0.05) if base == "adamw" else 0.0 < lrs[1] <= 1.05 * lrs[0]


def test_gradscaler_in_a_loop_of_its_own_changes_no_number():
    plain, scaled = Problem("sgd"), Problem("sgd")
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for batch in range(3):
        own_step(plain, batch)
        scaled.optimizer.probe_if_due(lambda batch=batch: scaled.loss(batch))
        scaled.optimizer.zero_grad()
        scaler.scale(scaled.loss(batch)).backward()
        scaler.step(scaled.optimizer)
        scaler.update()
        assert scaled.estimate() == plain.estimate()


def test_probe_if_due_probes_at_most_once_a_step_and_says_none_elsewhere():
    problem = Problem("adamw", every=3)
    found = []
    for step in range(7):
        estimates = [problem.optimizer.probe_if_due(lambda step=step: problem.loss(step)) for _ in range(2)]
        assert estimates[1] is None
        found.append(estimates[0] is not None)
        problem.optimizer.zero_grad()
        problem.loss(step).backward()
        problem.optimizer.step()
    assert found == [step % 3 == 0 for step in range(7)]


def test_what_fails_in_a_later_probe_is_a_reason_and_what_is_wrong_with_the_first_an_error():
    problem = Problem("adamw")
    with pytest.raises(ValueError, match=r"loss_fn must return a scalar, got shape \(2,\)"):
        problem.optimizer.probe_if_due(lambda: torch.stack([problem.loss(), problem.loss()]))
    own_step(problem, 0)

    def broken() -> Tensor:
        raise RuntimeError("no such batch")

    assert problem.optimizer.probe_if_due(broken).reason == "the probe failed: RuntimeError: no such batch"


def test_with_a_policy_that_never_probes_nothing_is_due():
    problem = Problem("adamw", every=None)
    assert problem.optimizer.probe_if_due(problem.loss) is None


def test_batches_of_a_probe_loader_are_measured_as_steps_that_are_clipped():
    """Of two steps of one length, DCAO concludes that they were clipped to it."""
    problem = Problem("adamw")
    loader = ProbeLoader([0, 1], problem.loss, num_batches=2, batch_size=lambda batch: 1.0)
    problem = Problem("adamw", probe_batch=loader)
    loader.batch_loss = problem.loss
    for batch in range(3):
        gradients = [problem.gradient(each) for each in (0, 1)]
        hessians = [problem.hessian(each) for each in (0, 1)]
        taken = [gradient * CLIP / gradient.norm() for gradient in gradients]
        displacements = [problem.displacement(each) for each in taken]
        problem.optimizer.zero_grad()
        problem.loss(batch + 2).backward()
        clip_norm(problem)
        problem.optimizer.step()
    curvature = sum(float(d @ H @ d) for d, H in zip(displacements, hessians, strict=True))
    slope = sum(float(g @ d) for g, d in zip(gradients, displacements, strict=True))
    assert problem.estimate().s == pytest.approx(curvature / slope, rel=1e-4)


# --- what is learned from a step


def vector(length: float) -> Tensor:
    return torch.tensor([0.6, 0.8], dtype=torch.float64) * length


LEARNED = [
    ("nothing happens", [(1.0, 1.0), (2.0, 2.0)], (5.0, 1.0, 1.0)),
    ("a clip that holds", [(0.1, 1.0)], (5.0, 0.02, 0.02)),
    ("a clip that holds twice", [(0.1, 1.0), (0.1, 3.0)], (5.0, 0.02, 0.02)),
    ("a clip that has let go", [(0.1, 1.0), (0.05, 0.05)], (5.0, 0.02, 0.02)),
    ("a clip that is gone", [(0.1, 1.0), (3.0, 3.0)], (5.0, 1.0, 1.0)),
    ("a clip that moves", [(0.1, 1.0), (0.2, 3.0)], (5.0, 0.04, 0.04)),
    ("a sum of 4", [(4.0, 1.0)], (5.0, 4.0, 1.0)),
    ("a loss scaled by hand", [(1.0 / 4096.0, 1.0)], (5.0, 1.0 / 4096.0, 1.0)),
    ("a constant factor", [(0.3, 1.0), (0.6, 2.0)], (5.0, 0.3, 1.0)),
    ("no gradient", [(0.0, 1.0)], (5.0, 1.0, 1.0)),
    ("a gradient that is not finite", [(math.inf, 1.0)], (5.0, 1.0, 1.0)),
]


@pytest.mark.parametrize(("name", "steps", "expected"), LEARNED, ids=[row[0] for row in LEARNED])
def test_a_clip_and_a_factor_are_told_apart_by_the_steps(name, steps, expected):
    scaling = StepScaling()
    for taken, probed in steps:
        scaling.learn(vector(taken), vector(probed))
    length, factor, clip = expected
    assert scaling.of(length) == pytest.approx((factor, clip), rel=1e-9)


def test_gradients_of_other_batches_say_nothing_unless_they_have_one_length():
    generator = torch.Generator().manual_seed(0)
    scaling = StepScaling()
    for length in (1.0, 1.3, 0.8):
        taken, probed = torch.randn(2, 1000, generator=generator, dtype=torch.float64)
        scaling.learn(taken * length / taken.norm(), probed)
        assert scaling.of(50.0) == (1.0, 1.0)
    scaling.learn(taken / taken.norm(), probed)
    scaling.learn(probed / probed.norm(), taken)
    assert scaling.of(50.0) == pytest.approx((0.02, 0.02))


def test_what_was_learned_is_kept_in_a_checkpoint():
    problem, resumed = Problem("adamw"), Problem("adamw")
    own_step(problem, 0, clip_norm)
    resumed.optimizer.load_state_dict(copy.deepcopy(problem.optimizer.state_dict()))
    resumed.net.load_state_dict(problem.net.state_dict())
    for each in (problem, resumed):
        own_step(each, 1, clip_norm)
    assert resumed.estimate() == problem.estimate()
    assert "clipped" in resumed.estimate().reason


# --- minimize with several losses


def parts(problem: Problem, count: int = 4) -> list[Callable[[], Tensor]]:
    return [lambda batch=batch: problem.loss(batch) for batch in range(count)]


@pytest.mark.parametrize("clip", [None, CLIP], ids=["unclipped", "clipped"])
@pytest.mark.parametrize("base", BASES)
def test_several_losses_train_and_are_measured_as_their_mean(base, clip):
    whole, split = Problem(base), Problem(base)
    for _ in range(3):
        mean = whole.optimizer.minimize(lambda: torch.stack([p() for p in parts(whole)]).mean(), clip_norm=clip)
        assert split.optimizer.minimize(parts(split), clip_norm=clip) == pytest.approx(float(mean), rel=1e-12)
        assert split.estimate().s == pytest.approx(whole.estimate().s, rel=DIFFERENCE)
        assert split.estimate().relative_step == pytest.approx(whole.estimate().relative_step, rel=1e-9)
        assert (split.probe_cost(), split.estimate().num_matvecs) == (1.0, 1)
    torch.testing.assert_close(split.weights(), whole.weights(), rtol=1e-10, atol=1e-12)


def test_several_losses_have_the_load_of_the_dense_hessian_of_their_mean():
    problem = Problem("sgd")
    gradient, hessian = problem.gradient(0, 1, 2), problem.hessian(0, 1, 2)
    problem.optimizer.minimize(parts(problem, 3))
    assert problem.estimate().s == pytest.approx(
        quotient(hessian, gradient, problem.displacement(gradient)), DIFFERENCE
    )


def test_several_losses_train_as_accumulation_by_hand_to_the_last_bit():
    ours, bare = Problem("adamw"), Problem("adamw")
    for _ in range(3):
        ours.optimizer.minimize(parts(ours))
        bare.optimizer.zero_grad()
        for part in parts(bare):
            (part() * 0.25).backward()
        bare.optimizer.base.step()
    assert torch.equal(ours.weights(), bare.weights())


@pytest.mark.parametrize("hvp", ["auto", "exact", "central"])
def test_the_hessian_of_several_losses_is_the_mean_of_theirs(hvp):
    problem = Problem("sgd", measure=ProbeSettings("hessian", hvp=hvp, tolerance=1e-6, num_lanczos_steps=51))
    expected = torch.linalg.eigvalsh(problem.hessian(0, 1, 2))[-1]
    problem.optimizer.minimize(parts(problem, 3))
    # A central difference in float64 is good to 1e-10, a Ritz value with a residual of 1e-6 to its square.
    assert problem.estimate().sharpness == pytest.approx(float(expected), rel=1e-6)
    assert problem.estimate().hvp == ("central" if hvp == "central" else "exact")


class Masks(torch.utils.data.Dataset):
    """A data set, because what a probe has left in any other place would be taken back."""

    def __init__(self) -> None:
        self.masks: list[Tensor] = []


@pytest.mark.parametrize("measure", ["batch", "hessian"])
def test_each_part_sees_its_own_random_numbers_again(measure):
    """With one dropout mask for the gradient and another for the difference, s would be noise of any size."""
    problem = Problem("sgd", measure=ProbeSettings(measure, hvp="auto", tolerance=1e-6, num_lanczos_steps=51))
    seen = Masks()

    def loss(batch: int) -> Tensor:
        hidden = problem.net[1](problem.net[0](problem.inputs[batch]))
        mask = (torch.rand(6) < 0.5).double()
        seen.masks.append(mask)
        return nn.functional.cross_entropy(problem.net[2](hidden * mask), problem.targets[batch])

    torch.manual_seed(5)
    problem.optimizer.minimize([lambda: loss(0), lambda: loss(1), lambda: loss(2)])
    evaluations = [torch.stack(seen.masks[start : start + 3]) for start in range(0, len(seen.masks), 3)]
    assert len(evaluations) > 1
    assert all(torch.equal(each, evaluations[0]) for each in evaluations)
    assert not torch.equal(evaluations[0][0], evaluations[0][1])


def test_one_graph_at_a_time_is_alive():
    problem, alive = Problem("sgd", every=None), []

    class Tracked(torch.autograd.Function):
        @staticmethod
        def forward(ctx, loss):
            alive.append("forward")
            return loss.clone()

        @staticmethod
        def backward(ctx, grad):
            alive.append("backward")
            return grad

    problem.optimizer.minimize([lambda part=part: Tracked.apply(part()) for part in parts(problem, 3)])
    assert alive == ["forward", "backward"] * 3


WRONG = [
    ([], ValueError, "loss_fn must hold at least one loss function, got an empty list"),
    ([torch.ones(())], TypeError, r"loss_fn\[0\] must be callable, got Tensor; pass lambda: loss, not the loss"),
    ([lambda: torch.ones(()), None], TypeError, r"loss_fn\[1\] must be callable, got NoneType"),
    (None, TypeError, "loss_fn must be callable, got NoneType"),
]


@pytest.mark.parametrize("way", ["minimize", "probe_if_due"])
@pytest.mark.parametrize(("losses", "error", "message"), WRONG, ids=["empty", "a loss", "none among them", "none"])
def test_what_is_no_loss_function_is_refused_at_once_and_named(losses, error, message, way):
    problem = Problem("sgd")
    problem.loss().backward()
    with pytest.raises(error, match=message):
        getattr(problem.optimizer, way)(losses)
    assert all(p.grad is not None for p in problem.params)
