"""The command ``dcao-lab``: names and options. What a command needs is imported once it does its work."""

from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from dcao_lab.commands import studies as study_commands
from dcao_lab.commands.terminal import clear_errors, open_console

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

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


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"dcao-lab {version('dcao')}")
        raise typer.Exit


@app.callback()
def options(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Experiments with DCAO: train, compare, look at the curvature."""


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
        from dcao_lab.commands import running
        from dcao_lab.runs.runner import RunPlace

        running.run_workload(
            workload,
            optimizer=optimizer,
            lr=lr,
            seed=seed,
            steps=steps,
            watch=watch,
            spectrum_every=spectrum_every,
            settings=running.parsed_settings(setting or []),
            schedule=schedule,
            batch_size=batch_size,
            place=RunPlace(data_dir=data_dir, device=device),
            out=out,
        )


@app.command()
def spectrum(
    workload: WorkloadOption,
    optimizer: OptimizerOption = "adamw",
    lr: Annotated[float, typer.Option(help="Learning rate of the steps before.")] = 1e-3,
    seed: SeedOption = 0,
    steps: Annotated[int, typer.Option(min=1, help="Training steps before measuring.")] = 50,
    k: Annotated[int, typer.Option("-k", min=1, max=MAX_PAIRS, help="How many of the largest Ritz values.")] = 10,
    out: Annotated[Path | None, typer.Option(help="Also draw the density here: .png, .svg or .pdf.")] = None,
) -> None:
    """Print the spectrum of the loss Hessian after a few training steps."""
    with clear_errors():
        from dcao_lab.commands import spectrum as spectra
        from dcao_lab.commands.plotting import require_picture

        if out is not None:
            require_picture(out)
        measured = spectra.measure(workload, optimizer=optimizer, lr=lr, seed=seed, num_steps=steps, k=k)
        console = open_console()
        spectra.show(measured, console)
        if out is not None:
            from dcao_lab.commands.density import write_picture

            write_picture(out, measured.title, measured.density, measured.top.ritz_values.tolist())
            console.print(f"Density: {out}", highlight=False, soft_wrap=True)


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
        from dcao_lab.commands import find as finding

        found = finding.find(workload, optimizer=optimizer, seed=seed, num_steps=steps)
        console = open_console()
        finding.show(found, console)
        if out is not None:
            for path in finding.write(found, f"{workload}, {optimizer}", out):
                console.print(f"Kept in {path}", highlight=False, soft_wrap=True)


@app.command(name="plot")
def plot_command(
    run: Annotated[
        Path, typer.Argument(help="Folder of a run, for example one of runs/, or the log that a JsonlRecorder writes.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="Picture to write, as .png, .svg or .pdf; without it <name of the run>.png here."),
    ] = None,
    panel: Annotated[
        list[str] | None,
        typer.Option(
            "--panel", "-p", help="Only loss, lr, relative_step, s, ritz_values or preconditioned; may be repeated."
        ),
    ] = None,
) -> None:
    """Draw what was measured and decided in a run: loss, lr, s with its edge and so on."""
    with clear_errors("check the path, or try another --out"):
        from dcao_lab.commands import plotting

        picture = plotting.write_picture(run, out=out, panels=panel)
        open_console().print(f"Picture: {picture}", highlight=False, markup=False, soft_wrap=True)


@app.command(name="watch")
def watch_command(
    run: Annotated[
        Path, typer.Argument(help="A JsonlRecorder's log, the folder of a run, or one of runs such as runs/.")
    ],
    web: Annotated[bool, typer.Option("--web", help="As a page of this machine, instead of in the terminal.")] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the page; without it one that is free.")] = 0,
) -> None:
    """Follow a run while it trains: loss, s against its edge, lr and the last decision, until it is over or Ctrl-C."""
    with clear_errors("check the path"):
        from dcao_lab.commands import watching

        if web:
            watching.serve(run, open_console(), port=port)
        else:
            watching.watch(run, open_console())


@app.command(name="list")
def list_command() -> None:
    """Name the workloads, the optimizers and the studies."""
    from dcao_lab.commands import listing

    listing.show(open_console())
