"""Batches that a probe draws for itself."""

from __future__ import annotations

import pickle
from collections import UserDict, deque
from dataclasses import dataclass
from types import MappingProxyType, SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn, optim
from torch.utils.data import DataLoader, TensorDataset

from dcao import DCAO, ProbeLoader, ProbeSettings, policies
from dcao.isolation import capture_rng, leave_no_trace
from dcao.probing.batch import closure_gradient, closure_loss
from dcao.probing.loader import first_length

SEVEN = TensorDataset(torch.arange(7.0))


def drawn(loader: ProbeLoader, count: int) -> list[list[float]]:
    """Contents of the next batches, one draw each."""
    contents: list[list[float]] = []
    spy = loader.batch_loss
    loader.batch_loss = lambda batch: contents.append(batch[0].tolist())
    for _ in range(count):
        for batch in loader.draw(capture_rng([])):
            batch.loss_fn()
    loader.batch_loss = spy
    return contents


def no_loss(batch) -> Tensor:
    raise AssertionError("not evaluated here")


def test_batches_come_in_turn_and_the_loader_starts_again_when_it_ends():
    loader = ProbeLoader(DataLoader(SEVEN, batch_size=3), no_loss, num_batches=2)
    assert drawn(loader, 2) == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0], [6.0], [0.0, 1.0, 2.0]]


def test_ragged_batches_are_weighted_by_their_size():
    loader = ProbeLoader(DataLoader(SEVEN, batch_size=3), no_loss, num_batches=3)
    assert [batch.weight for batch in loader.draw(capture_rng([]))] == [3.0, 3.0, 1.0]
    by_hand = ProbeLoader([1, 2], no_loss, num_batches=2, batch_size=lambda batch: 10 * batch)
    assert [batch.weight for batch in by_hand.draw(capture_rng([]))] == [10.0, 20.0]


def test_shuffling_follows_the_seed_and_leaves_the_training_stream_alone():
    def shuffled(seed: int) -> list[list[float]]:
        loader = ProbeLoader(DataLoader(SEVEN, batch_size=3, shuffle=True), no_loss, num_batches=3, seed=seed)
        with leave_no_trace([], modules=[]):  # as a probe calls it
            return drawn(loader, 2)

    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = shuffled(0)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    assert shuffled(0) == first != shuffled(1)
    assert sorted(x for batch in first[:3] for x in batch) == list(range(7))
    assert first[:3] != first[3:]  # shuffled anew for the second round


@pytest.mark.parametrize("way", ["state_dict", "pickle"])
@pytest.mark.parametrize("position", [0, 2, 3, 4])
def test_a_resumed_loader_goes_on_where_it_was(way, position):
    def make() -> ProbeLoader:
        return ProbeLoader(DataLoader(SEVEN, batch_size=3, shuffle=True), no_loss, num_batches=1)

    with leave_no_trace([], modules=[]):
        loader = make()
        drawn(loader, position)
        if way == "pickle":
            resumed = pickle.loads(pickle.dumps(loader))
        else:
            resumed = make()
            resumed.load_state_dict(loader.state_dict())
        assert drawn(resumed, 5) == drawn(loader, 5)


def test_several_batches_see_different_dropout_masks_each_the_same_at_every_evaluation():
    """Independent batches: a mask that all of them share would count as signal."""
    x = torch.ones(64)
    loader = ProbeLoader([x] * 3, lambda batch: nn.functional.dropout(batch).sum(), num_batches=3)
    batches = loader.draw(capture_rng([]))

    def masked_sum(batch) -> float:
        with leave_no_trace([], modules=[], rng_state=batch.rng_state):
            return float(batch.loss_fn())

    first, again = [masked_sum(b) for b in batches], [masked_sum(b) for b in batches]
    assert first == again
    assert len(set(first)) == 3


def test_dropout_noise_between_batches_of_a_probe_is_noise_and_no_signal():
    """One row, dropped out at 50 %: the gradient of an input is 0 or doubled, independently in each batch."""
    weight = nn.Parameter(torch.ones(512, dtype=torch.float64))
    optimizer = DCAO(
        optim.SGD([weight], lr=1.0),
        policy=policies.Fixed(),
        probe_batch=ProbeLoader([torch.ones(1)] * 8, lambda batch: dropped(weight), num_batches=8),
        every=1,
        measure=ProbeSettings(hvp="exact"),
    )
    weight.grad = torch.zeros_like(weight)
    optimizer.step()
    # curvature c in {0, 2}, independent: signal E[c] = 1, noise E[c^3] / E[c^2] - 1 = 1; 512 * 8 coins, 4 sigma = .06
    assert optimizer.last_estimate.load_signal == pytest.approx(1.0, abs=0.1)
    assert optimizer.last_estimate.load_noise == pytest.approx(1.0, abs=0.1)


