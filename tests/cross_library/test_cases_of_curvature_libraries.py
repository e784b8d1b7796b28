"""The situations that other curvature libraries test, against dense float64 matrices: right, or told by the status.

Models with linear, convolutional and shared weights, with biases or without, BatchNorm in eval mode, dropout off;
losses of classification, regression and several binary labels, as means and as sums, with labels to ignore and with one
label a pixel; batches of different sizes, as tensors and as mappings; all parameters, or some of them frozen.
"""

from __future__ import annotations

import functools
import math
from collections import UserDict
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev
from torch.nn import functional as F

from dcao import hessian_spectrum, hessian_trace, spectral_density
from dcao.operators import (
    BatchedOperator,
    FiniteDifferenceOperator,
    GGNOperator,
    HessianOperator,
    LinearOperator,
    PreconditionedOperator,
    batched_hessian,
    make_hessian,
)
from dcao.spectra.density import operator_density
from dcao.spectra.lanczos import LanczosStatus
from dcao.spectra.trace import operator_trace
from helpers.reference import dense_matrix

SIZES = (5, 3, 4)
IGNORED = -100


class OnMappings(nn.Module):
    """A model as of transformers, which takes the whole batch."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, batch: UserDict) -> Tensor:
        return self.inner(batch["x"])


class Shared(nn.Module):
    """One linear layer at every position, and used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(4, 4), nn.Linear(4, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.layer(torch.tanh(self.layer(x)))))


def mlp(activation: type[nn.Module], outputs: int, **options) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 5, **options), activation(), nn.Linear(5, outputs, **options))


def conv(activation: type[nn.Module]) -> nn.Module:
    layers = nn.Conv2d(1, 2, 3), activation(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(8, 3)
    return nn.Sequential(*layers)


def normed() -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Sigmoid(), nn.Dropout(0.5), nn.Linear(5, 3))
    model[1].running_mean.normal_(), model[1].running_var.uniform_(0.5, 2.0)
    return model.eval()


def partly_frozen() -> nn.Module:
    model = mlp(nn.Tanh, 3)
    model[0].requires_grad_(False)
    model[2].bias.requires_grad_(False)
    return model


def pixels() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.Tanh(), nn.Conv2d(2, 3, 1))


def labels(num: int, generator: torch.Generator) -> Tensor:
    return torch.randint(0, 3, (num,), generator=generator)


def some_ignored(num: int, generator: torch.Generator) -> Tensor:
    found = labels(num, generator)
    found[1] = IGNORED
    return found


def pixel_labels(num: int, generator: torch.Generator) -> Tensor:
    found = torch.randint(0, 3, (num, 6, 6), generator=generator)
    found[0, :2] = IGNORED
    return found


def numbers(num: int, generator: torch.Generator) -> Tensor:
    return torch.randn(num, 2, generator=generator, dtype=torch.float64)


def several_labels(num: int, generator: torch.Generator) -> Tensor:
    return torch.randint(0, 2, (num, 2), generator=generator).double()


@dataclass(frozen=True, kw_only=True)
class Case:
    """A model, a loss of its outputs, and three batches of different sizes.

    Attributes:
        criterion: Makes the loss from ``reduction``.
        shape: Of one input.
        targets: Drawn for a number of rows.
        is_smooth: Whether it has no kinks.
    """

    name: str
    model: Callable[[], nn.Module]
    criterion: Callable[..., Callable[[Tensor, Tensor], Tensor]]
    targets: Callable[[int, torch.Generator], Tensor]
    shape: tuple[int, ...] = (4,)
    reduction: str = "mean"
    is_mapping: bool = False
    is_smooth: bool = True

    def problem(self, dtype: torch.dtype = torch.float64) -> Problem:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            model = self.model().to(dtype)
        generator = torch.Generator().manual_seed(2)
        batches = []
        for size in SIZES:
            x = torch.randn(size, *self.shape, generator=generator, dtype=torch.float64).to(dtype)
            y = self.targets(size, generator)
            batches.append((UserDict(x=x, y=y) if self.is_mapping else x, y.to(dtype) if y.is_floating_point() else y))
        return Problem(
            OnMappings(model) if self.is_mapping else model, self.criterion(reduction=self.reduction), batches
        )


