"""What a picture shows is what the records have: read off the artists of the figure."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn, optim
from torch.nn import functional as F

import dcao
from dcao import DCAO, MemoryRecorder, ProbeSettings, StepRecord, policies
from dcao.plotting.thinning import MOST_POINTS
from helpers.records import ESTIMATE, RECORD

NUM_STEPS = 40


class Problem:
    """A small network on fixed batches."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
        with torch.no_grad():
            for param in self.net.parameters():
                param.copy_(0.5 * torch.randn(param.shape, generator=generator))
        self.x = torch.randn(64, 6, generator=generator)

    def loss(self) -> Tensor:
        return F.cross_entropy(self.net(self.x), self.x[:, :3].argmax(1))


def records_of(make_base, **options) -> list[StepRecord]:
    problem, recorder = Problem(), MemoryRecorder()
    optimizer = DCAO(make_base(problem.net.parameters()), recorder=recorder, **options)
    for _ in range(NUM_STEPS):
        optimizer.minimize(problem.loss)
    return recorder.records


def adamw(params):
    return optim.AdamW(params, lr=1e-3)


def sgd(params):
    return optim.SGD(params, lr=0.1)


@pytest.fixture(scope="module")
def default_run() -> list[StepRecord]:
    return records_of(adamw, spectrum_every=8, total_steps=NUM_STEPS)


def lines(figure, panel) -> dict[str, tuple[list[float], list[float]]]:
    (axes,) = [axes for axes in figure.axes if axes.get_label() == panel]
    return {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines}


def main_line(figure, panel) -> tuple[list[float], list[float]]:
    (axes,) = [axes for axes in figure.axes if axes.get_label() == panel]
    return list(axes.lines[0].get_xdata()), list(axes.lines[0].get_ydata())


def record(step: int, **changes) -> StepRecord:
    return replace(RECORD, step=step, **{"loss": 1.0, **changes})


def probed(step: int, **measured) -> StepRecord:
    estimate = replace(ESTIMATE, step=step, stability={}, sharpness=None, ritz_values=(), **measured)
    return record(step, estimate=estimate)


READ = {
    "loss": lambda record: record.loss,
    "lr": lambda record: record.after.lr,
    "relative_step": lambda record: record.estimate.relative_step,
    "s": lambda record: record.estimate.s,
}


@pytest.mark.parametrize("panel", READ)
def test_a_line_has_the_number_of_every_record(default_run, panel):
    steps, values = main_line(dcao.plot(default_run), panel)
    expected = [(r.step, READ[panel](r)) for r in default_run if READ[panel](r) is not None]
    assert list(zip(steps, values, strict=True)) == expected


def test_every_rank_of_the_ritz_values_has_a_line(default_run):
    figure = dcao.plot(default_run)
    (axes,) = [axes for axes in figure.axes if axes.get_label() == "ritz_values"]
    spectra = [r.estimate for r in default_run if r.estimate.ritz_values]
    assert len(spectra) == NUM_STEPS // 8
    assert len(axes.lines) == len(spectra[0].ritz_values) == 5
    for rank, line in enumerate(axes.lines):
        assert list(line.get_xdata()) == [estimate.step for estimate in spectra]
        assert list(line.get_ydata()) == [estimate.ritz_values[rank] for estimate in spectra]


def test_the_edge_of_s_is_at_2_and_is_named(default_run):
    figure = dcao.plot(default_run)
    _, values = lines(figure, "s")["edge 2"]
    assert set(values) == {2.0}
    assert "edge 2" in texts(figure, "s")


def texts(figure, panel) -> list[str]:
    (axes,) = [axes for axes in figure.axes if axes.get_label() == panel]
    return [text.get_text() for text in axes.texts]


# docs/learning-rate.md: "With momentum 0.9 the limit on l is 0.1, with 0.5 it is 0.063, without 0.048."
@pytest.mark.parametrize(("momentum", "limit"), [(0.9, 0.1), (0.5, 0.063), (0.0, 0.048)])
def test_the_limit_of_the_relative_step_is_that_of_the_default_policy(momentum, limit):
    records = records_of(lambda params: optim.SGD(params, lr=1e-3, momentum=momentum))
    found = lines(dcao.plot(records), "relative_step")
    (name,) = [name for name in found if name.startswith("default limit")]
    steps, values = found[name]
    assert steps == [record.step for record in records]
    assert values == pytest.approx([limit] * len(steps), rel=0.01)  # the page has two digits


def test_a_policy_that_is_given_has_its_own_limit():
    policy = policies.Ceiling(max_relative_step=0.02)
    records = records_of(adamw, policy=policies.Compose(policy))
    assert set(lines(dcao.plot(records, policy=policies.Compose(policy)), "relative_step")) == {"_", "limit 0.02"}


def test_where_no_ceiling_has_decided_there_is_no_limit():
    records = records_of(adamw, policy=policies.Fixed(), every=5)
    assert len(lines(dcao.plot(records), "relative_step")) == 1


def test_the_edge_of_the_hessian_is_2_over_lr_where_it_is_the_measure():
    records = records_of(sgd, policy=policies.Fixed(), measure="hessian", every=4)
    found = lines(dcao.plot(records), "ritz_values")
    assert found["largest"][1] == [record.estimate.sharpness for record in records]
    assert found["edge 20"][1] == pytest.approx([2.0 / 0.1] * len(records), rel=1e-12)


def test_the_smallest_ritz_value_is_drawn_where_it_was_measured():
    settings = ProbeSettings("hessian", smallest=True)
    records = records_of(sgd, policy=policies.Fixed(), measure=settings, every=4)
    assert lines(dcao.plot(records), "ritz_values")["smallest"][1] == [r.estimate.smallest for r in records]


