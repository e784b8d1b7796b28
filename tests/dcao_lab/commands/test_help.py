"""``--help`` and ``--version`` answer at once: they import what reads a command line, and nothing that works."""

import subprocess
import sys

import pytest
from typer.testing import CliRunner

import dcao
from dcao_lab.commands.cli import app

HEAVY = ("torch", "dcao", "numpy", "scipy", "pandas", "sklearn", "optuna", "pyarrow", "plotly", "matplotlib", "ray")
COMMANDS = [command.name or command.callback.__name__ for command in app.registered_commands]


def imported_by(*arguments: str) -> list[str]:
    """What of ``HEAVY`` a fresh process has imported once it has answered."""
    code = (
        "import sys\n"
        "from dcao_lab.commands.cli import main\n"
        f"sys.argv = ['dcao-lab', *{arguments!r}]\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        f"print('imported:', *[name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *_, last = done.stdout.splitlines()
    return last.split()[1:]


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), *((name, "--help") for name in COMMANDS)], ids=str)
def test_an_answer_without_work_imports_nothing_heavy(arguments):
    assert imported_by(*arguments) == []


def test_help_names_every_command():
    output = CliRunner().invoke(app, ["--help"]).output
    assert len(COMMANDS) == 11
    assert all(name in output for name in COMMANDS)


def test_version_is_that_of_the_library():
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.output) == (0, f"dcao-lab {dcao.__version__}\n")
