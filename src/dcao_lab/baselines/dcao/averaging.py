"""DCAO that is tested with an average of its weights: what the decay at the end is worth without knowing the end."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

import dcao


class AveragedDCAO(dcao.DCAO):
    """A DCAO that averages ``model`` as :func:`dcao.polynomial_average` does.

    In eval mode the model has the average, as averaging optimizers have it (Schedule-Free's ``eval`` and ``train``).
    """

    def __init__(self, base: torch.optim.Optimizer, model: nn.Module, gamma: float, **options: Any) -> None:
        super().__init__(base, **options)
        self._model = model
        self._average = AveragedModel(model, multi_avg_fn=dcao.polynomial_average(gamma), use_buffers=True)
        self._trained: dict[str, Tensor] | None = None

    def minimize(self, loss_fn: Any, *, clip_norm: float | None = None) -> Tensor:
        """One training step, and the average after it; begun anew where a run that blew up has gone back."""
        skipped, restored = self.num_skipped, self.num_restored
        loss = super().minimize(loss_fn, clip_norm=clip_norm)
        if self.num_restored > restored:
            self._average.n_averaged.zero_()  # the next step is copied
        if self.num_skipped == skipped:
            self._average.update_parameters(self._model)
        return loss

    def eval(self) -> None:
        """Put the average into the model."""
        if self._trained is None and self._average.n_averaged > 0:
            self._trained = {name: value.clone() for name, value in self._model.state_dict().items()}
            self._model.load_state_dict(self._average.module.state_dict())

    def train(self) -> None:
        """Put back what trains."""
        if self._trained is not None:
            self._model.load_state_dict(self._trained)
            self._trained = None
