"""A spectrum only informs: weights, lrs and decisions with and without it are the same, bit for bit."""

from __future__ import annotations

import copy

import pytest
import torch

from dcao import (
    DCAO,
    JsonlRecorder,
    MemoryRecorder,
    ProbeLoader,
    policies,
    read_jsonl,
    replay,
    schedules,
)
from helpers.contract_cases import assert_same_run, dcao_run, named, seed_everything

MEASURES = ["load", "batch", "hessian", "preconditioned"]
NUM_STEPS = 15


def proposal() -> policies.Policy:
    return policies.Smoothed(policies.LearningRate(0.5))


WAYS_TO_DECIDE = {  # arguments of DCAO
    "default": {},
    "proposal, settling": {"policy": proposal(), "every": 4},
    "overhead": {"every": schedules.Overhead(0.3)},
    "one function": {"every": lambda step, cost: step in (2, 5) or cost > 30.0},
}


def run_of(measure: str, **arguments):
    """A run, and its records; k and the rest only say how spectra are made."""
    recorder = MemoryRecorder()
    settings = {"measure": measure, "k": 2, "recorder": recorder, **arguments}
    return dcao_run(named("adamw-wd"), **settings), recorder.records


def decisions(records) -> list:
    return [(r.step, r.observation, r.decision, r.before, r.after) for r in records if r.observation is not None]


def assert_decides_the_same(measure: str, spectrum_every: int, **arguments) -> None:
    seed_everything()
    without, expected = run_of(measure, **arguments)
    without.advance(NUM_STEPS)
    seed_everything()
    watched, records = run_of(measure, spectrum_every=spectrum_every, **arguments)
    watched.advance(NUM_STEPS)
    assert_same_run(watched, without)
    assert decisions(records) == decisions(expected)
    spectra = [record.step for record in records if len(record.estimate.ritz_values) == 2]
    assert spectra == list(range(0, NUM_STEPS, spectrum_every))


@pytest.mark.parametrize("how", WAYS_TO_DECIDE)
@pytest.mark.parametrize("measure", MEASURES)
def test_decisions_are_the_same_with_a_spectrum_at_every_third_step(measure, how):
    assert_decides_the_same(measure, 3, **WAYS_TO_DECIDE[how])


@pytest.mark.parametrize("spectrum_every", [1, 7])
@pytest.mark.parametrize("measure", ["load", "hessian"])
def test_decisions_are_the_same_however_often_a_spectrum_comes(measure, spectrum_every):
    assert_decides_the_same(measure, spectrum_every)


@pytest.mark.parametrize("way", ["closure", "probe+step"])
def test_decisions_are_the_same_in_every_way_in(way):
    def run(**arguments):
        seed_everything()
        recorder = MemoryRecorder()
        made = dcao_run(named("adamw-wd"), way=way, recorder=recorder, **arguments)
        return made.advance(NUM_STEPS), recorder.records

    without, expected = run()
    watched, records = run(spectrum_every=3)
    assert_same_run(watched, without)
    assert decisions(records) == decisions(expected)
    assert watched.optimizer.last_spectrum.step >= NUM_STEPS - 5


@pytest.mark.parametrize("measure", MEASURES)
def test_a_probe_by_hand_decides_the_same_with_and_without_a_spectrum(measure):
    def run(**asked):
        seed_everything()
        made, records = run_of(measure, policy=proposal(), every=5)
        for _ in range(4):
            made.optimizer.probe(made.loss, **asked)
            made.advance(2)
        return made, records

    without, expected = run()
    watched, records = run(spectrum=True)
    assert_same_run(watched, without)
    assert decisions(records) == decisions(expected)
    assert len(watched.optimizer.last_spectrum.ritz_values) == 2


@pytest.mark.parametrize("measure", MEASURES)
def test_a_resumed_run_goes_on_as_if_nobody_had_watched(measure):
    seed_everything()
    without, _ = run_of(measure)
    without.advance(NUM_STEPS)
    seed_everything()
    first, _ = run_of(measure, spectrum_every=3)
    first.advance(7)  # between a spectrum and a probe
    saved = copy.deepcopy((first.model.state_dict(), first.optimizer.state_dict()))
    second, _ = run_of(measure, spectrum_every=3)
    second.model.load_state_dict(saved[0])
    second.optimizer.load_state_dict(saved[1])
    second.num_done, second.losses = first.num_done, list(first.losses)
    second.advance(NUM_STEPS - 7)
    assert_same_run(second, without)


@pytest.mark.parametrize("shuffle", [False, True])
def test_batches_of_a_probe_loader_are_left_to_the_probes_that_decide(shuffle):
    def run(spectrum_every):
        torch.manual_seed(0)
        model = torch.nn.Linear(3, 1)
        data = torch.utils.data.DataLoader(torch.randn(20, 3), batch_size=4, shuffle=shuffle)
        loader = ProbeLoader(data, lambda batch: model(batch).square().mean(), num_batches=2)
        recorder = MemoryRecorder()
        base = torch.optim.SGD(model.parameters(), lr=1e-2)
        optimizer = DCAO(base, every=4, spectrum_every=spectrum_every, probe_batch=loader, recorder=recorder)
        for _ in range(NUM_STEPS):
            optimizer.minimize(lambda: model(torch.ones(2, 3)).square().mean())
        return decisions(recorder.records), [p.tolist() for p in model.parameters()]

    assert run(3) == run(None)


