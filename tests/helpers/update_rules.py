"""The step of each optimizer on a quadratic, written out from torch's documentation, and the edge that we claim for it.

Independent of `dcao.updates`, which the checks compare with it. ``w`` is the weight, ``m`` the state, ``A`` the
curvature that the gradient has: the loss's, divided by the frozen P, plus coupled decay.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import sympy as sp
from torch import optim

lr, lam, mu, tau, beta, wd = sp.symbols("lr lambda mu tau beta wd", positive=True)
w, m = sp.symbols("w m", real=True)

Step = tuple[sp.Expr, sp.Expr]


@dataclass(frozen=True)
class UpdateRule:
    """One optimizer.

    Attributes:
        name: Test id.
        step: ``(w, m)`` after one step.
        upper: The largest stable ``lambda`` that the page claims.
        lower: The smallest.
        make: ``make(params, lr=..., **options)`` builds torch's optimizer.
        options: The arguments of ``make`` and their symbols; ``beta1`` is the first of ``betas``.
    """

    name: str
    step: Step
    upper: sp.Expr
    lower: sp.Expr
    make: Callable[..., optim.Optimizer]
    options: dict[str, sp.Symbol]


def _step(new_state: sp.Expr, new_weight: Callable[[sp.Expr], sp.Expr]) -> Step:
    return new_weight(new_state), new_state


g = lam * w
g_l2 = (lam + wd) * w
_c = (1 + beta) / (1 - beta)

UPDATE_RULES = [
    UpdateRule("sgd", (w - lr * g, sp.Integer(0) * m), 2 / lr, sp.Integer(0), optim.SGD, {}),
    UpdateRule("sgd-l2", (w - lr * g_l2, sp.Integer(0) * m), 2 / lr - wd, -wd, optim.SGD, {"weight_decay": wd}),
    UpdateRule(
        "heavy-ball",
        _step(mu * m + g, lambda new: w - lr * new),
        2 * (1 + mu) / lr,
        sp.Integer(0),
        optim.SGD,
        {"momentum": mu},
    ),
    UpdateRule(
        "heavy-ball-dampening-l2",
        _step(mu * m + (1 - tau) * g_l2, lambda new: w - lr * new),
        2 * (1 + mu) / ((1 - tau) * lr) - wd,
        -wd,
        optim.SGD,
        {"momentum": mu, "dampening": tau, "weight_decay": wd},
    ),
    UpdateRule(
        "nesterov-l2",
        _step(mu * m + g_l2, lambda new: w - lr * (g_l2 + mu * new)),
        2 * (1 + mu) / ((1 + 2 * mu) * lr) - wd,
        -wd,
        partial(optim.SGD, nesterov=True),
        {"momentum": mu, "weight_decay": wd},
    ),
    UpdateRule(
        "adam-l2",
        _step(beta * m + (1 - beta) * g_l2, lambda new: w - lr * new),
        2 * _c / lr - wd,
        -wd,
        optim.Adam,
        {"beta1": beta, "weight_decay": wd},
    ),
    UpdateRule(
        "adamw",
        _step(beta * m + (1 - beta) * g, lambda new: (1 - lr * wd) * w - lr * new),
        (2 - lr * wd) * _c / lr,
        -wd,
        optim.AdamW,
        {"beta1": beta, "weight_decay": wd},
    ),
    UpdateRule(
        "nadamw-late",
        _step(
            beta * m + (1 - beta) * g,
            lambda new: (1 - lr * wd) * w - lr * ((1 - beta) * g + beta * new),
        ),
        (2 - lr * wd) * _c / ((1 + 2 * beta) * lr),
        -wd,
        partial(optim.NAdam, decoupled_weight_decay=True),
        {"beta1": beta, "weight_decay": wd},
    ),
    UpdateRule("rmsprop-l2", (w - lr * g_l2, sp.Integer(0) * m), 2 / lr - wd, -wd, optim.RMSprop, {"weight_decay": wd}),
    UpdateRule(
        "rmsprop-momentum-l2",
        _step(mu * m + g_l2, lambda new: w - lr * new),
        2 * (1 + mu) / lr - wd,
        -wd,
        optim.RMSprop,
        {"momentum": mu, "weight_decay": wd},
    ),
]


def trace_and_determinant(rule: UpdateRule) -> tuple[sp.Expr, sp.Expr]:
    """Of the matrix that a step applies to ``(w, m)``."""
    matrix = sp.Matrix(rule.step).jacobian(sp.Matrix([w, m]))
    return sp.simplify(matrix.trace()), sp.simplify(matrix.det())
