"""The commands about whole studies: ``study``, ``report``, ``cells``, ``export-trials`` and ``demo``.

What they do is imported once they do it: ``--help`` needs neither torch nor the report.
"""

from pathlib import Path
from typing import Annotated

import typer

from dcao_lab.commands.terminal import DEFAULT_JOBS, clear_errors

JobsOption = Annotated[int, typer.Option(min=1, help="Processes that train here, each with its share of the cores.")]
SomeWorkloads = Annotated[list[str] | None, typer.Option("--workload", "-w", help="Only this one; may be repeated.")]
StepsOption = Annotated[int | None, typer.Option(min=1, help="Training steps of every run, to try it out.")]
StudyArgument = Annotated[Path, typer.Argument(help="Folder of the study, for example studies/headline-embedded.")]
EITHER = "Folder of the study, or of its published results, for example results/transfer-embedded."
SeedsOption = Annotated[int | None, typer.Option(min=1, help="Seeds of the runs that count.")]


def study(
    name: Annotated[str, typer.Argument(help="Which study; `dcao-lab list` names all.")],
    size: Annotated[str, typer.Option(help="embedded, small or full.")] = "embedded",
    out: Annotated[Path, typer.Option(help="Folder of the studies and of the runs that they share.")] = Path("studies"),
    jobs: JobsOption = DEFAULT_JOBS,
    executor: Annotated[str, typer.Option(help="local, or ray for a cluster.")] = "local",
    address: Annotated[str | None, typer.Option(help="Of the Ray cluster; none starts one here.")] = None,
    gpus_per_run: Annotated[float, typer.Option(min=0.0, help="GPUs of a run on Ray, for example 0.5.")] = 0.0,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the data sets.")] = None,
    device: Annotated[str, typer.Option(help="Device that trains.")] = "cpu",
    workload: SomeWorkloads = None,
    arm: Annotated[list[str] | None, typer.Option("--arm", "-a", help="Only this one; may be repeated.")] = None,
    steps: StepsOption = None,
    seeds: SeedsOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say how much it is, and do nothing.")] = False,
    report: Annotated[bool, typer.Option(help="Write the report at the end.")] = True,
) -> None:
    """Do a study, or what is left of it, and write its report."""
    with clear_errors():
        from dcao_lab.commands import conducting
        from dcao_lab.runs.runner import RunPlace

        conducting.do_study(
            name,
            size,
            out,
            jobs=jobs,
            executor=executor,
            address=address,
            gpus_per_run=gpus_per_run,
            place=RunPlace(data_dir=data_dir, device=device),
            workloads=workload,
            arms=arm,
            steps=steps,
            seeds=seeds,
            dry_run=dry_run,
            report=report,
        )


def report(
    folder: Annotated[Path, typer.Argument(help=EITHER)],
    out: Annotated[Path | None, typer.Option(help="Folder for it; else report, in that folder.")] = None,
) -> None:
    """Write the report of what there is of a study: a page, and figures and tables for a paper."""
    with clear_errors():
        from dcao_lab.commands import conducting

        conducting.write_report(folder, out)


def cells(
    folder: Annotated[Path, typer.Argument(help=EITHER)],
) -> None:
    """Print as Markdown in how many cells each arm that nobody tuned is within the goal of a sweep."""
    with clear_errors("check the path"):
        from dcao_lab.commands import conducting

        for text in conducting.cells_of(folder):
            typer.echo(text)


def export_trials(
    folder: StudyArgument,
    out: Annotated[Path, typer.Option(help="SQLite file to make.")] = Path("trials.db"),
) -> None:
    """Copy the trials of a study into a new SQLite file, for Optuna's dashboard."""
    with clear_errors():
        from dcao_lab.commands import conducting

        conducting.export_trials(folder, out)


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the report and the runs.")] = Path("demo-report"),
    jobs: JobsOption = DEFAULT_JOBS,
    workload: SomeWorkloads = None,
    steps: StepsOption = None,
    seeds: SeedsOption = None,
) -> None:
    """Train from seven initial learning rates, with DCAO and without; say whether it keeps its promise, and show it."""
    with clear_errors():
        from dcao_lab.commands import conducting

        conducting.do_demo(out, jobs=jobs, workloads=workload, steps=steps, seeds=seeds)
