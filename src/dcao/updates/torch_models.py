"""The records of torch's own optimizers: their step dynamics, preconditioners and gradient averages.

``tests/dcao/updates/test_optimizer_models.py`` compares them with the optimizers themselves, one real step at a time.
Hyperparameters may be tensors (capturable optimizers). Foreach and fused variants keep the same state.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dcao.updates.dynamics import StepDynamics
from dcao.updates.model import Group, MutableParamState, NoPreconditionerYet, OptimizerModel, ParamState

# --- facts shared by several optimizers


def _step_number(state: ParamState, coming: bool) -> int:
    """Number of the coming step, or of the last one; the first step has number 1."""
    step = int(state.get("step", 0)) + coming
    if step == 0:
        raise NoPreconditionerYet(_NO_STATE)
    return step


_NO_STATE = "no state yet: the preconditioner exists after the first step; take a step or pass the gradient"


def _second_moment(state: ParamState, key: str, grad: Tensor | None, keep: float, take: float) -> Tensor:
    """``state[key]``, or with ``grad`` its value after the coming step; in float32 or wider."""
    if grad is None:
        if not state:
            raise NoPreconditionerYet(_NO_STATE)
        return _wide(state[key])
    wide_grad = _wide(grad)
    if not state:
        return take * wide_grad * wide_grad
    return (keep * _wide(state[key])).addcmul_(wide_grad, wide_grad, value=take)


def _wide(tensor: Tensor) -> Tensor:
    # A decay of 0.999 is lost in bfloat16 (8 bits), so this computes in float32, as fused kernels do.
    return tensor.detach().to(torch.promote_types(tensor.dtype, torch.float32))


def _coupled_decay(group: Group) -> float:
    return 0.0 if group.get("decoupled_weight_decay", False) else float(group["weight_decay"])


def _decoupled_decay(group: Group) -> float:
    decoupled = group.get("decoupled_weight_decay", False)
    return float(group["lr"]) * float(group["weight_decay"]) if decoupled else 0.0


def _rescale_summing_buffer(group: Group, state: MutableParamState, old: float, new: float) -> None:
    """Rescale a buffer that a constant gradient g fills to g / (1 - momentum); with momentum 0 it becomes zero."""
    buffer = state.get("momentum_buffer")
    if buffer is not None:
        buffer.mul_((1.0 - old) / (1.0 - new) if new else 0.0)


# --- SGD


def _sgd_dynamics(group: Group, state: ParamState) -> StepDynamics:
    lr, momentum = float(group["lr"]), float(group["momentum"])
    intake = 1.0 - float(group["dampening"]) if momentum else 1.0  # torch ignores dampening without momentum
    return StepDynamics(
        step_size=_summed(lr * intake, momentum),
        momentum=momentum,
        lookahead=momentum if group["nesterov"] else 0.0,
        l2_decay=float(group["weight_decay"]),
    )


def _summed(lr: float, momentum: float) -> float:
    # Momentum 1 gives no step size; StepDynamics then raises an error about the momentum.
    return lr / (1.0 - momentum) if momentum < 1.0 else 0.0


def _identity(group: Group, state: ParamState, grad: Tensor | None) -> None:
    return None


SGD = OptimizerModel(
    dynamics=_sgd_dynamics,
    denominator=_identity,
    momentum_key="momentum",
    rescale_momentum=_rescale_summing_buffer,
)

# --- Adam, AdamW


def _adam_dynamics(group: Group, state: ParamState) -> StepDynamics:
    return StepDynamics(
        step_size=float(group["lr"]),
        momentum=float(group["betas"][0]),
        l2_decay=_coupled_decay(group),
        decoupled_decay=_decoupled_decay(group),
    )


def _adam_denominator(group: Group, state: ParamState, grad: Tensor | None) -> Tensor:
    beta2, step = float(group["betas"][1]), _step_number(state, grad is not None)
    unbiased = 1.0 / (1.0 - beta2**step)  # multiplied in where it takes no operation of its own
    if grad is None:
        second_moment = _second_moment(state, "exp_avg_sq", None, 1.0, 0.0) * unbiased
    else:
        second_moment = _second_moment(state, "exp_avg_sq", grad, beta2 * unbiased, (1.0 - beta2) * unbiased)
    if group.get("amsgrad", False) and state:
        second_moment = torch.maximum(second_moment, _wide(state["max_exp_avg_sq"]) * unbiased)
    return second_moment.sqrt_().add_(float(group["eps"]))


def _adam_correction(group: Group, state: ParamState, coming: bool) -> float:
    return 1.0 - float(group["betas"][0]) ** _step_number(state, coming)


def _rescale_adam(group: Group, state: MutableParamState, old: float, new: float) -> None:
    """Rescale the average to ``(1 - b**t) * g`` with the new b, because torch divides it by ``1 - b**t``."""
    if state:
        step = _step_number(state, False)
        state["exp_avg"].mul_((1.0 - new**step) / (1.0 - old**step))


ADAM = OptimizerModel(
    dynamics=_adam_dynamics,
    denominator=_adam_denominator,
    first_moment_correction=_adam_correction,
    is_entrywise=True,
    momentum_key="betas",
    rescale_momentum=_rescale_adam,
)

# --- NAdam


def _nadam_weights(group: Group, state: ParamState, coming: bool) -> tuple[float, float]:
    """Weights of the newest gradient and of the average in the step, bias corrections included."""
    step = _step_number(state, coming)
    now, after = _nadam_momentum(group, step), _nadam_momentum(group, step + 1)
    product = float(state.get("mu_product", 1.0)) * (now if coming else 1.0)
    return (1.0 - now) / (1.0 - product), after / (1.0 - product * after)


def _nadam_momentum(group: Group, step: int) -> float:
    warmup = 0.96 ** (step * float(group["momentum_decay"]))
    return float(group["betas"][0]) * (1.0 - 0.5 * float(warmup))


def _nadam_dynamics(group: Group, state: ParamState) -> StepDynamics:
    newest, average = _nadam_weights(group, state, True)
    beta1 = float(group["betas"][0])
    return StepDynamics(
        step_size=float(group["lr"]),
        momentum=beta1,
        lookahead=beta1 / (1.0 - beta1) * newest / (newest + average) if beta1 < 1.0 else 0.0,
        l2_decay=_coupled_decay(group),
        decoupled_decay=_decoupled_decay(group),
    )


def _nadam_correction(group: Group, state: ParamState, coming: bool) -> float:
    """The factor of P that makes ``step_size`` lr: a constant gradient moves by lr times (newest + average)."""
    return 1.0 / sum(_nadam_weights(group, state, coming))


def _nothing_to_rescale(group: Group, state: MutableParamState, old: float, new: float) -> None:
    """NAdam corrects by the product of the momenta that were really used, so its average is in scale already."""


NADAM = OptimizerModel(
    dynamics=_nadam_dynamics,
    denominator=_adam_denominator,
    first_moment_correction=_nadam_correction,
    is_entrywise=True,
    momentum_key="betas",
    rescale_momentum=_nothing_to_rescale,
)

# --- RMSprop


def _rmsprop_dynamics(group: Group, state: ParamState) -> StepDynamics:
    momentum = float(group["momentum"])
    return StepDynamics(
        step_size=_summed(float(group["lr"]), momentum),
        momentum=momentum,
        l2_decay=float(group["weight_decay"]),
    )


def _rmsprop_denominator(group: Group, state: ParamState, grad: Tensor | None) -> Tensor:
    alpha = float(group["alpha"])
    second_moment = _second_moment(state, "square_avg", grad, alpha, 1.0 - alpha)
    if group["centered"]:
        mean = _rmsprop_mean(state, grad, alpha)
        # Rounding can make the variance of a constant gradient negative, with which torch's own step is nan.
        second_moment = (second_moment - mean * mean).clamp_min(0.0)
    return second_moment.sqrt().add_(float(group["eps"]))


def _rmsprop_mean(state: ParamState, grad: Tensor | None, alpha: float) -> Tensor:
    if grad is None:
        return _wide(state["grad_avg"])
    fresh = (1.0 - alpha) * _wide(grad)
    return fresh + alpha * _wide(state["grad_avg"]) if state else fresh


def _rescale_rmsprop(group: Group, state: MutableParamState, old: float, new: float) -> None:
    if state and new and state.get("momentum_buffer") is None:
        # torch creates it at the first step only, and raises KeyError after momentum was raised from 0 later.
        state["momentum_buffer"] = torch.zeros_like(state["square_avg"])
    _rescale_summing_buffer(group, state, old, new)


RMSPROP = OptimizerModel(
    dynamics=_rmsprop_dynamics,
    denominator=_rmsprop_denominator,
    is_entrywise=True,
    momentum_key="momentum",
    rescale_momentum=_rescale_rmsprop,
)

# --- Adagrad


def _adagrad_dynamics(group: Group, state: ParamState) -> StepDynamics:
    coming = _step_number(state, True)
    return StepDynamics(
        step_size=float(group["lr"]) / (1.0 + (coming - 1) * float(group["lr_decay"])),
        l2_decay=float(group["weight_decay"]),
    )


def _adagrad_denominator(group: Group, state: ParamState, grad: Tensor | None) -> Tensor:
    """P of Adagrad, whose state exists from construction: at step 0 it is the initial value, which is often 0."""
    initial = float(group["initial_accumulator_value"])
    if grad is None and initial == 0.0:
        _step_number(state, False)
    total = _second_moment(state, "sum", grad, 1.0, 1.0)
    if not state:
        total = total + initial
    return total.sqrt().add_(float(group["eps"]))


ADAGRAD = OptimizerModel(dynamics=_adagrad_dynamics, denominator=_adagrad_denominator, is_entrywise=True)
