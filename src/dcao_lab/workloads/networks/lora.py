"""Low-rank adaptation (LoRA, Hu et al. 2022): a linear layer stays as it is, and two thin factors are added."""

import math

import torch
from torch import Tensor, nn


class LowRankLinear(nn.Module):
    """A frozen linear layer plus ``scale`` times B A of rank ``rank``, B from zeros: it starts as the layer it adapts.

    Args:
        frozen: The layer; its weights are no longer trained.
        rank: Number of rows of A and columns of B.
        scale: alpha / rank of the paper.
    """

    def __init__(self, frozen: nn.Linear, rank: int, scale: float = 1.0) -> None:
        super().__init__()
        self.frozen, self.scale = frozen.requires_grad_(False), scale
        self.a = nn.Parameter(torch.empty(rank, frozen.in_features))
        self.b = nn.Parameter(torch.zeros(frozen.out_features, rank))
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs (..., outputs) of inputs (..., inputs)."""
        outputs: Tensor = self.frozen(inputs) + self.scale * (inputs @ self.a.T @ self.b.T)
        return outputs


def adapted(model: nn.Module, inside: nn.Module, rank: int, scale: float = 1.0) -> nn.Module:
    """``model`` with all weights frozen and every linear layer of its part ``inside`` adapted."""
    model.requires_grad_(False)
    children = [(parent, name, child) for parent in inside.modules() for name, child in parent.named_children()]
    for parent, name, child in children:
        if isinstance(child, nn.Linear):
            parent.register_module(name, LowRankLinear(child, rank, scale))
    return model
