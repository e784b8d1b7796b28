"""A loss that is no pure function of the weights: a probe leaves no trace, and measures from the right state.

The twin is built anew and trained by the bare optimizer up to the probed step, once for each evaluation that it needs:
so each of them starts from the state before the training pass, and nothing has to be put back.
"""

from __future__ import annotations

import copy
import random
import sys
from collections import deque
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn, optim
from torch.nn.utils import parametrizations

from dcao import DCAO, ProbeSettings, policies
from helpers.contract_cases import random_streams, seed_everything

pytestmark = pytest.mark.filterwarnings("error::UserWarning", "ignore:.*spectral_norm:FutureWarning")

LR = 0.05
INPUTS = torch.randn(8, 16, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
TARGETS = torch.randint(0, 3, (8, 16), generator=torch.Generator().manual_seed(2))


class Case:
    """A loss with state. What a subclass keeps in its attributes is compared after a run.

    Attributes:
        net: What is trained.
    """

    def __init__(self) -> None:
        self.net: nn.Module = mlp()

    def loss(self, step: int) -> Tensor:
        raise NotImplementedError

    def loss_fn(self, step: int) -> Callable[[], Tensor]:
        return lambda: self.loss(step)

    def state(self) -> Any:
        return vars(self)


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)).double()


def cross_entropy(outputs: Tensor, step: int) -> Tensor:
    return F.cross_entropy(outputs, TARGETS[step % 8])


class SpectralNorm(Case):
    def __init__(self) -> None:
        self.net = mlp()
        for layer in (self.net[0], self.net[2]):
            parametrizations.spectral_norm(layer)

    def loss(self, step: int) -> Tensor:
        return cross_entropy(5.0 * self.net(INPUTS[step % 8]), step)


class OldSpectralNorm(SpectralNorm):
    def __init__(self) -> None:
        self.net = mlp()
        for layer in (self.net[0], self.net[2]):
            nn.utils.spectral_norm(layer)


class CarriedState(nn.Module):
    """A recurrent network that keeps its hidden state."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.out = nn.GRU(6, 4, batch_first=True), nn.Linear(4, 3)
        self.hidden = None

    def forward(self, x: Tensor) -> Tensor:
        outputs, hidden = self.rnn(x.unsqueeze(0), self.hidden)
        self.hidden = hidden.detach()
        return self.out(outputs[0])


class ModuleAttribute(Case):
    def __init__(self) -> None:
        self.net = CarriedState().double()

    def loss(self, step: int) -> Tensor:
        return cross_entropy(self.net(INPUTS[step % 8]), step)


class LayerAttribute(Case):
    """An attribute that somebody has put on a layer of torch's own."""

    def __init__(self) -> None:
        self.net = nn.Linear(6, 3).double()
        self.net.hidden, self.net.num_calls = torch.zeros(3, dtype=torch.float64), 0

    def loss(self, step: int) -> Tensor:
        outputs = self.net(INPUTS[step % 8]).tanh() + self.net.hidden
        self.net.num_calls += 1
        self.net.hidden = outputs.mean(dim=0).detach() / self.net.num_calls
        return cross_entropy(outputs, step)

    def state(self) -> Any:
        return [self.net, self.net.num_calls]


class ObjectAttribute(Case):
    """The hidden state is kept, with its graph cut later, by an object of the user's with slots."""

    class Memory:
        __slots__ = ("hidden", "log")

        def __init__(self) -> None:
            self.hidden, self.log = torch.zeros(3, dtype=torch.float64), []

        def __deepcopy__(self, memo: Any) -> list[Any]:
            return [self.hidden.detach().clone(), list(self.log)]

    def __init__(self) -> None:
        super().__init__()
        self.memory = self.Memory()

    def loss(self, step: int) -> Tensor:
        outputs = self.net(INPUTS[step % 8]) + self.memory.hidden.detach()
        self.memory.hidden = outputs.mean(dim=0)
        self.memory.log.append(float(outputs.detach().sum()))
        return cross_entropy(outputs, step)


class Nonlocal(Case):
    def __init__(self) -> None:
        super().__init__()
        hidden, num_calls = torch.zeros(3, dtype=torch.float64), 0

        def loss(step: int) -> Tensor:
            nonlocal hidden, num_calls
            num_calls += 1
            outputs = self.net(INPUTS[step % 8]) + hidden
            hidden = 0.9 * outputs.mean(dim=0).detach() + 0.1 * num_calls
            return cross_entropy(outputs, step)

        self.loss = loss  # type: ignore[method-assign]
        self.told = lambda: (hidden, num_calls)

    def state(self) -> Any:
        return [self.net, *self.told()]


