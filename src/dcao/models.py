"""The model behind an optimizer's parameters, found without a reference to it."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer

from dcao.isolation import live_instances, model_modules
from dcao.probing.ranks import Ranks, ranks_of
from dcao.shards import gather_nothing, is_shard
from dcao.vectors import params_of


class Model:
    """The modules that hold an optimizer's parameters, looked for again only when a parameter has changed.

    Args:
        optimizer: The base optimizer, live.

    Example:
        >>> layer = nn.Linear(2, 1)
        >>> import torch
        >>> [type(module).__name__ for module in Model(torch.optim.SGD(layer.parameters())).look()[0]]
        ['Linear']
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer
        self._found: tuple[list[int], list[nn.Module], Ranks | None] | None = None
        self._scalers: list[GradScaler] | None = None

    def look(self) -> tuple[list[nn.Module], Ranks | None]:
        """All modules of the models that hold the parameters, and the ranks that train them together.

        The list is the same object until a parameter is added, removed or replaced. The ranks are those of
        DistributedDataParallel, or those among which parameters are spread; None in a single process.
        """
        params = params_of(self.optimizer)
        key = [id(p) for p in params]
        if self._found is None or self._found[0] != key:
            if any(map(is_shard, params)):  # else modules may hold what they have gathered in place of these
                gather_nothing(live_instances(nn.Module))
            modules = model_modules(params)
            self._found = key, modules, ranks_of(params, modules)
        return self._found[1:]

    def scalers(self) -> list[GradScaler]:
        """All GradScalers that live; looked for once, at the first call."""
        if self._scalers is None:
            self._scalers = live_instances(GradScaler)
        return self._scalers

    def __getstate__(self) -> dict[str, Any]:
        return {
            **self.__dict__,
            "_found": None,
            "_scalers": None,
        }  # found again; a copy of the optimizer must not copy the model