def test_the_edge_of_the_preconditioned_hessian_is_the_optimizers_threshold():
    problem, recorder, thresholds = Problem(), MemoryRecorder(), []
    base = optim.AdamW(problem.net.parameters(), lr=1e-3, weight_decay=0.0)
    optimizer = DCAO(base, policy=policies.Fixed(), measure="preconditioned", every=1, recorder=recorder)
    for _ in range(6):
        thresholds.append(dcao.stability_threshold(base))
        optimizer.minimize(problem.loss)
    found = lines(dcao.plot(recorder.records), "preconditioned")
    (edge,) = [name for name in found if name.startswith("edge")]
    assert found[edge][1] == pytest.approx(thresholds, rel=1e-9)


def test_what_was_not_measured_or_is_not_finite_is_a_gap():
    missing = {2: None, 4: math.nan, 6: math.inf, 8: -math.inf}
    records = [probed(step, s=missing.get(step, 1.0)) for step in range(10)]
    records = [replace(r, loss=missing.get(r.step, 1.0)) for r in records]
    figure = dcao.plot(records)
    for panel in ("s", "loss"):
        steps, values = main_line(figure, panel)
        assert steps == list(range(10))
        assert [step for step, value in zip(steps, values, strict=True) if math.isnan(value)] == list(missing)
    triangles = {line.get_marker(): list(line.get_xdata()) for line in figure.axes[-1].lines}
    assert (triangles["^"], triangles["v"]) == ([6], [8])
    assert "triangles" in figure.axes[-1].get_xlabel()


def test_a_value_between_two_gaps_is_a_dot():
    records = [record(step, loss=None if step % 2 else 1.0 + step) for step in range(200)]
    line = dcao.plot(records, panels=["loss"]).axes[0].lines[0]
    assert (line.get_marker(), line.get_markevery()) == (".", list(range(0, 200, 2)))


def test_records_of_the_guard_have_no_s_and_leave_no_gap_there():
    records = [probed(0, s=1.0), record(1, estimate=None, observation=None), probed(2, s=1.5)]
    assert main_line(dcao.plot(records), "s") == ([0, 2], [1.0, 1.5])


def test_a_blow_up_does_not_stretch_the_axis():
    figure = dcao.plot([record(step, loss=1e300 if step == 20 else 1.0 + step) for step in range(40)])
    low, high = figure.axes[0].get_ylim()
    assert 0.5 < low < 1.0
    assert 40.0 < high < 1e5


def test_a_run_that_was_resumed_from_an_earlier_step_is_not_joined_across():
    records = [record(step, loss=float(step + 1)) for step in (0, 5, 10, 5, 10)]
    steps, values = main_line(dcao.plot(records), "loss")
    assert steps == [0, 5, 10, 5, 5, 10]
    assert np.isnan(values).tolist() == [False, False, False, True, False, False]


def test_a_long_run_is_thinned_and_keeps_its_extremes_and_its_gaps():
    rises = {12_345: 50.0, 67_890: 1e-3, 50_000: math.nan}
    records = [record(step, loss=rises.get(step, 1.0 + 0.1 * math.sin(step))) for step in range(100_000)]
    steps, values = main_line(dcao.plot(records, panels=["loss"]), "loss")
    assert len(steps) <= MOST_POINTS + 2
    assert (steps[0], steps[-1]) == (0, 99_999)
    drawn = dict(zip(steps, values, strict=True))
    assert (drawn[12_345], drawn[67_890]) == (50.0, 1e-3)
    assert math.isnan(drawn[50_000])


def test_a_constant_lr_has_its_own_tick():
    axes = next(a for a in dcao.plot([record(step) for step in range(3)]).axes if a.get_label() == "lr")
    assert axes.get_yticks().tolist() == [RECORD.after.lr]


def test_the_density_of_every_step_is_a_column():
    problem = Problem()
    densities = {}
    for step in (0, 10, 30):
        densities[step] = dcao.spectral_density(problem.loss, problem.net.parameters(), num_steps=10, num_samples=2)
        with torch.no_grad():
            for param in problem.net.parameters():
                param.mul_(0.5)
    figure = dcao.plot([], densities=densities)
    (axes,) = figure.axes
    (mesh,) = axes.collections
    corners = mesh.get_coordinates()
    assert corners[0, :, 0].tolist() == [-5.0, 5.0, 20.0, 40.0]
    middles = torch.tensor((corners[:-1, 0, 1] + corners[1:, 0, 1]) / 2)
    spacing = float(middles[1] - middles[0])
    for column, density in enumerate(densities.values()):
        sigma = max(float(density.nodes.max() - density.nodes.min()) / 100, spacing)
        drawn = torch.tensor(np.asarray(mesh.get_array())[:, column])
        torch.testing.assert_close(drawn, density.density(middles, sigma), rtol=1e-6, atol=1e-12)


def test_a_density_that_was_not_finite_is_an_empty_column():
    weights = torch.ones(4, requires_grad=True)
    good = dcao.spectral_density(lambda: weights.square().sum(), [weights], num_steps=3)
    bad = dcao.spectral_density(lambda: weights.square().sum() * math.nan, [weights], num_steps=3)
    (axes,) = dcao.plot([], densities={0: good, 5: bad}).axes
    drawn = np.ma.filled(axes.collections[0].get_array(), np.nan)
    assert np.isfinite(drawn[:, 0]).all()
    assert np.isnan(drawn[:, 1]).all()