GLOBAL_HIDDEN = torch.zeros(3, dtype=torch.float64)


class Global(Case):
    def __init__(self) -> None:
        global GLOBAL_HIDDEN
        super().__init__()
        GLOBAL_HIDDEN = torch.zeros(3, dtype=torch.float64)

    def loss(self, step: int) -> Tensor:
        global GLOBAL_HIDDEN
        outputs = self.net(INPUTS[step % 8]) + GLOBAL_HIDDEN
        GLOBAL_HIDDEN = 0.5 * outputs.mean(dim=0).detach()
        return cross_entropy(outputs, step)

    def state(self) -> Any:
        return [self.net, GLOBAL_HIDDEN]


class Codebook(nn.Module):
    """Vector quantisation whose codes follow their inputs by an average, as in VQ-VAE."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("codes", torch.randn(7, 5))
        self.register_buffer("counts", torch.ones(7))

    def forward(self, x: Tensor) -> Tensor:
        nearest = torch.cdist(x.detach(), self.codes).argmin(dim=1)
        taken = F.one_hot(nearest, 7).to(x)
        with torch.no_grad():
            self.counts.mul_(0.8).add_(taken.sum(dim=0), alpha=0.2)
            self.codes.lerp_(taken.T @ x / taken.sum(dim=0).clamp(min=1.0).unsqueeze(1), 0.2)
        return x + (self.codes[nearest] - x).detach() + 0.3 * (x - self.codes[nearest]) ** 2


class VectorQuantised(Case):
    def __init__(self) -> None:
        self.net = nn.Sequential(nn.Linear(6, 5), Codebook(), nn.Linear(5, 3)).double()

    def loss(self, step: int) -> Tensor:
        return cross_entropy(self.net(INPUTS[step % 8]), step)


class MoCo(Case):
    """In the forward pass the keys' encoder follows by ``.data``, and the queue is written at a pointer."""

    def __init__(self) -> None:
        super().__init__()
        self.keys = copy.deepcopy(self.net)
        self.net.register_buffer("queue", F.normalize(torch.randn(3, 32, dtype=torch.float64), dim=0))
        self.pointer = 0

    def loss(self, step: int) -> Tensor:
        x = INPUTS[step % 8]
        queries = F.normalize(self.net(x), dim=1)
        with torch.no_grad():
            for query, key in zip(self.net.parameters(), self.keys.parameters(), strict=True):
                key.data = key.data * 0.9 + query.data * 0.1
            keys = F.normalize(self.keys(x + 0.1), dim=1)
        negatives = queries @ self.net.queue.clone()
        self.net.queue[:, self.pointer : self.pointer + 16] = keys.T
        self.pointer = (self.pointer + 16) % 32
        logits = torch.cat([(queries * keys).sum(dim=1, keepdim=True), negatives], dim=1)
        return F.cross_entropy(logits / 0.2, torch.zeros(16, dtype=torch.long))


class DINO(Case):
    """A teacher that follows in place, inside the loss, and a center that is a loose tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.teacher = copy.deepcopy(self.net).requires_grad_(False)
        self.center = torch.zeros(3, dtype=torch.float64)

    def loss(self, step: int) -> Tensor:
        x = INPUTS[step % 8]
        for theirs, ours in zip(self.teacher.parameters(), self.net.parameters(), strict=True):
            theirs.data.mul_(0.9).add_(ours.detach().data, alpha=0.1)
        outputs = self.teacher(x)
        wanted = ((outputs - self.center) / 0.3).softmax(dim=1)
        self.center.mul_(0.9).add_(outputs.mean(dim=0), alpha=0.1)
        return -(wanted * self.net(x + 0.1).log_softmax(dim=1)).sum(dim=1).mean()


class GAN(Case):
    """A generator's loss through a discriminator, whose BatchNorm it moves and whose gradients another one reads."""

    def __init__(self) -> None:
        self.net = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 6)).double()
        self.judge = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 1)).double()
        self.judge(INPUTS[0]).sum().backward()

    def loss(self, step: int) -> Tensor:
        self.judge.train(step % 2 == 0)
        return F.softplus(-self.judge(self.net(INPUTS[step % 8]))).mean()


