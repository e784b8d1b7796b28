"""K-FAC (Martens and Grosse 2015) on curvlinops: SGD with momentum on gradients that K-FAC has preconditioned.

Linear and Conv2d layers are preconditioned, weight and bias together, by ``(A x B + damping I)^-1``. The damping is
exact in the eigenbasis of the factors (George et al. 2018 call it damping in the KFE). Each example gets one label
drawn from the model. All other parameters (embeddings, norms, LSTMs) are trained by plain SGD with momentum.

The factors are averages with decay 0.95, and the preconditioned step is shortened if its predicted squared length in
the Fisher metric exceeds ``kl_clip`` (Ba et al. 2017). These two and the intervals are the defaults of kfac-pytorch;
damping and momentum are ours. An estimate of the factors is counted as one gradient evaluation (a forward and a
backward pass), although it takes more CPU time.

We use curvlinops rather than asdfghjkl 0.1a5. Their factors are the same (to 3e-16 in float64, for linear and
convolution layers), and so is their cost (2.5 to 4 times the CPU time of a plain gradient on three digits networks,
within 10 %). But curvlinops treats weight and bias as one, has the inverse, and leaves the global random stream alone.
"""

import torch
from torch import Tensor, nn

from dcao.operators import LossFn
from dcao_lab.baselines.base import Baseline, BuildRequest
from dcao_lab.baselines.kfac_factors import FactorEstimator, can_be_treated
from dcao_lab.baselines.space import Choice, Continuous
from dcao_lab.errors import LabError
from dcao_lab.norms import trainable
from dcao_lab.workloads import Problem
from dcao_lab.workloads.base import Batch

FACTOR_COST = 1.0  # a forward and a backward pass with drawn labels
FACTOR_EVERY = 10
INVERSE_EVERY = 100


class KFAC(torch.optim.SGD):
    """SGD with momentum on preconditioned gradients.

    Args:
        estimator: Estimates and inverts the factors.
        params: Parameters to train, those of the estimator among them.
        lr: Learning rate.
        momentum: Momentum of SGD on the preconditioned gradients.
        weight_decay: Coupled weight decay, added after preconditioning.
        factor_every: Steps from one estimate of the factors to the next.
        inverse_every: Steps from one inversion to the next.
        kl_clip: Largest ``lr^2 g' F^-1 g`` of a step.

    Attributes:
        probe_cost: Gradient evaluations spent beyond one a step.

    Raises:
        ValueError: An interval or ``kl_clip`` is not positive and finite.
    """

    needs_batch = True

    def __init__(
        self,
        estimator: FactorEstimator,
        params: list[nn.Parameter],
        lr: float,
        *,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        factor_every: int = FACTOR_EVERY,
        inverse_every: int = INVERSE_EVERY,
        kl_clip: float = 1e-3,
    ) -> None:
        for name, value in (("factor_every", factor_every), ("inverse_every", inverse_every), ("kl_clip", kl_clip)):
            if not 0 < value < float("inf"):
                raise ValueError(f"{name} must be positive and finite, got {value}")
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay)
        self.estimator = estimator
        self.factor_every, self.inverse_every, self.kl_clip = factor_every, inverse_every, kl_clip
        self.num_steps = 0
        self.probe_cost = 0.0

    def minimize(self, loss_fn: LossFn, batch: Batch) -> Tensor:
        """Make one training step on ``batch``, whose loss ``loss_fn`` returns, and return the loss before it."""
        self.zero_grad()
        loss = loss_fn()
        torch.autograd.backward(loss)
        if torch.isfinite(loss):  # a network whose loss is nan has no distribution to draw labels from
            self._update(batch)
            if self.estimator.is_ready:
                self._precondition()
        self.num_steps += 1
        self.step()
        return loss.detach()

    def _update(self, batch: Batch) -> None:
        is_first = not self.estimator.is_ready
        if is_first or self.num_steps % self.factor_every == 0:
            self.estimator.update(batch)
            self.probe_cost += FACTOR_COST
        if is_first or self.num_steps % self.inverse_every == 0:
            self.estimator.invert()

    @torch.no_grad()
    def _precondition(self) -> None:
        params = self.estimator.params
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in params]
        preconditioned = self.estimator.precondition(gradients)
        squared = sum(torch.sum(g * v).item() for g, v in zip(gradients, preconditioned, strict=True))
        squared *= float(self.param_groups[0]["lr"]) ** 2
        scale = min(1.0, (self.kl_clip / squared) ** 0.5) if squared > 0.0 else 1.0
        for param, value in zip(params, preconditioned, strict=True):
            param.grad = value * scale


def _make(problem: Problem, request: BuildRequest) -> torch.optim.Optimizer:
    if problem.criterion is None:
        raise LabError(
            "K-FAC needs a loss that is CrossEntropyLoss or MSELoss of the network's output, and the loss of this "
            "workload is neither; choose another workload"
        )
    treated = can_be_treated(problem.model)
    if not treated:
        raise LabError("K-FAC needs Linear or Conv2d layers with weights of their own, and this network has none")
    settings = dict(request.settings)
    damping = settings.pop("damping")
    estimator = FactorEstimator(problem.model, problem.criterion, treated, damping=damping, seed=request.seed)
    return KFAC(estimator, trainable(problem.model), request.lr, **settings)


KFAC_BASELINE = Baseline(
    name="kfac",
    title="K-FAC",
    make=_make,
    defaults={
        "momentum": 0.9,
        "weight_decay": 0.0,
        "damping": 3e-3,
        "factor_every": FACTOR_EVERY,
        "inverse_every": INVERSE_EVERY,
        "kl_clip": 1e-3,
    },
    space={
        "lr": Continuous(low=1e-4, high=1.0, default=0.1),
        "momentum": Continuous(low=0.8, high=0.99, default=0.9, is_log=False),
        "damping": Continuous(low=1e-5, high=1.0, default=3e-3),
        "factor_every": Choice(values=(1, 10, 50), default=FACTOR_EVERY),
        "inverse_every": Choice(values=(10, 50, 100), default=INVERSE_EVERY),
    },
    source="Martens and Grosse 2015, Grosse and Martens 2016; kfac-pytorch (decay, clip, intervals), curvlinops",
    evaluations_per_step=1.0 + FACTOR_COST / FACTOR_EVERY,
)
