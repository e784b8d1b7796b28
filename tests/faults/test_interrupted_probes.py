"""A probe that is interrupted, by Ctrl-C or SIGTERM, leaves the weights where they were, and the run can go on."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest
import torch

from dcao import DCAO, policies
from dcao.operators import moving
from helpers import TESTS
from helpers.contract_cases import MEASURES, assert_same, dcao_run, named, options, seed_everything, snapshot, watching
from helpers.counting import Count
from helpers.fault_runs import PROBED, Job


def interrupted_at(run, error: BaseException, evaluation: int):
    """The loss of a run, which raises at one of its evaluations."""
    count = Count()

    def loss_fn():
        loss = run.loss()
        if count.add() == evaluation:
            raise error
        return loss

    return loss_fn


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1)], ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("hvp", ["central", "forward"])
@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("evaluation", [1, 2, 3])
def test_an_interrupt_inside_the_probed_loss_passes_and_leaves_no_trace(evaluation, measure, hvp, error):
    seed_everything()
    run = dcao_run(named("adamw-wd"), **watching(measure=measure, hvp=hvp)).advance(2)
    run.backward()
    held = [p.grad for p in run.model.parameters()]  # alive, so that an id is not given away again
    before = snapshot(run)
    with pytest.raises(type(error)):
        run.optimizer.probe(interrupted_at(run, error, evaluation), spectrum=True)
    assert_same(snapshot(run), before)
    assert all(p.grad is grad for p, grad in zip(run.model.parameters(), held, strict=True))


def interrupt():
    raise KeyboardInterrupt


def test_a_step_that_is_interrupted_in_its_probe_can_be_taken_again():
    whole, stopped = Job(), Job()
    whole.run()
    stopped.interrupt = interrupt
    with pytest.raises(KeyboardInterrupt):
        stopped.run()
    assert stopped.step == stopped.optimizer.num_steps == PROBED
    stopped.interrupt = lambda: None
    stopped.run()
    assert stopped.losses == whole.losses
    assert stopped.optimizer.effective_lrs == whole.optimizer.effective_lrs
    assert all(torch.equal(one, other) for one, other in zip(stopped.weights(), whole.weights(), strict=True))


@pytest.mark.parametrize("interrupted_copy", [1, 2, 3])
def test_an_interrupt_while_the_weights_are_put_back_puts_back_all_of_them(monkeypatch, interrupted_copy):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
    x = torch.randn(8, 3)
    optimizer = DCAO(
        torch.optim.SGD(model.parameters(), lr=0.1), policy=policies.Fixed(), **options(measure="batch", hvp="forward")
    )
    before, count, put_back = [p.detach().clone() for p in model.parameters()], Count(), moving.put_back

    def interrupted(pairs):
        pairs = list(pairs)
        if count.add() == 1:
            put_back(pairs[:interrupted_copy])
            raise KeyboardInterrupt
        put_back(pairs)

    monkeypatch.setattr(moving, "put_back", interrupted)
    with pytest.raises(KeyboardInterrupt):
        optimizer.probe(lambda: model(x).square().mean())
    assert int(count) == 2
    assert all(torch.equal(p, value) for p, value in zip(model.parameters(), before, strict=True))


@pytest.mark.parametrize("handling", ["killed", "saves"])
def test_a_process_that_gets_sigterm_in_a_probe_resumes_bit_for_bit(handling, tmp_path):
    """By default SIGTERM kills; a handler that raises SystemExit gives the program time to save what it has."""
    command = [sys.executable, "-m", "helpers.fault_runs", str(tmp_path), handling]
    done = subprocess.run(command, cwd=TESTS, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == (3 if handling == "saves" else -signal.SIGTERM), done.stderr
    whole, resumed = Job(), Job(tmp_path)
    resumed.load()
    assert resumed.step == (PROBED if handling == "saves" else PROBED - PROBED % 4)
    while whole.step < resumed.step:
        whole.advance()
    assert all(torch.equal(one, other) for one, other in zip(resumed.weights(), whole.weights(), strict=True))
    resumed.run()
    whole.run()
    assert resumed.losses == whole.losses
    assert resumed.optimizer.effective_lrs == whole.optimizer.effective_lrs
    assert all(torch.equal(one, other) for one, other in zip(resumed.weights(), whole.weights(), strict=True))