def test_a_spectrum_between_probes_is_recorded_and_asks_no_policy():
    run, records = run_of("load", every=4, spectrum_every=3)
    run.advance(7)
    assert [record.step for record in records] == [0, 3, 4, 6]
    between = records[1]
    assert between.observation is None
    assert between.before == between.after == between.decision.hyperparameters
    assert between.decision.reason == "nothing is decided: this spectrum only informs"
    assert len(between.estimate.ritz_values) == 2
    assert between.estimate.s is not None  # at the lr that trains, for whoever draws both
    assert run.optimizer.last_spectrum is run.optimizer.last_estimate is records[-1].estimate
    assert run.optimizer.last_decision == records[2].decision


def test_a_log_with_spectra_replays_to_its_own_decisions(tmp_path):
    policy = proposal()
    run = dcao_run(
        named("adamw-wd"), policy=policy, every=4, spectrum_every=3, recorder=JsonlRecorder(tmp_path / "log.jsonl")
    )
    run.advance(8)
    records = read_jsonl(tmp_path / "log.jsonl")
    wanted = [r.decision.hyperparameters for r in records if r.observation is not None]
    assert [decision.hyperparameters for decision in replay(records, policy)] == wanted


def no_memory(*args, **kwargs):
    raise RuntimeError("out of memory, say")


def test_a_spectrum_that_fails_is_a_reason_and_the_probe_beside_it_decides(monkeypatch):
    weight, recorder = torch.nn.Parameter(torch.ones(2)), MemoryRecorder()
    optimizer = DCAO(torch.optim.SGD([weight], lr=0.1), spectrum_every=1, recorder=recorder)
    with monkeypatch.context() as patched:
        patched.setattr("dcao.probing.probe.read_hessian", no_memory)
        optimizer.minimize(lambda: weight.square().sum())
    estimate = recorder.records[0].estimate
    assert estimate.s == pytest.approx(2 * 0.1, rel=1e-2)  # one-sided differences in float32
    assert "the spectrum failed: RuntimeError: out of memory, say" in estimate.reason
    assert recorder.records[0].observation.s == estimate.s
    assert optimizer.last_spectrum is None
    optimizer.minimize(lambda: weight.square().sum())  # and at the next step it is measured
    assert recorder.records[1].estimate.ritz_values


def test_what_the_callers_own_spectrum_raises_passes_through(monkeypatch):
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = DCAO(torch.optim.SGD([weight], lr=0.1), policy=policies.Fixed())
    monkeypatch.setattr("dcao.probing.probe.read_hessian", no_memory)
    with pytest.raises(RuntimeError, match=r"out of memory, say"):
        optimizer.probe(lambda: weight.square().sum(), spectrum=True)


def test_a_spectrum_that_finds_nothing_to_measure_waits_for_a_step_that_has_something():
    weight, recorder = torch.nn.Parameter(torch.ones(2)), MemoryRecorder()
    optimizer = DCAO(torch.optim.SGD([weight], lr=0.1), spectrum_every=3, recorder=recorder)
    for step in range(6):
        if step in (0, 4):
            optimizer.minimize(lambda: weight.square().sum())
        else:
            weight.grad = 2.0 * weight.detach()
            optimizer.step()
    assert [record.step for record in recorder.records if record.estimate.ritz_values] == [0, 4]


def test_a_run_that_could_never_have_a_spectrum_is_told_at_once():
    weight = torch.nn.Parameter(torch.ones(2))
    weight.grad = torch.ones(2)
    optimizer = DCAO(torch.optim.SGD([weight], lr=0.1), policy=policies.Fixed(), spectrum_every=3)
    with pytest.raises(ValueError, match=r"a probe is due at step 0 and there is nothing to probe: call .*minimize"):
        optimizer.step()


def test_a_loop_that_calls_backward_itself_is_the_same_run_with_spectra():
    def run(spectrum_every):
        weight, lrs = torch.nn.Parameter(torch.linspace(0.5, 2.0, 6)), []
        optimizer = DCAO(torch.optim.SGD([weight], lr=0.1), every=4, spectrum_every=spectrum_every)
        for _ in range(NUM_STEPS):
            optimizer.zero_grad()
            optimizer.probe_if_due(lambda: weight.pow(4).sum())
            weight.pow(4).sum().backward()
            optimizer.step()
            lrs.append(optimizer.effective_lrs)
        return lrs, weight.tolist()

    assert run(3) == run(None)


def test_no_schedule_sees_what_a_spectrum_costs():
    asked: dict[bool, list[float]] = {True: [], False: []}
    for watched, costs in asked.items():
        weight = torch.nn.Parameter(torch.ones(2))
        every = lambda step, cost, costs=costs: costs.append(cost) or step % 2 == 0  # noqa: E731
        optimizer = DCAO(
            torch.optim.SGD([weight], lr=0.1), every=every, measure="hessian", spectrum_every=1 if watched else None
        )
        for _ in range(6):
            optimizer.minimize(lambda weight=weight: weight.pow(4).sum())
    assert asked[True] == asked[False]
