"""Complex parameters train, and are measured, as the pairs of reals that torch's optimizers take them for."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn, optim

from dcao import DCAO, Guard, MemoryRecorder, ProbeSettings, hessian_spectrum, policies
from dcao.operators import FiniteDifferenceOperator, GGNOperator, HessianOperator
from dcao.vectors import flatten, unflatten
from helpers.contract_cases import MEASURES

BASES = {
    "sgd": partial(optim.SGD, lr=0.01),
    "sgd-momentum-l2": partial(optim.SGD, lr=0.01, momentum=0.9, weight_decay=0.1),
    "adam": partial(optim.Adam, lr=1e-3),
    "adamw-amsgrad": partial(optim.AdamW, lr=1e-3, amsgrad=True),
    "nadam": partial(optim.NAdam, lr=1e-3),
    "rmsprop-centered": partial(optim.RMSprop, lr=1e-3, centered=True, momentum=0.5),
    "adagrad": partial(optim.Adagrad, lr=1e-2, initial_accumulator_value=0.1),
}


class Waves(nn.Module):
    """A layer in frequency space, as in a Fourier neural operator; ``as_pairs`` holds the same numbers as reals."""

    def __init__(self, *, as_pairs: bool, dtype: torch.dtype = torch.complex128) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(2)
        weight = torch.randn(9, 4, dtype=dtype, generator=generator)
        self.first = nn.Parameter(torch.randn(3, dtype=dtype.to_real(), generator=generator))  # an odd offset behind it
        self.weight = nn.Parameter(torch.view_as_real(weight).clone() if as_pairs else weight)
        self.x = torch.randn(12, 16, dtype=dtype.to_real(), generator=generator)
        self.y = torch.randn(12, 16, dtype=dtype.to_real(), generator=generator)
        self.as_pairs = as_pairs

    def outputs(self) -> Tensor:
        weight = torch.view_as_complex(self.weight) if self.as_pairs else self.weight
        scaled = torch.fft.rfft(self.x) * (weight.sum(1) + weight[:, 0] ** 2)
        return torch.tanh(torch.fft.irfft(scaled, n=16)) * self.first.sum()

    def forward(self) -> Tensor:
        return (self.outputs() - self.y).square().mean()


def both(make) -> list:
    return [make(Waves(as_pairs=as_pairs)) for as_pairs in (False, True)]


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("base", BASES.values(), ids=list(BASES))
def test_a_run_is_the_run_of_the_pairs(base, measure):
    def run(model: Waves) -> tuple[list[float], MemoryRecorder, list[float]]:
        recorder = MemoryRecorder()
        settings = ProbeSettings(measure, tolerance=1e-10)
        optimizer = DCAO(base(model.parameters()), measure=settings, every=3, recorder=recorder)
        losses = [float(optimizer.minimize(model)) for _ in range(12)]
        return losses, recorder, optimizer.effective_lrs

    (losses, recorder, lrs), (pair_losses, pair_recorder, pair_lrs) = both(run)
    # Sums run in another order, and lr follows the s that is measured; all in float64.
    assert losses == pytest.approx(pair_losses, rel=1e-7)
    assert lrs == pytest.approx(pair_lrs, rel=1e-6)
    for record, pair in zip(recorder.records, pair_recorder.records, strict=True):
        assert record.estimate.s == pytest.approx(pair.estimate.s, rel=1e-5)
        assert (record.estimate.relative_step or 0.0) == pytest.approx(pair.estimate.relative_step or 0.0, rel=1e-6)


@pytest.mark.parametrize("base", BASES.values(), ids=list(BASES))
def test_under_fixed_training_is_the_bare_optimizers(base):
    bare_model, model = (Waves(as_pairs=False, dtype=torch.complex64) for _ in range(2))
    bare = base(bare_model.parameters())
    watched = DCAO(base(model.parameters()), policy=policies.Fixed(), every=2, spectrum_every=3, guard=True)
    for _ in range(10):
        bare.zero_grad()
        bare_model().backward()
        bare.step()
        watched.minimize(model)
    assert torch.equal(model.weight, bare_model.weight)
    assert watched.last_estimate.s is not None


def test_a_step_with_a_closure_is_measured_too():
    def run(model: Waves) -> list[float]:
        optimizer = DCAO(optim.AdamW(model.parameters(), lr=1e-3), every=2)

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = model()
            loss.backward()
            return loss

        return [float(optimizer.step(closure).detach()) for _ in range(8)]

    losses, pair_losses = both(run)
    assert losses == pytest.approx(pair_losses, rel=1e-7)


@pytest.mark.parametrize(
    "make",
    [
        lambda m: HessianOperator(m, m.parameters()),
        lambda m: FiniteDifferenceOperator(m, m.parameters()),
        lambda m: GGNOperator(m.outputs, lambda z: (z - m.y).square().mean(), m.parameters()),
    ],
    ids=["exact", "differences", "gauss-newton"],
)
def test_a_product_is_that_of_the_pairs(make):
    operator, pairs = both(make)
    assert operator.size == pairs.size == 3 + 2 * 36
    vector = torch.randn(operator.size, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    # Central differences in float64 are good to about 1e-9 here, the others to rounding.
    torch.testing.assert_close(operator.matvec(vector), pairs.matvec(vector), rtol=1e-7, atol=1e-9)


def test_a_spectrum_is_that_of_the_dense_hessian_of_the_pairs():
    model, pairs = Waves(as_pairs=False), Waves(as_pairs=True)
    names = [name for name, _ in pairs.named_parameters()]

    def loss(*values: Tensor) -> Tensor:
        return torch.func.functional_call(pairs, dict(zip(names, values, strict=True)), ())

    blocks = torch.autograd.functional.hessian(loss, tuple(pairs.parameters()))
    sizes = [p.numel() for p in pairs.parameters()]
    dense = torch.cat(
        [torch.cat([b.reshape(rows, -1) for b in row], 1) for row, rows in zip(blocks, sizes, strict=True)]
    )
    expected = torch.linalg.eigvalsh(dense).flip(0)[:3]
    found = hessian_spectrum(model, model.parameters(), k=3, tolerance=1e-8)
    torch.testing.assert_close(torch.as_tensor(found.ritz_values[:3]), expected, rtol=1e-7, atol=0.0)


def test_a_garbage_batch_is_skipped_and_the_run_goes_back():
    model = Waves(as_pairs=False)
    optimizer = DCAO(optim.SGD(model.parameters(), lr=0.01), guard=Guard(snapshot_every=1))
    for _ in range(5):
        optimizer.minimize(model)
    before = model.weight.detach().clone()
    optimizer.minimize(lambda: model() * float("nan"))
    assert optimizer.num_skipped == 1
    assert torch.equal(model.weight, before)


def test_a_conjugate_view_and_an_odd_offset_come_back():
    tensors = [torch.ones(1), torch.tensor([[1.0 + 2.0j, 3.0 - 1.0j]]).conj().mT, torch.ones(2)]
    vector = flatten(tensors)
    assert vector.tolist() == [1.0, 1.0, -2.0, 3.0, 1.0, 1.0, 1.0]
    for piece, tensor in zip(unflatten(vector, tensors), tensors, strict=True):
        assert torch.equal(piece, tensor)
