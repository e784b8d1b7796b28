"""docs/theory/stability-thresholds.md against torch's own optimizers on a quadratic, and against the library's s."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

pytest.importorskip("sympy", reason="dcao[theory] is not installed")

from dcao import DCAO, policies, stability_threshold
from dcao.probing.settings import ProbeSettings
from helpers.frozen_optimizer import seeded
from helpers.rule_runs import SMALL, coupled_decay, edges, frozen_at, preconditioner
from helpers.theorems import TOO_GOOD
from helpers.update_rules import UPDATE_RULES, UpdateRule, beta, lr, mu, tau, wd

SIZE = 5
POINT = {lr: 0.25, mu: 0.9, tau: 1 / 3, beta: 0.9, wd: 2.0}  # lr * wd = 1 / 2 takes a quarter of AdamW's threshold
over_rules = pytest.mark.parametrize("rule", UPDATE_RULES, ids=lambda rule: rule.name)


@over_rules
def test_the_real_optimizer_has_its_edge_within_2_percent_of_the_claimed_one(rule):
    assert is_the_edge(rule, 1.0)


@over_rules
def test_the_edge_of_the_real_optimizer_is_not_5_percent_better_or_worse_than_claimed(rule):
    assert not is_the_edge(rule, TOO_GOOD)
    assert not is_the_edge(rule, 1.0 / TOO_GOOD)


def is_the_edge(rule: UpdateRule, factor: float) -> bool:
    """Whether the optimizer contracts 2 % below the claimed edge times the factor, and grows 2 % above."""
    frozen = frozen_at(rule, POINT, SIZE)
    P = preconditioner(rule, POINT, frozen)
    edge = factor * (edges(rule, POINT)[1] + coupled_decay(rule, POINT))
    below, above = (frozen.growth(hessian_at(rule, P, share * edge), NUM_STEPS) for share in (0.98, 1.02))
    return below < 0.5 and above > 2.0


# For the roots r, r' at 0.98 of the edge (1 + r) (1 + r') = 0.02 (1 + b) (2 - d), and 1 + r' <= 1 + b there. So the
# root next to -1 is inside by 0.02 (2 - d) >= 0.03, or both are complex with modulus sqrt(D) <= 0.95; 0.97^100 is 0.05.
# At 1.02 it is outside by as much.
NUM_STEPS = 200


def hessian_at(rule: UpdateRule, P: Tensor, target: float) -> Tensor:
    """A Hessian, which does not commute with P, for which lambda_max(P^-1/2 (H + coupled decay) P^-1/2) is that."""
    basis, _ = torch.linalg.qr(torch.randn(SIZE, SIZE, generator=seeded(0), dtype=torch.float64))
    H = basis @ torch.diag(torch.linspace(0.4, 1.0, SIZE, dtype=torch.float64)) @ basis.T
    low, high = 0.0, target * P.max().item()
    for _ in range(60):
        middle = (low + high) / 2.0
        low, high = (middle, high) if top(rule, P, middle * H) < target else (low, middle)
    return high * H


def top(rule: UpdateRule, P: Tensor, H: Tensor) -> float:
    root = P.rsqrt()
    decayed = H + coupled_decay(rule, POINT) * torch.eye(SIZE, dtype=torch.float64)
    return torch.linalg.eigvalsh(root[:, None] * decayed * root)[-1].item()


# --- the library's numbers are these


@over_rules
def test_stability_threshold_is_the_claimed_edge(rule):
    frozen = frozen_at(rule, POINT, SIZE)
    is_unpreconditioned = isinstance(frozen.optimizer, torch.optim.SGD)
    expected = edges(rule, POINT)[1] + (0.0 if is_unpreconditioned else coupled_decay(rule, POINT))
    # NAdam's momentum_decay leaves 0.96^4000 of its warmup: nothing
    assert stability_threshold(frozen.optimizer) == pytest.approx(expected, rel=1e-12)


@over_rules
@pytest.mark.parametrize("measure", ["preconditioned", "load"])
@pytest.mark.parametrize("fraction", [0.5, 1.0])
def test_s_of_a_probe_is_twice_the_fraction_of_the_claimed_edge(rule, measure, fraction):
    s = probed(rule, measure, fraction)
    if measure == "load" and rule.name in ("adam-l2", "adamw"):
        # The load asks where a gradient leads in the long run, by when Adam's first-moment correction is gone; the
        # correction of this step, which is the fifth, belongs to P.
        s /= 1.0 - 0.9**5
    # An eigenvalue is tracked to a residual of 5 %, so its relative error is at most 0.05^2 over the relative gap of
    # 0.15, 1.7 %. Products along the step are exact here, and decoupled decay, which the load leaves out, is 0.
    tolerance = 0.017 if measure == "preconditioned" else 1e-9
    assert s == pytest.approx(2.0 * fraction, rel=tolerance)
    assert s != pytest.approx(TOO_GOOD * 2.0 * fraction, rel=tolerance)


def probed(rule: UpdateRule, measure: str, fraction: float) -> float:
    """s by a probe of a quadratic whose largest curvature is that fraction of the claimed edge."""
    values = {**POINT, wd: 0.0 if measure == "load" else POINT[wd]}
    frozen = frozen_at(rule, values, SIZE)
    P = preconditioner(rule, values, frozen)
    # Along the step all directions count, so all of them have that curvature; for an eigenvalue the largest has.
    shares = torch.ones_like(P) if measure == "load" else torch.linspace(0.4, 1.0, SIZE, dtype=torch.float64)
    decay = coupled_decay(rule, values)
    curvature = fraction * (edges(rule, values)[1] + decay) * shares * P - decay
    weight = frozen.parameter

    def loss() -> Tensor:
        return (curvature * weight.square()).sum() / 2.0

    settings = ProbeSettings(measure, hvp="exact")
    optimizer = DCAO(frozen.optimizer, policy=policies.Fixed(), measure=settings, every=1)
    for _ in range(2):  # the second batch agrees with the first one, so there is no noise
        frozen.restore()
        frozen.reset(torch.full_like(weight, SMALL).detach())
        optimizer.minimize(loss)
    assert optimizer.last_estimate is not None
    assert optimizer.last_estimate.s is not None
    return optimizer.last_estimate.s
