"""Training on examples in memory by a loss of the workload's own: regression, generation, losses that draw noise."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcao_lab.workloads.base import Batch, Draw, Problem, Splits, StartRequest, WorkloadInfo, with_replacement

ModelLoss = Callable[[nn.Module, Batch], Tensor]
DrawingLoss = Callable[[nn.Module, Batch, torch.Generator | None], Tensor]  # None: draws from torch's global stream
Metrics = Callable[[nn.Module, Batch], dict[str, float]]

EVALUATION_SEED = 5


def loss_with_fixed_draws(loss: DrawingLoss) -> Metrics:
    """The metrics of a workload that is judged by a loss with noise in it: by one that is the same at every call."""
    return lambda model, batch: {"loss": loss(model, batch, torch.Generator().manual_seed(EVALUATION_SEED)).item()}


def squared_error(model: nn.Module, batch: Batch) -> Tensor:
    """Mean squared difference of the network's output and the targets."""
    inputs, targets = batch
    return F.mse_loss(model(inputs), targets)


@dataclass(frozen=True, kw_only=True)
class ExampleWorkload:
    """Examples in memory, by default for regression with the mean squared error.

    Attributes:
        info: Facts about the workload.
        build: Returns the network.
        splits: Returns the data.
        loss: Mean loss of the network on a batch. Noise that it draws comes from torch's global stream, as in users'
            own losses.
        metrics: What the evaluation of a split returns, without noise or with the same at every call; None: the loss.
        draw: Returns the training batches.
    """

    info: WorkloadInfo
    build: Callable[[], nn.Module]
    splits: Callable[[], Splits]
    loss: ModelLoss = squared_error
    metrics: Metrics | None = None
    draw: Draw = with_replacement

    def start(self, request: StartRequest) -> Problem:
        """The problem with weights and batches from the seed of the request."""
        request.refuse_label_noise(self.info)
        splits = request.moved(self.splits())
        model = request.built(self.build)
        metrics = self.metrics or self._loss_alone
        inputs, targets = splits["train"]
        batch_size = request.batch_size_within(self.info, len(inputs))
        return Problem(
            model=model,
            batches=self.draw(inputs, targets, batch_size, request.generator(purpose=1)),
            loss=lambda batch: self.loss(model, batch),
            evaluate=lambda split: metrics(model, splits[split]),
            criterion=nn.MSELoss() if self.loss is squared_error else None,
            batches_per_epoch=len(inputs) / batch_size,
        )

    def _loss_alone(self, model: nn.Module, batch: Batch) -> dict[str, float]:
        return {"loss": self.loss(model, batch).item()}
