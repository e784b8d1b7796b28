"""The two recurrences of Lanczos: one keeps the whole basis orthogonal, the other keeps two vectors."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dcao.layout import WHOLE, Layout
from dcao.operators.base import LinearOperator
from dcao.spectra.ritz import Projection

SMALL = 1e-11
"""Length below which the remainder of a product in float32 may have a square that float32 does not hold."""


class FullRecurrence:
    """Lanczos with every new vector orthogonalised twice against all earlier ones.

    Twice is enough (Giraud et al. 2005). The projected matrix holds the coefficients as measured, not the tridiagonal
    ones of exact arithmetic, so the residual bounds include their asymmetry and the rounding of a narrow basis.
    """

    def __init__(
        self,
        operator: LinearOperator,
        start: Tensor,
        max_steps: int,
        num_kept: int,
        dtype: torch.dtype | None,
        device: torch.device | str | None,
    ) -> None:
        self.operator = operator
        self.max_steps = max_steps
        self.num_matvecs = 0
        self.exhausted = False
        self._eps = torch.finfo(operator.dtype).eps
        self._layout = operator.layout
        self._basis = _Basis(operator, max_steps, num_kept, dtype or operator.dtype, device or operator.device)
        self._matrix = torch.zeros(max_steps, max_steps, dtype=torch.float64, device="cpu")
        self._defects = torch.zeros(max_steps, dtype=torch.float64, device="cpu")
        self._nonorthogonality = 0.0
        self._scale = 0.0
        self._beta = 0.0
        self._steps = 0
        self._store(0, start)

    def start_again(self, fresh: Tensor) -> None:
        """After an invariant subspace is exhausted, go on outside of it, along the rest of ``fresh``, which is lost."""
        m = self._steps
        for _ in range(2):
            self._basis.project_out(fresh, m)
            fresh.div_(self._layout.norm(fresh))
        self._defects[m - 1] += self._beta
        self._defects[m - 1] += self._scale * self._store(m, fresh)
        self._beta, self.exhausted = 0.0, False

    def advance(self) -> bool:
        """Make one step. Returns ``False``, and does not count the step, if the product was not finite."""
        j = self._steps
        w = product(self.operator, self._basis.row(j).to(device=self.operator.device, dtype=self.operator.dtype))
        self.num_matvecs += 1
        norm = self._layout.norm(w)
        h = self._basis.project_out(w, j + 1) + self._basis.project_out(w, j + 1)
        *column, norm_value, beta = torch.cat([h, norm[None], self._layout.norm(w)[None]]).tolist()
        if not SMALL < norm_value < math.inf:
            beta = scaled_norm(w, self._layout)
            norm_value = math.hypot(*column, beta)
        if not math.isfinite(norm_value) or not math.isfinite(beta):
            return False
        self._scale = max(self._scale, norm_value)
        self._matrix[: j + 1, j] = torch.tensor(column, dtype=torch.float64, device="cpu")
        # Each of the j + 1 subtractions, and the product itself, may be off by some eps * ||A q||.
        self._defects[j] = (j + 10) * self._eps * norm_value
        self._steps, self._beta = j + 1, beta
        self.exhausted = beta <= breakdown_threshold(self._eps, self._scale)
        if not self.exhausted and self._steps < self.max_steps:
            self._matrix[j + 1, j] = beta
            self._defects[j] += beta * self._store(j + 1, w.div_(beta))
        return True

    @property
    def projection(self) -> Projection:
        """The projected matrix after the steps made so far."""
        m = self._steps
        return Projection(
            matrix=self._matrix[:m, :m],
            beta=self._beta,
            defects=self._defects[:m],
            nonorthogonality=self._nonorthogonality,
            scale=self._scale,
            eps=self._eps,
        )

    @property
    def alphas(self) -> Tensor:
        """Diagonal of the projected matrix."""
        return self.projection.matrix.diagonal().clone()

    @property
    def betas(self) -> Tensor:
        """Norm of the remainder after each step."""
        m = self._steps
        last = torch.tensor([self._beta][:m], dtype=torch.float64, device="cpu")
        return torch.cat([self._matrix[:m, :m].diagonal(-1), last]) if m else last

    def rotate(self, coefficients: Tensor) -> tuple[Tensor, Tensor]:
        """Ritz vectors as rows, and the norm of the rounding of each.

        They overwrite the basis, so the recurrence cannot be advanced afterwards.
        """
        return self._basis.rotate(coefficients)

    def _store(self, row: int, vector: Tensor) -> float:
        """Store a vector in a row of the basis, and return the norm of the rounding; ``vector`` is overwritten."""
        stored = self._basis.row(row)
        stored.copy_(vector)
        if stored.dtype == vector.dtype:
            self._nonorthogonality += self._eps
            return 0.0
        rounding = float(self._layout.norm(vector.sub_(stored.to(vector))))
        self._nonorthogonality += 2.0 * rounding
        return rounding


class LightRecurrence:
    """Lanczos that keeps only the last two vectors; at most four exist at a time, while a product is copied."""

    def __init__(self, operator: LinearOperator, start: Tensor) -> None:
        self.operator = operator
        self.num_matvecs = 0
        self.exhausted = False
        self._eps = torch.finfo(operator.dtype).eps
        self._previous: Tensor | None = None
        self._current = start
        self._last_beta = torch.zeros((), dtype=start.dtype, device=start.device)
        self._scale = 0.0
        self._alphas: list[float] = []
        self._betas: list[float] = []

    def advance(self) -> bool:
        """Make one step. Returns ``False``, and does not count the step, if the product was not finite."""
        q = self._current
        w = product(self.operator, q)
        self.num_matvecs += 1
        layout = self.operator.layout
        norm = layout.norm(w)
        if self._previous is not None:
            w.addcmul_(self._previous, self._last_beta, value=-1.0)
        first = layout.dot(q, w)
        w.addcmul_(q, first, value=-1.0)
        second = layout.dot(q, w)  # local second pass: alpha to full precision
        w.addcmul_(q, second, value=-1.0)
        beta_here = layout.norm(w)
        alpha, norm_value, beta = torch.stack([first + second, norm, beta_here]).tolist()
        if not SMALL < norm_value < math.inf:
            beta = scaled_norm(w, layout)
            norm_value, beta_here = math.hypot(alpha, float(self._last_beta), beta), torch.full_like(beta_here, beta)
        if not math.isfinite(norm_value) or not math.isfinite(beta):
            return False
        self._scale = max(self._scale, norm_value)
        self._alphas.append(alpha)
        self._betas.append(beta)
        self.exhausted = beta <= breakdown_threshold(self._eps, self._scale)
        if not self.exhausted:
            self._previous, self._current, self._last_beta = q, w.div_(beta_here), beta_here
        return True

    @property
    def projection(self) -> Projection:
        """The tridiagonal matrix after the steps made so far."""
        m = len(self._alphas)
        off = torch.diag(self.betas[:-1], 1) if m > 1 else torch.zeros(m, m, dtype=torch.float64, device="cpu")
        rounding = (m + 10) * self._eps * self._scale
        return Projection(
            matrix=torch.diag(self.alphas) + off + off.T,
            beta=self._betas[-1] if m else 0.0,
            defects=torch.full((m,), rounding, dtype=torch.float64, device="cpu"),
            nonorthogonality=0.0,
            scale=self._scale,
            eps=self._eps,
        )

    @property
    def alphas(self) -> Tensor:
        """Diagonal of the tridiagonal matrix."""
        return torch.tensor(self._alphas, dtype=torch.float64, device="cpu")

    @property
    def betas(self) -> Tensor:
        """Norm of the remainder after each step."""
        return torch.tensor(self._betas, dtype=torch.float64, device="cpu")


def product(operator: LinearOperator, vector: Tensor) -> Tensor:
    """The operator's product in new memory, because an operator may return its argument or a buffer it reuses."""
    w = operator.matvec(vector)
    if w.shape != (operator.size,):
        raise ValueError(f"operator.matvec must return shape ({operator.size},), got {tuple(w.shape)}")
    return w.detach().to(device=operator.device, dtype=operator.dtype, copy=True)


