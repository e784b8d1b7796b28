"""What a loss reaches is found, copied before the training pass, and freed after it; data and backbones are not."""

from __future__ import annotations

import functools
import gc
from collections import OrderedDict, defaultdict, deque
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import Tensor, nn, optim
from torch._dynamo.testing import CompileCounter

import dcao
import memory
from dcao import DCAO, policies
from dcao.state.reach import reach
from dcao.state.start import LOOSE_BYTES, Moving, Start
from dcao.state.tensors import Kept
from helpers.counting import Count


class Holder:
    """An object of the user's own."""

    def __init__(self, **contents: object) -> None:
        self.__dict__ |= contents

    def method(self) -> None:
        return None


def through_closure(layer):
    return lambda: layer


def through_default(layer):
    return lambda each=layer: each


def through_method(layer):
    return Holder(layer=layer).method


def through_containers(layer):
    held = {"a": [({1: deque([layer])},)]}
    return lambda: held


def through_partial(layer):
    return functools.partial(print, end=SimpleNamespace(inside=OrderedDict(x=layer)))


def through_decorator(layer):
    @functools.wraps(through_closure)
    def outer():
        return layer

    return torch.no_grad()(outer)


def through_hook(layer):
    other = nn.Identity()
    other.register_forward_hook(lambda *args: layer)
    return other


def through_property(layer):
    class Own:
        @property
        def value(self):
            return layer

    return Own()


def through_tensor_hook(layer):
    other = torch.ones(1, requires_grad=True)
    other.register_hook(lambda grad: layer)
    return lambda: other


def through_parameter_hook(layer):
    other = nn.Linear(1, 1)
    other.bias.register_post_accumulate_grad_hook(lambda bias: layer)
    return lambda: other


def through_module_of_code(layer):
    own = ModuleType("own_losses")
    own.layer = layer
    return lambda: own.layer


def through_metaclass(layer):
    class Meta(type):
        held = layer

    class Own(metaclass=Meta):
        pass

    return lambda: Own


