"""The Kronecker factors of the Fisher matrix, estimated and inverted by curvlinops."""

import importlib
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from dcao_lab.errors import LabError
from dcao_lab.workloads.base import Batch

if TYPE_CHECKING:
    from curvlinops import KFACInverseLinearOperator, KFACLinearOperator

DECAY = 0.95  # decay of the averages of the factors, as in kfac-pytorch
MAX_SEED = 2**31


def curvlinops() -> ModuleType:
    """The module ``curvlinops``, imported on first use because it is optional.

    Raises:
        LabError: It is not installed.
    """
    try:
        with warnings.catch_warnings():
            # linear_operator, which it imports, still uses torch.jit.script
            warnings.filterwarnings("ignore", message=".*torch.jit.script.*is deprecated")
            return importlib.import_module("curvlinops")
    except ImportError as error:
        raise LabError("K-FAC needs curvlinops; pip install --no-deps -r requirements-cross.txt") from error


def can_be_treated(model: nn.Module) -> list[nn.Parameter]:
    """Trainable parameters of Linear and ungrouped Conv2d layers that are not shared with another module.

    Example:
        >>> [tuple(p.shape) for p in can_be_treated(nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3)))]
        [(3, 2), (3,)]
    """
    owners: dict[int, int] = {}
    for module in model.modules():
        for param in module.parameters(recurse=False):
            owners[id(param)] = owners.get(id(param), 0) + 1
    layers = [module for module in model.modules() if _is_treated(module)]
    params = [param for layer in layers for param in layer.parameters(recurse=False) if param.requires_grad]
    return [param for param in params if owners[id(param)] == 1]


def _is_treated(module: nn.Module) -> bool:
    # Exactly these classes, because attention's output projection is a subclass whose forward is never called.
    return type(module) is nn.Linear or (type(module) is nn.Conv2d and module.groups == 1)


class FactorEstimator:
    """Averages of the Kronecker factors during training, and the inverse of their damped Fisher matrix.

    Args:
        model: The network.
        criterion: Cross-entropy or squared error of its output, whose last axis is the classes.
        params: Parameters to precondition, from :func:`can_be_treated`.
        damping: Added to the Kronecker product of each layer's factors.
        seed: Seed of the drawn labels.
        decay: Decay of the averages at an update.
        fisher_type: ``"mc"`` draws one label for each example; ``"type-2"`` sums over all labels, with a backward pass
            for each.

    Raises:
        ValueError: ``damping`` is not positive and finite.
        LabError: curvlinops is not installed.
    """

    def __init__(
        self,
        model: nn.Module,
        criterion: nn.Module,
        params: Sequence[nn.Parameter],
        *,
        damping: float,
        seed: int = 0,
        decay: float = DECAY,
        fisher_type: str = "mc",
    ) -> None:
        if not 0.0 < damping < float("inf"):
            raise ValueError(f"damping must be positive and finite, got {damping}")
        self._package = curvlinops()
        self.model, self.criterion, self.params = model, criterion, list(params)
        self.damping, self.decay, self.fisher_type = damping, decay, fisher_type
        self.input_covariances: dict[str, Tensor] = {}
        self.gradient_covariances: dict[str, Tensor] = {}
        self._seeds = torch.Generator().manual_seed(seed)
        self._flat = _Flat(model)
        self._operator: KFACLinearOperator | None = None
        self._inverse: KFACInverseLinearOperator | None = None

    def update(self, batch: Batch) -> None:
        """Move the averages towards the factors of this batch; the first factors become the averages."""
        operator = self._factors_of(batch)
        factors = (operator._input_covariances, operator._gradient_covariances)  # its state_dict copies the model too
        if not all(bool(torch.isfinite(factor).all()) for each in factors for factor in each.values()):
            return  # they have no eigendecomposition
        if self._operator is None:
            self._operator = operator
            self.input_covariances, self.gradient_covariances = factors
            return
        _average(self.input_covariances, factors[0], self.decay)
        _average(self.gradient_covariances, factors[1], self.decay)

    @property
    def is_ready(self) -> bool:
        """Whether :meth:`precondition` can be called, because there is an inverse."""
        return self._inverse is not None

    def invert(self) -> None:
        """Invert the averages, if there are any yet; :meth:`precondition` uses this inverse until the next call."""
        if self._operator is None:
            return
        inverse = self._package.KFACInverseLinearOperator
        self._inverse = inverse(self._operator, damping=self.damping, use_exact_damping=True)

    def precondition(self, gradients: Sequence[Tensor]) -> list[Tensor]:
        """``(A x B + damping I)^-1`` times the gradients, one for each of ``params``."""
        assert self._inverse is not None
        preconditioned: list[Tensor] = self._inverse @ list(gradients)
        return preconditioned

    def _factors_of(self, batch: Batch) -> "KFACLinearOperator":
        inputs, targets = batch
        # Flattened like the model's output; num_per_example_loss_terms tells curvlinops about it.
        flat = targets.flatten() if targets.ndim > 1 and isinstance(self.criterion, nn.CrossEntropyLoss) else targets
        operator = self._package.KFACLinearOperator(
            self._flat,
            self.criterion,
            self.params,
            [(inputs, flat)],
            check_deterministic=False,
            seed=int(torch.randint(MAX_SEED, (), generator=self._seeds)),
            fisher_type=self.fisher_type,
            separate_weight_and_bias=False,
            num_data=len(inputs),
            num_per_example_loss_terms=max(1, len(flat) // len(inputs)),
        )
        with _untouched(self.model, inputs.device):
            operator.compute_kronecker_factors()
        return operator


class _Flat(nn.Module):
    """The model with its output as rows: one for each example, or one for each position of a sequence."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor) -> Tensor:
        rows: Tensor = self.model(inputs).flatten(0, -2)
        return rows


def _average(averages: dict[str, Tensor], values: dict[str, Tensor], decay: float) -> None:
    for name, average in averages.items():
        average.lerp_(values[name], 1.0 - decay)


@contextmanager
def _untouched(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Context that restores running statistics and random streams: the pass is not a training step."""
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    finally:
        for buffer, saved in buffers:
            buffer.copy_(saved)
