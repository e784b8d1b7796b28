"""A physics-informed network (Raissi et al. 2019): ``-u'' = f`` on (0, 1), u = 0 at its ends, from f and no value of u.

The solution is ``u(x) = sin(pi x) + sin(4 pi x) / 4``, and the metric the relative error of u in the mean square.
"""

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcao_lab.workloads.base import Batch, Splits, WorkloadInfo
from dcao_lab.workloads.examples import ExampleWorkload
from dcao_lab.workloads.networks.perceptron import perceptron
from dcao_lab.workloads.unseen.splits import with_held_out

NUM_POINTS, BOUNDARY_WEIGHT, WIDTH = 1000, 100.0, 32

INFO = WorkloadInfo(
    name="poisson",
    title="Poisson equation",
    summary=f"-u'' = f in one dimension, tanh network with two hidden layers of {WIDTH}, 64 points a step",
    metric="error",
    higher_is_better=False,
    target=0.028,
    batch_size=64,
    num_steps=800,
    eval_every=80,
    step_cost=0.8,
)


def splits() -> Splits:
    """Points (N, 1) and f at them: random ones for training, evenly spaced ones held out."""
    points = torch.rand(NUM_POINTS, 1, generator=torch.Generator().manual_seed(0)), torch.linspace(0, 1, 201)[:, None]
    load = [math.pi**2 * (x * math.pi).sin() + 4 * math.pi**2 * (4 * math.pi * x).sin() for x in points]
    return with_held_out(*zip(points, load, strict=True))


def residual(model: nn.Module, batch: Batch) -> Tensor:
    """Mean square of ``u'' + f``, and of u at the ends."""
    with torch.enable_grad():  # the derivatives of u are needed where a loss is evaluated without a gradient too
        x = batch[0].detach().requires_grad_()
        (slope,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
        (curvature,) = torch.autograd.grad(slope.sum(), x, create_graph=True)
        ends = model(x.new_tensor([[0.0], [1.0]]))
        return F.mse_loss(curvature, -batch[1]) + BOUNDARY_WEIGHT * F.mse_loss(ends, torch.zeros_like(ends))


def metrics(model: nn.Module, batch: Batch) -> dict[str, float]:
    """``loss``, and ``error``, the relative error of u."""
    u = (math.pi * batch[0]).sin() + (4 * math.pi * batch[0]).sin() / 4
    return {"loss": residual(model, batch).item(), "error": ((model(batch[0]) - u).norm() / u.norm()).item()}


build = partial(perceptron, 1, WIDTH, WIDTH, 1, activation=nn.Tanh)
WORKLOADS = (ExampleWorkload(info=INFO, build=build, splits=splits, loss=residual, metrics=metrics),)
