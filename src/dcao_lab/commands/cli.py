"""The command ``dcao-lab``."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Column, Table

from dcao_lab.baselines import BASELINES, get_baseline
from dcao_lab.commands import find as finding
from dcao_lab.commands import studies as study_commands
from dcao_lab.commands.spectrum import measure, show, write_page
from dcao_lab.commands.terminal import clear_errors, open_console
from dcao_lab.config import RunConfig, Setting, sorted_settings
from dcao_lab.errors import LabError
from dcao_lab.execution.outcomes import describe
from dcao_lab.report.formats import significant
from dcao_lab.runs.runner import RunPlace, load, run
from dcao_lab.runs.store import RunState, RunStore
from dcao_lab.study.recipes import RECIPES
from dcao_lab.workloads import WORKLOADS, get_workload

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Experiments with DCAO: train, compare, look at the curvature.",
)

WorkloadOption = Annotated[str, typer.Option("--workload", "-w", help="What to train; `dcao-lab list` names all.")]
OptimizerOption = Annotated[str, typer.Option("--optimizer", "-o", help="What to train with; see `dcao-lab list`.")]
MAX_PAIRS = 100  # the work of keeping Lanczos vectors orthogonal grows with the square of their number
SeedOption = Annotated[int, typer.Option(help="Seed of weights, batch order and probes.")]


app.command()(study_commands.study)
app.command()(study_commands.report)
app.command()(study_commands.cells)
app.command(name="export-trials")(study_commands.export_trials)
app.command()(study_commands.demo)


def main() -> None:
    """The entry point."""
    app(prog_name="dcao-lab")


@app.command(name="run")
def run_command(
    workload: WorkloadOption,
    optimizer: OptimizerOption = "dcao:adamw",
    lr: Annotated[float, typer.Option(help="Initial learning rate.")] = 1e-3,
    seed: SeedOption = 0,
    steps: Annotated[int | None, typer.Option(help="Training steps; the workload's own without it.")] = None,
    watch: Annotated[bool, typer.Option(help="Measure s of a bare optimizer too; changes nothing.")] = False,
    spectrum_every: Annotated[
        int | None, typer.Option(help="Steps between Ritz values; bare optimizers need --watch too.")
    ] = None,
    setting: Annotated[
        list[str] | None, typer.Option("--set", help="A hyperparameter, as weight_decay=0.1; may be repeated.")
    ] = None,
    schedule: Annotated[str, typer.Option(help="constant, or warmup with cosine or linear.")] = "constant",
    batch_size: Annotated[int | None, typer.Option(help="Examples a step; the workload's own without it.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the data sets.")] = None,
    device: Annotated[str, typer.Option(help="Device that trains.")] = "cpu",
    out: Annotated[Path, typer.Option(help="Folder of the runs.")] = Path("runs"),
) -> None:
    """Train one network, and keep the run."""
    with clear_errors():
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
            settings=sorted_settings(parsed_settings(setting or [])),
            schedule=schedule,
            batch_size=batch_size,
            watch=watch,
            spectrum_every=spectrum_every,
        )
        place = RunPlace(data_dir=data_dir, device=device)
        _run_and_show(config, f"test_{info.metric}", RunStore(out), place, open_console())


@app.command()
def spectrum(
    workload: WorkloadOption,
    optimizer: OptimizerOption = "adamw",
    lr: Annotated[float, typer.Option(help="Learning rate of the steps before.")] = 1e-3,
    seed: SeedOption = 0,
    steps: Annotated[int, typer.Option(min=1, help="Training steps before measuring.")] = 50,
    k: Annotated[int, typer.Option("-k", min=1, max=MAX_PAIRS, help="How many of the largest Ritz values.")] = 10,
    out: Annotated[Path | None, typer.Option(help="Also write the density as an HTML page here.")] = None,
) -> None:
    """Print the spectrum of the loss Hessian after a few training steps."""
    with clear_errors():
        get_baseline(optimizer)
        measured = measure(workload, optimizer=optimizer, lr=lr, seed=seed, num_steps=steps, k=k)
        console = open_console()
        show(measured, console)
        if out is not None:
            console.print(f"Density: {write_page(measured, out)}", highlight=False, soft_wrap=True)


@app.command(name="find-lr")
def find_lr_command(
    workload: Annotated[str, typer.Argument(help="What to train; `dcao-lab list` names all.")],
    optimizer: Annotated[
        str, typer.Option("--optimizer", "-o", help="A bare optimizer: adamw, adam or sgd.")
    ] = "adamw",
    seed: SeedOption = 0,
    steps: Annotated[int, typer.Option(min=1, help="Most steps of the rise.")] = 100,
    out: Annotated[
        Path | None, typer.Option(help="Also write the curve, as JSON and as a page, into this folder.")
    ] = None,
) -> None:
    """Find a learning rate for a bare optimizer with warmup and cosine."""
    with clear_errors():
        found = finding.find(workload, optimizer=optimizer, seed=seed, num_steps=steps)
        console = open_console()
        finding.show(found, console)
        if out is not None:
            for path in finding.write(found, f"{workload}, {optimizer}", out):
                console.print(f"Kept in {path}", highlight=False, soft_wrap=True)


@app.command(name="list")
def list_command() -> None:
    """Name the workloads, the optimizers and the studies."""
    console = open_console()
    workloads = Table(Column("workload", no_wrap=True), "what it is", "steps", "needs", box=None, pad_edge=False)
    for name, workload in WORKLOADS.items():
        workloads.add_row(name, workload.info.summary, str(workload.info.num_steps), workload.info.needs or "")
    optimizers = Table("optimizer", "what it is", box=None, pad_edge=False)
    for name, baseline in BASELINES.items():
        optimizers.add_row(name, baseline.title)
    studies = Table("study", "what it asks", box=None, pad_edge=False)
    for name, recipe in RECIPES.items():
        studies.add_row(name, recipe("small").question)
    console.print(workloads, "", optimizers, "", studies)


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
