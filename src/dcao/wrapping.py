"""An optimizer around another one, by torch's contract: shared groups and state, checkpoints, copies."""

from __future__ import annotations

import functools
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer

from dcao.checkpoints import KEY, as_text, from_text, with_text, without_text
from dcao.gradients.presence import any_is_not_zero
from dcao.uncompiled import uncompiled
from dcao.vectors import params_of

Step = Callable[..., Any]


def with_own_hooks(step: Step) -> Step:
    """``step`` of a wrapping optimizer, with the hooks that were registered on this optimizer itself.

    torch runs the hooks of all optimizers (``register_optimizer_step_pre_hook``) around the ``step`` of every class.
    They fire with the base, so around the wrapper they would fire a second time. The mark ``hooked`` says to torch that
    this ``step`` has its hooks already.
    """

    @uncompiled
    @functools.wraps(step)
    def hooked_step(*args: Any, **kwargs: Any) -> Any:
        optimizer: Optimizer = args[0]
        with torch.autograd.profiler.record_function(f"Optimizer.step#{type(optimizer).__name__}.step"):
            for pre_hook in optimizer._optimizer_step_pre_hooks.values():
                changed = pre_hook(optimizer, args, kwargs)
                if changed is not None and not (isinstance(changed, tuple) and len(changed) == 2):
                    raise RuntimeError(f"a step pre-hook must return None or a tuple (args, kwargs), got {changed!r}")
                args, kwargs = (args, kwargs) if changed is None else changed
            result = step(*args, **kwargs)
            for post_hook in optimizer._optimizer_step_post_hooks.values():
                post_hook(optimizer, args, kwargs)
            return result

    hooked_step.hooked = True  # type: ignore[attr-defined]
    return hooked_step


class WrappingOptimizer(Optimizer):
    """A torch optimizer that shares the param groups and the state of the one that it wraps.

    They are those of the base at any time, also after somebody has assigned new ones to either of the two. A subclass
    keeps a state of its own, which goes into checkpoints under the key ``"dcao"``.

    Args:
        base: The optimizer to wrap.
    """

    def __init__(self, base: Optimizer) -> None:
        self.base = base
        # Until it is, torch's constructor assigns groups and a state that would replace the base's. No attribute of the
        # class, which wrappers that imitate it would read in place of this one.
        self._is_built = False
        super().__init__(base.param_groups, base.defaults)
        self._is_built = True

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The base's param groups.

        The first has a place for DCAO's part of a checkpoint: torch.distributed.checkpoint fills only what is there.
        """
        for group in self.base.param_groups[:1]:
            group.setdefault(KEY, "")
        return self.base.param_groups

    @param_groups.setter
    def param_groups(self, groups: list[dict[str, Any]]) -> None:
        if self._is_built:
            self.base.param_groups = groups

    @property
    def state(self) -> defaultdict[torch.Tensor, Any]:
        """The base's state."""
        return self.base.state

    @state.setter
    def state(self, state: defaultdict[torch.Tensor, Any]) -> None:
        if self._is_built:
            self.base.state = state

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients, as the base optimizer does."""
        self.base.zero_grad(set_to_none)

    @uncompiled
    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group to the base optimizer, and so to this one."""
        if not self._is_built:
            return  # torch's constructor adds the groups that the base has already
        self._sync()
        self.base.add_param_group(param_group)
        self._sync()

    @uncompiled
    def state_dict(self) -> dict[str, Any]:
        """The base optimizer's state, which it can load as it is, and DCAO's own under the key ``"dcao"``."""
        for pre_hook in self._optimizer_state_dict_pre_hooks.values():
            pre_hook(self)
        own, state_dict = self._own_state(), self.base.state_dict()
        state_dict = {**state_dict, KEY: own, "param_groups": with_text(state_dict["param_groups"], as_text(own))}
        for post_hook in self._optimizer_state_dict_post_hooks.values():
            state_dict = post_hook(self, state_dict) or state_dict
        return state_dict

    @uncompiled
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a checkpoint of this class, or of the bare optimizer: then DCAO starts fresh from it.

        Raises:
            TypeError, ValueError: The checkpoint does not fit; nothing is loaded then.
        """
        if not isinstance(state_dict, dict):
            raise TypeError(f"state_dict must be a dict, got {type(state_dict).__name__}")
        state_dict = dict(state_dict)
        for pre_hook in self._optimizer_load_state_dict_pre_hooks.values():
            state_dict = pre_hook(self, state_dict) or state_dict
        own = state_dict.pop(KEY, None)
        if "param_groups" in state_dict:
            state_dict["param_groups"], text = without_text(state_dict["param_groups"])
            own = from_text(text) if own is None and text else own
        if own is not None:
            self._check_own_state(own, num_groups=len(state_dict["param_groups"]))
        self.base.load_state_dict(state_dict)
        self._load_own_state(own)
        for post_hook in self._optimizer_load_state_dict_post_hooks.values():
            post_hook(self)

    @abstractmethod
    def _sync(self) -> None:
        """Notice what others have done to the groups."""

    @abstractmethod
    def _own_state(self) -> dict[str, Any]:
        """What a checkpoint keeps beside the base's state."""

    @abstractmethod
    def _check_own_state(self, state: Any, *, num_groups: int) -> None:
        """Raise a ValueError unless :meth:`_load_own_state` can load a saved state of so many groups."""

    @abstractmethod
    def _load_own_state(self, state: dict[str, Any] | None) -> None:
        """Go on from a saved state; afresh without one."""

    def __getstate__(self) -> dict[str, Any]:
        # torch's drops all fields but its own; schedulers leave a wrapped `step` behind, which must not be copied.
        return {key: value for key, value in self.__dict__.items() if key != "step" and "hook" not in key}


@torch.no_grad()
def sets_up_state(optimizer: Optimizer) -> bool:
    """Whether a step now would do nothing but create the optimizer's state.

    torch.distributed.checkpoint takes such a step, with lr 0 and gradients of zero, to have a state to load into.
    """
    if any(float(group["lr"]) != 0.0 for group in optimizer.param_groups):
        return False
    grads = [p.grad for p in params_of(optimizer) if p.grad is not None]
    return bool(grads) and not any(grad.is_sparse for grad in grads) and not any_is_not_zero(params_of(optimizer))
