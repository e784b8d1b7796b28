"""The proposal's algorithm against a slow twin written from its text, and where it fails as documented."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn, optim

from dcao import MemoryRecorder, literal
from helpers.cases import NETWORKS, NetworkCase, Problem
from helpers.reference import LiteralSettings, dense_hessian, literal_by_hand


def tiny() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 2))


TINY = NetworkCase(name="tiny", model=tiny, inputs=lambda g: torch.randn(6, 2, generator=g), num_classes=2)


def starts_of(size: int, count: int) -> list[Tensor]:
    """Any; the first is the one that seed 0 draws."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(size, generator=generator, dtype=torch.float64) for _ in range(count)]


def literal_run(problem: Problem, settings: LiteralSettings, base: optim.Optimizer, num_steps: int):
    recorder = MemoryRecorder()
    optimizer = literal(base, every=settings.T, k=settings.k, recorder=recorder)
    for _ in range(num_steps):
        optimizer.minimize(problem.loss)
    return recorder


def rows(recorder: MemoryRecorder) -> list[tuple[float, float | None, float | None]]:
    return [(record.after.lr, record.after.momentum, record.after.weight_decay) for record in recorder.records]


def sharpness(problem: Problem) -> float:
    return float(torch.linalg.eigvalsh(dense_hessian(problem))[-1])


START = [0.5, 1.6, 8.0]  # s at the first probe: under the target, inside the clip, far above


@pytest.mark.parametrize("s", START)
@pytest.mark.parametrize("weight_decay", [0.0, 0.02])
def test_without_momentum_three_probes_are_the_twins(s, weight_decay):
    problem, twin = TINY.problem(), TINY.problem()
    # k is the size: Lanczos is exact from any start, so every probe compares to rounding
    settings, lr = LiteralSettings(T=4, k=problem.size), s / sharpness(problem)
    recorder = literal_run(problem, settings, optim.SGD(problem.params, lr=lr, weight_decay=weight_decay), 9)
    expected = literal_by_hand(
        twin,
        settings,
        lr=lr,
        momentum=0.0,
        weight_decay=weight_decay,
        num_steps=9,
        starts=starts_of(twin.size, 3),
    )
    assert [record.step for record in recorder.records] == [0, 4, 8]
    for row, by_hand in zip(rows(recorder), expected, strict=True):
        assert row == pytest.approx(by_hand, rel=1e-6)


def with_momentum(s: float):
    problem, twin = TINY.problem(), TINY.problem()
    settings, lr = LiteralSettings(T=4, k=problem.size), s / sharpness(problem)
    base = optim.SGD(problem.params, lr=lr, momentum=0.9, weight_decay=0.02)
    recorder = literal_run(problem, settings, base, 9)
    expected = literal_by_hand(
        twin,
        settings,
        lr=lr,
        momentum=0.9,
        weight_decay=0.02,
        num_steps=9,
        starts=starts_of(twin.size, 3),
    )
    return rows(recorder), expected


@pytest.mark.parametrize("s", START)
def test_with_momentum_three_probes_are_the_twins(s):
    measured, expected = with_momentum(s)
    for row, twin in zip(measured, expected, strict=True):
        assert row == pytest.approx(twin, rel=1e-6)


def test_the_first_probe_is_k_textbook_lanczos_steps_from_the_same_start():
    problem, twin = NETWORKS["mlp"].problem(), NETWORKS["mlp"].problem()
    truth = sharpness(problem)
    settings, lr = LiteralSettings(T=4, k=5), 1.6 / truth
    recorder = literal_run(problem, settings, optim.SGD(problem.params, lr=lr), 1)
    (expected,) = literal_by_hand(
        twin, settings, lr=lr, momentum=0.0, weight_decay=0.0, num_steps=1, starts=starts_of(twin.size, 1)
    )
    assert recorder.records[0].estimate.num_matvecs == 5
    assert recorder.records[0].after.lr == pytest.approx(expected[0], rel=1e-9)
    # five steps are too few for the eigenvalue itself, so the agreement is with Lanczos and not with the truth
    assert recorder.records[0].estimate.sharpness < 0.999 * truth


def test_on_adamw_the_literal_rule_raises_the_lr_at_every_probe_when_the_loss_is_scaled_down():
    """Design 4: AdamW does not see the scale of the loss, lr * lambda_max is proportional to it."""
    problem, recorder = NETWORKS["mlp"].problem(), MemoryRecorder()
    base = optim.AdamW(problem.params, lr=1e-3)
    optimizer = literal(base, every=2, k=5, recorder=recorder)
    for _ in range(60):
        optimizer.minimize(lambda: 1e-3 * problem.loss())
    lrs = [record.after.lr for record in recorder.records]
    assert lrs == pytest.approx([1e-3 * 1.1 ** (1 + probe) for probe in range(30)], rel=1e-9)
    # and the other two rules drift with it
    assert recorder.records[-1].after.momentum == 0.999
    assert recorder.records[-1].after.weight_decay < 0.2 * base.defaults["weight_decay"]
