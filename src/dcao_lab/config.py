"""What one training run is: everything that decides its numbers, and nothing else."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from dcao_lab.errors import LabError
from dcao_lab.files import jsontext

FORMAT = 4  # raise it when the same config would train differently: old runs are then done again

Setting = float | int | str | bool
SettingItems = tuple[tuple[str, Setting], ...]


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One training run. Two equal configs give the same metrics, byte for byte, on one machine.

    Attributes:
        workload: Name in ``dcao_lab.workloads.WORKLOADS``.
        optimizer: Name in ``dcao_lab.baselines.BASELINES``.
        lr: Initial learning rate; for an optimizer that has none, the number that multiplies its steps.
        seed: Seed of the initial weights, the batch order and the probes.
        num_steps: Training steps, at most.
        eval_every: Steps from one evaluation to the next; there is one before the first step and one at the end.
        settings: The optimizer's other hyperparameters by name, where they are not its defaults; a dict will do.
        schedule: Name in ``dcao_lab.runs.schedules.SCHEDULES``: how the learning rate goes on from the initial one.
        budget: Gradient evaluations, probes and the like included, after which training ends; None: no such end.
        batch_size: Examples a step; None takes the workload's own.
        init_scale: Factor of every initial weight matrix (biases and norms stay).
        label_noise: Share of the training labels that are drawn anew.
        watch: Measure s of a bare optimizer too, with a DCAO around it that changes nothing.
        spectrum_every: Steps from one measurement of the top Ritz values to the next; None measures none.
        measure_solution: Measure the curvature of the trained network: sharpness, trace and spectral density.
    """

    workload: str
    optimizer: str
    lr: float
    seed: int
    num_steps: int
    eval_every: int
    settings: SettingItems = ()
    schedule: str = "constant"
    budget: float | None = None
    batch_size: int | None = None
    init_scale: float = 1.0
    label_noise: float = 0.0
    watch: bool = False
    spectrum_every: int | None = None
    measure_solution: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "settings", sorted_settings(self.settings))
        require_lr_and_seed(self.lr, self.seed)
        for name in ("num_steps", "eval_every", "budget", "batch_size", "init_scale", "spectrum_every"):
            _require_positive(name, getattr(self, name))
        if not 0.0 <= self.label_noise <= 1.0:
            raise LabError(f"label_noise must be a share between 0 and 1, got {self.label_noise}")

    @property
    def label(self) -> str:
        """How progress and messages name this run, for example ``digits_mlp dcao:adamw lr=0.001 seed=0``."""
        changes = {name: getattr(self, name) for name in _CHANGES if getattr(self, name) != _DEFAULTS[name]}
        words = [f"{name}={_spelled(value)}" for name, value in [*self.settings, *changes.items()]]
        return " ".join([self.workload, self.optimizer, f"lr={self.lr:g}", *words, f"seed={self.seed}"])

    def to_dict(self) -> dict[str, Any]:
        """The config as JSON has it, with the format it was written in."""
        return {"format": FORMAT, **asdict(self), "settings": dict(self.settings)}

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


_CHANGES = ("schedule", "batch_size", "init_scale", "label_noise")
_DEFAULTS = {field.name: field.default for field in fields(RunConfig)}


def sorted_settings(settings: SettingItems | Mapping[str, Setting]) -> SettingItems:
    """Settings by name, each once, as a tuple that can be a key.

    Example:
        >>> sorted_settings({"momentum": 0.9, "beta2": 0.99})
        (('beta2', 0.99), ('momentum', 0.9))
    """
    return tuple(sorted(dict(settings).items()))


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


def _require_positive(name: str, value: float | None) -> None:
    if value is not None and not 0 < value < math.inf:
        at_least = "1 or more" if isinstance(value, int) else "positive and finite"
        raise LabError(f"{name} must be {at_least}, got {value}")


def _spelled(value: Setting) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
