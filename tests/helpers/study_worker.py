"""A process that does the tiny study and logs its runs: ``python -m helpers.study_worker FOLDER [HANG_AT]``.

It begins its second run only when another process has begun one too, if ``HANG_AT`` is not given; else it begins its
run of that number, from 0, and never ends it.
"""

import os
import sys
import time
from pathlib import Path

from dcao_lab.study.conduct import conduct
from dcao_lab.study.folders import StudyFolder
from helpers.lab_coordinator import log
from helpers.lab_studies import HereExecutor, silent, tiny_study


class LoggingExecutor(HereExecutor):
    def __init__(self, out, hang_at):
        super().__init__()
        self._out, self._hang_at = out, hang_at

    def wait(self, seconds):
        config = self._config
        log(self._out, f"started {os.getpid()}", config)
        if self._hang_at is None and not self.done:
            while len({line.split()[1] for line in (self._out / "log").read_text().splitlines()}) < 2:
                time.sleep(0.01)
        if len(self.done) == self._hang_at:
            time.sleep(3600)
        reply = super().wait(seconds)
        log(self._out, f"ended {os.getpid()}", config)
        return reply


if __name__ == "__main__":
    out, hang_at = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else None
    conduct(tiny_study(), StudyFolder.of(tiny_study(), out), LoggingExecutor(out, hang_at), silent())
