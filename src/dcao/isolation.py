"""What an evaluation of the loss may change is saved before a probe and put back after it, bit for bit."""

from __future__ import annotations

import gc
import random
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from dcao.shards import evaluating_shards, gather_nothing
from dcao.state.buffers import in_copies
from dcao.state.probing import probing
from dcao.vectors import unique

if TYPE_CHECKING:
    from dcao.state.start import Start

T = TypeVar("T")

AUTOCAST_DEVICES = ("cpu", "cuda", "xpu", "mps")


@contextmanager
def leave_no_trace(
    params: Sequence[Tensor],
    *,
    modules: Sequence[nn.Module] | None = None,
    rng_state: RngState | None = None,
) -> Iterator[None]:
    """Context in which a loss can be evaluated any number of times without leaving a trace.

    On exit, also after an exception, these are bit for bit what they were: ``.grad`` and ``requires_grad`` of
    ``params`` and of all parameters of ``modules``, the random streams (torch on the CPU and on the devices of
    ``params``, Python's, NumPy's if loaded), the autocast state, and for ``modules`` the buffers (BatchNorm's running
    statistics) and train/eval flags. Buffers are swapped for copies while the context lasts, so that a graph that holds
    the originals stays valid, and what ``parametrize.cached()`` holds is put aside. Every ``.grad`` reads ``None``
    inside the context, and :func:`dcao.is_probing` says True.

    Args:
        params: Parameters of the loss.
        modules: Modules to protect; default: the whole model(s) that ``params`` belong to (:func:`model_modules`).
            Finding them takes tens of milliseconds, so pass them if you enter the context often.
        rng_state: If given, the random streams start from here, so that two evaluations see the same dropout mask. Its
            ``start`` does the same for all other state that the loss reaches, which is then protected too.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Dropout())
        >>> before = model[1].running_mean.clone()
        >>> with leave_no_trace(list(model.parameters())):
        ...     _ = model(torch.randn(8, 2))
        >>> torch.equal(model[1].running_mean, before)
        True
    """
    modules = model_modules(params) if modules is None else modules
    start = None if rng_state is None else rng_state.start
    if start is not None:
        modules = unique((*modules, *start.modules))
    outer_rng = capture_rng(params)
    outer_autocast = _capture_autocast()
    # All parameters, because a closure also fills the gradients of those that are not probed.
    parameters = _all_parameters(params if start is None else (*params, *start.leaves), modules)
    grads = [(p, p.grad) for p in parameters]
    flags = [(p, p.requires_grad) for p in parameters]
    training = [(module, module.training) for module in modules]
    parametrized, parametrize._cache = parametrize._cache, {}  # the present weights' alone, and their graph is freed
    try:
        for p in parameters:
            p.grad = None
        if rng_state is not None:
            restore_rng(rng_state)
        # Autocast caches low-precision copies of the weights, and a probe that moves the weights must not read stale
        # ones. Clearing the cache is enough, since each evaluation has a context of its own. Switching it off would
        # make torch.compile, which guards on that, compile again.
        torch.clear_autocast_cache()
        gather_nothing(modules)  # before the state of the modules is read, which has to be that of their shards
        entered = nullcontext() if start is None else start.entered()
        with in_copies(modules, start), torch.enable_grad(), probing(), entered, evaluating_shards(modules):
            yield
    finally:
        parametrize._cache = parametrized
        for module, flag in training:
            module.training = flag
        for p, flag in flags:
            p.requires_grad_(flag)
        for p, grad in grads:
            p.grad = grad
        torch.clear_autocast_cache()
        _restore_autocast(outer_autocast)
        restore_rng(outer_rng)


@contextmanager
def without_autocast() -> Iterator[None]:
    """Context in which autocast is off, for our own arithmetic: autocast would round it to half precision.

    Example:
        >>> with torch.autocast("cpu"), without_autocast():
        ...     (torch.ones(1, 1) @ torch.ones(1, 1)).dtype
        torch.float32
    """
    outer = _capture_autocast()
    try:
        for device in AUTOCAST_DEVICES:
            torch.set_autocast_enabled(device, False)
        yield
    finally:
        _restore_autocast(outer)


def keeping_autocast(function: Callable[[], T]) -> Callable[[], T]:
    """A function that calls ``function`` under the present autocast state, whenever it is called.

    Example:
        >>> with torch.autocast("cpu"):
        ...     product = keeping_autocast(lambda: torch.ones(1, 1) @ torch.ones(1, 1))
        >>> product().dtype
        torch.bfloat16
    """
    wanted = _capture_autocast()

    def run() -> T:
        outer = _capture_autocast()
        _restore_autocast(wanted)
        try:
            return function()
        finally:
            _restore_autocast(outer)

    return run