class Metrics(Case):
    """Everything that a training step keeps books in."""

    num_evaluations = 0

    def __init__(self) -> None:
        super().__init__()
        type(self).num_evaluations = 0
        self.losses, self.last, self.by_step, self.seen = [], deque(maxlen=3), {}, set()
        self.total, self.meter = torch.zeros((), dtype=torch.float64), np.zeros(2)
        self.raw = bytearray()

    def loss(self, step: int) -> Tensor:
        loss = cross_entropy(self.net(INPUTS[step % 8]) + 0.01 * len(self.losses), step)
        value = float(loss.detach())
        self.losses.append(value)
        self.last.append(value)
        self.by_step[len(self.by_step)] = value
        self.seen.add(value)
        self.total += value
        self.meter += [value, 1.0]
        self.raw.extend(b".")
        type(self).num_evaluations += 1
        return loss * (1.0 + 0.1 * self.num_evaluations + float(self.total))

    def state(self) -> Any:
        return [*vars(self).values(), self.num_evaluations]


class FunctionAttribute(Case):
    def __init__(self) -> None:
        super().__init__()

        def loss(step: int) -> Tensor:
            loss.calls += 1
            return cross_entropy(self.net(INPUTS[step % 8]) * (1.0 + 0.1 * loss.calls), step)

        loss.calls = 0
        self.loss = loss  # type: ignore[method-assign]

    def state(self) -> Any:
        return [self.net, self.loss.calls]


class OwnGenerator(Case):
    """Noise from a generator of the user's own."""

    def __init__(self, make: Callable[[], Any], draw: Callable[[Any], float]) -> None:
        super().__init__()
        self.generator, self.draw = make(), draw

    def loss(self, step: int) -> Tensor:
        return cross_entropy(self.net(INPUTS[step % 8] + self.draw(self.generator)), step)

    def state(self) -> Any:
        return [self.net, self.draw(self.generator)]  # the position shows in what comes next


class GlobalStreams(Case):
    def __init__(self) -> None:
        self.net = nn.Sequential(nn.Linear(6, 5), nn.Dropout(0.3), nn.Tanh(), nn.Linear(5, 3)).double()

    def loss(self, step: int) -> Tensor:
        return cross_entropy(self.net(INPUTS[step % 8] + random.random() + np.random.rand()), step)  # noqa: NPY002


class RunningScale(Case):
    """A scale that the pass moves before it uses it, in a loose tensor, and that is used under another name."""

    def __init__(self) -> None:
        super().__init__()
        self.net.register_buffer("scale", torch.ones(3, dtype=torch.float64))
        self.alias = self.net.scale

    def loss(self, step: int) -> Tensor:
        outputs = self.net(INPUTS[step % 8])
        self.alias.mul_(0.5).add_(outputs.detach().std(dim=0))
        return cross_entropy(outputs / self.net.scale, step)


class PartialArguments(Case):
    """State that is handed over as an argument."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = {"hidden": torch.zeros(3, dtype=torch.float64)}

    def loss_fn(self, step: int) -> Callable[[], Tensor]:
        def loss(memory: dict[str, Tensor] = self.memory) -> Tensor:
            outputs = self.net(INPUTS[step % 8]) + memory["hidden"]
            memory["hidden"] = outputs.mean(dim=0).detach()
            return cross_entropy(outputs, step)

        return loss


class OtherOptimizer(Case):
    """The discriminator trains inside the generator's loss, with an optimizer that has a state."""

    def __init__(self) -> None:
        super().__init__()
        self.other = nn.Linear(3, 1).double()
        self.optimizer = optim.Adam(self.other.parameters(), lr=0.1)
        self.schedule = optim.lr_scheduler.ExponentialLR(self.optimizer, 0.9)

    def loss(self, step: int) -> Tensor:
        outputs = self.net(INPUTS[step % 8])
        self.optimizer.zero_grad()
        F.softplus(self.other(outputs.detach())).mean().backward()
        self.optimizer.step()
        self.schedule.step()
        return F.softplus(-self.other(outputs)).mean()

    def state(self) -> Any:
        return [self.net, self.other, list(self.optimizer.state.values()), self.schedule.last_epoch, *self.lrs()]

    def lrs(self) -> list[float]:
        return [group["lr"] for group in self.optimizer.param_groups]


