"""Rows and drivers of the contract suite: optimizers, ways into DCAO, and a run that tells all it left behind."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn, optim
from torch.optim import Optimizer

from dcao import DCAO, ProbeSettings, policies
from helpers.optimizer_cases import ADAM, OPTIMIZER_CASES, SGD, OptimizerCase

MEASURES = ("load", "batch", "preconditioned", "hessian")
DEVICE = torch.device(os.environ.get("DCAO_TEST_DEVICE", "cpu"))
"""Where runs are made; benchmarks/gpu_check.py asks for another one."""


class Lion(Optimizer):
    """An optimizer that DCAO knows nothing of."""

    def __init__(self, params: Iterable[Tensor], lr: float) -> None:
        super().__init__(params, {"lr": lr, "beta": 0.9})

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    average = self.state[p].setdefault("average", torch.zeros_like(p))
                    p.sub_(average.lerp(p.grad, 0.1).sign_(), alpha=group["lr"])
                    average.lerp_(p.grad, 1.0 - group["beta"])
        return loss


def tensor_lr(make: Callable[..., Optimizer], params: Iterable[Tensor], lr: float) -> Optimizer:
    return make(params, lr=torch.tensor(lr))


# How torch carries out the same update: rows of the same kind as the options of optimizer_cases.
IMPLEMENTATION_CASES = [
    OptimizerCase("sgd-foreach", partial(optim.SGD, momentum=0.9, foreach=True), SGD),
    OptimizerCase("sgd-fused", partial(optim.SGD, momentum=0.9, fused=True), SGD),
    OptimizerCase("adam-foreach", partial(optim.Adam, foreach=True), ADAM),
    OptimizerCase("adam-fused", partial(optim.Adam, fused=True), ADAM),
    OptimizerCase("adamw-foreach", partial(optim.AdamW, foreach=True), ADAM),
    OptimizerCase("adamw-fused", partial(optim.AdamW, fused=True), ADAM),
    OptimizerCase("adagrad-foreach", partial(optim.Adagrad, foreach=True), ADAM),
    OptimizerCase("adagrad-fused", partial(optim.Adagrad, fused=True), ADAM),
    OptimizerCase("rmsprop-foreach", partial(optim.RMSprop, momentum=0.9, foreach=True), ADAM),
    OptimizerCase("nadam-foreach", partial(optim.NAdam, foreach=True), ADAM),
    OptimizerCase("sgd-tensor-lr", partial(tensor_lr, partial(optim.SGD, momentum=0.9, foreach=False)), SGD),
    OptimizerCase("adam-tensor-lr", partial(tensor_lr, partial(optim.Adam, foreach=False)), ADAM),
    OptimizerCase("adamw-fused-tensor-lr", partial(tensor_lr, partial(optim.AdamW, fused=True)), ADAM),
]
ALL_CASES = [*OPTIMIZER_CASES, *IMPLEMENTATION_CASES]

# One row per optimizer that issue 2 names: contracts that do not depend on the options.
_BY_NAME = {case.name: case for case in ALL_CASES}
NAMED_CASES = [
    _BY_NAME[name]
    for name in (
        "sgd",
        "sgd-momentum",
        "sgd-nesterov",
        "adam",
        "adam-amsgrad",
        "adamw-wd",
        "adamw-fused",
        "adam-tensor-lr",
        "nadam",
        "rmsprop-momentum",
        "adagrad",
    )
]
FEW_CASES = [_BY_NAME[name] for name in ("sgd-momentum", "adamw-wd", "rmsprop-momentum")]
UNKNOWN_CASE = OptimizerCase("lion", Lion, 1e-3)


def named(name: str) -> OptimizerCase:
    return _BY_NAME[name]


def case_name(case: Any) -> str:
    return str(case.name)


def make_model() -> nn.Module:
    """Everything that a probe could leave a trace on: dropout, BatchNorm, a tied weight, a frozen layer."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        first = nn.Linear(6, 6)
        second = nn.Linear(6, 6)
        second.weight = first.weight
        frozen = nn.Linear(6, 6).requires_grad_(False)
        return nn.Sequential(
            frozen, first, nn.BatchNorm1d(6), nn.Tanh(), nn.Dropout(0.2), second, nn.Tanh(), nn.Linear(6, 3)
        ).to(DEVICE)


def make_batches(num_batches: int = 8, batch_size: int = 16) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(11)
    inputs = torch.randn(num_batches, batch_size, 6, generator=generator)
    targets = torch.randint(0, 3, (num_batches, batch_size), generator=generator)
    return list(zip(inputs.to(DEVICE), targets.to(DEVICE), strict=True))


BATCHES = make_batches()


def trainable(model: nn.Module) -> list[nn.Parameter]:
    return [p for p in model.parameters() if p.requires_grad]


def seed_everything(seed: int = 0) -> None:
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - the legacy stream is the one that a user's code may share with us


@dataclass
class Run:
    """A model, its optimizer, and the way that training steps are taken; everything in it can be copied.

    Attributes:
        way: How a training step is taken: a name in ``WAYS``.
        num_done: Steps taken; the next batch follows from it.
        losses: One a step.
    """

    model: nn.Module
    optimizer: Optimizer
    way: str = "minimize"
    num_done: int = 0
    losses: list[float] = field(default_factory=list)

    def loss(self) -> Tensor:
        inputs, targets = BATCHES[self.num_done % len(BATCHES)]
        return F.cross_entropy(self.model(inputs), targets)

    def backward(self) -> Tensor:
        self.optimizer.zero_grad()
        loss = self.loss()
        loss.backward()
        return loss

    def advance(self, num_steps: int, after: Callable[[], Any] = lambda: None) -> Run:
        """Steps, with ``after`` (a scheduler's step) behind each."""
        for _ in range(num_steps):
            self.losses.append(float(WAYS[self.way](self).detach()))
            self.num_done += 1
            after()
        return self