@dataclass(frozen=True)
class Problem:
    """A case that is set up."""

    model: nn.Module
    criterion: Callable[[Tensor, Tensor], Tensor]
    batches: list

    @property
    def params(self) -> list[Tensor]:
        return [p for p in self.model.parameters() if p.requires_grad]

    def loss_of(self, batch) -> Callable[[], Tensor]:
        x, y = batch
        return lambda: self.criterion(self.model(x), y)

    def weight_of(self, batch) -> float:
        """Terms of the mean: rows, or labels that count; a sum is a mean over one."""
        _, y = batch
        if getattr(self.criterion, "reduction", "mean") == "sum":
            return 1.0
        return float((y != IGNORED).sum()) if not y.is_floating_point() else float(len(y))

    def loss(self) -> Tensor:
        """Over all batches together: the mean of a mean, the sum of a sum (over the number of batches)."""
        weights = [self.weight_of(batch) for batch in self.batches]
        total = sum(w * self.loss_of(batch)() for w, batch in zip(weights, self.batches, strict=True))
        return total / sum(weights)


CASES = [
    Case(name="classes", model=lambda: mlp(nn.Tanh, 3), criterion=nn.CrossEntropyLoss, targets=labels),
    Case(
        name="classes-sum",
        model=lambda: mlp(nn.Tanh, 3),
        criterion=nn.CrossEntropyLoss,
        targets=labels,
        reduction="sum",
    ),
    Case(
        name="classes-relu",
        model=lambda: mlp(nn.ReLU, 3),
        criterion=nn.CrossEntropyLoss,
        targets=labels,
        is_smooth=False,
    ),
    Case(
        name="classes-no-bias", model=lambda: mlp(nn.Tanh, 3, bias=False), criterion=nn.CrossEntropyLoss, targets=labels
    ),
    Case(name="ignored", model=lambda: mlp(nn.Sigmoid, 3), criterion=nn.CrossEntropyLoss, targets=some_ignored),
    Case(
        name="smoothed-labels",
        model=lambda: mlp(nn.Tanh, 3),
        criterion=lambda **o: nn.CrossEntropyLoss(label_smoothing=0.1, **o),
        targets=labels,
    ),
    Case(name="pixels", model=pixels, criterion=nn.CrossEntropyLoss, targets=pixel_labels, shape=(1, 6, 6)),
    Case(name="numbers", model=lambda: mlp(nn.Tanh, 2), criterion=nn.MSELoss, targets=numbers),
    Case(name="numbers-sum", model=lambda: mlp(nn.Tanh, 2), criterion=nn.MSELoss, targets=numbers, reduction="sum"),
    Case(name="numbers-relu", model=lambda: mlp(nn.ReLU, 2), criterion=nn.MSELoss, targets=numbers, is_smooth=False),
    Case(name="linear", model=lambda: nn.Linear(4, 2), criterion=nn.MSELoss, targets=numbers),
    Case(name="several-labels", model=lambda: mlp(nn.Tanh, 2), criterion=nn.BCEWithLogitsLoss, targets=several_labels),
    Case(
        name="several-labels-sum",
        model=lambda: mlp(nn.Tanh, 2),
        criterion=nn.BCEWithLogitsLoss,
        targets=several_labels,
        reduction="sum",
    ),
    Case(name="conv", model=lambda: conv(nn.Tanh), criterion=nn.CrossEntropyLoss, targets=labels, shape=(1, 6, 6)),
    Case(
        name="conv-relu",
        model=lambda: conv(nn.ReLU),
        criterion=nn.CrossEntropyLoss,
        targets=labels,
        shape=(1, 6, 6),
        is_smooth=False,
    ),
    Case(name="batchnorm-eval", model=normed, criterion=nn.CrossEntropyLoss, targets=labels),
    Case(name="frozen", model=partly_frozen, criterion=nn.CrossEntropyLoss, targets=labels),
    Case(name="shared", model=Shared, criterion=nn.CrossEntropyLoss, targets=labels),
    Case(
        name="mapping",
        model=lambda: mlp(nn.Tanh, 3),
        criterion=nn.CrossEntropyLoss,
        targets=labels,
        is_mapping=True,
    ),
]
SMOOTH = [case for case in CASES if case.is_smooth]


def over(cases):
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.name)


# --- dense twins, without any of our operators


