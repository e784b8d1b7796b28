"""The memory promise of Lanczos, measured as in benchmarks/memory.py."""

import pytest
import torch

import memory
from dcao import DCAO, MemoryRecorder, policies
from dcao.spectra.lanczos import lanczos

# scalars and the columns worked on at a time: 1/64 of a vector for each row
SLACK = 0.6


def test_the_counter_sees_allocations_and_their_end():
    with memory.AliveBytes() as alive:
        a = torch.ones(1000)
        b = a * 2
        view = b.view(10, 100)
        del b
        assert alive.now == 8000
        del view
        assert (alive.now, alive.peak) == (4000, 8000)


@pytest.mark.parametrize("name", ["synthetic", "model"])
@pytest.mark.parametrize("num_steps", [1, 10, 30])
@pytest.mark.parametrize(
    ("options", "promise"),
    [
        ({}, lambda steps: steps + 3),
        ({"vectors": True}, lambda steps: steps + 3),
        ({"vectors": True, "basis_dtype": torch.bfloat16}, lambda steps: steps / 2 + 4),
        ({"reorthogonalize": "none"}, lambda steps: 4),
    ],
    ids=["full", "vectors", "bfloat16", "light"],
)
def test_lanczos_holds_no_more_vectors_than_promised(name, num_steps, options, promise):
    operator = memory.Diagonal(50_000) if name == "synthetic" else memory.model_hessian(width=220)
    k = min(5, num_steps)
    peak = memory.peak_vectors(lambda: lanczos(operator, k, num_steps=num_steps, **options), operator.size)
    assert peak <= promise(num_steps) + SLACK


PROBES = [
    # parameters as they were and the probe's own gradient; with a denominator the factors; with coupled decay the
    # gradient with it, and the one before with it
    ("SGD", {}, 2),
    ("AdamW", {}, 3),
    ("SGD", {"weight_decay": 0.1}, 4),
    ("Adam", {"weight_decay": 0.1}, 5),
]


@pytest.mark.parametrize(("name", "settings", "vectors"), PROBES)
def test_a_load_probe_holds_few_vectors_beside_the_one_kept_from_the_step_before(name, settings, vectors):
    model = torch.nn.Sequential(*[torch.nn.Linear(150, 150, bias=False) for _ in range(8)])
    inputs = torch.randn(2, 150)
    size = sum(p.numel() for p in model.parameters())
    base = getattr(torch.optim, name)(model.parameters(), lr=1e-3, **settings)
    optimizer = DCAO(base, policy=policies.Fixed(), every=2)
    for _ in range(4):
        optimizer.minimize(lambda: model(inputs).square().mean())
    assert sum(g.numel() for g in optimizer.loop.probe.memory.past_gradient) == size
    probe = optimizer.loop.before_step
    peaks = []
    optimizer.loop.before_step = lambda *a, **k: peaks.append(memory.peak_vectors(lambda: probe(*a, **k), size))
    optimizer.minimize(lambda: model(inputs).square().mean())
    assert optimizer.last_estimate.step == 4
    assert peaks[0] < vectors + 0.1  # activations of two rows, and scalars


@pytest.mark.parametrize("name", ["SGD", "AdamW"])
def test_the_range_test_holds_the_guards_one_snapshot_and_nothing_more(name):
    def held(policy) -> tuple[float, float, bool]:
        """Vectors that are there after each step, and that the guard adds, at most; and whether the loss turned."""
        model = torch.nn.Sequential(*[torch.nn.Linear(100, 100, bias=False) for _ in range(8)])
        inputs, size, recorder = torch.randn(2, 100), 80_000, MemoryRecorder()
        optimizer = DCAO(getattr(torch.optim, name)(model.parameters(), lr=1e-9), policy=policy, recorder=recorder)
        check, after, during = optimizer.guard.check, [], []

        def counted(*args, **kwargs):
            before, alive.peak = alive.now, alive.now
            verdict = check(*args, **kwargs)
            during.append((alive.peak - before) / (4 * size))
            return verdict

        optimizer.guard.check = counted
        with memory.AliveBytes() as alive:
            for step in range(80):
                optimizer.minimize(lambda step=step: model(inputs).square().mean() + abs(step - 30.0))
                after.append(alive.now / (4 * size))
        return max(after), max(during), any(record.turned_at for record in recorder.records)

    limitless = policies.Ceiling(1e9, max_relative_step=1e9)
    kept, added, turned = held(limitless)
    # From the lr that is given nothing is watched, and the guard copies as ever.
    kept_without, added_without, turned_without = held(
        policies.Ceiling(1e9, max_relative_step=1e9, first_relative_step=None)
    )
    assert (turned, turned_without) == (True, False)
    assert kept < kept_without + 0.1  # scalars
    assert added < added_without + 0.1 + 1 / 8  # one parameter of eight at a time changes places
