"""What has to be right on any device: the checks of ``gpu_check.py``, each of which passes or fails with a number."""

from __future__ import annotations

import contextlib
import copy
import io
import math
import statistics
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn, optim
from torch.optim import Optimizer

import dcao
from dcao import DCAO, Guard, MemoryRecorder, ProbeSettings, policies
from stability_by_precision import MODES, NETWORKS, Mode, stability_and_truth


@dataclass(frozen=True)
class Outcome:
    """What a check has found: ``status`` is pass, fail or skip; ``found`` a number, or why."""

    status: str
    found: str = ""


Check = Callable[[torch.device], Outcome]


def judge(is_right: bool, found: str = "") -> Outcome:
    return Outcome("pass" if is_right else "fail", found)


# --- a small problem with all that a probe could leave a trace on


def network(device: torch.device, dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(0)
    layers = (nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Dropout(0.2), nn.Linear(16, 3))
    return nn.Sequential(*layers).to(device, dtype)


def batches(device: torch.device, dtype: torch.dtype = torch.float32) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(4, 32, 8, generator=generator, dtype=torch.float64)
    return list(zip(inputs.to(device, dtype), inputs[..., :3].argmax(-1).to(device), strict=True))


def stream(device: torch.device) -> Tensor:
    """State of the random stream from which dropout draws."""
    return torch.get_rng_state() if device.type == "cpu" else torch.get_device_module(device).get_rng_state()


def train(model: nn.Module, optimizer: Optimizer, data: list[tuple[Tensor, Tensor]], num_steps: int) -> Iterator[float]:
    """Losses of so many steps, by ``minimize`` or as torch's own loop takes them; dropout draws from the device."""
    torch.manual_seed(2)
    for step in range(num_steps):
        inputs, targets = data[step % len(data)]
        loss_fn = partial(lambda x, y: F.cross_entropy(model(x).float(), y), inputs, targets)
        if isinstance(optimizer, DCAO):
            yield float(optimizer.minimize(loss_fn))
        else:
            optimizer.zero_grad()
            loss = loss_fn()
            loss.backward()
            optimizer.step()
            yield float(loss.detach())


def everything(model: nn.Module) -> list[Tensor]:
    return [*model.state_dict().values(), *(p.grad for p in model.parameters() if p.grad is not None)]


def trains_as_bare(make: Callable[[Iterable[Tensor]], Optimizer], device: torch.device, **settings: Any) -> bool:
    """Whether six watched steps are the bare ones bit for bit: losses, weights, buffers, gradients, dropout masks."""
    ends = []
    for is_watched in (False, True):
        model = network(device)
        base = make(model.parameters())
        optimizer = DCAO(base, policy=policies.Fixed(), every=1, **settings) if is_watched else base
        losses = list(train(model, optimizer, batches(device), 6))
        ends.append((losses, everything(model), torch.rand(3, device=device)))
    (bare, bare_end, bare_next), (watched, watched_end, watched_next) = ends
    same = all(torch.equal(one, other) for one, other in zip(bare_end, watched_end, strict=True))
    return same and bare == watched and torch.equal(bare_next, watched_next)


# --- the checks

BASES: dict[str, Callable[..., Optimizer]] = {
    "SGD": partial(optim.SGD, lr=0.05, momentum=0.9),
    "Adam": partial(optim.Adam, lr=1e-3),
    "AdamW": partial(optim.AdamW, lr=1e-3),
    "NAdam": partial(optim.NAdam, lr=1e-3),
    "RMSprop": partial(optim.RMSprop, lr=1e-3),
    "Adagrad": partial(optim.Adagrad, lr=1e-2),
}


def bases(names: str, **settings: Any) -> Check:
    """Bases with such settings train as if bare while every step is probed."""

    def check(device: torch.device) -> Outcome:
        wrong, right, refused = [], [], []
        for name in names.split():
            make = partial(BASES[name], **settings)
            try:
                torchs_own = network(device)
                list(train(torchs_own, make(torchs_own.parameters()), batches(device), 1))
            except (RuntimeError, TypeError, ValueError, AssertionError):
                refused.append(name)  # by torch, without DCAO
                continue
            (right if trains_as_bare(make, device) else wrong).append(name)
        if not (wrong or right):
            return Outcome("skip", f"torch refuses it on {device.type}")
        words = [f"{', '.join(right)}" if right else "", f"not {', '.join(wrong)}" if wrong else ""]
        words.append(f"torch refuses {', '.join(refused)}" if refused else "")
        return judge(not wrong, "; ".join(word for word in words if word))

    return check


def tensor_lr(device: torch.device) -> Outcome:
    """The default policy writes an lr that is a tensor on the device, in place."""
    model, lr = network(device), torch.tensor(1e-3, device=device)
    base = optim.AdamW(model.parameters(), lr=lr, capturable=device.type == "cuda", foreach=device.type == "cuda")
    optimizer = DCAO(base)
    list(train(model, optimizer, batches(device), 10))
    is_same = base.param_groups[0]["lr"] is lr
    return judge(is_same and float(lr) != 1e-3 and lr.device.type == device.type, f"lr {float(lr):.3g}")


def default_policy(device: torch.device) -> Outcome:
    """Every initial lr leads to the same run, and its loss falls."""
    ends = []
    for lr in (1e-7, 1.0):
        model = network(device).eval()  # no dropout
        optimizer = DCAO(optim.AdamW(model.parameters(), lr=lr))
        losses = list(train(model, optimizer, batches(device), 60))
        ends.append((losses[0], losses[-1], optimizer.effective_lrs[0]))
    (first, last, lr), (_, _, other) = ends
    return judge(last < 0.9 * first and math.isclose(lr, other, rel_tol=1e-3), f"lr {lr:.3g} and {other:.3g}")


def measure_on(device: torch.device, measure: str, dtype: torch.dtype) -> float:
    model = network(torch.device("cpu"), dtype).eval().to(device)
    inputs, targets = batches(device, dtype)[0]
    optimizer = DCAO(optim.SGD(model.parameters(), lr=0.1), policy=policies.Fixed(), measure=ProbeSettings(measure))
    s = optimizer.probe(lambda: F.cross_entropy(model(inputs), targets)).s
    return math.nan if s is None else s


def measures(dtype: torch.dtype, tolerance: float) -> Check:
    """Every measure says what it says on the CPU."""

    def check(device: torch.device) -> Outcome:
        errors = {}
        for measure in ("load", "batch", "preconditioned", "hessian"):
            here, there = (measure_on(place, measure, dtype) for place in (device, torch.device("cpu")))
            errors[measure] = abs(here / there - 1.0)
        worst = max(errors, key=errors.__getitem__)
        # nan compares as false
        is_right = all(error <= tolerance for error in errors.values())
        return judge(is_right, f"{errors[worst]:.1e} at most ({worst})")

    return check


def precision(mode: Mode, tolerance: float, *, allows_tf32: bool = False) -> Check:
    """The median error of s against float64 in a mode of mixed or half precision."""

    def check(device: torch.device) -> Outcome:
        if allows_tf32 and device.type != "cuda":
            return Outcome("skip", "needs CUDA")
        with tf32(allows_tf32) if device.type == "cuda" else contextlib.nullcontext():
            each = [stability_and_truth(name, "AdamW", mode, 16, device.type) for name in NETWORKS]
            pairs = [pair for pairs in each for pair in pairs]
        errors = [abs(s / truth - 1.0) for s, truth in pairs]
        if not errors:
            return Outcome("fail", "no probe has measured anything")
        return judge(statistics.median(errors) <= tolerance, f"median error {statistics.median(errors):.2%}")

    return check


@contextlib.contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Context in which CUDA may, or may not, round the inputs of float32 products to 11 bits."""
    settings = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [setting.allow_tf32 for setting in settings]
    try:
        for setting in settings:
            setting.allow_tf32 = allowed
        yield
    finally:
        for setting, value in zip(settings, before, strict=True):
            setting.allow_tf32 = value


def checkpoint(device: torch.device) -> Outcome:
    """A run resumed from a checkpoint on the disk, read onto the CPU, goes on bit for bit."""
    model = network(device).eval()
    optimizer = DCAO(optim.AdamW(model.parameters(), lr=1e-3))
    list(train(model, optimizer, batches(device), 12))
    file = io.BytesIO()
    torch.save((model.state_dict(), optimizer.state_dict()), file)
    expected = list(train(model, optimizer, batches(device), 20))
    file.seek(0)
    weights, state = torch.load(file, map_location="cpu")
    again = network(device).eval()
    again.load_state_dict(weights)
    resumed = DCAO(optim.AdamW(again.parameters(), lr=1e-3))
    resumed.load_state_dict(state)
    found = list(train(again, resumed, batches(device), 20))
    return judge(found == expected and resumed.effective_lrs == optimizer.effective_lrs)


def guard(device: torch.device) -> Outcome:
    """Three batches of nan are skipped, and the weights stay finite."""
    model = network(device)
    optimizer = DCAO(optim.AdamW(model.parameters(), lr=1e-3), guard=Guard())
    data = batches(device)
    for step, (inputs, targets) in enumerate(data * 5):
        factor = math.nan if step in (7, 11, 12) else 1.0
        optimizer.minimize(partial(lambda x, y: F.cross_entropy(model(x), y), factor * inputs, targets))
    is_finite = all(bool(value.isfinite().all()) for value in model.state_dict().values())
    return judge(is_finite and optimizer.num_skipped == 3, f"{optimizer.num_skipped} steps skipped")


def finding(device: torch.device) -> Outcome:
    """``find_lr`` finds a number and puts everything back."""
    model = network(device)
    base = optim.AdamW(model.parameters())
    before, state = copy.deepcopy(model.state_dict()), stream(device)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a short search may find no limit
        found = dcao.find_lr(base, batches(device), lambda batch: F.cross_entropy(model(batch[0]), batch[1]))
    same = all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    same = same and torch.equal(state, stream(device))
    return judge(same, f"lr {found.lr}" if found.lr is None else f"lr {found.lr:.3g}")


def compiled(device: torch.device) -> Outcome:
    """A compiled model trains as if bare while it is probed, is measured, and is compiled no more often."""
    backend = "inductor" if device.type == "cuda" else "aot_eager"
    ends, counts = [], []
    for is_watched in (False, True):
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        plain = network(device).eval()
        base = optim.AdamW(plain.parameters(), lr=1e-3)
        optimizer = DCAO(base, policy=policies.Fixed(), every=1) if is_watched else base
        losses = list(train(torch.compile(plain, backend=backend), optimizer, batches(device), 5))
        ends.append((losses, everything(plain)))
        counts.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    torch._dynamo.reset()
    (bare, bare_end), (watched, watched_end) = ends
    same = bare == watched and all(torch.equal(one, other) for one, other in zip(bare_end, watched_end, strict=True))
    assert isinstance(optimizer, DCAO)
    estimate = optimizer.last_estimate
    is_measured = estimate is not None and estimate.s is not None
    return judge(same and is_measured and counts[0] == counts[1], f"{backend}, {counts[0]} and {counts[1]} graphs")


def distributed(device: torch.device) -> Outcome:
    """DistributedDataParallel in one process: probes see the model as without."""
    backend = "nccl" if device.type == "cuda" else "gloo"
    records = []
    for is_wrapped in (False, True):
        model, recorder = network(device).eval(), MemoryRecorder()
        with group(backend) if is_wrapped else contextlib.nullcontext():
            replica = nn.parallel.DistributedDataParallel(model) if is_wrapped else model
            optimizer = DCAO(optim.AdamW(model.parameters(), lr=1e-3), every=2, recorder=recorder)
            list(train(replica, optimizer, batches(device), 10))
            del replica, optimizer
        records.append([(each.estimate.s, each.after.lr) for each in recorder.records if each.estimate is not None])
    error = max(abs(one[0] / other[0] - 1.0) for one, other in zip(*records, strict=True))
    return judge(error <= 1e-3, f"{backend}, s within {error:.1e}")


@contextlib.contextmanager
def group(backend: str) -> Iterator[None]:
    torch.distributed.init_process_group(backend, store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()


BY_NAME = {mode.name: mode for mode in MODES}

CHECKS: dict[str, Check] = {
    "bit for bit as bare: loops": bases("SGD Adam AdamW NAdam RMSprop Adagrad", foreach=False),
    "bit for bit as bare: foreach": bases("SGD Adam AdamW NAdam RMSprop Adagrad", foreach=True),
    "bit for bit as bare: fused": bases("SGD Adam AdamW Adagrad", fused=True),
    "bit for bit as bare: capturable": bases("Adam AdamW NAdam RMSprop", capturable=True),
    "an lr that is a tensor": tensor_lr,
    "the same run from any lr": default_policy,
    "s as on the CPU, float64": measures(torch.float64, 1e-5),
    "s as on the CPU, float32": measures(torch.float32, 2e-2),
    # Twice the medians of docs/measuring.md and more: other kernels round in another order.
    "s in float32": precision(BY_NAME["float32"], 0.005),
    "s in float32 with TF32": precision(BY_NAME["float32"], 0.05, allows_tf32=True),
    "s under autocast to bfloat16": precision(BY_NAME["autocast bfloat16"], 0.1),
    "s under autocast to float16, GradScaler": precision(BY_NAME["autocast float16, GradScaler"], 0.05),
    "the same with a loss of 0.001": precision(BY_NAME["the same, a loss of 0.001"], 0.05),
    "s with parameters in bfloat16": precision(BY_NAME["parameters in bfloat16"], 0.01),
    "s with parameters in float16": precision(BY_NAME["parameters in float16"], 0.01),
    "a compiled model": compiled,
    "DistributedDataParallel, one rank": distributed,
    "checkpoint through the CPU": checkpoint,
    "batches of nan": guard,
    "find_lr leaves no trace": finding,
}