def dropped(weight: Tensor) -> Tensor:
    return 0.5 * nn.functional.dropout(weight.detach() * 0 + 1.0) @ weight.square()


BATCH_SIZES = [
    ("tensor", torch.zeros(5, 2), 5),
    ("pair", (torch.zeros(4, 2), torch.zeros(4)), 4),
    ("mapping", {"x": torch.zeros(3), "y": torch.zeros(3)}, 3),
    ("nested", [{"x": (torch.zeros(2, 9),)}], 2),
]


@pytest.mark.parametrize(("name", "batch", "size"), BATCH_SIZES, ids=[row[0] for row in BATCH_SIZES])
def test_the_size_of_a_batch_is_the_length_of_its_first_tensor(name, batch, size):
    assert first_length(batch) == size


class Named(NamedTuple):
    """Texts and a number before the tensor."""

    texts: tuple[str, ...]
    scale: float
    inputs: Tensor


@dataclass(slots=True)
class Slotted:
    inputs: dict[str, Tensor]


MORE_BATCHES = {
    "a mapping that is no dict": UserDict(input_ids=torch.zeros(5, 7), labels=torch.zeros(5)),
    "a mapping of its own": MappingProxyType({"inputs": torch.zeros(5)}),
    "nested mappings": {"meta": {"name": "train"}, "inputs": UserDict(x=torch.zeros(5, 2))},
    "a named tuple": Named(("a", "b", "c"), 2.0, torch.zeros(5, 2)),
    "a dataclass with slots": Slotted({"x": torch.zeros(5)}),
    "an object": SimpleNamespace(num=3, x=torch.zeros(5, 2)),
    "a scalar tensor first": (torch.tensor(0.1), torch.zeros(5)),
    "texts first": [["a", "b"], torch.zeros(5)],
    "none first": (None, torch.zeros(5)),
    "an array": (np.zeros((5, 2)), np.zeros(5)),
    "a deque": deque([torch.zeros(5)]),
    "a nested tensor": torch.nested.nested_tensor([torch.zeros(n) for n in (2, 3, 2, 3, 1)], layout=torch.jagged),
}


@pytest.mark.parametrize("name", MORE_BATCHES)
def test_the_first_tensor_with_rows_is_found_in_whatever_holds_it(name):
    assert first_length(MORE_BATCHES[name]) == 5


def test_a_batch_of_transformers_is_a_mapping_like_any_other():
    transformers = pytest.importorskip("transformers")
    batch = transformers.BatchEncoding({"input_ids": torch.zeros(5, 7, dtype=torch.long)})
    loader = ProbeLoader([batch], lambda batch: batch["input_ids"].sum())
    assert loader.draw(capture_rng([]))[0].weight == 5.0


def selfish() -> SimpleNamespace:
    whole = SimpleNamespace(number=3)
    whole.itself = whole
    return whole


@pytest.mark.parametrize("batch", [3, "text", ["text"], {}, (torch.tensor(1.0),), iter([torch.ones(2)]), selfish()])
def test_a_batch_without_tensors_needs_its_size_told(batch):
    with pytest.raises(TypeError, match=r"cannot tell the size of a batch of type .*; pass batch_size="):
        first_length(batch)


def test_wrong_loaders_are_refused():
    with pytest.raises(ValueError, match=r"num_batches must be at least 1, got 0"):
        ProbeLoader([1], no_loss, num_batches=0)
    with pytest.raises(TypeError, match=r"loader must be re-iterable, .* got a one-pass iterator"):
        ProbeLoader(iter([1]), no_loss)
    with pytest.raises(ValueError, match=r"the probe's loader gave no batch; it must hold at least one"):
        ProbeLoader([], no_loss).draw(capture_rng([]))


def test_a_closure_that_leaves_no_gradient_is_refused():
    with pytest.raises(ValueError, match=r"closure must call backward\(\) on the loss.*use optimizer.minimize"):
        closure_gradient([nn.Parameter(torch.ones(1))])


def test_a_loss_is_a_number_or_nan():
    assert closure_loss(torch.tensor(2.0, requires_grad=True)) == 2.0
    assert closure_loss(3) == 3.0
    assert closure_loss(None) != closure_loss(None)


def test_a_loader_seeds_no_device_but_those_of_the_parameters(monkeypatch):
    """``torch.manual_seed`` seeds every device of the machine, and a probe puts back those of the parameters alone."""
    monkeypatch.setattr(torch, "manual_seed", lambda seed: pytest.fail("the global streams were seeded"))
    data = torch.utils.data.DataLoader(torch.arange(8.0), batch_size=4, shuffle=True)
    loader = ProbeLoader(data, lambda batch: batch.mean(), num_batches=2)
    with leave_no_trace([], modules=[]):
        assert len(loader.draw(capture_rng([]))) == 2
