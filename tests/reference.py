"""Slow, obvious twins of what the library does, by other means."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from cases import Problem


def dense_hessian(problem: Problem) -> Tensor:
    """Hessian of the full-batch loss in the parameters that require grad, ``(size, size)``.

    ``torch.autograd.functional.hessian`` of a pure function of one flat vector: no kept graph, no ``.grad``.
    """
    names = [name for name, p in problem.model.named_parameters() if p.requires_grad]
    params = [problem.model.get_parameter(name).detach() for name in names]
    sizes = [p.numel() for p in params]

    def loss(flat: Tensor) -> Tensor:
        pieces = [piece.view(p.shape) for piece, p in zip(flat.split(sizes), params, strict=True)]
        outputs = functional_call(problem.model, dict(zip(names, pieces, strict=True)), (problem.inputs,))
        return problem.criterion(outputs, problem.targets)

    with sdpa_kernel(SDPBackend.MATH):
        return torch.autograd.functional.hessian(loss, torch.cat([p.reshape(-1) for p in params]))


def dense_matrix(operator) -> Tensor:
    """The operator as a matrix, column by column."""
    eye = torch.eye(operator.size, dtype=operator.dtype, device=operator.device)
    return torch.stack([operator.matvec(column) for column in eye], dim=1)


def textbook_lanczos(matrix: Tensor, start: Tensor, num_steps: int) -> Tensor:
    """Tridiagonal matrix by the three-term recurrence, every vector orthogonalised against all others."""
    basis = [start / start.norm()]
    T = torch.zeros(num_steps, num_steps, dtype=matrix.dtype)
    for j in range(num_steps):
        w = matrix @ basis[-1]
        T[j, j] = basis[-1] @ w
        for _ in range(2):
            for q in basis:
                w = w - (q @ w) * q
        if j + 1 < num_steps:
            T[j, j + 1] = T[j + 1, j] = w.norm()
            basis.append(w / w.norm())
    return T