WAYS = [
    through_closure,
    through_default,
    through_method,
    through_containers,
    through_partial,
    through_decorator,
    through_hook,
    through_property,
    through_tensor_hook,
    through_parameter_hook,
    through_module_of_code,
    through_metaclass,
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_a_module_is_reached(way):
    layer = nn.Linear(2, 2)
    assert layer in reach(way(layer)).modules


def test_global_hooks_are_reached():
    layer = nn.Linear(2, 2)
    handle = nn.modules.module.register_module_forward_hook(lambda *args: print(layer))
    try:
        found = reach(print)
    finally:
        handle.remove()
    assert layer in found.modules


def test_two_functions_may_name_different_things_in_one_module():
    own = ModuleType("own_losses")
    own.first, own.second = nn.Linear(2, 2), nn.Linear(2, 2)
    found = reach([lambda: own.first, lambda: own.second])
    assert found.modules == [own.first, own.second]


def test_data_its_own_optimizer_and_long_lists_are_not_looked_into():
    layer = nn.Linear(2, 2)
    data = torch.utils.data.TensorDataset(torch.ones(3))
    loader = torch.utils.data.DataLoader(data)
    optimizer = DCAO(optim.SGD(layer.parameters(), lr=0.1))
    history = [nn.Linear(1, 1) for _ in range(2000)]
    found = reach(lambda: (data, loader, iter(loader), optimizer, history), params=layer.parameters())
    assert found.modules == found.tensors == []


def entered_and_changed(thing: object, change) -> None:
    start = Start(lambda: thing, [], [], Moving())
    with start.entered():
        change()


def test_containers_are_put_back_and_keep_their_identity_and_order():
    inner = Holder(x=1)
    things = [
        [1, 2],
        {"a": 1, "b": inner},
        OrderedDict(a=1, b=2),
        defaultdict(list, a=[1]),
        deque([1, 2], maxlen=2),
        {1},
    ]

    def change() -> None:
        things[0].append(3)
        things[1].pop("a")
        things[1]["c"] = inner.x = 2
        things[2].move_to_end("a")
        things[3]["new"].append(1)
        things[3]["a"].append(1)
        things[4].append(3)
        things[5].add(2)
        things.clear()

    kept = list(things)
    entered_and_changed(things, change)
    assert all(now is before for now, before in zip(things, kept, strict=True))
    assert things[0] == [1, 2]
    assert list(things[1].items()) == [("a", 1), ("b", inner)]
    assert inner.x == 1
    assert list(things[2]) == ["a", "b"]
    assert things[3] == {"a": [1]}
    assert list(things[4]) == [1, 2]
    assert things[5] == {1}


def test_a_dict_with_tensors_as_keys_is_put_back():
    weight = torch.ones(3)
    averages = {weight: 1}

    def change() -> None:
        averages[weight] = 2
        averages[torch.ones(3)] = 3

    entered_and_changed(averages, change)
    assert averages == {weight: 1}


def test_what_is_appended_to_a_very_long_list_is_taken_away():
    history = [0.0] * 200_000
    entered_and_changed(history, lambda: history.append(1.0))
    assert len(history) == 200_000


def test_a_tensor_comes_back_with_its_memory_and_its_version():
    """A graph that has saved the tensor stays valid only at the same version."""
    weight, x = torch.ones(3, requires_grad=True), torch.arange(3.0)
    loss = (weight * x).sum()
    address = x.data_ptr()

    def change() -> None:
        x.mul_(2.0)
        x.data = torch.zeros(5)

    entered_and_changed(x, change)
    assert (x.tolist(), x.data_ptr()) == ([0.0, 1.0, 2.0], address)
    loss.backward()
    assert torch.equal(weight.grad, x)


# --- what is not copied, and what is freed


class Adapter(nn.Module):
    """A small head on a large body that does not train."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Linear(width, width).requires_grad_(False)
        self.head = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


def peaks(model: Adapter, x: Tensor, every: int, num_steps: int) -> list[float]:
    optimizer = DCAO(optim.SGD(model.head.parameters(), lr=1e-3), policy=policies.Fixed(), every=every)
    found = []
    for _ in range(num_steps):
        found.append(memory.peak_vectors(lambda: optimizer.minimize(lambda: model(x).square().mean()), 1, 1))
    return found


def test_a_large_frozen_body_is_never_copied():
    width = 600
    body, x = 4.0 * width * width, torch.randn(2, width)
    without = max(peaks(Adapter(width), x, 100, 4)[1:])
    later = peaks(Adapter(width), x, 1, 4)[1:]  # the first reads the body
    assert max(later) - without < 0.1 * body
    # Copies would be kept through the training pass: none are.
    model = Adapter(width)
    start = Start(lambda: model(x), model.head.parameters(), list(model.modules()), Moving())
    assert all(kept.tensor is not model.body.weight for kept in start._kept)


def test_a_body_that_the_loss_changes_is_copied_from_then_on():
    model, x, moving = Adapter(50), torch.randn(2, 50), Moving()
    frozen = [Kept.now(p) for p in model.body.parameters()]

    def loss() -> Tensor:
        model.body.weight.data.mul_(1.01)  # no version tells
        return model(x).square().mean()

    start = Start(loss, model.head.parameters(), list(model.modules()), moving)
    loss()
    assert not start.is_complete
    after = model.body.weight.clone()
    with start.entered():
        loss()
    assert torch.equal(model.body.weight, after)
    start = Start(loss, model.head.parameters(), list(model.modules()), moving)
    loss()
    assert start.is_complete
    with start.entered():
        assert torch.equal(model.body.weight, after)
    assert not torch.equal(model.body.weight, after)
    assert frozen[0].tensor is model.body.weight


def test_loose_tensors_are_copied_up_to_a_limit_and_beyond_it_once_they_change():
    data, small, moving = torch.zeros(LOOSE_BYTES), torch.zeros(3), Moving()

    def loss() -> None:
        data.add_(1.0)
        small.add_(1.0)

    for is_complete in (False, True):
        start = Start(loss, [], [], moving)
        loss()
        assert start.is_complete is is_complete
        before = data[0].item(), small[0].item()
        with start.entered():
            loss()
        assert (data[0].item(), small[0].item()) == before


def test_a_tensor_whose_memory_was_given_back_is_not_read():
    """As FullyShardedDataParallel gives back what it has gathered; to read it ends the process."""
    freed, kept = torch.zeros(2**16), torch.zeros(3)
    freed.untyped_storage().resize_(0)

    def loss() -> None:
        kept.add_(float(freed.numel()))

    start = Start(loss, [], [], Moving())
    loss()
    with start.entered():
        assert kept.tolist() == [0.0, 0.0, 0.0]


def test_nothing_is_held_after_the_step():
    model, hidden = nn.Sequential(nn.Linear(300, 300), nn.BatchNorm1d(300)), [torch.zeros(300)]
    optimizer = DCAO(optim.SGD(model.parameters(), lr=1e-3), policy=policies.Fixed(), every=2, guard=False)
    x = torch.randn(8, 300)

    def loss() -> Tensor:
        outputs = model(x) + hidden[0]
        hidden[0] = outputs.mean(dim=0).detach()
        return outputs.square().mean()

    optimizer.minimize(loss)
    gc.collect()
    with memory.AliveBytes() as alive:
        for _ in range(2):  # a step without a probe, which keeps its gradient, and one with
            optimizer.minimize(loss)
        optimizer.zero_grad()
        gc.collect()
        assert alive.now < 4 * 300 * 10  # the hidden state, scalars


# --- to know


def test_the_loss_can_ask_whether_it_is_probed():
    weight, probed, trained = nn.Parameter(torch.ones(3)), Count(), Count()
    optimizer = DCAO(optim.SGD([weight], lr=0.1), policy=policies.Fixed(), every=2)

    def loss() -> Tensor:
        (probed if dcao.is_probing() else trained).add()
        return weight.square().sum()

    for _ in range(4):
        optimizer.minimize(loss)
    assert (int(trained), int(probed)) == (4, 2 + 1)
    dcao.hessian_spectrum(loss, [weight], k=1)
    assert int(trained) == 4
    assert not dcao.is_probing()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning:torch")
def test_compiled_code_can_ask_too():
    torch._dynamo.reset()
    weight = nn.Parameter(torch.ones(3))
    counter = CompileCounter()

    @torch.compile(backend=counter, fullgraph=True)
    def compiled() -> Tensor:
        return weight.square().sum() * (2.0 if dcao.is_probing() else 1.0)

    optimizer = DCAO(optim.SGD([weight], lr=0.1), policy=policies.Fixed(), every=2)
    with pytest.warns(UserWarning, match="the value by 50 %"):
        optimizer.minimize(compiled)
    for _ in range(5):
        optimizer.minimize(compiled)
    assert counter.frame_count == 2
    torch._dynamo.reset()
