"""Processes that do a small study in one folder and log what they begin and end; for tests that kill them.

``python -m helpers.study_worker FOLDER`` does the tiny study together with another process: it ends its first run only
when the other has begun one. With a number more it never ends its run of that number, counted from 0.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

import torch

from dcao_lab.runs.runner import run
from dcao_lab.runs.store import RunStore
from dcao_lab.study import Tuning
from dcao_lab.study.conduct import conduct
from dcao_lab.study.folders import StudyFolder
from helpers.lab_coordinator import log
from helpers.lab_runs import small_config
from helpers.lab_studies import HereExecutor, silent, tiny_study

LONGER_STUDY = tiny_study(seeds=tuple(range(6)), tuning=Tuning(num_trials=4))
"""8 trials, 12 final runs and 2 watched ones."""


class LoggingExecutor(HereExecutor):
    def __init__(self, out, wait_for=lambda num_done: None):
        super().__init__()
        self._out, self._wait_for = out, wait_for

    def wait(self, seconds):
        config = self._config
        log(self._out, f"started {os.getpid()}", config)
        self._wait_for(len(self.done))
        reply = super().wait(seconds)
        log(self._out, f"ended {os.getpid()}", config)
        return reply


def prepare():
    """Import what a run needs, torch's compiler among it, which takes a second; without threads, which no fork has."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        run(small_config(optimizer="dcao:adamw"), RunStore(Path(folder)))


def main(out):
    """Do the longer study alone."""
    conduct(LONGER_STUDY, StudyFolder.of(LONGER_STUDY, out), LoggingExecutor(out), silent())


def do_tiny_study(out, hang_at):
    def wait_for(num_done):
        if num_done == hang_at:
            time.sleep(3600)
        while hang_at is None and len({line.split()[1] for line in (out / "log").read_text().splitlines()}) < 2:
            time.sleep(0.01)

    conduct(tiny_study(), StudyFolder.of(tiny_study(), out), LoggingExecutor(out, wait_for), silent())


if __name__ == "__main__":
    do_tiny_study(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else None)
