"""Several processes, of one machine or of many, do one study in one folder."""

import subprocess
import sys
import time
from collections import Counter

import pytest

from dcao_lab.study.conduct import conduct, load_study
from dcao_lab.study.folders import StudyFolder
from dcao_lab.study.plan import trials
from helpers import TESTS
from helpers.lab_studies import HereExecutor, silent, tiny_study

TRIALS = {run.config.fingerprint() for run in trials(tiny_study())}


def start(out, *hang_at):
    command = [sys.executable, "-m", "helpers.study_worker", str(out), *map(str, hang_at)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=TESTS)


def finish(process):
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors


def logged(out, word):
    """Process and fingerprint of each line of that kind, in order."""
    log = out / "log"
    lines = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
    return [(process, fingerprint) for kind, process, fingerprint in lines if kind == word]


def load(out):
    return load_study(StudyFolder.of(tiny_study(), out))


def test_two_processes_do_every_run_exactly_once_and_both_choose_alike(tmp_path):
    for process in [start(tmp_path), start(tmp_path)]:
        finish(process)
    assert len({process for process, _ in logged(tmp_path, "started")}) == 2, "both had a part in it"
    result = load(tmp_path)
    once = Counter(run.config.fingerprint() for run, _ in result.runs)
    assert (len(once), set(once.values()), result.missing) == (12, {1}, ())
    # A process that had chosen otherwise would have done other final runs as well.
    assert Counter(fingerprint for _, fingerprint in logged(tmp_path, "started")) == once
    assert Counter(fingerprint for _, fingerprint in logged(tmp_path, "ended")) == once


@pytest.mark.parametrize("num_done", [0, 3], ids=["in its first trial", "in its fourth"])
def test_the_trials_of_a_killed_process_are_done_by_the_next_and_what_it_finished_stays(tmp_path, num_done):
    victim = start(tmp_path, num_done)
    deadline = time.monotonic() + 200
    while len(logged(tmp_path, "started")) <= num_done:
        assert time.monotonic() < deadline
        assert victim.poll() is None
        time.sleep(0.02)
    victim.kill()
    victim.communicate()
    (_, left) = logged(tmp_path, "started")[-1]
    executor = HereExecutor()
    conduct(tiny_study(), StudyFolder.of(tiny_study(), tmp_path), executor, silent())
    done_there = [fingerprint for _, fingerprint in logged(tmp_path, "ended")]
    done_here = [config.fingerprint() for config in executor.done]
    assert len(done_there) == num_done
    assert left in TRIALS & set(done_here)
    assert Counter(done_there + done_here) == Counter(run.config.fingerprint() for run, _ in load(tmp_path).runs)
    assert load(tmp_path).missing == ()
