"""The agreement between probes, against cosines of gradients that a twin of the run writes down."""

from __future__ import annotations

import copy
from itertools import pairwise
from statistics import fmean

import pytest
import torch
from torch.nn import functional as F

from dcao import DCAO, MemoryRecorder, policies
from dcao.policies.noise import EARLY, share_of_decay

TOTAL_STEPS = 200
BEGIN, END = (round(share * TOTAL_STEPS) for share in EARLY)  # of the steps that count
LAST = round(policies.Ceiling().watched * TOTAL_STEPS) - 1  # that is compared


def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))


def batches(num):
    generator = torch.Generator().manual_seed(1)
    for _ in range(num):
        yield torch.randn(16, 6, generator=generator), torch.randint(0, 3, (16,), generator=generator)


def run(optimizer, model, steps):
    """Train; returns each step's gradient in double precision."""
    gradients = []
    for x, y in steps:
        optimizer.minimize(lambda x=x, y=y: F.cross_entropy(model(x), y))
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]).double())
    return gradients


def wrapped(model, recorder=None, **options):
    return DCAO(torch.optim.AdamW(model.parameters(), lr=1e-3), recorder=recorder, **options)


def test_a_probe_has_the_mean_size_over_the_steps_since_the_last_one_as_long_as_the_loss_is_watched():
    model, recorder = network(), MemoryRecorder()
    gradients = run(wrapped(model, recorder, total_steps=TOTAL_STEPS), model, batches(70))
    sizes = [abs(float(torch.cosine_similarity(a, b, dim=0))) for a, b in pairwise(gradients)]
    last, means = 0, 0
    for record in recorder.records[1:]:
        steps = [*range(last + 1, min(record.step, LAST + 1)), record.step]
        # sizes[i] is of steps i and i + 1; float32 keeps 1e-6 of sums of 80 products
        assert record.observation.agreement == pytest.approx(fmean(sizes[step - 1] for step in steps), abs=1e-5)
        last, means = record.step, means + (len(steps) > 1)
    assert means >= 9
    assert recorder.records[-1].step > LAST + 5  # whose mean is of one


def test_the_share_of_the_decay_follows_them():
    model, recorder = network(), MemoryRecorder()
    optimizer = wrapped(model, recorder, total_steps=TOTAL_STEPS)
    run(optimizer, model, batches(TOTAL_STEPS))
    seen = [r.observation.agreement for r in recorder.records if BEGIN <= r.step < END]
    share = share_of_decay(seen)
    assert 0.3 < share <= 0.8  # labels are random: there is little to agree on
    state = optimizer.controller.policy_state
    assert state["agreements"] == seen
    lr, level = optimizer.param_groups[0]["lr"], state["ceiling"]
    assert lr <= level / (share * TOTAL_STEPS) * 1.0001  # one step is left; the level is under the ceiling


def test_where_nobody_asks_no_gradient_is_kept():
    model = network()
    optimizer = wrapped(model, policy=policies.Fixed())
    for x, y in batches(40):
        optimizer.minimize(lambda x=x, y=y: F.cross_entropy(model(x), y))
        assert optimizer.loop.agreement.past is None


@pytest.mark.parametrize(
    ("options", "last"),
    [
        ({"total_steps": TOTAL_STEPS}, LAST),
        ({}, 99),
        ({"policy": policies.Ceiling(total_steps=TOTAL_STEPS, decay=0.3)}, LAST),
        ({"policy": policies.Ceiling(total_steps=TOTAL_STEPS, watched=0.0)}, END - 1),
    ],
    ids=["a quarter of the run", "100 steps", "a share that is given", "no loss is watched"],
)
def test_after_that_no_gradient_is_kept(options, last):
    model = network()
    optimizer = wrapped(model, **options)
    compared = []
    for step, (x, y) in enumerate(batches(110)):
        optimizer.minimize(lambda x=x, y=y: F.cross_entropy(model(x), y))
        compared += [step + 1] if optimizer.loop.agreement.past is not None else []
    assert compared == list(range(BEGIN if options and last == END - 1 else 1, last + 1))


@pytest.mark.parametrize("at", [BEGIN + 2, BEGIN + 5, END - 1])
def test_a_checkpoint_goes_on_bit_for_bit(at):
    model = network()
    optimizer = wrapped(model, total_steps=TOTAL_STEPS)
    steps = list(batches(80))
    run(optimizer, model, steps[:at])
    saved = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    run(optimizer, model, steps[at:])

    again, recorder = network(), MemoryRecorder()
    resumed = wrapped(again, recorder, total_steps=TOTAL_STEPS)
    again.load_state_dict(saved[0])
    resumed.load_state_dict(saved[1])
    run(resumed, again, steps[at:])
    assert resumed.controller.policy_state == optimizer.controller.policy_state
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_a_parameter_that_comes_in_between_is_not_compared():
    model, extra = network(), torch.nn.Parameter(torch.ones(2))
    optimizer = wrapped(model, total_steps=TOTAL_STEPS)
    steps = list(batches(BEGIN + 12))
    run(optimizer, model, steps[: BEGIN + 3])
    before = list(optimizer.loop.agreement.sizes)
    optimizer.add_param_group({"params": [extra]})
    x, y = steps[BEGIN + 3]
    optimizer.minimize(lambda: F.cross_entropy(model(x), y) + extra.square().sum())
    assert optimizer.loop.agreement.sizes in (before, [])  # empty if that step was probed