def as_function(problem: Problem, x) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """The model's outputs on ``x`` as a function of one flat vector, and that vector."""
    names = [name for name, p in problem.model.named_parameters() if p.requires_grad]
    params = [problem.model.get_parameter(name).detach() for name in names]

    def outputs(flat: Tensor) -> Tensor:
        pieces = [piece.view(p.shape) for piece, p in zip(flat.split([p.numel() for p in params]), params, strict=True)]
        return functional_call(problem.model, dict(zip(names, pieces, strict=True)), (x,))

    return outputs, torch.cat([p.reshape(-1) for p in params])


def over_batches(problem: Problem, of_batch: Callable[..., Tensor]) -> Tensor:
    weights = [problem.weight_of(batch) for batch in problem.batches]
    parts = [of_batch(problem, *batch) for batch in problem.batches]
    return sum(w * part for w, part in zip(weights, parts, strict=True)) / sum(weights)


def hessian_by_hand(problem: Problem, x, y: Tensor) -> Tensor:
    outputs, flat = as_function(problem, x)
    return torch.autograd.functional.hessian(lambda v: problem.criterion(outputs(v), y), flat)


def ggn_by_hand(problem: Problem, x, y: Tensor) -> Tensor:
    outputs, flat = as_function(problem, x)
    J = jacrev(outputs)(flat).reshape(-1, len(flat))
    z = outputs(flat)
    H = torch.autograd.functional.hessian(lambda v: problem.criterion(v.view_as(z), y), z.reshape(-1))
    return J.T @ H @ J


@functools.cache
def dense_hessian(case: Case) -> Tensor:
    """Of all batches of the case, in float64."""
    return over_batches(case.problem(), hessian_by_hand)


@functools.cache
def dense_ggn(case: Case) -> Tensor:
    """The Gauss-Newton matrix of all batches of the case, in float64."""
    return over_batches(case.problem(), ggn_by_hand)


def close(matrix: Tensor, truth: Tensor, tolerance: float) -> None:
    assert float((matrix - truth).norm()) <= tolerance * float(truth.norm())


def ggn_operators(problem: Problem) -> LinearOperator:
    operators = [
        GGNOperator(lambda x=x: problem.model(x), lambda outputs, y=y: problem.criterion(outputs, y), problem.params)
        for x, y in problem.batches
    ]
    return BatchedOperator(operators, [problem.weight_of(batch) for batch in problem.batches])


# --- products


@over(CASES)
def test_the_hessian_of_each_batch_and_of_all_together(case):
    problem = case.problem()
    for batch in problem.batches:
        close(
            dense_matrix(HessianOperator(problem.loss_of(batch), problem.params)),
            hessian_by_hand(problem, *batch),
            1e-12,
        )
    truth = dense_hessian(case)
    close(dense_matrix(HessianOperator(problem.loss, problem.params)), truth, 1e-12)
    pairs = [(problem.loss_of(batch), problem.weight_of(batch)) for batch in problem.batches]
    close(dense_matrix(batched_hessian(pairs, problem.params)), truth, 1e-12)
    close(dense_matrix(batched_hessian(pairs, problem.params, keep_graph=False)), truth, 1e-12)


@over(CASES)
def test_the_gauss_newton_matrix_of_all_batches(case):
    problem = case.problem()
    close(dense_matrix(ggn_operators(problem)), dense_ggn(case), 1e-12)


@over(CASES)
def test_a_preconditioned_hessian(case):
    problem = case.problem()
    scale = torch.linspace(0.5, 2.0, sum(p.numel() for p in problem.params), dtype=torch.float64)
    operator = PreconditionedOperator(HessianOperator(problem.loss, problem.params), scale)
    close(dense_matrix(operator), scale[:, None] * dense_hessian(case) * scale, 1e-12)


# Rounding over the step and the derivatives that are left out: u^(2/3) = 2e-11 central and u^(1/2) = 1e-8 forward,
# times what the networks' third and fourth derivatives and their lengths are, here up to some hundred.
@over(SMOOTH)
@pytest.mark.parametrize(("kind", "tolerance"), [("central", 1e-8), ("forward", 3e-6)])
def test_finite_differences_of_a_smooth_loss(case, kind, tolerance):
    problem = case.problem()
    operator = FiniteDifferenceOperator(problem.loss, problem.params, kind=kind)
    close(dense_matrix(operator), dense_hessian(case), tolerance)


