"""What users ran into: alarms, budgets beside spectra, and words for common mistakes."""

import warnings

import pytest
import torch

from dcao import DCAO, CurvatureEstimate, MemoryRecorder, policies, schedules
from dcao.policies.proposal import ALARM


def one_weight(value: float = 1.0) -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.tensor([value], dtype=torch.float64))


def with_estimates(optimizer: DCAO, numbers: dict[int, float]) -> None:
    """Let each probe report this s, by step (1.0 elsewhere)."""

    def measure(batches, *, step, spectrum):
        s = numbers.get(step, 1.0)
        return CurvatureEstimate(step=step, measure="load", s=s, stability={"load": s}, trust=1.0, cost=1.0, loss=0.0)

    optimizer.loop.probe.measure = measure


def probed_steps(recorder: MemoryRecorder) -> list[int]:
    return [record.step for record in recorder.records]


def test_an_s_far_over_the_edge_is_checked_at_the_next_step_and_a_blow_up_is_cut_at_every_step():
    weight, recorder = one_weight(), MemoryRecorder()
    rule = policies.Smoothed(policies.LearningRate(1.0))
    optimizer = DCAO(torch.optim.SGD([weight], lr=1e-3), every=10, recorder=recorder, policy=rule)
    blow_up = {220: 2 * ALARM, 221: 2 * ALARM, 222: 2 * ALARM, 240: 2 * ALARM}  # long after the beginning
    with_estimates(optimizer, blow_up)
    for _ in range(245):
        optimizer.minimize(lambda: weight.square().sum())
    assert [step for step in probed_steps(recorder) if step >= 210] == [210, 220, 221, 222, 223, 230, 240, 241]
    lrs = {record.step: record.after.lr for record in recorder.records}
    assert lrs[222] < lrs[221] < lrs[220] == lrs[210]  # the median needs two of three; then every step cuts
    assert lrs[241] == lrs[230]  # a single outlier cuts nothing


def test_spectra_are_not_paid_from_the_budget():
    def steps_of_decisions(spectrum_every):
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
        x, recorder = torch.randn(32, 4), MemoryRecorder()
        optimizer = DCAO(
            torch.optim.AdamW(model.parameters(), lr=1e-3),
            every=schedules.Overhead(0.1),
            spectrum_every=spectrum_every,
            recorder=recorder,
        )
        for _ in range(120):
            optimizer.minimize(lambda: model(x).square().mean())
        return [record.step for record in recorder.records if record.observation is not None]

    assert steps_of_decisions(50) == steps_of_decisions(None)


def test_a_probe_by_hand_before_the_first_step_searches_as_minimize_does():
    weight = one_weight()
    optimizer = DCAO(torch.optim.SGD([weight], lr=100.0), policy=policies.LearningRate(1.5))
    optimizer.probe(lambda: weight.square().sum())  # curvature 2: s = 2 lr
    assert 2.0 * optimizer.param_groups[0]["lr"] == pytest.approx(1.5, rel=1e-6)


def test_a_loss_fn_that_calls_backward_is_told_not_to():
    weight = one_weight()

    def loss_fn():
        loss = weight.exp().sum()
        loss.backward()
        return loss

    optimizer = DCAO(torch.optim.SGD([weight], lr=0.1))
    with pytest.raises(ValueError, match=r"loss_fn must not call backward\(\), which minimize does itself"):
        optimizer.minimize(loss_fn)


def test_minimize_on_lbfgs_names_the_way_that_works():
    weight = one_weight()
    optimizer = DCAO(torch.optim.LBFGS([weight]))
    with pytest.raises(TypeError, match=r"use step\(closure\), not minimize\(loss_fn\)"):
        optimizer.minimize(lambda: weight.square().sum())


def test_an_optimizer_without_a_threshold_can_be_watched_by_its_hessian():
    weight, bare = one_weight(), one_weight()
    optimizer = DCAO(torch.optim.Rprop([weight], lr=0.1), policy=policies.Fixed(), measure="hessian", every=2)
    plain = torch.optim.Rprop([bare], lr=0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(5):
            optimizer.minimize(lambda: 3.0 * weight.square().sum())
            plain.zero_grad()
            (3.0 * bare.square().sum()).backward()
            plain.step()
    assert optimizer.last_estimate.sharpness == pytest.approx(6.0)
    assert torch.equal(weight, bare)
