"""One named row of data per optimizer that DCAO supports; every suite over optimizers reuses the rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import optim
from torch.optim import Optimizer


@dataclass(frozen=True)
class OptimizerCase:
    """An optimizer with one choice of its options.

    Attributes:
        name: Test id.
        make: ``make(params, lr)`` builds it.
        lr: A learning rate that is sensible for small networks.
    """

    name: str
    make: Callable[..., Optimizer]
    lr: float


SGD, ADAM, ADAGRAD = 0.05, 3e-3, 0.02

OPTIMIZER_CASES = [
    OptimizerCase("sgd", optim.SGD, SGD),
    OptimizerCase("sgd-l2", partial(optim.SGD, weight_decay=0.05), SGD),
    OptimizerCase("sgd-momentum", partial(optim.SGD, momentum=0.9), SGD),
    OptimizerCase("sgd-momentum-l2", partial(optim.SGD, momentum=0.9, weight_decay=0.05), SGD),
    OptimizerCase("sgd-dampening", partial(optim.SGD, momentum=0.9, dampening=0.5), SGD),
    OptimizerCase("sgd-dampening-l2", partial(optim.SGD, momentum=0.8, dampening=0.8, weight_decay=0.05), SGD),
    OptimizerCase("sgd-nesterov", partial(optim.SGD, momentum=0.9, nesterov=True), SGD),
    OptimizerCase("sgd-nesterov-l2", partial(optim.SGD, momentum=0.7, nesterov=True, weight_decay=0.05), SGD),
    OptimizerCase("adam", optim.Adam, ADAM),
    OptimizerCase("adam-amsgrad", partial(optim.Adam, amsgrad=True), ADAM),
    OptimizerCase("adam-l2", partial(optim.Adam, weight_decay=0.05), ADAM),
    OptimizerCase("adam-decoupled", partial(optim.Adam, weight_decay=0.05, decoupled_weight_decay=True), ADAM),
    OptimizerCase("adam-no-momentum", partial(optim.Adam, betas=(0.0, 0.99)), ADAM),
    OptimizerCase("adamw", partial(optim.AdamW, weight_decay=0.0), ADAM),
    OptimizerCase("adamw-wd", partial(optim.AdamW, weight_decay=0.05), ADAM),
    OptimizerCase("adamw-amsgrad", partial(optim.AdamW, amsgrad=True, betas=(0.5, 0.99)), ADAM),
    OptimizerCase("nadam", optim.NAdam, ADAM),
    OptimizerCase("nadam-fast-warmup", partial(optim.NAdam, momentum_decay=5.0), ADAM),
    OptimizerCase("nadam-no-warmup", partial(optim.NAdam, momentum_decay=1e4), ADAM),
    OptimizerCase("nadam-l2", partial(optim.NAdam, weight_decay=0.05), ADAM),
    OptimizerCase("nadam-decoupled", partial(optim.NAdam, weight_decay=0.05, decoupled_weight_decay=True), ADAM),
    OptimizerCase("rmsprop", optim.RMSprop, ADAM),
    OptimizerCase("rmsprop-momentum", partial(optim.RMSprop, momentum=0.9), ADAM),
    OptimizerCase("rmsprop-centered", partial(optim.RMSprop, centered=True), ADAM),
    OptimizerCase("rmsprop-l2", partial(optim.RMSprop, momentum=0.5, weight_decay=0.05), ADAM),
    OptimizerCase("adagrad", optim.Adagrad, ADAGRAD),
    OptimizerCase("adagrad-lr-decay", partial(optim.Adagrad, lr_decay=0.1), ADAGRAD),
    OptimizerCase("adagrad-l2", partial(optim.Adagrad, weight_decay=0.05, initial_accumulator_value=0.1), ADAGRAD),
]
