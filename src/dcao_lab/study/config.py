"""What a study is: workloads, the arms that are compared on them, seeds, and how the arms are tuned."""

import hashlib
import math
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from dcao_lab.config import SettingItems, sorted_settings
from dcao_lab.errors import LabError
from dcao_lab.files import jsontext

FORMAT = 1  # raise it when the same study would be made of other runs
_OTHER_VERSION = (
    "this study is of format {found!r} and this dcao_lab reads format {known}; "
    "run it again with this version, or read it with the one that wrote it"
)

VariedSetting = Literal["lr", "batch_size", "weight_decay", "momentum", "init_scale", "label_noise"]


@dataclass(frozen=True, kw_only=True)
class Task:
    """A workload as a study trains it.

    Attributes:
        workload: Its name.
        num_steps: Training steps of a run, at most.
        eval_every: Steps from one evaluation to the next.
        budget: Gradient evaluations of a run, probes and the like included; None counts steps alone.
    """

    workload: str
    num_steps: int
    eval_every: int
    budget: float | None = None


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """How the learning rate of an arm is chosen on each task: the best of a geometric grid that grows where it must.

    Each lr is run with the study's first seed. While the best is at an end of the grid, one more beyond that end is
    run. The best few are then run with all seeds, and the best median counts. All by validation data.

    Attributes:
        lowest: Smallest learning rate of the grid to begin with.
        num_lrs: Learning rates of that grid.
        per_decade: Learning rates in a decade.
        num_best: How many of the best are run with all seeds.
    """

    lowest: float
    num_lrs: int = 6
    per_decade: int = 2
    num_best: int = 2

    def __post_init__(self) -> None:
        if not 0.0 < self.lowest < math.inf:  # also catches nan
            raise LabError(f"the lowest lr of a sweep must be positive and finite, got {self.lowest}")
        if not (self.num_lrs >= 3 and self.per_decade >= 1):  # of two, neither is inside
            raise LabError(
                f"a sweep needs num_lrs of 3 or more and per_decade of 1 or more, got {self.num_lrs} and "
                f"{self.per_decade}"
            )
        if not 1 <= self.num_best <= self.num_lrs:
            raise LabError(f"num_best must be between 1 and num_lrs = {self.num_lrs}, got {self.num_best}")

    @property
    def middle(self) -> float:
        """The learning rate in the middle of the grid, of two the larger one."""
        return self.lr(self.num_lrs // 2)

    def lr(self, index: int) -> float:
        """The learning rate at a place of the grid, to three digits; places below 0 and from ``num_lrs`` on widen it.

        Example:
            >>> [Sweep(lowest=1e-4).lr(index) for index in (-1, 0, 1, 5, 6)]
            [3.16e-05, 0.0001, 0.000316, 0.0316, 0.1]
        """
        return float(f"{self.lowest * 10.0 ** (index / self.per_decade):.3g}")


@dataclass(frozen=True, kw_only=True)
class Arm:
    """What takes part in a comparison: an optimizer, its fixed settings and its schedule.

    Attributes:
        name: Unique in the study, for example ``adamw+cosine``.
        title: What it is called; the report spells its settings in words.
        optimizer: Name of the baseline.
        lr: Initial learning rate where the study does not tune; None takes the optimizer's own.
        settings: Hyperparameters that differ from the optimizer's defaults; they are not tuned. A dict will do.
        schedule: Name of the learning-rate schedule.
        reference: Name of the arm that this one is compared with first; None where there is none.
        group: What the report lists it under, for example the component that an ablation varies.
        sweep: How its learning rate is chosen; None: it is given, or comes from the study's tuning.
    """

    name: str
    title: str
    optimizer: str
    lr: float | None = None
    settings: SettingItems = ()
    schedule: str = "constant"
    reference: str | None = None
    group: str = ""
    sweep: Sweep | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "settings", sorted_settings(self.settings))
        if self.sweep is not None and self.lr is not None:
            raise LabError(f"arm {self.name!r} has lr={self.lr:g} and a sweep to choose it; give one of them")