class NewParameter(Case):
    """A prototype that each forward pass puts in the place of the last one."""

    def __init__(self) -> None:
        super().__init__()
        self.prototypes = nn.ParameterList([nn.Parameter(torch.zeros(3).double(), requires_grad=False)])

    def loss(self, step: int) -> Tensor:
        outputs = self.net(INPUTS[step % 8]) + self.prototypes[0]
        self.prototypes[0] = nn.Parameter(outputs.detach().mean(dim=0), requires_grad=False)
        return cross_entropy(outputs, step)


class GradientHook(Case):
    """A hook on a weight counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = calls = [0]

        def hook(grad: Tensor) -> None:
            calls[0] += 1

        self.net[0].weight.register_hook(hook)

    def loss(self, step: int) -> Tensor:
        return cross_entropy(self.net(INPUTS[step % 8]), step)


class LibraryTrainer(Case):
    """A trainer of an installed package, whose inside is not looked at, calls the loss of the user's module."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Recurrent()

    def loss_fn(self, step: int) -> Callable[[], Tensor]:
        return Trainer(lambda: self.net.training_step(step))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers, self.hidden = mlp(), torch.zeros(3, dtype=torch.float64)

    def training_step(self, step: int) -> Tensor:
        outputs = self.layers(INPUTS[step % 8]) + self.hidden
        self.hidden = outputs.mean(dim=0).detach()
        return cross_entropy(outputs, step)


class Trainer:
    def __init__(self, step: Callable[[], Tensor]) -> None:
        self.step = step

    def __call__(self) -> Tensor:
        return self.step()


Trainer.__module__ = "numpy"  # as if it came from there


