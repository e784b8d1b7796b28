"""What recipes are put together from: arms with readable names, and how much of a recipe one size is."""

from collections.abc import Mapping
from dataclasses import dataclass

from dcao_lab.baselines import get_baseline
from dcao_lab.config import Setting, sorted_settings
from dcao_lab.errors import look_up
from dcao_lab.study.config import Arm, Sweep, Task, Variation, VariedSetting
from dcao_lab.workloads import get_workload


@dataclass(frozen=True, kw_only=True)
class Amount:
    """How much of a recipe one size is.

    Attributes:
        steps: Training steps by workload; None takes the workload's own.
        num_seeds: Seeds of the runs that count.
        num_trials: Runs that tune an arm on a workload; 0: none.
        num_watched: Seeds of the watched runs.
        spectra: Measurements of the spectrum in a watched run.
        num_evaluations: Evaluations of a run, beside the one before the first step.
    """

    steps: Mapping[str, int | None]
    num_seeds: int
    num_trials: int = 0
    num_watched: int = 0
    spectra: int = 10
    num_evaluations: int = 20

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds, from 0."""
        return tuple(range(self.num_seeds))


def own_steps(*workloads: str) -> dict[str, int | None]:
    """Each workload at its own number of steps."""
    return dict.fromkeys(workloads)


# What several studies train at these sizes: images and words, on small and on large networks.
SMALL = Amount(steps=own_steps("mnist_cnn", "cifar10_resnet18", "ptb_transformer"), num_seeds=3)
FULL = Amount(
    steps=own_steps("cifar10_resnet18", "cifar10_vit", "cifar100_resnet34", "ptb_lstm", "wikitext2_transformer"),
    num_seeds=5,
)


def amount_of(sizes: Mapping[str, Amount], size: str) -> Amount:
    """The entry of a recipe's table of sizes.

    Raises:
        LabError: The recipe has no such size.
    """
    return look_up(sizes, size, "size")


def tasks(amount: Amount, *, is_budgeted: bool = False) -> tuple[Task, ...]:
    """The workloads of an amount; with a budget of one gradient evaluation a step, which probes and the like share."""
    return tuple(_task(workload, steps, amount, is_budgeted) for workload, steps in amount.steps.items())


def _task(workload: str, steps: int | None, amount: Amount, is_budgeted: bool) -> Task:
    num_steps = get_workload(workload).info.num_steps if steps is None else steps
    return Task(
        workload=workload,
        num_steps=num_steps,
        eval_every=max(1, num_steps // amount.num_evaluations),
        budget=float(num_steps) if is_budgeted else None,
    )


def arm(
    optimizer: str,
    settings: Mapping[str, Setting] | None = None,
    *,
    lr: float | None = None,
    schedule: str = "constant",
    reference: str | None = None,
    group: str = "",
    sweep: Sweep | None = None,
) -> Arm:
    """An arm that is named after what it is.

    Example:
        >>> arm("dcao:adamw", {"target": 1.0}, schedule="cosine", reference="adamw").name
        'dcao:adamw[target=1]+cosine'
    """
    settings = settings or {}
    schedule_words = "" if schedule == "constant" else schedule
    words = [f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}" for name, value in settings.items()]
    words += [] if lr is None else [f"lr={lr:g}"]
    return Arm(
        name=optimizer + (f"[{','.join(words)}]" if words else "") + (schedule_words and f"+{schedule_words}"),
        title=", ".join([get_baseline(optimizer).title, *words]) + (schedule_words and f" + {schedule_words}"),
        optimizer=optimizer,
        lr=lr,
        settings=sorted_settings(settings),
        schedule=schedule,
        reference=reference,
        group=group,
        sweep=sweep,
    )


def vary(
    axis: VariedSetting, *values: float, arms: tuple[str, ...] | None = None, num_seeds: int | None = None
) -> tuple[Variation, ...]:
    """One variation for each value, for these arms and so many seeds; None: all."""
    return tuple(Variation(axis=axis, value=float(value), arms=arms, num_seeds=num_seeds) for value in values)
