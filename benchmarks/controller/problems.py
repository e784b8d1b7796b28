"""What a task is, and the two usual kinds: classification and regression."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FIRST_SGD_LRS = (1e-2, 3e-2, 1e-1)


@dataclass
class Task:
    """One training problem, freshly initialised.

    Attributes:
        model: What is trained.
        batch: Draws a batch.
        loss: Differentiable loss of a batch.
        evaluate: Numbers of a model; the first entry is the metric.
        params: Those parameters of the model that are trained.
    """

    model: nn.Module
    batch: Callable[[], Any]
    loss: Callable[[Any], Tensor]
    evaluate: Callable[[nn.Module], dict[str, float]]
    params: list[nn.Parameter] = field(default_factory=list)


@dataclass(frozen=True)
class Spec:
    """What is known of a task before it is built.

    Attributes:
        build: Makes the task from a seed.
        budget: Gradient evaluations of a run, probes included.
        kind: ``"acc"``: points of 100, more is better; ``"loss"``: less is better, compared in percent.
        sgd_lrs: Where the sweep of SGD begins: around what trains at all.
        weight_decay: Of AdamW and peers; None: their default.
        probes: Train with ``step()`` and ``probe()`` instead of ``minimize()``.
    """

    build: Callable[[int], Task]
    budget: int
    kind: str
    sgd_lrs: tuple[float, ...] = FIRST_SGD_LRS
    weight_decay: float | None = None
    probes: bool = False


def with_replacement(seed: int, size: int, *tensors: Tensor) -> Callable[[], tuple[Tensor, ...]]:
    """Batches drawn with replacement."""
    generator = torch.Generator().manual_seed(seed + 1)

    def batch() -> tuple[Tensor, ...]:
        index = torch.randint(0, len(tensors[0]), (size,), generator=generator)
        return tuple(tensor[index] for tensor in tensors)

    return batch


def classification(model: nn.Module, seed: int, size: int, x: Tensor, y: Tensor, xt: Tensor, yt: Tensor) -> Task:
    def evaluate(m: nn.Module) -> dict[str, float]:
        out = m(xt)
        return {"acc": 100 * (out.argmax(1) == yt).float().mean().item(), "loss": F.cross_entropy(out, yt).item()}

    batch = with_replacement(seed, size, x, y)
    return Task(model, batch, lambda b: F.cross_entropy(model(b[0]), b[1]), evaluate)


def regression(model: nn.Module, seed: int, size: int, x: Tensor, y: Tensor, xt: Tensor, yt: Tensor) -> Task:
    return Task(
        model,
        with_replacement(seed, size, x, y),
        lambda b: F.mse_loss(model(b[0]).squeeze(-1), b[1]),
        lambda m: {"mse": F.mse_loss(m(xt).squeeze(-1), yt).item()},
    )