class ImportedInside(Case):
    """State in a module of the user's that the loss imports when it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.module = sys.modules["losses_of_a_user"] = ModuleType("losses_of_a_user")
        self.module.hidden = torch.zeros(3, dtype=torch.float64)

    def loss(self, step: int) -> Tensor:
        import losses_of_a_user

        outputs = self.net(INPUTS[step % 8]) + losses_of_a_user.hidden
        losses_of_a_user.hidden = outputs.mean(dim=0).detach()
        return cross_entropy(outputs, step)

    def state(self) -> Any:
        return [self.net, self.module.hidden]


CASES: dict[str, Callable[[], Case]] = {
    "spectral_norm": SpectralNorm,
    "old spectral_norm": OldSpectralNorm,
    "hidden state, attribute of a module": ModuleAttribute,
    "hidden state, attribute of a layer": LayerAttribute,
    "hidden state, slot of an object": ObjectAttribute,
    "hidden state, nonlocal": Nonlocal,
    "hidden state, global": Global,
    "hidden state, default argument": PartialArguments,
    "codebook": VectorQuantised,
    "MoCo": MoCo,
    "DINO": DINO,
    "GAN": GAN,
    "metrics": Metrics,
    "attribute of a function": FunctionAttribute,
    "torch.Generator": lambda: OwnGenerator(
        lambda: torch.Generator().manual_seed(3), lambda g: float(torch.rand((), generator=g))
    ),
    "numpy.random.Generator": lambda: OwnGenerator(lambda: np.random.default_rng(3), lambda g: g.random()),
    "numpy.random.RandomState": lambda: OwnGenerator(lambda: np.random.RandomState(3), lambda g: g.rand()),
    "random.Random": lambda: OwnGenerator(lambda: random.Random(3), lambda g: g.random()),
    "global streams": GlobalStreams,
    "running scale": RunningScale,
    "another optimizer": OtherOptimizer,
    "a new parameter": NewParameter,
    "a hook on a weight": GradientHook,
    "a trainer of a library": LibraryTrainer,
    "a module imported inside": ImportedInside,
}
by_name = pytest.mark.parametrize("make", CASES.values(), ids=CASES.keys())


def build(make: Callable[[], Case]) -> Case:
    seed_everything()
    return make()


def bare(make: Callable[[], Case], num_steps: int) -> Case:
    """The case after some steps of the bare optimizer."""
    case = build(make)
    optimizer = optim.SGD(case.net.parameters(), lr=LR)
    for step in range(num_steps):
        optimizer.zero_grad()
        case.loss_fn(step)().backward()
        optimizer.step()
    return case


def gradient_after(make: Callable[[], Case], num_steps: int, moved: list[Tensor] | None = None) -> list[Tensor]:
    """Gradient of the next training pass, with the weights moved before it."""
    case = bare(make, num_steps)
    params = list(case.net.parameters())
    if moved is not None:
        with torch.no_grad():
            torch._foreach_add_(params, moved)
    return list(torch.autograd.grad(case.loss_fn(num_steps)(), params))


def dot(left: list[Tensor], right: list[Tensor]) -> float:
    return float(sum((a * b).sum() for a, b in zip(left, right, strict=True)))


def twins_s(make: Callable[[], Case], num_steps: int) -> float:
    """``lr g'Hg / g'g`` by a central difference of the training pass."""
    gradient = gradient_after(make, num_steps)
    length = 1e-5 / dot(gradient, gradient) ** 0.5
    ahead = gradient_after(make, num_steps, [length * g for g in gradient])
    behind = gradient_after(make, num_steps, [-length * g for g in gradient])
    return LR * (dot(ahead, gradient) - dot(behind, gradient)) / (2.0 * length) / dot(gradient, gradient)


def everything(case: Case) -> list[Any]:
    """What the case consists of, as one list of plain values, in the order in which it is found."""
    found: list[Any] = [*random_streams().values()]

    def look(thing: Any) -> None:
        if isinstance(thing, nn.Module):
            look(dict(thing.state_dict(keep_vars=True)))
            look([p.grad for p in thing.parameters()])
            look([module.training for module in thing.modules()])
            look(getattr(thing, "hidden", None))
        elif isinstance(thing, dict):
            look(list(thing.items()))
        elif isinstance(thing, (list, tuple, deque)):
            for each in thing:
                look(each)
        elif isinstance(thing, set):
            look(sorted(thing))
        elif isinstance(thing, ObjectAttribute.Memory):
            look(copy.deepcopy(thing))
        elif not callable(thing):
            found.append(thing.detach().clone() if isinstance(thing, Tensor) else copy.copy(thing))

    look(case.state())
    return found


def assert_equal(left: list[Any], right: list[Any]) -> None:
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        assert equal(a, b)


def equal(a: Any, b: Any) -> bool:
    if isinstance(a, (Tensor, np.ndarray)):
        return a.shape == b.shape and bool((a == b).all())
    return a == b


def watched(make: Callable[[], Case], num_steps: int, *, way: str = "minimize", **settings: Any) -> tuple[Case, DCAO]:
    case = build(make)
    optimizer = DCAO(optim.SGD(case.net.parameters(), lr=LR), policy=policies.Fixed(), **settings)
    for step in range(num_steps):
        loss_fn = case.loss_fn(step)

        def closure(loss_fn: Callable[[], Tensor] = loss_fn) -> Tensor:
            optimizer.zero_grad()
            loss = loss_fn()
            loss.backward()
            return loss

        optimizer.minimize(loss_fn) if way == "minimize" else optimizer.step(closure)
    return case, optimizer


@pytest.mark.parametrize("way", ["minimize", "closure"])
@by_name
def test_training_is_bit_for_bit_that_without_probes(make, way):
    expected = everything(bare(make, num_steps=8))
    case, optimizer = watched(make, 8, way=way, every=3, spectrum_every=4, measure=ProbeSettings(num_lanczos_steps=5))
    assert optimizer.last_estimate.step == 6
    assert_equal(everything(case), expected)


@pytest.mark.parametrize("way", ["minimize", "closure"])
@by_name
def test_s_is_that_of_the_training_pass(make, way):
    _, optimizer = watched(make, 5, way=way, every=2, measure="batch")
    assert (optimizer.last_estimate.step, optimizer.last_estimate.reason) == (4, "")
    # The one-sided difference over 1e-8 |w|^1/2 rounds to 1e-8, and the gradient bends by as much over its length; the
    # central one of the twin is off by (1e-5)^2 and by 1e-16 / 1e-5. Third derivatives here are below 1e3 times these.
    assert optimizer.last_estimate.s == pytest.approx(twins_s(make, 4), rel=1e-4, abs=1e-7)


@by_name
def test_every_case_has_state_that_matters(make):
    """Without this the tests above would show nothing: the same weights and batch give another gradient later."""
    case = bare(make, num_steps=2)
    before = everything(case)
    case.loss_fn(2)().backward()
    after = everything(case)
    assert len(before) != len(after) or not all(map(equal, before, after))
