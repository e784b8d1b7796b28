"""torch's own optimizers under the rules of `helpers.update_rules`, with a frozen P that is read off a real step."""

from __future__ import annotations

from functools import partial

import sympy as sp
import torch
from torch import Tensor

from helpers.frozen_optimizer import FrozenOptimizer
from helpers.optimizer_cases import OptimizerCase
from helpers.update_rules import UpdateRule, lam, lr, m, w

SMALL = 1e-12  # against second moments of order 1


def frozen_at(rule: UpdateRule, values: dict[sp.Symbol, float], size: int) -> FrozenOptimizer:
    """The rule's optimizer with these hyperparameters, warmed up and frozen; NAdam as late in training."""
    options = {name: float(values[symbol]) for name, symbol in rule.options.items()}
    if "beta1" in options:
        options["betas"] = (options.pop("beta1"), 0.999)
    frozen = FrozenOptimizer(OptimizerCase(rule.name, partial(rule.make, **options), float(values[lr])), size)
    if "mu_product" in frozen.frozen:
        frozen.frozen |= {"mu_product": torch.tensor(0.0), "step": torch.tensor(1e6)}
        frozen.restore()
    return frozen


def preconditioner(rule: UpdateRule, values: dict[sp.Symbol, float], frozen: FrozenOptimizer) -> Tensor:
    """P, from how far one small gradient moves weights that are zero: by ``lr * share / P`` times it."""
    per_unit = sp.diff(rule.step[0], lam).subs({m: 0, w: 1})  # -lr * share
    frozen.reset()
    moved = frozen.step(torch.full_like(frozen.parameter, SMALL).detach())
    return float(per_unit.subs(values)) * SMALL / moved


def edges(rule: UpdateRule, values: dict[sp.Symbol, float]) -> tuple[float, float]:
    """The lower and the upper edge of the page, with P = 1."""
    return float(rule.lower.subs(values)), float(rule.upper.subs(values))


def coupled_decay(rule: UpdateRule, values: dict[sp.Symbol, float]) -> float:
    """What coupled weight decay adds to the curvature; the rules that have it say so in their names."""
    return -float(rule.lower.subs(values)) if rule.name.endswith("l2") else 0.0