def scaled_norm(vector: Tensor, layout: Layout = WHOLE) -> float:
    """The length of a vector whose entries may be too small or too large to be squared in its dtype."""
    largest = float(layout.largest(vector))
    if not 0.0 < largest < math.inf:
        return largest
    return largest * float(layout.norm(vector / largest))


def breakdown_threshold(eps: float, scale: float) -> float:
    """Largest norm of a remainder that is nothing but the rounding of one product; ``scale`` is the operator's norm."""
    return 16.0 * eps * scale


class _Basis:
    """The rows of the basis in two blocks: the Ritz vectors overwrite the head, and the tail can then be freed."""

    def __init__(
        self, operator: LinearOperator, num_rows: int, num_head: int, dtype: torch.dtype, device: torch.device | str
    ) -> None:
        self.size, self.layout = operator.size, operator.layout
        size = self.size
        self.head = torch.empty(num_head, size, dtype=dtype, device=device)
        self.tail = torch.empty(num_rows - num_head, size, dtype=dtype, device=device)

    def row(self, i: int) -> Tensor:
        return self.head[i] if i < len(self.head) else self.tail[i - len(self.head)]

    def blocks(self, count: int) -> list[Tensor]:
        """Views of the first ``count`` rows."""
        blocks = [self.head[:count], self.tail[: max(0, count - len(self.head))]]
        return [block for block in blocks if len(block)]

    def project_out(self, w: Tensor, count: int) -> Tensor:
        """Subtract from ``w``, in place, its components along the first ``count`` rows; returns the coefficients."""
        if self.head.dtype != w.dtype or self.head.device != w.device:
            return torch.stack([_subtract(w, self.row(i).to(w), self.layout) for i in range(count)])
        coefficients = []
        for V in self.blocks(count):  # (rows, size)
            c = self.layout.products(V, w)
            w.addmv_(V.T, c, alpha=-1.0)
            coefficients.append(c)
        return torch.cat(coefficients)

    def rotate(self, coefficients: Tensor) -> tuple[Tensor, Tensor]:
        """Write ``coefficients' @ rows`` over the head, some columns at a time, so that no second basis is needed."""
        steps, num_wanted = coefficients.shape
        if steps == 0:  # the first product was not finite: there is no pair
            return self.head[:0], torch.zeros(0, dtype=torch.float64, device="cpu")
        work = torch.promote_types(self.head.dtype, torch.float32)
        S = coefficients.to(dtype=work, device=self.head.device)
        rounding = torch.zeros(num_wanted, dtype=torch.float64, device="cpu")
        width = max(1024, self.size // 64)
        for begin in range(0, self.size, width):
            columns = slice(begin, begin + width)
            parts = [block[:, columns].to(work) for block in self.blocks(steps)]
            rows = torch.cat(parts)
            piece = S.T @ rows
            target = self.head[:num_wanted, columns]
            target.copy_(piece)
            squares = (piece - target.to(work)).square()
            for run in self.layout.runs(self.size):
                counted = slice(max(run.start - begin, 0), max(run.stop - begin, 0))
                rounding += squares[:, counted].sum(dim=1).cpu().double()
        vectors = self.head[:num_wanted]
        del self.tail
        return vectors, torch.tensor(self.layout.add_up(rounding.tolist()), dtype=torch.float64, device="cpu").sqrt()


def _subtract(w: Tensor, row: Tensor, layout: Layout) -> Tensor:
    c = layout.dot(row, w)
    w.addcmul_(row, c, value=-1.0)
    return c
