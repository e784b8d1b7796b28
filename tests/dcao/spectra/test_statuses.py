"""A status says no more than was shown: against dense float64 Hessians and matrices whose eigenvalues are known."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from dcao import DCAO, ProbeSettings, hessian_spectrum, lanczos, policies, sharpness
from dcao.operators import LinearOperator, MatrixOperator
from dcao.spectra.lanczos import LanczosStatus
from dcao.spectra.trace import operator_trace
from helpers.cases import Problem, SpectrumCase
from helpers.reference import dense_hessian

SHOWN = (LanczosStatus.CONVERGED, LanczosStatus.INVARIANT)


class Diagonal(LinearOperator):
    def __init__(self, entries, dtype=torch.float64):
        self.entries = torch.as_tensor(entries, dtype=dtype)
        self.size, self.device, self.dtype = len(self.entries), self.entries.device, dtype

    def matvec(self, vector):
        return self.entries * vector


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- finite differences


def small_network(activation, width: int, num_rows: int, seed: int) -> Problem:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(2, width), activation(), nn.Linear(width, width), activation())
        model.append(nn.Linear(width, 2))
        inputs, targets = torch.randn(num_rows, 2), torch.randint(0, 2, (num_rows,))
    return Problem(model=model, inputs=inputs, targets=targets, criterion=F.cross_entropy)


def in_float64(problem: Problem) -> Problem:
    model = nn.Sequential(*problem.model)
    copy = nn.Sequential(*(nn.Linear(m.in_features, m.out_features) if isinstance(m, nn.Linear) else m for m in model))
    copy.load_state_dict(model.state_dict())
    return Problem(
        model=copy.double(), inputs=problem.inputs.double(), targets=problem.targets, criterion=problem.criterion
    )


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh])
def test_central_differences_in_float32_claim_only_eigenvalues_of_the_dense_hessian(activation):
    tolerance, statuses = 1e-2, []
    for width, num_rows, seed in [(w, n, s) for w in (3, 6) for n in (8, 40) for s in range(5)]:
        problem = small_network(activation, width, num_rows, seed)
        found = hessian_spectrum(problem.loss, problem.params, 2, hvp="central", tolerance=tolerance)
        eigenvalues = torch.linalg.eigvalsh(dense_hessian(in_float64(problem)))
        statuses.append(found.status)
        if found.status in SHOWN:
            nearest = (found.ritz_values[:, None] - eigenvalues).abs().min(dim=1).values
            assert (nearest <= found.residuals).all()
            assert found.ritz_values[0].item() == pytest.approx(eigenvalues[-1].item(), rel=tolerance)
        else:
            assert found.status is LanczosStatus.NOISY
            assert "contradict each other" in found.reason
    if activation is nn.ReLU:
        assert LanczosStatus.NOISY in statuses  # kinks: a difference is no product with one matrix
    else:
        assert set(statuses) == {LanczosStatus.CONVERGED}


def test_sharpness_warns_where_differences_contradict_each_other():
    noisy = None
    for seed in range(20):
        problem = small_network(nn.ReLU, 3, 8, seed)
        found = hessian_spectrum(problem.loss, problem.params, 1, hvp="central", tolerance=1e-2)
        noisy = problem if found.status is LanczosStatus.NOISY else noisy
    assert noisy is not None
    with pytest.warns(UserWarning, match="sharpness is not reliable: products contradict each other"):
        sharpness(noisy.loss, noisy.params, hvp="central")


def test_an_operator_that_is_not_symmetric_is_noisy_also_where_its_krylov_space_is_exhausted():
    matrix = torch.diag(torch.arange(1.0, 7.0, dtype=torch.float64))
    matrix[0, 5] += 3.0
    for num_steps, tolerance in ((6, None), (6, 1e-3), (5, 1e-3)):
        found = lanczos(MatrixOperator(matrix), 2, num_steps=num_steps, tolerance=tolerance)
        assert found.status is LanczosStatus.NOISY


def test_a_probe_does_not_trust_what_is_noisy():
    problem = small_network(nn.ReLU, 3, 8, 2)
    base = torch.optim.SGD(problem.params, lr=0.1)
    optimizer = DCAO(base, policy=policies.Fixed(), measure=ProbeSettings("hessian", hvp="central", k=3))
    estimate = optimizer.probe(problem.loss, spectrum=True)
    if estimate.status is LanczosStatus.NOISY:
        assert "contradict each other" in estimate.reason
    trusted = [estimate.trust] if estimate.trust > 0.9 else []
    true = torch.linalg.eigvalsh(dense_hessian(in_float64(problem)))[-1].item()
    assert all(estimate.sharpness == pytest.approx(true, rel=0.1) for _ in trusted)


# --- close and equal eigenvalues

BULK = torch.logspace(-0.7, -6, 800).tolist()
CLOSE = {
    "9 % apart": [1.0, 0.91, *BULK],
    "5 % apart": [1.0, 0.95, *BULK],
    "an empty bulk": [1.0, 0.92, *[1e-3] * 200, *[0.0] * 2000],
    "both signs": [1.0, 0.91, -0.9, -0.8, *torch.linspace(-0.3, 0.5, 500).tolist()],
}


@pytest.mark.parametrize("name", CLOSE)
def test_the_largest_of_two_close_eigenvalues_is_found_from_every_start(name):
    operator = Diagonal(CLOSE[name])
    for seed in range(100):
        found = lanczos(operator, 1, num_steps=40, tolerance=1e-2, generator=seeded(seed))
        assert found.status in SHOWN
        assert found.ritz_values[0].item() == pytest.approx(1.0, rel=1e-2)


EQUAL = [
    SpectrumCase(name="identity", eigenvalues=(2.0,) * 9),
    SpectrumCase(name="two values", eigenvalues=(3.0,) * 4 + (1.0,) * 10),
    SpectrumCase(name="two values far apart", eigenvalues=(3.0,) * 2 + (-5.0,) * 10),
    SpectrumCase(name="low rank", eigenvalues=(1.0, 1.0, *[0.0] * 20)),
    SpectrumCase(name="negative", eigenvalues=(-1.0,) * 3 + (-2.0,) * 5),
    SpectrumCase(name="zero", eigenvalues=(0.0,) * 6),
    SpectrumCase(name="one parameter", eigenvalues=(4.0,)),
]


@pytest.mark.parametrize("case", EQUAL, ids=lambda case: case.name)
@pytest.mark.parametrize("which", ["largest", "smallest", "both"])
@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_equal_eigenvalues_are_listed_as_often_as_they_are_there(case, which, k, dtype):
    k = min(k, len(case.eigenvalues))
    found = lanczos(MatrixOperator(case.matrix(dtype=dtype)), k, which=which, num_steps=30)
    ordered = torch.tensor(sorted(case.eigenvalues, reverse=True), dtype=torch.float64)
    ends = {"largest": ordered[:k], "smallest": ordered.flip(0)[:k], "both": torch.cat([ordered[:k], ordered[-k:]])}
    expected = ordered if which == "both" and 2 * k >= len(ordered) else ends[which]
    assert found.status is LanczosStatus.INVARIANT
    scale = max(1e-30, float(ordered.abs().max()))
    # Rounding of some ten products, each of them about eps times the norm.
    torch.testing.assert_close(found.ritz_values, expected, rtol=0.0, atol=100 * torch.finfo(dtype).eps * scale)


@pytest.mark.parametrize("tolerance", [None, 1e-2])
def test_the_reason_says_where_equal_eigenvalues_count_as_one(tolerance):
    start = torch.zeros(6, dtype=torch.float64)
    start[0] = 1.0
    found = lanczos(Diagonal([2.0, 2.0, 1.0, 1.0, 0.5, 0.0]), 2, start=start, tolerance=tolerance)
    assert (found.ritz_values.tolist(), found.num_starts) == ([2.0], 1)  # one vector's space, and nothing beyond
    assert found.status is LanczosStatus.INVARIANT
    assert "equal eigenvalues count as one" in found.reason
    fresh = lanczos(Diagonal([2.0] * 6), 2)
    assert "3 start vectors" in fresh.reason


@pytest.mark.parametrize("scale", [1e-30, 1e30])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_statuses_do_not_depend_on_the_unit(scale, dtype):
    entries = torch.tensor([5.0, 5.0, 3.0, 1.0, -2.0], dtype=torch.float64)
    found = lanczos(Diagonal(scale * entries, dtype), 3)
    assert found.status is LanczosStatus.INVARIANT
    expected = scale * entries[:3]
    torch.testing.assert_close(found.ritz_values, expected, rtol=100 * torch.finfo(dtype).eps, atol=0.0)
    trace = operator_trace(Diagonal(scale * entries, dtype), num_samples=4)
    assert trace.trace == pytest.approx(scale * float(entries.sum()), rel=100 * torch.finfo(dtype).eps)


# --- from probe to probe


def test_an_eigenvalue_that_has_overtaken_the_followed_one_is_found_within_ten_probes():
    curvature = torch.cat([torch.tensor([1.0, 0.1]), torch.logspace(-1.0, -5.0, 500)]).double()
    weight = nn.Parameter(torch.ones(len(curvature), dtype=torch.float64))
    optimizer = DCAO(torch.optim.SGD([weight], lr=0.1), policy=policies.Fixed(), measure="hessian")

    def probe() -> float:
        return optimizer.probe(lambda: 0.5 * (curvature * weight.square()).sum()).sharpness

    for _ in range(4):
        assert probe() == pytest.approx(1.0, rel=1e-2)
    curvature[1] = 1.3
    followed = [probe() for _ in range(10)]
    assert followed[-1] == pytest.approx(1.3, rel=1e-2)
