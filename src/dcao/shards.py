"""Tensors of which each process holds a part: DTensors, as ``fully_shard`` and ``parallelize_module`` make them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeGuard, TypeVar

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

T = TypeVar("T")


def is_shard(tensor: object) -> TypeGuard[DTensor]:
    """Whether a tensor is spread over the ranks of a mesh, even if that is a mesh of one.

    Example:
        >>> is_shard(torch.ones(2))
        False
    """
    loaded = sys.modules.get("torch.distributed.tensor")  # who has made one has imported it
    return loaded is not None and isinstance(tensor, loaded.DTensor)


def local_part(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor, in the same memory: all of it, unless it is a shard.

    Example:
        >>> whole = torch.ones(2)
        >>> local_part(whole) is whole
        True
    """
    if not is_shard(tensor):
        return tensor
    assert not any(placement.is_partial() for placement in tensor.placements)  # see placed_like
    with torch.no_grad():
        return tensor.to_local().detach()


def placed_like(gradient: Tensor, param: Tensor) -> Tensor:
    """A gradient spread over the ranks in the same way as its parameter.

    Some are left as sums that are still to be made over the ranks. All ranks have to call this.
    """
    if not is_shard(gradient) or not is_shard(param) or gradient.placements == param.placements:
        return gradient
    return gradient.redistribute(placements=param.placements)


def gradients_of(params: Iterable[Tensor]) -> list[Tensor]:
    """The gradients that are there, each spread over the ranks as its parameter is."""
    return [placed_like(p.grad, p) for p in params if p.grad is not None]


def cut(whole: Tensor, like: DTensor) -> Tensor:
    """The part of ``whole`` that this process holds of a tensor of the same shape."""
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

    shape, offset = compute_local_shape_and_global_offset(like.shape, like.device_mesh, like.placements)
    for dim, (length, begin) in enumerate(zip(shape, offset, strict=True)):
        whole = whole.narrow(dim, min(begin, whole.shape[dim]), length)
    return whole


def whole_value(number: Any) -> Any:
    """A loss as one number that this process holds, where tensor parallelism has left it spread over the ranks."""
    return number.full_tensor() if is_shard(number) else number


# --- fully_shard ------------------------------------------------------------------------------------------------------


def fully_sharded(modules: Iterable[nn.Module]) -> list[Any]:
    """Those of ``modules`` whose parameters ``fully_shard`` gathers before they are used."""
    loaded = sys.modules.get("torch.distributed.fsdp")
    return [] if loaded is None else [module for module in modules if isinstance(module, loaded.FSDPModule)]


def class_before_sharding(kind: type) -> type:
    """The class that a module had before ``fully_shard`` has given it one of its own; else ``kind`` itself."""
    loaded = sys.modules.get("torch.distributed.fsdp")
    return kind.__bases__[-1] if loaded is not None and issubclass(kind, loaded.FSDPModule) else kind


