"""What one training run is: everything that decides its numbers, and nothing else."""

import hashlib
import math
from dataclasses import asdict, dataclass, fields
from typing import Any

from dcao_lab import jsontext
from dcao_lab.errors import LabError

FORMAT = 1  # raise it when the same config would train differently: old runs are then done again


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One training run. Two equal configs give the same metrics, byte for byte, on one machine.

    Attributes:
        workload: Name in ``dcao_lab.workloads.WORKLOADS``.
        optimizer: Name in ``dcao_lab.baselines.BASELINES``.
        lr: Initial learning rate.
        seed: Seed of the initial weights, the batch order and the probes.
        num_steps: Training steps.
        eval_every: Steps from one evaluation to the next; there is one before the first step and one at the end.
        watch: Measure s of a bare optimizer too, with a DCAO around it that changes nothing.
        spectrum_every: Steps from one measurement of the top Ritz values to the next; None measures none.
    """

    workload: str
    optimizer: str
    lr: float
    seed: int
    num_steps: int
    eval_every: int
    watch: bool = False
    spectrum_every: int | None = None

    def __post_init__(self) -> None:
        require_lr_and_seed(self.lr, self.seed)
        for name in ("num_steps", "eval_every", "spectrum_every"):
            _require_positive(name, getattr(self, name))

    @property
    def label(self) -> str:
        """How progress and messages name this run, for example ``digits_mlp dcao:adamw lr=0.001 seed=0``."""
        return f"{self.workload} {self.optimizer} lr={self.lr:g} seed={self.seed}"

    def to_dict(self) -> dict[str, Any]:
        """The config as JSON has it, with the format it was written in."""
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "RunConfig":
        """The config that :meth:`to_dict` wrote.

        Raises:
            LabError: It was written in another format.
        """
        values = {key: value for key, value in data.items() if key != "format"}
        known = {field.name for field in fields(cls)}
        if data.get("format") != FORMAT or set(values) != known:
            raise LabError(
                f"this config is of format {data.get('format')!r} and this dcao_lab reads format {FORMAT}; "
                "run it again with this version, or read it with the one that wrote it"
            )
        return cls(**values)

    def fingerprint(self) -> str:
        """Sixteen hex digits that change when anything that decides the numbers does.

        Example:
            >>> config = RunConfig(
            ...     workload="digits_mlp", optimizer="adamw", lr=1e-3, seed=0, num_steps=10, eval_every=5
            ... )
            >>> config.fingerprint() == RunConfig.from_dict(config.to_dict()).fingerprint()
            True
        """
        return hashlib.sha256(jsontext.dumps(self.to_dict()).encode()).hexdigest()[:16]


def require_lr_and_seed(lr: float, seed: int) -> None:
    """Refuse what no optimizer can start from.

    Example:
        >>> require_lr_and_seed(lr=0.0, seed=0)
        Traceback (most recent call last):
        ...
        dcao_lab.errors.LabError: lr must be positive and finite, got 0.0; for example --lr 1e-3
    """
    if not 0.0 < lr < math.inf:  # "not a < b" also catches nan
        raise LabError(f"lr must be positive and finite, got {lr}; for example --lr 1e-3")
    if seed < 0:
        raise LabError(f"seed must be 0 or more, got {seed}")


def _require_positive(name: str, value: int | None) -> None:
    if value is not None and value <= 0:
        raise LabError(f"{name} must be 1 or more, got {value}")
