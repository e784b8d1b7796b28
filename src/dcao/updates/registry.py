"""The record that describes each class of optimizers.

Supported: SGD, Adam, AdamW, NAdam, RMSprop, Adagrad of torch; SGDW, AdamWLegacy, NAdamW, NAdamLegacy of timm.
`register_optimizer` adds others.
"""

from __future__ import annotations

from torch import optim
from torch.optim import Optimizer

from dcao.updates.dynamics import StepDynamics
from dcao.updates.model import NoPreconditionerYet, OptimizerModel
from dcao.updates.timm_models import altering_option, timm_model
from dcao.updates.torch_models import ADAGRAD, ADAM, NADAM, RMSPROP, SGD

__all__ = [
    "OPTIMIZER_MODELS",
    "NoPreconditionerYet",
    "OptimizerModel",
    "StepDynamics",
    "optimizer_model",
    "register_optimizer",
]

OPTIMIZER_MODELS: dict[type[Optimizer], OptimizerModel] = {
    optim.SGD: SGD,
    optim.Adam: ADAM,
    optim.AdamW: ADAM,
    optim.NAdam: NADAM,
    optim.RMSprop: RMSPROP,
    optim.Adagrad: ADAGRAD,
}


def optimizer_model(optimizer: Optimizer) -> OptimizerModel:
    """The record of an optimizer's class, or of its nearest registered parent.

    An optimizer of an unregistered class that has another optimizer in its attribute ``base`` gets the record of that
    one.

    Raises:
        TypeError: No record fits. For Lion and others that have no stability threshold the message gives the reason.
        ValueError: A param group has ``maximize=True``.

    Example:
        >>> import torch
        >>> weight = torch.nn.Parameter(torch.zeros(2))
        >>> optimizer_model(torch.optim.AdamW([weight])).momentum_key
        'betas'
    """
    for parent in type(optimizer).__mro__:
        if parent in OPTIMIZER_MODELS:
            refuse_maximize(optimizer)
            return OPTIMIZER_MODELS[parent]
        model = timm_model(parent)
        if model is not None:
            refuse_maximize(optimizer)
            if option := altering_option(optimizer):
                raise TypeError(_why_unsupported(parent.__name__, f"{option} makes another update of it"))
            return model
    base = getattr(optimizer, "base", None)
    if isinstance(base, Optimizer):
        return optimizer_model(base)
    raise TypeError(_why_unsupported(type(optimizer).__name__))


def register_optimizer(optimizer_class: type[Optimizer], model: OptimizerModel) -> None:
    """Make DCAO know a class of optimizers; subclasses share the record of their nearest registered parent.

    A later record of the same class replaces an earlier one.

    Args:
        optimizer_class: A subclass of ``torch.optim.Optimizer``.
        model: Its step dynamics, preconditioner and momentum (:class:`OptimizerModel`).

    Raises:
        TypeError: ``optimizer_class`` is not such a class.

    Example:
        >>> import torch
        >>> class PlainDescent(torch.optim.Optimizer):
        ...     pass
        >>> def dynamics(group, state):
        ...     return StepDynamics(step_size=group["lr"])
        >>> def identity(group, state, grad):
        ...     return None
        >>> register_optimizer(PlainDescent, OptimizerModel(dynamics=dynamics, denominator=identity))
        >>> optimizer = PlainDescent([torch.zeros(2, requires_grad=True)], {"lr": 0.1})
        >>> optimizer_model(optimizer).dynamics(optimizer.param_groups[0], {}).curvature_limit
        20.0
    """
    if not (isinstance(optimizer_class, type) and issubclass(optimizer_class, Optimizer)):
        raise TypeError(
            "optimizer_class must be a subclass of torch.optim.Optimizer, got something of type "
            f"{type(optimizer_class).__name__}; pass the class, not an instance"
        )
    OPTIMIZER_MODELS[optimizer_class] = model


def refuse_maximize(optimizer: Optimizer) -> None:
    """Raise a ValueError if a param group climbs, where no curvature is an edge of stability."""
    for index, group in enumerate(optimizer.param_groups):
        if group.get("maximize", False):
            raise ValueError(
                f"maximize must be False, got True in param group {index}: stability is a property of "
                "descent; negate the loss instead, or pass the optimizer through with policy=policies.Fixed()"
            )


_REASONS = {
    "Lion": "its update is the sign of an average, whose length does not shrink with the gradient",
    "Rprop": "its update is the sign of the gradient, whose length does not shrink with the gradient",
    "Muon": "its update is an orthogonalized average, whose length does not shrink with the gradient",
    "LBFGS": "it chooses its own step from the gradients that it has seen",
}


def _why_unsupported(name: str, reason: str = "") -> str:
    reason = reason or _REASONS.get(name, "DCAO does not know its update rule")
    return (
        f"{name} has no stability threshold that DCAO can compute: {reason}. "
        "Describe its update with dcao.register_optimizer, "
        'or measure the Hessian beside it and leave its lr alone: policy=policies.Fixed(), measure="hessian"'
    )
