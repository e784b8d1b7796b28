"""What all commands share: the console, and errors as one sentence."""

import contextlib
from collections.abc import Iterator

import typer
from rich.console import Console

from dcao_lab.errors import LabError
from dcao_lab.execution.cores import available_cores

DEFAULT_JOBS = min(2, available_cores())


def open_console() -> Console:
    """The terminal, or what stands in for it."""
    return Console()


@contextlib.contextmanager
def clear_errors(fix: str = "try another --out") -> Iterator[None]:
    """What the person got wrong, or the disk did, is one sentence and exit status 2; Ctrl-C is one and 130.

    Args:
        fix: What to do where the disk refuses. Of a command that only reads, or reads and writes, it is another.
    """
    try:
        yield
    except LabError as error:
        typer.echo(f"dcao-lab: {error}", err=True)
        raise typer.Exit(2) from None
    except OSError as error:
        place = f" {error.filename}" if error.filename else ""
        typer.echo(f"dcao-lab: cannot read or write{place}: {error.strerror or error}; {fix}", err=True)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        typer.echo("dcao-lab: interrupted; finished runs are kept, start again to go on", err=True)
        raise typer.Exit(130) from None
