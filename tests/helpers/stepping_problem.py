"""A small problem with dense float64 truth, for steps whose gradient is not that of the loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn, optim
from torch.func import functional_call

from dcao import DCAO, CurvatureEstimate, MemoryRecorder, policies

LR = 0.05
CLIP = 0.1
VALUE = 0.02
DIFFERENCE = 1e-5
"""Relative error of a one-sided difference in float64: a step of 1e-8 times a third derivative of order 1, and rounding
of 1e-16 / 1e-8 = 1e-8, both amplified by cancellation of a factor of 100 at most."""

BASES = {
    "sgd": lambda params: optim.SGD(params, lr=LR),
    "sgd-momentum": lambda params: optim.SGD(params, lr=LR, momentum=0.9),
    "adamw": lambda params: optim.AdamW(params, lr=LR, weight_decay=0.0),
    "rmsprop": lambda params: optim.RMSprop(params, lr=LR),
}


class Problem:
    """A smooth network in float64, its batches, and an optimizer that measures and changes nothing."""

    def __init__(self, base: str, **options: Any) -> None:
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
        self.inputs = torch.randn(8, 16, 4, dtype=torch.float64)
        self.targets = self.inputs[..., :3].argmax(-1)  # so that the batches agree about the way down
        self.params = list(self.net.parameters())
        self.recorder = MemoryRecorder()
        options = {"policy": policies.Fixed(), "measure": "batch", "every": 1, **options}
        self.optimizer = DCAO(BASES[base](self.params), recorder=self.recorder, **options)

    def loss(self, batch: int = 0) -> Tensor:
        return nn.functional.cross_entropy(self.net(self.inputs[batch]), self.targets[batch])

    def gradient(self, *batches: int) -> Tensor:
        grads = [torch.autograd.grad(self.loss(batch), self.params) for batch in batches]
        return torch.stack([torch.cat([g.reshape(-1) for g in each]) for each in grads]).mean(0)

    def hessian(self, *batches: int) -> Tensor:
        names = [name for name, _ in self.net.named_parameters()]
        sizes, shapes = [p.numel() for p in self.params], [p.shape for p in self.params]

        def loss(flat: Tensor, batch: int) -> Tensor:
            pieces = [piece.view(shape) for piece, shape in zip(flat.split(sizes), shapes, strict=True)]
            outputs = functional_call(self.net, dict(zip(names, pieces, strict=True)), (self.inputs[batch],))
            return nn.functional.cross_entropy(outputs, self.targets[batch])

        flat = self.weights()
        each = [torch.func.jacrev(torch.func.grad(loss))(flat, b) for b in batches]
        return torch.stack(each).mean(0)

    def weights(self) -> Tensor:
        return torch.cat([p.detach().reshape(-1) for p in self.params])

    @property
    def group(self) -> dict[str, Any]:
        return self.optimizer.base.param_groups[0]

    def displacement(self, gradient: Tensor) -> Tensor:
        """Long-run displacement of the coming step, by the textbook's formulas."""
        group = self.group
        states = [self.optimizer.base.state.get(p, {}) for p in self.params]
        if "betas" in group or "alpha" in group:
            beta = group["betas"][1] if "betas" in group else group["alpha"]
            key = "exp_avg_sq" if "betas" in group else "square_avg"
            t = 1 + int(states[0].get("step", 0))
            old = torch.cat(
                [s.get(key, torch.zeros_like(p)).reshape(-1) for s, p in zip(states, self.params, strict=True)]
            )
            v = beta * old + (1.0 - beta) * gradient**2
            v = v / (1.0 - beta**t) if "betas" in group else v
            return group["lr"] * gradient / (v.sqrt() + group["eps"])
        return group["lr"] / (1.0 - group["momentum"]) * gradient

    def backward_closure(self, change: Callable[[Problem], None] = lambda problem: None, batch: int = 0):
        def closure() -> Tensor:
            self.optimizer.zero_grad()
            loss = self.loss(batch)
            loss.backward()
            change(self)
            return loss

        return closure

    def probe_cost(self) -> float:
        """Gradient evaluations of the last probe, without the one that checks at the first that the loss repeats."""
        estimate = self.estimate()
        return estimate.cost - (1.0 if estimate.step == 0 else 0.0)

    def estimate(self) -> CurvatureEstimate:
        estimate = self.recorder.records[-1].estimate
        assert estimate is not None
        return estimate


def quotient(hessian: Tensor, gradient: Tensor, displacement: Tensor) -> float:
    return float(displacement @ hessian @ displacement / (gradient @ displacement))


def flat_gradient(problem: Problem) -> Tensor:
    return torch.cat([p.grad.reshape(-1) for p in problem.params])


def clip_norm(problem: Problem) -> None:
    nn.utils.clip_grad_norm_(problem.params, CLIP)


def clip_value(problem: Problem) -> None:
    nn.utils.clip_grad_value_(problem.params, VALUE)
