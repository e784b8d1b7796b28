"""Kill a process anywhere and start it again, or start two: nothing is lost and nothing is done twice."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest

from dcao_lab.runs.store import RunState, RunStore
from dcao_lab.study.conduct import conduct, load_study
from dcao_lab.study.folders import StudyFolder
from dcao_lab.study.plan import finals
from dcao_lab.study.recipes.demo import demo
from dcao_lab.study.resizing import resized
from helpers import TESTS, study_worker
from helpers.forks import forks
from helpers.lab_coordinator import CONFIGS
from helpers.lab_runs import finish, one_thread, run_bytes
from helpers.lab_studies import HereExecutor, silent

COMMAND = [sys.executable, "-m", "dcao_lab", "demo", "--workload", "digits_mlp", "--steps", "40", "--seeds", "1"]
STUDY = resized(demo(), num_steps=40, num_seeds=1)
RUNS = [run.config for run in finals(STUDY, {}) if run.task.workload == "digits_mlp"]


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


def session_of(process):
    """The session of a process; None when it has ended."""
    try:
        with open(f"/proc/{process}/stat") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[3])


def processes_of_session(session):
    return [entry for entry in filter(str.isdigit, os.listdir("/proc")) if session_of(entry) == session]


def wait_until_gone(session):
    deadline = time.monotonic() + 60  # a worker that is still importing torch notices only afterwards
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
    assert {run.task.workload for run in result.missing} == {"digits_cnn", "pydoc_gpt"}
    verdict, path = output.splitlines()[-2:]
    assert verdict.startswith("DCAO ")
    assert verdict.endswith(f"; 4 cases cannot be judged yet, as {len(result.missing)} runs are missing.")
    assert path == f"Report: {tmp_path / 'index.html'}"
    assert verdict in (tmp_path / "index.html").read_text()


NUM_KILLS = 10


def coordinate(root):
    command = [sys.executable, "-m", "helpers.lab_coordinator", str(root)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=TESTS, start_new_session=True
    )


def logged(root, word):
    """How often each run's fingerprint is in the log that the worker processes write."""
    log = root / "log"
    lines = log.read_text().split("\n") if log.exists() else []
    return Counter(line.split()[-1] for line in lines if line.startswith(word))


def kill_after(victim, root, word, number, seconds):
    """Kill a process so long after the log has ``number`` of these lines, and wait until its workers are gone."""
    deadline = time.monotonic() + 100
    while logged(root, word).total() < number and session_of(victim) is not None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(seconds)
    os.kill(victim, signal.SIGKILL)
    wait_until_gone(victim)


def finished(store):
    return {config: modified(store, config) for config in CONFIGS if store.state(config) is RunState.FINISHED}


def assert_like_an_uninterrupted_one(store, tmp_path):
    uninterrupted = RunStore(tmp_path / "uninterrupted")
    with one_thread():
        finish(uninterrupted, *CONFIGS)
    for config in CONFIGS:
        assert run_bytes(store, config) == run_bytes(uninterrupted, config)
    kept = {path.name for path in store.root.iterdir()} - {".claims", "log"}
    assert kept == {path.name for path in uninterrupted.root.iterdir()}
    assert not list((store.root / ".partial").iterdir())


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="reads /proc to find processes")
def test_killed_ten_times_and_finished_it_is_the_store_of_one_that_was_not(tmp_path):
    store, generator = RunStore(tmp_path / "runs"), random.Random(0)
    kept = {}
    with forks("helpers.lab_coordinator", store.root) as fork:
        for kill in range(NUM_KILLS):
            starts = logged(store.root, "started")
            is_at_work = kill % 4 == 0
            seconds = generator.uniform(0.0, 0.2 if is_at_work else 2.0)
            kill_after(fork(), store.root, "started", starts.total() + is_at_work, seconds)
            again = logged(store.root, "started") - starts
            assert not {config for config in kept if again[config.fingerprint()]}, "done again"
            kept = finished(store) | kept
    last = coordinate(store.root)
    output, errors = last.communicate(timeout=120)
    assert last.returncode == 0, errors
    assert sorted(output.split()) == sorted(config.fingerprint() for config in CONFIGS)
    assert {config: modified(store, config) for config in kept} == kept
    assert_like_an_uninterrupted_one(store, tmp_path)
    wait_until_gone(last.pid)


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="reads /proc to find processes")
def test_a_study_killed_ten_times_while_it_tunes_and_counts_is_the_study_of_one_that_was_not(tmp_path):
    study, generator = study_worker.LONGER_STUDY, random.Random(0)
    killed, whole = (StudyFolder.of(study, tmp_path / name) for name in ("killed", "whole"))
    num_there = []
    with forks("helpers.study_worker", tmp_path / "killed") as fork:
        for kill in range(NUM_KILLS):
            is_at_work = kill % 2 == 0
            seconds = generator.uniform(0.0, 0.05 if is_at_work else 0.2)
            kill_after(fork(), killed.root.parent, "ended", 3 * (kill // 2 + 1) if is_at_work else 0, seconds)
            num_there.append(num_stored(killed))
    assert num_there[0] < 8 < num_there[-1] < 22, "killed among the trials, and among the runs that count"
    with one_thread():
        for folder in (killed, whole):
            conduct(study, folder, HereExecutor(), silent())
    assert killed.choices() == whole.choices()
    results = load_study(killed), load_study(whole)
    assert [run for run, _ in results[0].runs] == [run for run, _ in results[1].runs]
    assert (len(results[0].runs), results[0].missing) == (22, ())
    for run, _ in results[0].runs:
        assert run_bytes(killed.store(), run.config) == run_bytes(whole.store(), run.config)
    assert not list((killed.store().root / ".partial").iterdir())
    ended = logged(killed.root.parent, "ended")
    assert set(ended.values()) == {1}, "what was finished is not done again"


def num_stored(folder):
    return len(list(folder.store().root.glob("digits_mlp-*")))


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="reads /proc to find processes")
def test_two_processes_share_a_store_and_each_reports_every_run(tmp_path):
    store = RunStore(tmp_path / "runs")
    both = [coordinate(store.root), coordinate(store.root)]
    for process in both:
        output, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        assert sorted(output.split()) == sorted(config.fingerprint() for config in CONFIGS)
    assert logged(store.root, "started") == logged(store.root, "ended")
    assert logged(store.root, "ended") == Counter({config.fingerprint(): 1 for config in CONFIGS})
    assert_like_an_uninterrupted_one(store, tmp_path)


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="reads /proc to find processes")
@pytest.mark.usefixtures("interruptible")
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