@dataclass(frozen=True, kw_only=True)
class Variation:
    """One change of the conditions of a run, the same for every arm that goes through it.

    Attributes:
        axis: What is changed.
        value: What it is changed to.
        arms: Names of the arms that go through it; None: all. No part of what a variation is: results are found by the
            axis and the value.
        num_seeds: How many of the study's seeds it is done with, at most; None: all.
    """

    axis: VariedSetting
    value: float
    arms: tuple[str, ...] | None = field(default=None, compare=False)
    num_seeds: int | None = field(default=None, compare=False)

    def has(self, arm: Arm) -> bool:
        """Whether ``arm`` goes through it."""
        return self.arms is None or arm.name in self.arms


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """How each arm is tuned on each task: the same number of points of the same quasi-random sequence for all.

    Attributes:
        num_trials: Runs an arm and task; the first has the optimizer's defaults.
        training_seed: Seed that every trial trains with; none of the study's own.
        design_seed: Seed of the quasi-random points.
    """

    num_trials: int
    training_seed: int = 100
    design_seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Watching:
    """Extra runs that measure s and the top of the spectrum over time; they enter no comparison.

    Attributes:
        seeds: Training seeds of them.
        spectra: Measurements of the spectrum over a run.
    """

    seeds: tuple[int, ...] = (0,)
    spectra: int = 10


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """A study: everything that decides which runs it is made of.

    Attributes:
        name: Name of its recipe.
        size: How much of it; the recipe says which sizes there are.
        title: What the report is headed with.
        question: What it asks, in a sentence.
        tasks: Workloads.
        arms: What is compared.
        seeds: Training seeds of the runs that count.
        tuning: How the arms are tuned; None: not at all.
        variations: Conditions that the arms go through. An arm that goes through none has the workload's own.
        watching: Extra runs that are measured; None: none.
        measure_solution: Measure the curvature of every trained network.
    """

    name: str
    size: str
    title: str
    question: str
    tasks: tuple[Task, ...]
    arms: tuple[Arm, ...]
    seeds: tuple[int, ...]
    tuning: Tuning | None = None
    variations: tuple[Variation, ...] = ()
    watching: Watching | None = None
    measure_solution: bool = False

    def __post_init__(self) -> None:
        _require_unique("task", [task.workload for task in self.tasks])
        names = _require_unique("arm", [arm.name for arm in self.arms])
        _require_unique("seed", [str(seed) for seed in self.seeds])
        _require_unique("variation", [f"{v.axis}={v.value:g}" for v in self.variations], may_be_empty=True)
        for arm in self.arms:
            if arm.reference is not None and arm.reference not in names:
                raise LabError(f"arm {arm.name!r} is compared with {arm.reference!r}, which is no arm of the study")
        for variation in self.variations:
            for name in sorted(set(variation.arms or ()) - names):
                raise LabError(f"{variation.axis}={variation.value:g} is for {name!r}, which is no arm of the study")
        if self.tuning is not None and self.tuning.training_seed in self.seeds:
            raise LabError(f"the tuning seed {self.tuning.training_seed} must not be one of the study's own")
        for arm in self.arms:
            if self.tuning is not None and arm.sweep is not None:
                raise LabError(f"the study tunes every arm, and {arm.name!r} has a sweep; leave one of them out")

    def arm(self, name: str) -> Arm:
        """The arm called ``name``."""
        return next(arm for arm in self.arms if arm.name == name)

    def to_dict(self) -> dict[str, Any]:
        """The study as JSON has it."""
        return {
            "format": FORMAT,
            **asdict(self),
            "arms": [{**asdict(a), "settings": dict(a.settings)} for a in self.arms],
        }

    @classmethod
    def from_dict(cls, data: Any) -> "StudyConfig":
        """The study that :meth:`to_dict` wrote.

        Raises:
            LabError: It was written in another format.
        """
        known = {field.name for field in fields(cls)} | {"format"}
        found = data.get("format") if isinstance(data, dict) else None
        if found != FORMAT or set(data) != known:
            raise LabError(_OTHER_VERSION.format(found=found, known=FORMAT))
        try:
            nested = {
                "tasks": tuple(Task(**task) for task in data["tasks"]),
                "arms": tuple(map(_arm, data["arms"])),
                "seeds": tuple(data["seeds"]),
                "tuning": data["tuning"] and Tuning(**data["tuning"]),
                "variations": tuple(map(_variation, data["variations"])),
                "watching": data["watching"] and _watching(data["watching"]),
            }
        except (TypeError, AttributeError):  # fields that this version's parts of a study do not have
            raise LabError(_OTHER_VERSION.format(found=found, known=FORMAT)) from None
        return cls(**{key: value for key, value in data.items() if key != "format"} | nested)

    def fingerprint(self) -> str:
        """Sixteen hex digits that change when the study does."""
        return hashlib.sha256(jsontext.dumps(self.to_dict()).encode()).hexdigest()[:16]


def _arm(data: dict[str, Any]) -> Arm:
    sweep = data.get("sweep")
    return Arm(**{**data, "sweep": sweep and Sweep(**sweep)})


def _variation(data: dict[str, Any]) -> Variation:
    arms = data.get("arms")
    return Variation(**{**data, "arms": None if arms is None else tuple(arms)})


def _watching(data: dict[str, Any]) -> Watching:
    return Watching(**{**data, "seeds": tuple(data["seeds"])})


def _require_unique(kind: str, names: list[str], *, may_be_empty: bool = False) -> set[str]:
    if not names and not may_be_empty:
        raise LabError(f"a study needs at least one {kind}")
    double = sorted({name for name in names if names.count(name) > 1})
    if double:
        raise LabError(f"{kind} {', '.join(double)} is there twice; names must differ")
    return set(names)