@over(CASES)
def test_single_precision(case):
    single, truth = case.problem(torch.float32), dense_hessian(case)
    found = dense_matrix(HessianOperator(single.loss, single.params)).double()
    close(found, truth, 1e-5)  # eps of float32 is 1e-7, times what cancels in a second derivative


# --- eigenvalues, and what their status says


@over(CASES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("hvp", ["exact", "central", "forward"])
@pytest.mark.parametrize("which", ["largest", "smallest"])
def test_the_ends_of_the_spectrum_are_right_or_not_claimed(case, hvp, dtype, which):
    tolerance, problem = 1e-2, case.problem(dtype)
    found = hessian_spectrum(problem.loss, problem.params, 2, hvp=hvp, which=which, tolerance=tolerance)
    eigenvalues = torch.linalg.eigvalsh(dense_hessian(case))
    expected = eigenvalues.flip(0)[:2] if which == "largest" else eigenvalues[:2]
    norm = float(eigenvalues.abs().max())
    if found.status in (LanczosStatus.CONVERGED, LanczosStatus.INVARIANT):
        nearest = (found.ritz_values[:, None] - eigenvalues).abs().min(dim=1).values
        # A residual is of the operator in its own precision; float32 moves eigenvalues by some eps * norm.
        assert (nearest <= found.residuals + 1e-5 * norm).all()
        limit = tolerance * expected.abs() + (3e-4 if dtype is torch.float32 else 1e-7) * norm
        is_right = (found.ritz_values - expected).abs() <= limit
        assert is_right[0]
        assert is_right.all() or "count as one" in found.reason  # the second is an eigenvalue, and may be the third
    else:
        assert hvp != "exact" or found.status is LanczosStatus.MAX_STEPS
    if hvp == "exact" and dtype is torch.float64:
        assert found.status in (LanczosStatus.CONVERGED, LanczosStatus.INVARIANT)


# --- trace and density


@over(CASES)
@pytest.mark.parametrize("method", ["hutchinson", "hutch++"])
def test_the_trace_lies_within_its_standard_errors(case, method):
    problem = case.problem()
    truth = float(dense_hessian(case).trace())
    found = hessian_trace(problem.loss, problem.params, num_samples=60, method=method)
    assert abs(found.trace - truth) <= 5 * found.standard_error + 1e-10 * abs(truth)
    ggn = operator_trace(ggn_operators(problem), num_samples=60, method=method)
    assert abs(ggn.trace - float(dense_ggn(case).trace())) <= 5 * ggn.standard_error + 1e-10


@over(CASES)
def test_moments_of_the_density_lie_within_what_random_starts_scatter(case):
    problem, num_samples = case.problem(), 40
    H = dense_hessian(case)
    found = spectral_density(problem.loss, problem.params, num_samples=num_samples, num_steps=12)
    for power in (1, 2, 3, 4):
        moments = H.matrix_power(power)
        n = len(H)
        # z'Az of a unit Gaussian direction has mean tr(A) / n and variance at most 2 |A|^2 / n^2.
        scatter = math.sqrt(2.0 / num_samples) * float(moments.norm()) / n
        assert abs(found.moment(power) - float(moments.trace()) / n) <= 5 * scatter
    ggn = operator_density(ggn_operators(problem), num_samples=4, num_steps=12)
    assert float(ggn.nodes.min()) >= -1e-10 * float(ggn.nodes.max())  # positive semidefinite


def test_mappings_and_tensors_are_the_same_problem():
    mapping, plain = (next(case for case in CASES if case.name == name).problem() for name in ("mapping", "classes"))
    vector = torch.linspace(-1.0, 1.0, sum(p.numel() for p in plain.params), dtype=torch.float64)
    products = [make_hessian(each.loss, each.params).matvec(vector) for each in (mapping, plain)]
    assert torch.equal(*products)


def test_a_loss_of_the_outputs_that_is_not_convex_has_a_gauss_newton_matrix_that_is_not_semidefinite():
    w = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
    ggn = GGNOperator(lambda: 2.0 * w, lambda outputs: -F.mse_loss(outputs, torch.zeros_like(outputs)), [w])
    assert torch.linalg.eigvalsh(dense_matrix(ggn)).tolist() == pytest.approx([-4.0, -4.0])  # 2' * (-2 / 2) * 2
