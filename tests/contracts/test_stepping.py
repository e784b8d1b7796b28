"""The gradient that steps is not that of the loss: clipped, accumulated, unscaled, noisy. What is measured stays true.

Truth comes from the dense Hessian in float64, and from the same step without the change.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from dcao import DCAO
from helpers.stepping_problem import (
    BASES,
    CLIP,
    DIFFERENCE,
    LR,
    VALUE,
    Problem,
    clip_norm,
    clip_value,
    flat_gradient,
    quotient,
)


def expected_s(problem: Problem, loss_gradient: Tensor, taken: Tensor, hessian: Tensor, clip: float = 1.0) -> float:
    """Curvature along the step; for an optimizer without a denominator, as it is when the clip lets go."""
    s = quotient(hessian, loss_gradient, problem.displacement(taken))
    return s if "betas" in problem.group or "alpha" in problem.group else s / clip


# --- clipping in the closure


@pytest.mark.parametrize("base", BASES)
def test_s_is_the_same_with_a_clip_of_the_norm_in_the_closure_and_without(base):
    plain, clipped = Problem(base), Problem(base)
    plain.optimizer.step(plain.backward_closure())
    clipped.optimizer.step(clipped.backward_closure(clip_norm))
    # Of denominators that start from a gradient of 1e-4, eps = 1e-8 is 1e-4 where the gradient was clipped.
    assert clipped.estimate().s == pytest.approx(plain.estimate().s, rel=1e-4)
    assert clipped.estimate().cost == plain.estimate().cost


@pytest.mark.parametrize("base", BASES)
def test_a_clip_of_the_norm_shortens_the_relative_step_and_is_told_in_the_reason(base):
    problem = Problem(base)
    for step in range(3):
        gradient, weights = problem.gradient(step), problem.weights()
        share = CLIP / float(gradient.norm())
        taken, hessian = share * gradient, problem.hessian(step)
        length = float(problem.displacement(taken).norm() / weights.norm())
        expected = expected_s(problem, gradient, taken, hessian, share)
        problem.optimizer.step(problem.backward_closure(clip_norm, step))
        estimate = problem.estimate()
        assert estimate.s == pytest.approx(expected, rel=DIFFERENCE)
        assert estimate.relative_step == pytest.approx(length, rel=1e-4)  # clip_grad_norm_ adds 1e-6 to the norm
        assert estimate.reason == f"the gradient was clipped to {share:.3g} of its length"


@pytest.mark.parametrize("base", BASES)
def test_a_clip_of_each_value_is_measured_along_what_steps(base):
    problem = Problem(base)
    for step in range(3):
        gradient = problem.gradient(step)
        taken = gradient.clamp(-VALUE, VALUE)
        clip = float(taken @ taken / (taken @ gradient))
        expected = expected_s(problem, gradient, taken, problem.hessian(step), clip)
        problem.optimizer.step(problem.backward_closure(clip_value, step))
        assert problem.estimate().s == pytest.approx(expected, rel=DIFFERENCE)
        assert problem.estimate().reason == "the gradient's entries were clipped one by one"
        assert problem.probe_cost() == 2.0  # the loss's own gradient has to be evaluated anew


def test_a_clip_that_does_not_hold_changes_nothing():
    plain, clipped = Problem("adamw"), Problem("adamw")
    plain.optimizer.step(plain.backward_closure())
    clipped.optimizer.step(clipped.backward_closure(lambda p: nn.utils.clip_grad_norm_(p.params, 1e6)))
    assert clipped.estimate() == plain.estimate()


def test_a_closure_that_accumulates_inside_is_not_taken_for_a_clip():
    problem = Problem("sgd")

    def closure() -> None:
        problem.optimizer.zero_grad()
        for batch in range(4):
            (problem.loss(batch) / 4).backward()

    gradient, hessian = problem.gradient(0, 1, 2, 3), problem.hessian(0, 1, 2, 3)
    expected = quotient(hessian, gradient, LR * gradient)
    problem.optimizer.step(closure)
    assert (problem.estimate().s, problem.probe_cost()) == (pytest.approx(expected, rel=DIFFERENCE), 1.0)
    assert problem.estimate().reason == ""


@pytest.mark.parametrize("measure", ["hessian", "preconditioned"])
@pytest.mark.parametrize("base", ["sgd", "adamw"])
def test_eigenvalues_are_those_of_the_loss_and_not_of_the_clipped_gradient(base, measure):
    plain, clipped = Problem(base, measure=measure), Problem(base, measure=measure)
    plain.optimizer.step(plain.backward_closure())
    clipped.optimizer.step(clipped.backward_closure(clip_norm))
    # Both follow the largest eigenvalue with a relative residual of 5 % or less, from the same start.
    assert clipped.estimate().s == pytest.approx(plain.estimate().s, rel=0.05)
    if measure == "hessian":
        assert clipped.estimate().sharpness == pytest.approx(plain.estimate().sharpness, rel=0.05)


# --- gradients from before the closure


@pytest.mark.parametrize("zeroed", [True, False], ids=["zeroed-in-place", "removed"])
@pytest.mark.parametrize("divided", [True, False], ids=["mean", "sum"])
@pytest.mark.parametrize("num_parts", [2, 4, 8])
@pytest.mark.parametrize("base", BASES)
def test_of_accumulated_gradients_the_step_is_measured_and_not_the_last_part(base, num_parts, divided, zeroed):
    problem = Problem(base)
    scale = 1.0 / num_parts if divided else 1.0
    for step in range(2):
        problem.optimizer.zero_grad(set_to_none=not zeroed)
        for batch in range(num_parts - 1):
            (scale * problem.loss(batch)).backward()

        def closure() -> Tensor:
            loss = scale * problem.loss(num_parts - 1)
            loss.backward()
            return loss

        last, hessian = problem.gradient(num_parts - 1), problem.hessian(num_parts - 1)
        taken = scale * num_parts * problem.gradient(*range(num_parts))
        expected = quotient(hessian, last, problem.displacement(taken))
        problem.optimizer.step(closure)
        assert problem.estimate().s == pytest.approx(expected, rel=DIFFERENCE), step
        assert "also holds what was accumulated before the closure" in problem.estimate().reason
        assert problem.probe_cost() == 2.0


@pytest.mark.parametrize("base", BASES)
def test_equal_parts_outside_of_the_closure_and_inside_have_one_s(base):
    whole, parts = Problem(base), Problem(base)
    whole.optimizer.step(whole.backward_closure())
    parts.optimizer.zero_grad()
    for _ in range(3):
        (parts.loss() / 4).backward()
    parts.optimizer.step(lambda: (parts.loss() / 4).backward())
    assert parts.estimate().s == pytest.approx(whole.estimate().s, rel=DIFFERENCE)
    assert parts.estimate().relative_step == pytest.approx(whole.estimate().relative_step, rel=1e-12)


@pytest.mark.parametrize("base", ["sgd-momentum", "adamw"])
def test_accumulation_as_lightning_does_it_ends_with_the_lr_of_the_same_gradients_in_the_closure(base):
    """Backward on the first micro-batches outside, ``zero_grad`` before them alone, the last one in the closure."""
    lrs = []
    for inside in (True, False):
        problem = Problem(base, policy=None, measure="load", every=None)

        def backward(batch: int) -> Tensor:
            loss = problem.loss(batch) / 4  # noqa: B023
            loss.backward()
            return loss

        def closure(parts: list[int]) -> Tensor:
            if inside:  # noqa: B023
                problem.optimizer.zero_grad()  # noqa: B023
            return [backward(batch) for batch in (parts if inside else parts[-1:])][-1]  # noqa: B023

        for step in range(60):
            parts = [(4 * step + part) % 8 for part in range(4)]
            problem.optimizer.zero_grad()
            for batch in [] if inside else parts[:-1]:
                backward(batch)
            problem.optimizer.step(lambda parts=parts: closure(parts))
        lrs.append(problem.optimizer.effective_lrs[0])
    # One micro-batch of four says what the four say but for its noise, of which a median of 3 probes is left.
    assert lrs[1] == pytest.approx(lrs[0], rel=0.5)


@pytest.mark.parametrize("base", BASES)
def test_accumulated_and_then_clipped_in_the_closure(base):
    """Lightning with accumulate_grad_batches and gradient_clip_val."""
    problem = Problem(base)
    for batch in range(3):
        (problem.loss(batch) / 4).backward()

    def closure() -> None:
        (problem.loss(3) / 4).backward()
        clip_norm(problem)

    whole = problem.gradient(0, 1, 2, 3)
    share = CLIP / float(whole.norm())
    expected = expected_s(problem, problem.gradient(3), share * whole, problem.hessian(3), share)
    problem.optimizer.step(closure)
    assert problem.estimate().s == pytest.approx(expected, rel=1e-4)  # clip_grad_norm_ adds 1e-6 to the norm
    assert f"clipped to {share:.3g} of its length" in problem.estimate().reason


@pytest.mark.parametrize("place", ["closure", "outside"])
def test_gradients_that_are_zeroed_in_place_are_no_leftovers(place):
    plain, zeroed = Problem("adamw"), Problem("adamw")

    def closure() -> Tensor:
        if place == "closure":
            zeroed.net.zero_grad(set_to_none=False)
        loss = zeroed.loss()
        loss.backward()
        return loss

    for _ in range(3):
        plain.optimizer.step(plain.backward_closure())
        if place == "outside":
            zeroed.optimizer.zero_grad(set_to_none=False)
        zeroed.optimizer.step(closure)
        assert zeroed.estimate() == plain.estimate()


def test_a_last_part_against_the_step_says_nothing():
    problem = Problem("sgd")
    for _ in range(3):
        problem.loss().backward()
    problem.optimizer.step(lambda: (-problem.loss()).backward())
    assert (problem.estimate().s, problem.estimate().trust) == (None, 0.0)
    assert problem.estimate().reason.startswith("the step leads up the loss that is measured")


# --- a GradScaler in the closure, and noise


def scaling_closure(problem: Problem, scaler: torch.amp.GradScaler, clip: float | None):
    def closure() -> Tensor:
        problem.optimizer.zero_grad()
        loss = problem.loss()
        scaler.scale(loss).backward()
        scaler.unscale_(problem.optimizer)
        if clip is not None:
            nn.utils.clip_grad_norm_(problem.params, clip)
        return loss

    return closure


@pytest.mark.parametrize("clip", [None, CLIP], ids=["unclipped", "clipped"])
@pytest.mark.parametrize("base", BASES)
def test_a_gradscaler_that_unscales_in_the_closure_is_measured_and_left_as_it_was(base, clip):
    plain, problem = Problem(base), Problem(base)
    scaler = torch.amp.GradScaler("cpu", init_scale=1000.0)  # no power of two, which would be told by itself
    plain.optimizer.step(plain.backward_closure())
    problem.optimizer.step(scaling_closure(problem, scaler, clip))
    # The scaler inverts its scale in float32; eps as above where the gradient is clipped.
    assert problem.estimate().s == pytest.approx(plain.estimate().s, rel=1e-4)
    assert problem.estimate().trust == 1.0
    with pytest.raises(RuntimeError, match="has already been called on this optimizer"):
        scaler.unscale_(problem.optimizer)
    scaler.update()
    assert scaler.get_scale() == 1000.0
    problem.optimizer.step(scaling_closure(problem, scaler, clip))  # and so the next step unscales again
    assert problem.estimate().trust == 1.0


@pytest.mark.parametrize("base", ["sgd", "adamw"])
def test_a_scale_of_the_loss_that_is_undone_by_hand_does_not_count(base):
    plain, scaled = Problem(base), Problem(base)

    def closure() -> None:
        scaled.optimizer.zero_grad()
        (scaled.loss() * 4096.0).backward()
        for p in scaled.params:
            p.grad /= 4096.0

    plain.optimizer.step(plain.backward_closure())
    scaled.optimizer.step(closure)
    assert scaled.estimate().s == pytest.approx(plain.estimate().s, rel=DIFFERENCE)


@pytest.mark.parametrize("base", ["sgd", "adamw"])
def test_a_sum_of_parts_that_the_closure_divides_is_their_mean(base):
    whole, parts = Problem(base), Problem(base)

    def closure() -> None:
        parts.optimizer.zero_grad()
        for batch in range(4):
            parts.loss(batch).backward()
        for p in parts.params:
            p.grad /= 4

    whole.optimizer.minimize([lambda batch=batch: whole.loss(batch) for batch in range(4)])
    parts.optimizer.step(closure)
    assert parts.estimate().s == pytest.approx(whole.estimate().s, rel=DIFFERENCE)


@pytest.mark.parametrize("share", [0.5, 0.25, 0.1])
def test_a_clip_to_a_round_share_is_a_clip(share):
    plain, clipped = Problem("sgd"), Problem("sgd")
    norm = float(plain.gradient(0).norm())
    plain.optimizer.step(plain.backward_closure())
    clip = lambda problem: nn.utils.clip_grad_norm_(problem.params, share * norm)  # noqa: E731
    clipped.optimizer.step(clipped.backward_closure(clip))
    assert clipped.estimate().s == pytest.approx(plain.estimate().s, rel=DIFFERENCE)
    assert clipped.estimate().relative_step == pytest.approx(share * plain.estimate().relative_step, rel=1e-4)


@pytest.mark.parametrize("clip", [None, CLIP], ids=["unclipped", "clipped"])
@pytest.mark.parametrize("base", ["sgd", "sgd-momentum"])
def test_noise_added_to_the_gradient_does_not_count_as_curvature(base, clip):
    """DP-SGD: noise that does not depend on the weights makes no step unstable."""
    plain, noisy = Problem(base), Problem(base)

    def add_noise(problem: Problem) -> None:
        if clip is not None:
            nn.utils.clip_grad_norm_(problem.params, clip)
        for p in problem.params:
            length = 3.0 * (CLIP if clip else float(problem.gradient(0).norm()))
            p.grad += length * torch.randn_like(p) / math.sqrt(len(problem.weights()))

    plain.optimizer.step(plain.backward_closure())
    noisy.optimizer.step(noisy.backward_closure(add_noise))
    share = CLIP / float(Problem(base).gradient(0).norm()) if clip else 1.0
    # What is left of the gradient is estimated by its projection: the error is the noise along one of 51 directions.
    assert noisy.estimate().s == pytest.approx(plain.estimate().s, rel=3.0 / math.sqrt(51.0))
    assert "changed after backward by more than a factor" in noisy.estimate().reason
    assert noisy.estimate().relative_step > 2.0 * share * plain.estimate().relative_step


# --- what must not be disturbed


def test_the_hooks_on_the_parameters_do_not_make_torch_compile_again():
    problem = Problem("adamw", every=2)
    problem.net = torch.compile(problem.net, backend="aot_eager")
    problem.optimizer.step(problem.backward_closure())
    problem.optimizer.step(problem.backward_closure())
    with torch._dynamo.config.patch(error_on_recompile=True):
        for _ in range(4):
            problem.optimizer.step(problem.backward_closure(clip_norm))
    assert problem.estimate().trust == 1.0


def test_no_hook_stays_on_a_parameter():
    problem = Problem("adamw")
    problem.optimizer.step(problem.backward_closure(clip_value))
    with pytest.raises(ZeroDivisionError):
        problem.optimizer.step(problem.backward_closure(lambda p: 1 / 0))
    assert not any(p._backward_hooks or p._post_accumulate_grad_hooks for p in problem.params)


@pytest.mark.parametrize("change", [clip_norm, clip_value], ids=["norm", "value"])
@pytest.mark.parametrize("base", BASES)
def test_training_with_a_clip_in_the_closure_is_that_of_the_bare_optimizer(base, change):
    problem, bare = Problem(base), Problem(base)
    bare.optimizer = bare.optimizer.base
    for batch in range(4):
        for each in (problem, bare):
            each.optimizer.step(each.backward_closure(change, batch))
    assert torch.equal(problem.weights(), bare.weights())


# --- clipping in hooks, and by minimize itself

PLACES = ["clip_norm", "wrapper-hook", "base-hook", "global-hook"]


@pytest.fixture
def clipping_at(request):
    """Takes training steps whose gradient is clipped at a place outside of the loss."""
    handles = []

    def hook(optimizer, args, kwargs):
        if isinstance(optimizer, DCAO) == (place == "wrapper-hook"):  # a global hook may fire with both
            clip([p for group in optimizer.param_groups for p in group["params"]])

    def steps(problem: Problem, num_steps: int, chosen: str, clip_with) -> None:
        nonlocal place, clip
        place, clip = chosen, clip_with
        if place == "global-hook":
            handles.append(register_optimizer_step_pre_hook(hook))
        elif place != "clip_norm":
            target = problem.optimizer if place == "wrapper-hook" else problem.optimizer.base
            target.register_step_pre_hook(hook)
        for batch in range(num_steps):
            options = {"clip_norm": CLIP} if place == "clip_norm" else {}
            problem.optimizer.minimize(lambda batch=batch: problem.loss(batch), **options)

    place, clip = "", None
    yield steps
    for handle in handles:
        handle.remove()


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("base", BASES)
def test_a_clip_outside_of_the_loss_is_measured_as_one_in_the_closure(base, place, clipping_at):
    inside, outside = Problem(base), Problem(base)
    for batch in range(3):
        inside.optimizer.step(inside.backward_closure(clip_norm, batch))
    clipping_at(outside, 3, place, lambda params: nn.utils.clip_grad_norm_(params, CLIP))
    assert torch.equal(outside.weights(), inside.weights())
    last = [each.recorder.records[-3:] for each in (inside, outside)]
    for ours, theirs in zip(*last, strict=True):
        assert theirs.estimate.s == pytest.approx(ours.estimate.s, rel=DIFFERENCE)
        assert theirs.estimate.relative_step == pytest.approx(ours.estimate.relative_step, rel=1e-9)
        assert theirs.estimate.reason == ours.estimate.reason != ""
    assert outside.probe_cost() == 1.0


@pytest.mark.parametrize("place", PLACES[1:])
def test_a_clip_of_each_value_in_a_hook_is_measured_too(place, clipping_at):
    inside, outside = Problem("adamw"), Problem("adamw")
    for batch in range(3):
        inside.optimizer.step(inside.backward_closure(clip_value, batch))
    clipping_at(outside, 3, place, lambda params: nn.utils.clip_grad_value_(params, VALUE))
    assert torch.equal(outside.weights(), inside.weights())
    assert outside.estimate().s == pytest.approx(inside.estimate().s, rel=DIFFERENCE)
    assert outside.estimate().reason == inside.estimate().reason


@pytest.mark.parametrize("base", ["sgd", "adamw"])
def test_what_was_decided_before_a_hook_of_the_base_clipped_is_decided_again(base, clipping_at):
    given = {"policy": None, "measure": "load", "every": None}
    inside, outside = Problem(base, **given), Problem(base, **given)
    for batch in range(6):
        inside.optimizer.step(inside.backward_closure(clip_norm, batch))
    clipping_at(outside, 6, "base-hook", lambda params: nn.utils.clip_grad_norm_(params, CLIP))
    assert outside.optimizer.effective_lrs == pytest.approx(inside.optimizer.effective_lrs, rel=1e-12)
    torch.testing.assert_close(outside.weights(), inside.weights(), rtol=1e-12, atol=1e-14)


def test_a_hook_of_the_base_that_reads_the_lr_sees_the_one_that_trains():
    problem = Problem("adamw", policy=None, measure="load", every=None)
    read, trained = [], []
    for register, seen in (
        (problem.optimizer.base.register_step_pre_hook, read),
        (problem.optimizer.base.register_step_post_hook, trained),
    ):
        register(lambda optimizer, args, kwargs, seen=seen: seen.append(optimizer.param_groups[0]["lr"]))
    for batch in range(8):
        problem.optimizer.minimize(lambda batch=batch: problem.loss(batch))
    assert read == trained
    assert problem.optimizer.probe_cost == 3.0  # at steps 0, where the loss is checked too, and 5


def test_clip_norm_trains_as_torch_clips_and_the_guard_sees_the_whole_gradient():
    problem, bare = Problem("adamw", guard=True), Problem("adamw")
    norms = []
    check = problem.optimizer.guard.check
    problem.optimizer.guard.check = lambda *args: (norms.append(flat_gradient(problem).norm()), check(*args))[1]
    for batch in range(4):
        problem.optimizer.minimize(lambda batch=batch: problem.loss(batch), clip_norm=CLIP)
        bare.optimizer.base.step(bare.backward_closure(clip_norm, batch))
    assert torch.equal(problem.weights(), bare.weights())
    assert min(norms) > 1.5 * CLIP


WRONG = [
    (0.0, ValueError, r"clip_norm must be positive and finite, got 0.0; leave it out to clip nothing"),
    (-1.0, ValueError, r"clip_norm must be positive and finite, got -1.0"),
    (math.nan, ValueError, r"clip_norm must be positive and finite, got nan"),
    (math.inf, ValueError, r"clip_norm must be positive and finite, got inf"),
    ("1", TypeError, r"clip_norm must be a number, got '1'"),
    (True, TypeError, r"clip_norm must be a number, got True"),
]


@pytest.mark.parametrize(("clip", "error", "message"), WRONG, ids=[str(row[0]) for row in WRONG])
def test_a_clip_norm_that_is_none_is_refused_before_the_gradients_are_gone(clip, error, message):
    problem = Problem("sgd")
    problem.loss().backward()
    with pytest.raises(error, match=message):
        problem.optimizer.minimize(problem.loss, clip_norm=clip)
    assert all(p.grad is not None for p in problem.params)
