"""CDAT, "curvature dynamics aware tuning" (Roulet et al. 2024, arXiv 2407.06183), on Adam's direction.

The paper's rule for ``w <- w + eta u``::

    n = max(-g'u, 0)    d = |u' H u| + eps    eta = sigma * n / d

``sigma = 1`` minimises the quadratic model, and ``sigma = 2`` goes to the edge of stability. With mini-batches n and d
are averaged over steps. The direction is Adam's with momentum, one of those that the paper studies:
``u = -m / (sqrt(v) + eps)``, bias-corrected.

We found no code by the authors. Two constants are ours, because what we have read does not give them: the averages have
a decay of 0.9 a step (as Adam's first), and eps is 1e-8 (as Adam's).
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from dcao.operators import LossFn
from dcao_lab.baselines.base import Baseline, BuildRequest
from dcao_lab.baselines.curvature import HESSIAN_PRODUCT_COST, differentiable_gradient, dot, hessian_product
from dcao_lab.baselines.smoothed_ratio import SmoothedRatio
from dcao_lab.baselines.space import Continuous
from dcao_lab.norms import trainable
from dcao_lab.workloads import Problem

CURVATURE_EPS = 1e-8  # added to d


class CDAT(torch.optim.Optimizer):
    """Adam's direction with the step length that the curvature along it allows.

    Args:
        params: Parameters to train.
        lr: sigma; 2 goes to the edge of stability.
        beta1: Decay a step of the mean gradient.
        beta2: Decay a step of the mean squared gradient.
        eps: Added to the root of the mean squared gradient.
        smoothing: Decay a step of the averages of n and d, in [0, 1); 0 uses those of the step alone.

    Attributes:
        probe_cost: Gradient evaluations spent beyond one a step.

    Raises:
        ValueError: A decay is outside [0, 1).
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float = 2.0,
        *,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        smoothing: float = 0.9,
    ) -> None:
        for name, value in (("beta1", beta1), ("beta2", beta2)):
            if not 0.0 <= value < 1.0:
                raise ValueError(f"{name} must be in [0, 1), got {value}")
        super().__init__(params, {"lr": lr, "beta1": beta1, "beta2": beta2, "eps": eps})
        self.ratio = SmoothedRatio(smoothing)
        self.probe_cost = 0.0
        self.num_steps = 0
        self.step_size: float | None = None

    @property
    def effective_lrs(self) -> list[float]:
        """Value of eta at the last step, in a list as for several groups; sigma before the first step."""
        return [self.param_groups[0]["lr"] if self.step_size is None else self.step_size]

    def minimize(self, loss_fn: LossFn) -> Tensor:
        """Make one training step, and return the loss before it."""
        params = [param for group in self.param_groups for param in group["params"]]
        loss, gradient = differentiable_gradient(loss_fn, params)
        detached = [g.detach() for g in gradient]
        for param, g in zip(params, detached, strict=True):
            param.grad = g
        direction = self._direction(params, detached)
        product = hessian_product(loss_fn, params, gradient, direction)
        self.probe_cost += HESSIAN_PRODUCT_COST
        self.step_size = self._step_size(detached, direction, product)
        with torch.no_grad():
            torch._foreach_add_(params, direction, alpha=self.step_size)
        return loss

    def _direction(self, params: Sequence[Tensor], gradient: Sequence[Tensor]) -> list[Tensor]:
        group = self.param_groups[0]
        beta1, beta2 = group["beta1"], group["beta2"]
        self.num_steps += 1
        correction1, correction2 = 1.0 - beta1**self.num_steps, 1.0 - beta2**self.num_steps
        direction = []
        for param, g in zip(params, gradient, strict=True):
            state = self.state[param]
            if not state:
                state["mean"], state["mean_square"] = torch.zeros_like(param), torch.zeros_like(param)
            state["mean"].lerp_(g, 1.0 - beta1)
            state["mean_square"].mul_(beta2).addcmul_(g, g, value=1.0 - beta2)
            scale = (state["mean_square"] / correction2).sqrt_().add_(group["eps"])
            direction.append(-state["mean"] / correction1 / scale)
        return direction

    def _step_size(self, gradient: Sequence[Tensor], direction: Sequence[Tensor], product: Sequence[Tensor]) -> float:
        slope, curvature = dot(gradient, direction).item(), dot(direction, product).item()
        ratio = self.ratio.update(max(-slope, 0.0), abs(curvature) + CURVATURE_EPS)
        return float(self.param_groups[0]["lr"]) * ratio


def _make(problem: Problem, request: BuildRequest) -> torch.optim.Optimizer:
    return CDAT(trainable(problem.model), request.lr, **request.settings)


CDAT_BASELINE = Baseline(
    name="cdat",
    title="CDAT",
    make=_make,
    defaults={"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "smoothing": 0.9},
    space={
        "lr": Continuous(low=0.02, high=4.0, default=2.0),
        "smoothing": Continuous(low=0.0, high=0.99, default=0.9, is_log=False),
        "beta1": Continuous(low=0.8, high=0.99, default=0.9, is_log=False),
    },
    source="Roulet et al. 2024 (CDAT), on Adam's direction; our implementation, smoothing and eps ours",
    evaluations_per_step=1.0 + HESSIAN_PRODUCT_COST,
)
