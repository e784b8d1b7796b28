"""A learning rate from the local quadratic model, in the style of ADLER (Balboni and Bacciu 2023, arXiv 2305.16396).

This is a reimplementation in its style: we had the abstract and not the full text, and found no code. The abstract
describes SGD whose learning rate minimises the local quadratic approximation with a positive semidefinite surrogate of
the Hessian, at twice the computation of an SGD run. We infer that along ``-g`` this learning rate is::

    eta = g'g / (g' G g)

These choices are ours, and not known from the paper:

- The surrogate is the Gauss-Newton matrix of the mini-batch, with which they compare theirs.
- ``lr`` multiplies eta (default 1).
- Numerator and denominator are averaged over steps (``smoothing``, default 0.9 as in our CDAT). With single batches eta
  scatters over a factor of 30, and the documentation GPT blows up in 6 steps.
- eta is at most ``max_step`` (default 10), for batches whose loss is almost flat along g.
"""

import torch
from torch import Tensor, nn

from dcao.operators import LossFn
from dcao_lab.baselines.base import Baseline, BuildRequest
from dcao_lab.baselines.curvature import JACOBIAN_PRODUCT_COST, dot, gauss_newton_along_gradient
from dcao_lab.baselines.smoothed_ratio import SmoothedRatio
from dcao_lab.baselines.space import Continuous
from dcao_lab.norms import trainable
from dcao_lab.workloads import Problem

TINY = 1e-30  # replaces a curvature that rounding has made 0 or negative, which in exact arithmetic it cannot be


class Adler(torch.optim.Optimizer):
    """Gradient descent that steps to the minimum of the mini-batch's Gauss-Newton model.

    Args:
        model: The network; all of its trainable parameters are trained.
        lr: Factor of eta; 1 steps to the minimum.
        smoothing: Decay a step of the averages of ``g'g`` and ``g' G g``, in [0, 1); 0 uses those of the step alone.
        max_step: Largest eta.

    Attributes:
        probe_cost: Gradient evaluations spent beyond one a step.

    Raises:
        ValueError: ``smoothing`` is outside [0, 1), or ``max_step`` is not positive and finite.
    """

    def __init__(self, model: nn.Module, lr: float = 1.0, *, smoothing: float = 0.9, max_step: float = 10.0) -> None:
        if not 0.0 < max_step < float("inf"):
            raise ValueError(f"max_step must be positive and finite, got {max_step}")
        super().__init__(trainable(model), {"lr": lr})
        self.model = model
        self.ratio = SmoothedRatio(smoothing)
        self.max_step = max_step
        self.probe_cost = 0.0
        self.step_size: float | None = None

    @property
    def effective_lrs(self) -> list[float]:
        """The learning rate of the last step, in a list as for several groups; ``lr`` before the first step."""
        return [self.param_groups[0]["lr"] if self.step_size is None else self.step_size]

    def minimize(self, loss_fn: LossFn) -> Tensor:
        """Make one training step, and return the loss before it."""
        params = self.param_groups[0]["params"]
        loss, gradient, curvature = gauss_newton_along_gradient(self.model, loss_fn, params)
        self.probe_cost += JACOBIAN_PRODUCT_COST
        eta = self.ratio.update(dot(gradient, gradient).item(), max(TINY, curvature.item()))
        self.step_size = float(self.param_groups[0]["lr"]) * min(eta, self.max_step)
        for param, g in zip(params, gradient, strict=True):
            param.grad = g
        with torch.no_grad():
            torch._foreach_add_(params, gradient, alpha=-self.step_size)
        return loss


def _make(problem: Problem, request: BuildRequest) -> torch.optim.Optimizer:
    return Adler(problem.model, request.lr, **request.settings)


ADLER_BASELINE = Baseline(
    name="adler",
    title="ADLER-style",
    make=_make,
    defaults={"smoothing": 0.9, "max_step": 10.0},
    space={
        "lr": Continuous(low=0.01, high=2.0, default=1.0),
        "smoothing": Continuous(low=0.0, high=0.99, default=0.9, is_log=False),
    },
    source="in the style of Balboni and Bacciu 2023 (ADLER), Gauss-Newton surrogate; our reimplementation",
    evaluations_per_step=1.0 + JACOBIAN_PRODUCT_COST,
)
