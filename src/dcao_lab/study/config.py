"""What a study is: workloads, the arms that are compared on them, seeds, and how the arms are tuned."""

import hashlib
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
class Arm:
    """What takes part in a comparison: an optimizer, its fixed settings and its schedule.

    Attributes:
        name: Unique in the study, for example ``adamw+cosine``.
        title: What the report calls it.
        optimizer: Name of the baseline.
        lr: Initial learning rate where the study does not tune; None takes the optimizer's own.
        settings: Hyperparameters that differ from the optimizer's defaults; they are not tuned. A dict will do.
        schedule: Name of the learning-rate schedule.
        reference: Name of the arm that this one is compared with first; None where there is none.
        group: What the report lists it under, for example the component that an ablation varies.
    """

    name: str
    title: str
    optimizer: str
    lr: float | None = None
    settings: SettingItems = ()
    schedule: str = "constant"
    reference: str | None = None
    group: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "settings", sorted_settings(self.settings))


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
        variations: Conditions that the arms go through; empty: only the workload's own.
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
                "arms": tuple(Arm(**arm) for arm in data["arms"]),
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
