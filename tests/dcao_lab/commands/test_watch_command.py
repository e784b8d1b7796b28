"""``dcao-lab watch``: it ends when the run is over, or when the person has seen enough, and says so."""

import io
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.request

import pytest
from rich.console import Console
from typer.testing import CliRunner

from dcao_lab.commands import watching
from dcao_lab.commands.cli import app
from dcao_lab.watching.live import LiveRun
from helpers.live_logs import lines_of, write_log


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "digits_mlp-dcao_adamw-0.001-0-0123456789abcdef"
    folder.mkdir()
    write_log(folder / "telemetry.jsonl", num_records=4)
    return folder


def ends(folder):
    (folder / "manifest.json").write_text("{}")


def test_a_run_that_is_over_is_shown_once(folder):
    ends(folder)
    result = CliRunner().invoke(app, ["watch", str(folder)])
    assert result.exit_code == 0
    assert "over, last record at step 30" in result.output
    assert result.output.count("learning rate") == 1


def test_a_bare_run_that_is_over_says_how_to_have_records(folder):
    (folder / "telemetry.jsonl").unlink()
    ends(folder)
    result = CliRunner().invoke(app, ["watch", str(folder)])
    assert result.exit_code == 0
    assert "dcao-lab run --watch keeps records of a bare optimizer too" in " ".join(result.output.split())


@pytest.mark.parametrize("options", [(), ("--web",)], ids=str)
def test_what_cannot_be_read_is_one_sentence_with_a_fix_that_the_command_has(tmp_path, options):
    folder = tmp_path / "run.jsonl"
    folder.mkdir()
    result = CliRunner().invoke(app, ["watch", str(folder), *options])
    assert result.exit_code == 2
    assert result.stderr == f"dcao-lab: cannot read or write {folder}: Is a directory; check the path\n"


@pytest.fixture
def before_second_look(monkeypatch):
    """Something to do before the second look at a run."""

    def set_up(action):
        looks, look = [], LiveRun.look
        monkeypatch.setattr(LiveRun, "look", lambda run: (looks.append(1), len(looks) == 2 and action(), look(run))[-1])

    return set_up


def test_it_follows_a_run_to_its_end(folder, before_second_look):
    def train_on():
        with (folder / "telemetry.jsonl").open("a") as file:
            file.write(lines_of(9, begin=4))
        ends(folder)

    before_second_look(train_on)
    console = Console(width=60, file=io.StringIO(), record=True)
    watching.watch(folder, console, every=0.01)
    assert "over, last record at step 80" in console.export_text()


@pytest.mark.parametrize("arguments", [[], ["--web"]], ids=["terminal", "page"])
def test_ctrl_c_ends_it_cleanly(folder, before_second_look, arguments):
    usual = signal.getsignal(signal.SIGINT)
    before_second_look(lambda: signal.raise_signal(signal.SIGINT))
    result = CliRunner().invoke(app, ["watch", str(folder), *arguments])
    assert result.exit_code == 0
    assert result.output.endswith("\nStopped watching; the run goes on.\n")
    assert signal.getsignal(signal.SIGINT) is usual


def test_the_page_of_a_run_that_is_over_stays_until_a_browser_has_it(folder):
    ends(folder)
    text = io.StringIO()
    console = Console(width=200, file=text)
    served = threading.Thread(target=watching.serve, args=(folder, console), kwargs={"every": 0.01, "grace": 30.0})
    served.start()
    while (found := re.search(r"http://127\.0\.0\.1:\d+/", text.getvalue())) is None:
        served.join(0.01)
    assert b"edge" in urllib.request.urlopen(found[0] + "data", timeout=10).read()
    served.join(20)
    assert not served.is_alive()
    assert text.getvalue().endswith("The run is over, last record at step 30.\n")


def test_nobody_is_waited_for_for_ever(folder):
    ends(folder)
    text = io.StringIO()
    watching.serve(folder, Console(width=200, file=text), grace=0.0)
    assert text.getvalue().endswith("The run is over, last record at step 30.\n")


def test_a_port_that_is_taken_is_one_sentence(folder):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = CliRunner().invoke(app, ["watch", str(folder), "--web", "--port", str(port)])
    assert result.exit_code == 2
    assert (
        result.stderr
        == f"dcao-lab: cannot serve on port {port}: Address already in use; give another --port, or none\n"
    )


def test_a_view_beside_a_training_does_without_torch(folder):
    ends(folder)
    code = (
        "import sys\nfrom dcao_lab.commands.cli import app\n"
        f"app(['watch', {str(folder)!r}], standalone_mode=False)\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"


@pytest.mark.parametrize("arguments", [[], ["--web"]], ids=["terminal", "page"])
def test_a_real_interrupt_leaves_with_status_0_and_no_traceback(folder, arguments):
    command = [sys.executable, "-m", "dcao_lab", "watch", str(folder), *arguments]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "TTY_COMPATIBLE": "1", "COLUMNS": "60"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        process.stdout.read(20)  # it has begun
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, b"")
    assert out.decode().endswith("Stopped watching; the run goes on.\n")
