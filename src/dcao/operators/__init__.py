"""Curvature matrices as linear operators: each is known only by its products with vectors."""

from dcao.operators.base import LinearOperator, LossFn, MatrixOperator, Unsupported, evaluate_loss
from dcao.operators.batched import BatchedOperator, batched_hessian
from dcao.operators.finite_difference import FiniteDifferenceOperator, default_step_length
from dcao.operators.ggn import GGNOperator
from dcao.operators.hessian import HessianOperator
from dcao.operators.hvp import AutoHessianOperator, HvpKind, make_hessian
from dcao.operators.preconditioned import PreconditionedOperator

__all__ = [
    "AutoHessianOperator",
    "BatchedOperator",
    "FiniteDifferenceOperator",
    "GGNOperator",
    "HessianOperator",
    "HvpKind",
    "LinearOperator",
    "LossFn",
    "MatrixOperator",
    "PreconditionedOperator",
    "Unsupported",
    "batched_hessian",
    "default_step_length",
    "evaluate_loss",
    "make_hessian",
]
