"""A recorder that fails, and a disk that is full, cost records and one warning; they neither stop nor alter the run."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

from dcao import DCAO, JsonlRecorder, MemoryRecorder, Recorder, TensorBoardRecorder, read_jsonl

STEPS = 24


class Run:
    """A short training that probes at every second step."""

    def __init__(self, recorder: Recorder | None) -> None:
        torch.manual_seed(0)
        self.model, self.x = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.2)), torch.randn(16, 4)
        self.optimizer = DCAO(torch.optim.AdamW(self.model.parameters(), lr=1e-3), recorder=recorder, every=2)
        self.losses: list[float] = []
        self.messages: list[str] = []

    def advance(self, num_steps: int = STEPS) -> Run:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for _ in range(num_steps):
                self.losses.append(float(self.optimizer.minimize(lambda: self.model(self.x).square().mean())))
        self.messages += [str(each.message) for each in caught]
        return self

    def end(self) -> list:
        return [self.losses, self.optimizer.effective_lrs, *(p.tolist() for p in self.model.parameters())]


@pytest.fixture(scope="module")
def unrecorded() -> list:
    return Run(None).advance().end()


class Failing(MemoryRecorder):
    """Raises at some of its records, the first one included."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error, self.num_calls = error, 0

    def record(self, record):
        self.num_calls += 1
        if self.num_calls % 2:
            raise self.error
        super().record(record)


@pytest.mark.parametrize(
    "error",
    [
        TypeError("no such column"),
        ZeroDivisionError("division by zero"),
        KeyError("loss"),
        ConnectionResetError(errno.ECONNRESET, "gone"),
        OSError(errno.ENOSPC, "No space left on device"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_recorder_that_raises_is_told_once_and_the_training_is_that_without_it(error, unrecorded):
    recorder = Failing(error)
    run = Run(recorder).advance()
    assert run.end() == unrecorded
    (message,) = run.messages
    assert f"the recorder failed, and this record is lost: {type(error).__name__}: {error}" in message
    assert message.endswith("Fix: mend what the error names, or give Failing a place that can be written")
    assert len(recorder.records) == recorder.num_calls // 2 >= 4  # the others are kept


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux's device that is always full")
def test_a_full_disk_costs_the_records_of_a_jsonl_log_and_nothing_else(unrecorded):
    run = Run(JsonlRecorder("/dev/full")).advance()
    assert run.end() == unrecorded
    (message,) = run.messages
    assert f"OSError: [Errno {errno.ENOSPC}] No space left on device" in message
    assert message.endswith("give JsonlRecorder a place that can be written")


class SizeLimit:
    """While it holds no file of this process can grow past ``size`` bytes: a disk that fills in mid-write."""

    def __init__(self, size: int) -> None:
        self.resource = pytest.importorskip("resource")
        self.size = size

    def __enter__(self) -> None:
        self.before = self.resource.getrlimit(self.resource.RLIMIT_FSIZE)
        self.resource.setrlimit(self.resource.RLIMIT_FSIZE, (self.size, self.before[1]))

    def __exit__(self, *exception) -> None:
        self.resource.setrlimit(self.resource.RLIMIT_FSIZE, self.before)


def test_a_disk_that_fills_in_the_middle_of_a_line_leaves_a_log_that_goes_on_when_there_is_space(tmp_path, unrecorded):
    path = tmp_path / "log.jsonl"
    run = Run(JsonlRecorder(path)).advance(8)
    with SizeLimit(path.stat().st_size + 100):
        run.advance(8)
    assert path.read_bytes()[-1:] != b"\n"  # the line was cut short
    run.advance(STEPS - 16)
    assert run.end() == unrecorded
    assert len(run.messages) == 1
    memory = MemoryRecorder()
    Run(memory).advance()
    steps = [record.step for record in memory.records if not 8 <= record.step < 16]
    assert [record.step for record in read_jsonl(path)] == steps


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # the writer's own thread
def test_a_disk_that_fills_under_tensorboard_costs_records_and_nothing_else(tmp_path, unrecorded):
    pytest.importorskip("tensorboard")
    run = Run(TensorBoardRecorder(tmp_path)).advance(8)
    (path,) = tmp_path.glob("events*")
    with SizeLimit(path.stat().st_size + 100):
        run.advance(STEPS - 8)
    assert run.end() == unrecorded
    (message,) = run.messages
    assert "OSError" in message
    assert "File too large" in message


DEAD_SERVICE = """
import os, signal, sys
import psutil, wandb
from test_failing_recorders import Run
from dcao import WandbRecorder

settings = wandb.Settings(console="off", x_disable_stats=True, disable_git=True, save_code=False)
with wandb.init(project="test", mode="offline", dir=sys.argv[1], settings=settings) as started:
    run = Run(WandbRecorder(started)).advance(8)
    for child in psutil.Process().children(recursive=True):
        os.kill(child.pid, signal.SIGKILL)
    run.advance(16)
    print(run.end() == Run(None).advance().end(), len(run.messages), run.messages[0], flush=True)
    os._exit(0)  # what W&B does at the end without its service is not ours
"""


def test_a_wandb_service_that_dies_costs_records_and_nothing_else(tmp_path):
    pytest.importorskip("wandb")
    pytest.importorskip("psutil")
    folders = {f"WANDB_{kind}_DIR": str(tmp_path / kind) for kind in ("CACHE", "CONFIG", "DATA")}
    here, tests = Path(__file__).parent, Path(__file__).parents[2]
    environment = {**os.environ, **folders, "PYTHONPATH": os.pathsep.join([str(here), str(tests), *sys.path])}
    command = [sys.executable, "-c", DEAD_SERVICE, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    # Which of its errors W&B raises depends on what it has noticed by then.
    expected = r"True 1 the recorder failed, and this record is lost: \w+Error:"
    assert re.match(expected, done.stdout), done.stdout + done.stderr
