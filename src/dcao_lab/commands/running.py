"""One run from the command line."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import torch
from rich.console import Console

from dcao_lab.baselines import get_baseline
from dcao_lab.commands.terminal import open_console
from dcao_lab.config import RunConfig, Setting, sorted_settings
from dcao_lab.errors import LabError
from dcao_lab.execution.outcomes import describe
from dcao_lab.report.formats import significant
from dcao_lab.runs.runner import RunPlace, load, run
from dcao_lab.runs.store import RunState, RunStore
from dcao_lab.workloads import get_workload


def run_workload(
    workload: str,
    *,
    optimizer: str,
    lr: float,
    seed: int,
    steps: int | None,
    watch: bool,
    spectrum_every: int | None,
    settings: dict[str, Setting],
    schedule: str,
    batch_size: int | None,
    place: RunPlace,
    out: Path,
) -> None:
    """Train a workload, or find that it is there already, and say what it came to."""
    is_probed = get_baseline(optimizer).is_wrapped or watch
    if spectrum_every is not None and not is_probed:
        raise LabError(f"--spectrum-every has no effect on {optimizer}, which is not probed; add --watch")
    info = get_workload(workload).info
    num_steps = info.num_steps if steps is None else steps
    config = RunConfig(
        workload=workload,
        optimizer=optimizer,
        lr=lr,
        seed=seed,
        num_steps=num_steps,
        eval_every=max(1, min(info.eval_every, num_steps)),
        settings=sorted_settings(settings),
        schedule=schedule,
        batch_size=batch_size,
        watch=watch,
        spectrum_every=spectrum_every,
    )
    _run_and_show(config, f"test_{info.metric}", RunStore(out), place, open_console())


def parsed_settings(words: list[str]) -> dict[str, Setting]:
    """Settings from ``name=value``; a value is a number where it reads as one.

    Example:
        >>> parsed_settings(["momentum=0.9", "every=5", "rules=lr+momentum", "nesterov=true"])
        {'momentum': 0.9, 'every': 5, 'rules': 'lr+momentum', 'nesterov': True}
    """
    pairs = [word.partition("=") for word in words]
    for name, sign, value in pairs:
        if not (name and sign and value):
            raise LabError(f"a setting must be name=value, got {name + sign + value!r}; for example weight_decay=0.1")
    return {name: _parsed(value) for name, _, value in pairs}


def _parsed(value: str) -> Setting:
    try:
        number = json.loads(value)
    except json.JSONDecodeError:
        return value
    return number if isinstance(number, (int, float)) else value


def _run_and_show(config: RunConfig, metric: str, store: RunStore, place: RunPlace, console: Console) -> None:
    torch.set_num_threads(1)  # as in the demo: the same numbers there and here
    if store.state(config) is not RunState.FINISHED:
        with _claimed(config, store), console.status(config.label):
            if warning := store.replace_damaged(config):
                console.print(warning, highlight=False, markup=False, soft_wrap=True)
            run(
                config,
                store,
                place,
                on_point=lambda point: console.print(
                    f"step {point.step:5d}  lr {point.lr:.3g}  training loss {significant(point.train_loss)}  "
                    f"{metric.replace('_', ' ')} {point.metrics[metric]:.4g}  "
                    f"gradient evaluations {point.gradient_evaluations:.0f}",
                    highlight=False,
                    soft_wrap=True,
                ),
            )
    console.print(f"{config.label}: {describe(config, load(config, store).result)}", highlight=False, soft_wrap=True)
    console.print(f"Kept in {store.folder(config)}", highlight=False, soft_wrap=True)


@contextlib.contextmanager
def _claimed(config: RunConfig, store: RunStore) -> Iterator[None]:
    claim = store.claim(config)
    if claim is None:
        raise LabError(f"another process does this run into {store.root} now; wait for it, or give another --out")
    with claim:
        yield
