"""What the thresholds do not say: hyperparameters that change, and a preconditioner that follows the gradient."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

sp = pytest.importorskip("sympy", reason="dcao[theory] is not installed")

from dcao import stability_threshold  # noqa: E402
from helpers.theorems import TOO_GOOD  # noqa: E402

MU = 0.9


def step_of_heavy_ball(lr: float) -> Tensor:
    """One step of torch's SGD with momentum at curvature 1, as a matrix on (weight, buffer)."""
    weight = torch.nn.Parameter(torch.tensor([1.0, 0.0], dtype=torch.float64))
    optimizer = torch.optim.SGD([weight], lr=lr, momentum=MU)
    buffer = torch.tensor([0.0, 1.0], dtype=torch.float64)
    optimizer.state[weight]["momentum_buffer"] = buffer
    weight.grad = weight.detach().clone()
    optimizer.step()
    return torch.stack([weight.detach(), optimizer.state[weight]["momentum_buffer"]])


def growth_of_switching(low: float, high: float, dwell: int) -> float:
    """Growth a period when lr is these fractions of the threshold in turn, each for as many steps."""
    edge = 2.0 * (1.0 + MU)
    slow, fast = (torch.linalg.matrix_power(step_of_heavy_ball(share * edge), dwell) for share in (low, high))
    return torch.linalg.eigvals(fast @ slow).abs().max().item()


def test_two_settings_each_stable_can_be_unstable_in_turn():
    assert growth_of_switching(0.4, 0.4, 1) < 1.0
    assert growth_of_switching(0.6, 0.6, 1) < 1.0
    assert growth_of_switching(0.4, 0.6, 1) == pytest.approx(1.34, abs=0.005)
    assert growth_of_switching(0.4, 0.6, 30) < 1.0


# --- the theorem: any sequence of lr at which h = step_size * lambda stays below 2 (1 - b) / (1 + b)


def gain_squared_deficit(b, r, y):
    """``|z^2 - T z + D|^2 - r^2 |u z|^2`` at h = r on the unit circle, at ``y = 1 - cos(theta)``, without lookahead."""
    u = 1 - b
    trace, determinant = 1 + b - r * u, b
    real = (1 + determinant) * (1 - y) - trace
    return real**2 + (1 - determinant) ** 2 * (1 - (1 - y) ** 2) - r**2 * u**2


def test_the_gain_is_below_1_up_to_that_bound_and_not_5_percent_beyond():
    b, r, y = sp.symbols("b r y", positive=True)
    deficit = gain_squared_deficit(b, r, y)
    claimed = y * (4 * b * y + 2 * (1 - b) ** 2 - 2 * r * (1 - b**2))
    assert sp.expand(deficit - claimed) == 0
    bound = (1 - b) / (1 + b)
    assert sp.simplify((claimed / y).subs(y, 0).subs(r, bound)) == 0
    beyond = (claimed / y).subs(r, sp.Rational(str(TOO_GOOD)) * bound).subs({y: sp.Rational(1, 10**6), b: MU})
    assert beyond < 0


def test_below_that_bound_the_worst_of_many_sequences_shrinks():
    # step_size * lambda = lr / (1 - mu) here. The greedy adversary picks, at each step, the lr that leaves the larger
    # norm; it is one sequence of many, and the theorem is about all.
    bound = 2.0 * (1.0 - MU) / (1.0 + MU) * (1.0 - MU)
    low, high = step_of_heavy_ball(0.2 * bound), step_of_heavy_ball(0.999 * bound)
    state = torch.tensor([1.0, 0.0], dtype=torch.float64)
    norms = []
    for _ in range(3000):
        state = max((low @ state, high @ state), key=lambda each: each.norm().item())
        norms.append(state.norm().item())
    assert norms[-1] < 1e-6 * max(norms)


# --- Adam whose P is not frozen


@pytest.mark.parametrize("curvature", [1.0, 100.0])
@pytest.mark.parametrize(("beta1", "size"), [(0.9, 0.25), (0.5, 3.6)])
def test_adam_far_above_its_threshold_cycles_at_a_size_in_units_of_lr_and_does_not_blow_up(curvature, beta1, size):
    lr = 10.0
    weight = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))
    optimizer = torch.optim.AdamW([weight], lr=lr, betas=(beta1, 0.999), weight_decay=0.0)
    assert stability_threshold(optimizer) * lr == pytest.approx(2.0 * (1.0 + beta1) / (1.0 - beta1))
    sizes = []
    for _ in range(24000):
        weight.grad = curvature * weight.detach()
        optimizer.step()
        sizes.append(abs(weight.item()))
    assert max(sizes[-8000:]) == pytest.approx(size * lr, rel=0.15)  # bursts differ by a few per cent
