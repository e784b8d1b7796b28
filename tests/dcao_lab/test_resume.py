"""Kill a demo anywhere and start it again: nothing is lost and nothing is done twice."""

import os
import signal
import subprocess
import sys
import time

import pytest

from dcao_lab.store import RunState, RunStore
from dcao_lab.study.conduct import load_study
from dcao_lab.study.folders import StudyFolder
from dcao_lab.study.plan import trials
from dcao_lab.study.recipes import headline
from dcao_lab.study.resizing import resized

COMMAND = [sys.executable, "-m", "dcao_lab", "demo", "--workload", "digits_mlp", "--steps", "120", "--seeds", "1"]
STUDY = resized(headline("demo"), num_steps=120, num_seeds=1)
RUNS = [run.config for run in trials(STUDY) if run.task.workload == "digits_mlp"]  # others depend on what these give


def start(out, jobs=2):
    command = [*COMMAND, "--out", str(out), "--jobs", str(jobs)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def wait_for_finished(store, number):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        done = [config for config in RUNS if store.state(config) is RunState.FINISHED]
        if len(done) >= number:
            return done
        time.sleep(0.05)
    pytest.fail(f"fewer than {number} runs after a minute")


def processes_of_session(session):
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{entry}/stat") as stat:
                fields = stat.read().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(entry))
    return found


def wait_until_gone(session):
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if not processes_of_session(session):
            return
        time.sleep(0.05)
    pytest.fail("processes outlive their parent")


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="reads /proc to find processes")
def test_a_killed_demo_leaves_no_process_and_goes_on_where_it_was(tmp_path):
    store = RunStore(tmp_path / "runs")
    victim = start(tmp_path)
    kept = {config: modified(store, config) for config in wait_for_finished(store, 2)}
    victim.kill()
    victim.communicate()
    wait_until_gone(victim.pid)
    kept |= {config: modified(store, config) for config in wait_for_finished(store, 2)}

    second = start(tmp_path)
    output, errors = second.communicate(timeout=120)
    assert second.returncode == 0, errors
    assert f"{len(kept)} of {len(RUNS)} runs are there already" in output
    assert all(store.state(config) is RunState.FINISHED for config in RUNS)
    assert {config: modified(store, config) for config in kept} == kept
    assert not list((store.root / ".partial").iterdir())
    result = load_study(StudyFolder.of(STUDY, tmp_path))
    assert {run.task.workload for run in result.missing} == {"digits_cnn"}
    assert (tmp_path / "index.html").exists()


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="reads /proc to find processes")
def test_ctrl_c_is_one_line_and_exit_130(tmp_path):
    victim = start(tmp_path)
    wait_for_finished(RunStore(tmp_path / "runs"), 1)
    os.killpg(victim.pid, signal.SIGINT)  # what a terminal does: the whole group gets it
    _, errors = victim.communicate(timeout=30)
    assert victim.returncode == 130
    assert errors == "dcao-lab: interrupted; finished runs are kept, start again to go on\n"
    wait_until_gone(victim.pid)


def modified(store, config):
    return (store.folder(config) / "result.json").stat().st_mtime_ns
