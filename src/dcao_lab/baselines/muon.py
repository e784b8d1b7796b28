"""Muon of ``pytorch_optimizer``: it trains hidden weight matrices, and AdamW all else, as its author advises."""

import torch
from torch import nn

from dcao_lab.baselines.base import Baseline, BuildRequest
from dcao_lab.baselines.space import Continuous
from dcao_lab.baselines.third_party import pytorch_optimizer
from dcao_lab.errors import LabError
from dcao_lab.workloads import Problem

ADAMW_SHARE = 0.015  # 3e-4 / 2e-2, the two lrs of its documentation


def hidden_weights(model: nn.Module) -> list[nn.Parameter]:
    """Weight matrices and kernels, without embeddings and without the output layer, which is the last of them.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4), nn.Linear(4, 5))
        >>> [tuple(weight.shape) for weight in hidden_weights(model)]
        [(3, 2), (4, 3)]
    """
    layers = [
        [weight for weight in _weights(module) if weight.requires_grad]
        for module in model.modules()
        if not isinstance(module, nn.Embedding) and _weights(module)
    ]
    embedded = {
        id(weight) for module in model.modules() if isinstance(module, nn.Embedding) for weight in module.parameters()
    }
    return [weight for layer in layers[:-1] for weight in layer if id(weight) not in embedded]


def _weights(module: nn.Module) -> list[nn.Parameter]:
    named = module.named_parameters(recurse=False)
    return [param for name, param in named if name.startswith("weight") and param.ndim >= 2]


def _make(problem: Problem, request: BuildRequest) -> torch.optim.Optimizer:
    values = request.settings
    if not values["adamw_share"] >= 0.0:
        raise LabError(f"adamw_share must be 0 or more, got {values['adamw_share']}; it is AdamW's share of the lr")
    hidden = hidden_weights(problem.model)
    chosen = {id(weight) for weight in hidden}
    rest = [param for param in problem.model.parameters() if param.requires_grad and id(param) not in chosen]
    decay = values["weight_decay"]
    groups = [
        {"params": hidden, "use_muon": True, "lr": request.lr, "momentum": values["momentum"], "weight_decay": decay},
        {"params": rest, "use_muon": False, "lr": values["adamw_share"] * request.lr, "weight_decay": decay},
    ]
    optimizer: torch.optim.Optimizer = pytorch_optimizer().Muon([group for group in groups if group["params"]])
    return optimizer


MUON = Baseline(
    name="muon",
    title="Muon",
    make=_make,
    # adamw_share: the lr of AdamW's parameters, as a share of lr
    defaults={"momentum": 0.95, "weight_decay": 0.0, "adamw_share": ADAMW_SHARE},
    space={
        "lr": Continuous(low=1e-4, high=1.0, default=2e-2),
        "adamw_share": Continuous(low=1e-3, high=1.0, default=ADAMW_SHARE),
        "weight_decay": Continuous(low=1e-4, high=1.0, default=1e-2),
    },
    source="Jordan et al. 2024; pytorch_optimizer.Muon",
)