@contextmanager
def evaluating_shards(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Context for an evaluation, in which parameters are gathered; after an exception they are given back too."""
    found = fully_sharded(modules)
    with _reducing_gradients(found):
        try:
            yield
        except BaseException:
            _reset(found)
            raise


@contextmanager
def _reducing_gradients(modules: Sequence[Any]) -> Iterator[None]:
    """Context in which a backward pass leaves gradients in the shards, as the last one of a training step does.

    Accumulation without communication switches that off for all but the last micro-batch, and some trainers leave it
    switched off. The gradients that it holds back until then are put aside.
    """
    inside: list[tuple[object, dict[str, Any]]] = []
    for module in modules:
        state = module._get_fsdp_state()
        inside.append((state._state_ctx, {"is_last_backward": True}))
        for group in _groups_of(state):
            inside.append((group, {"reduce_grads": True, "all_reduce_grads": True, "_partial_reduce_output": None}))
            for each in group.fsdp_params:
                inside.append((each, {"unsharded_accumulated_grad": None}))
                if (param := _gathered(each)) is not None:
                    inside.append((param, {"grad": None}))
    outside = [(each, {name: getattr(each, name) for name in values}) for each, values in inside]
    try:
        _set_attributes(inside)
        yield
    finally:
        _set_attributes(reversed(outside))


def holds_back_gradients(modules: Iterable[nn.Module]) -> bool:
    """Whether gradients are accumulated that the next backward pass will add to those of its own."""
    groups = [group for module in fully_sharded(modules) for group in _groups_of(module._get_fsdp_state())]
    held = [(each.unsharded_accumulated_grad, _gathered(each)) for group in groups for each in group.fsdp_params]
    return any(grad is not None or (param is not None and param.grad is not None) for grad, param in held)


def _gathered(each: Any) -> Tensor | None:
    """What a parameter is gathered in, which keeps a gradient also while it holds nothing else."""
    param: Tensor | None = getattr(each, "_unsharded_param", None)  # not there before the first forward pass
    return param


def _groups_of(state: Any) -> list[Any]:
    """The groups of parameters that one ``fully_shard`` gathers; before torch 2.13 at most one."""
    if hasattr(state, "_fsdp_param_groups"):
        return list(state._fsdp_param_groups)
    return [] if state._fsdp_param_group is None else [state._fsdp_param_group]


def _set_attributes(settings: Iterable[tuple[object, dict[str, Any]]]) -> None:
    for each, values in settings:
        for name, value in values.items():
            setattr(each, name, value)


def gather_nothing(modules: Iterable[nn.Module]) -> None:
    """Give back the parameters that ``fully_shard`` has gathered, so that modules hold the shards.

    What a forward pass without a backward pass has gathered, as a validation does, stays until it is used; a probe that
    has moved the shards must not read that.
    """
    for module in fully_sharded(modules):
        module.reshard()


def _reset(modules: Sequence[Any]) -> None:
    for module in modules:
        if hasattr(module, "reset_iter_state"):  # of torch 2.13
            try:
                module.reset_iter_state()
            except RuntimeError:  # not the root
                continue
        else:
            module.reshard()


class Gathering:
    """What a forward pass gathers, so that a rank which fails in it can take part to the end.

    A rank whose loss raises has not gathered the parameters of the layers that it has not come to, and the others would
    wait for it. It gathers them in the order of the last whole pass; before the first one, in that of the definition.
    With compiled modules, which hooks would make torch compile again, and in backward passes nothing stands in.

    Args:
        modules: All modules of the model.
    """

    def __init__(self, modules: Sequence[nn.Module] = ()) -> None:
        found = fully_sharded(modules)
        inner = {id(each) for module in found for each in module.modules() if each is not module}
        roots = [module for module in found if id(module) not in inner]
        self._order = fully_sharded(each for root in roots for each in root.modules())
        self._roots = {id(root) for root in roots}
        self._is_watched = bool(found) and not any(map(_is_compiled, modules))

    def forward(self, evaluate: Callable[[], T]) -> T:
        """What ``evaluate`` returns, which runs the forward pass; if it raises, this rank has gathered all the same."""
        if not self._is_watched:
            return evaluate()
        entered: list[Any] = []
        handles = [
            module.register_forward_pre_hook(lambda module, _: entered.append(module))
            for module in {id(module): module for module in self._order}.values()
        ]
        try:
            result = evaluate()
        except Exception:
            self._gather_the_rest(len(entered))
            raise
        finally:
            for handle in handles:
                handle.remove()
        self._order = entered
        return result

    def _gather_the_rest(self, num_entered: int) -> None:
        """Gather what layers from this one on would have gathered; layers sharded together gather once a pass."""
        passes: dict[int, set[int]] = {}  # the layers of each group that its present pass has come to
        for index, module in enumerate(self._order):
            group = passes.setdefault(id(module._get_fsdp_state()), set())
            is_gathered = bool(group) and id(module) not in group
            if not is_gathered:
                group.clear()
            group.add(id(module))
            if is_gathered or index < num_entered:
                continue
            module.unshard()
            if id(module) not in self._roots:  # which stays gathered until the backward pass
                module.reshard()


def _is_compiled(module: nn.Module) -> bool:
    return module._compiled_call_impl is not None or type(module).__name__ == "OptimizedModule"
