"""An optimizer around another one, by torch's contract: shared groups and state, checkpoints, copies."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from torch.optim import Optimizer


class WrappingOptimizer(Optimizer):
    """A torch optimizer that shares the param groups and the state of the one that it wraps.

    A subclass keeps a state of its own, which goes into checkpoints under the key ``"dcao"``.

    Args:
        base: The optimizer to wrap.
    """

    _is_shared = False  # whether the groups are those of the base already

    def __init__(self, base: Optimizer) -> None:
        self.base = base
        super().__init__(base.param_groups, base.defaults)
        self._share_base_groups()
        self._is_shared = True

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients, as the base optimizer does."""
        self.base.zero_grad(set_to_none)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group to the base optimizer, and so to this one."""
        if not self._is_shared:
            super().add_param_group(param_group)  # called by Optimizer.__init__, before the groups are shared
            return
        self._sync()
        self.base.add_param_group(param_group)
        self._sync()

    def state_dict(self) -> dict[str, Any]:
        """The base optimizer's state, which it can load as it is, and DCAO's own under the key ``"dcao"``."""
        for pre_hook in self._optimizer_state_dict_pre_hooks.values():
            pre_hook(self)
        state_dict = {**self.base.state_dict(), "dcao": self._own_state()}
        for post_hook in self._optimizer_state_dict_post_hooks.values():
            state_dict = post_hook(self, state_dict) or state_dict
        return state_dict

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a checkpoint of this class, or of the bare optimizer: then DCAO starts fresh from it."""
        if not isinstance(state_dict, dict):
            raise TypeError(f"state_dict must be a dict, got {type(state_dict).__name__}")
        state_dict = dict(state_dict)
        for pre_hook in self._optimizer_load_state_dict_pre_hooks.values():
            state_dict = pre_hook(self, state_dict) or state_dict
        own = state_dict.pop("dcao", None)
        self.base.load_state_dict(state_dict)
        self._share_base_groups()  # the base has replaced its lists
        self._load_own_state(own)
        for post_hook in self._optimizer_load_state_dict_post_hooks.values():
            post_hook(self)

    def _share_base_groups(self) -> None:
        """Make this optimizer's groups and state those of the base, which may have replaced its own."""
        self.param_groups, self.state = self.base.param_groups, self.base.state

    @abstractmethod
    def _sync(self) -> None:
        """Notice what others have done to the groups."""

    @abstractmethod
    def _own_state(self) -> dict[str, Any]:
        """What a checkpoint keeps beside the base's state."""

    @abstractmethod
    def _load_own_state(self, state: dict[str, Any] | None) -> None:
        """Go on from a saved state; afresh without one."""

    def __getstate__(self) -> dict[str, Any]:
        # torch's drops all fields but its own; schedulers leave a wrapped `step` behind, which must not be copied.
        return {key: value for key, value in self.__dict__.items() if key != "step" and "hook" not in key}