@torch._disable_dynamo  # type: ignore[attr-defined]  # as torch does: a public one would load the compiler at import
def live_instances(kind: type[T]) -> list[T]:
    """Every live instance of ``kind``, found among the objects of the garbage collector.

    The check uses ``type()`` and not ``isinstance()``, which may run code of proxies such as mocks and lazy modules.

    Example:
        >>> layer = nn.Linear(2, 2)
        >>> any(each is layer for each in live_instances(nn.Linear))
        True
    """
    is_kind = _SubclassCache(kind)
    return [each for each in gc.get_objects() if is_kind[type(each)]]


class _SubclassCache(dict[type, bool]):
    """Whether a type is a subclass of ``kind``; looking an answer up is faster than ``issubclass``."""

    def __init__(self, kind: type) -> None:
        self.kind = kind

    def __missing__(self, asked: type) -> bool:
        self[asked] = issubclass(asked, self.kind)
        return self[asked]


def model_modules(params: Iterable[Tensor]) -> list[nn.Module]:
    """Every module of the model or models that hold ``params``, found without a reference to the model.

    This takes one pass over the garbage collector's objects (tens of milliseconds). A global forward hook would be
    faster, but it makes ``torch.compile`` compile again, and does not fire inside a compiled function (both measured).

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2, affine=False))
        >>> sorted(type(m).__name__ for m in model_modules(model.parameters()))
        ['BatchNorm1d', 'Linear', 'Sequential']
    """
    wanted = {id(p) for p in params}
    alive = [module for module in live_instances(nn.Module) if "_modules" in module.__dict__]
    parents: dict[int, list[nn.Module]] = {}
    for module in alive:
        for child in module._modules.values():
            parents.setdefault(id(child), []).append(module)
    found: dict[int, nn.Module] = {}
    queue = [m for m in alive if any(id(p) in wanted for p in m._parameters.values())]
    while queue:
        module = queue.pop()
        if id(module) not in found:
            found[id(module)] = module
            queue.extend(parents.get(id(module), ()))
            queue.extend(child for child in module._modules.values() if child is not None)
    return list(found.values())


@dataclass(frozen=True, kw_only=True)
class RngState:
    """The states of the random streams that a loss may draw from.

    Attributes:
        cpu: State of torch's CPU generator.
        devices: State of the default generator of each device that holds parameters.
        python: State of the module ``random``.
        numpy: State of NumPy's global generator; None if NumPy is not loaded.
        start: All other state that the loss starts from; None: as it is.
    """

    cpu: Tensor
    devices: tuple[tuple[torch.device, Tensor], ...]
    python: Any
    numpy: Any
    start: Start | None = None


def capture_rng(params: Iterable[Tensor]) -> RngState:
    """The present states of torch's streams (CPU and the devices of ``params``), Python's, and NumPy's if loaded."""
    devices = sorted({p.device for p in params if p.device.type not in ("cpu", "meta")}, key=str)
    numpy = sys.modules.get("numpy")
    return RngState(
        cpu=torch.get_rng_state(),
        devices=tuple((d, torch.get_device_module(d).get_rng_state(d)) for d in devices),
        python=random.getstate(),
        numpy=numpy.random.get_state() if numpy is not None else None,
    )


def restore_rng(state: RngState) -> None:
    """Put the random streams back to ``state``."""
    torch.set_rng_state(state.cpu)
    for device, device_state in state.devices:
        torch.get_device_module(device).set_rng_state(device_state, device)
    random.setstate(state.python)
    if state.numpy is not None:
        sys.modules["numpy"].random.set_state(state.numpy)


def seeded_rng(seed: int, like: RngState) -> RngState:
    """States of torch's and Python's streams seeded with ``seed``, on the devices of ``like``.

    The state of NumPy and the ``start`` are those of ``like``. The states come from new generators, because
    ``torch.manual_seed`` would seed every device of the machine, while a probe puts back only those that hold
    parameters.
    """
    return RngState(
        cpu=torch.Generator("cpu").manual_seed(seed).get_state(),
        devices=tuple((device, torch.Generator(device).manual_seed(seed).get_state()) for device, _ in like.devices),
        python=random.Random(seed).getstate(),
        numpy=like.numpy,
        start=like.start,
    )


def _all_parameters(params: Sequence[Tensor], modules: Sequence[nn.Module]) -> list[Tensor]:
    own = (p for module in modules for p in module._parameters.values() if p is not None)
    return unique((*params, *own))


def _capture_autocast() -> tuple[bool, list[tuple[str, bool, torch.dtype]]]:
    devices = [(d, torch.is_autocast_enabled(d), torch.get_autocast_dtype(d)) for d in AUTOCAST_DEVICES]
    return torch.is_autocast_cache_enabled(), devices


def _restore_autocast(saved: tuple[bool, list[tuple[str, bool, torch.dtype]]]) -> None:
    cache_enabled, devices = saved
    torch.set_autocast_cache_enabled(cache_enabled)
    for device, enabled, dtype in devices:
        torch.set_autocast_enabled(device, enabled)
        torch.set_autocast_dtype(device, dtype)