def _minimize(run: Run) -> Tensor:
    assert isinstance(run.optimizer, DCAO)
    return run.optimizer.minimize(run.loss)


def _closure(run: Run) -> Tensor:
    return run.optimizer.step(run.backward)


def _step(run: Run) -> Tensor:
    loss = run.backward()
    run.optimizer.step()
    return loss


def _probe_and_step(run: Run) -> Tensor:
    loss = run.backward()
    assert isinstance(run.optimizer, DCAO)
    run.optimizer.probe(run.loss, spectrum=run.num_done % 2 == 0)
    run.optimizer.step()
    return loss


WAYS: dict[str, Callable[[Run], Tensor]] = {
    "minimize": _minimize,
    "closure": _closure,
    "step": _step,
    "probe+step": _probe_and_step,
}
DCAO_WAYS = ("minimize", "closure", "probe+step")


def bare_run(case: OptimizerCase, lr: float | None = None, *, way: str = "step") -> Run:
    """The bare optimizer's run: what every contract is held against."""
    model = make_model()
    return Run(model, case.make(trainable(model), case.lr if lr is None else lr), way)


def options(**settings: Any) -> dict[str, Any]:
    """Arguments of DCAO, in which what a :class:`ProbeSettings` takes may be named like any other."""
    names = {each.name for each in fields(ProbeSettings)}
    probed = {name: settings.pop(name) for name in names & settings.keys()}
    return {**settings, "measure": ProbeSettings(**probed)}


def dcao_run(case: OptimizerCase, lr: float | None = None, *, way: str = "minimize", **settings: Any) -> Run:
    model = make_model()
    base = case.make(trainable(model), case.lr if lr is None else lr)
    return Run(model, DCAO(base, **options(**settings)), way)


def watching(**settings: Any) -> dict[str, Any]:
    """Settings that probe all the time and change nothing."""
    usual = {"policy": policies.Fixed(), "every": 1, "spectrum_every": 2, "k": 2, "num_lanczos_steps": 4}
    return {**usual, **settings}


def adapting(**settings: Any) -> dict[str, Any]:
    """Settings under which the lr really moves: by the proposal's rule, if a target for it is named."""
    if "target" in settings:
        rule = {name: settings.pop(name) for name in ("target", "settle", "never_above_schedule") if name in settings}
        settings["policy"] = policies.Smoothed(policies.LearningRate(**rule))
    return {"every": 2, "k": 1, "num_lanczos_steps": 4, **settings}


def snapshot(run: Run) -> dict[str, Any]:
    """Everything that training depends on, copied."""
    optimizer = run.optimizer.base if isinstance(run.optimizer, DCAO) else run.optimizer
    tensors = {name: t.detach().clone() for name, t in run.model.state_dict(keep_vars=True).items()}
    for name, p in run.model.named_parameters():
        if p.grad is not None:
            tensors[f"{name}.grad"] = p.grad.clone()
    for index, p in enumerate(p for group in optimizer.param_groups for p in group["params"]):
        for key, value in optimizer.state.get(p, {}).items():
            tensors[f"state {index} {key}"] = torch.as_tensor(value).detach().clone()
    return {
        "tensors": tensors,
        "lrs": [float(group["lr"]) for group in optimizer.param_groups],
        "training": [module.training for module in run.model.modules()],
        "requires_grad": [p.requires_grad for p in run.model.parameters()],
        "grad ids": [id(p.grad) for p in run.model.parameters()],
        "param ids": [(id(p), p.data_ptr()) for p in run.model.parameters()],
        "buffer ids": [id(buffer) for buffer in run.model.buffers()],
        "autocast": (
            torch.is_autocast_enabled(DEVICE.type),
            torch.get_autocast_dtype(DEVICE.type),
            torch.is_autocast_cache_enabled(),
        ),
        **random_streams(),
    }


def random_streams() -> dict[str, Any]:
    numpy_state = np.random.get_state()  # noqa: NPY002
    of_device = {} if DEVICE.type == "cpu" else {"device rng": torch.get_device_module(DEVICE).get_rng_state()}
    return {
        **of_device,
        "torch rng": torch.get_rng_state(),
        "python rng": random.getstate(),
        "numpy rng": [part.tolist() if isinstance(part, np.ndarray) else part for part in numpy_state],
    }


WHERE = ("grad ids", "param ids", "buffer ids")  # of one process's objects; two runs cannot share them


def assert_same(left: dict[str, Any], right: dict[str, Any], *, ignore: tuple[str, ...] = ()) -> None:
    """Bit for bit, and with the difference named."""
    assert left.keys() == right.keys()
    for key in left.keys() - set(ignore):
        if isinstance(left[key], Tensor):
            assert torch.equal(left[key], right[key]), key
        elif key == "tensors":
            assert_same_tensors(left[key], right[key])
        else:
            assert left[key] == right[key], key


def assert_same_tensors(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        assert tensor.dtype == right[name].dtype, name
        assert torch.equal(tensor.nan_to_num(7.0), right[name].nan_to_num(7.0)), name


def assert_same_run(left: Run, right: Run) -> None:
    """Two runs that went the same way: losses, weights, buffers, gradients, optimizer state, flags."""
    assert left.losses == right.losses
    streams = ("torch rng", "device rng", "python rng", "numpy rng")  # of the process, not of a run
    assert_same(snapshot(left), snapshot(right), ignore=(*WHERE, *streams))
