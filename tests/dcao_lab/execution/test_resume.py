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
from dcao_lab.study.conduct import load_study
from dcao_lab.study.folders import StudyFolder
from dcao_lab.study.plan import trials
from dcao_lab.study.recipes.headline import headline
from dcao_lab.study.resizing import resized
from helpers import TESTS
from helpers.lab_coordinator import CONFIGS
from helpers.lab_runs import finish, one_thread, run_bytes

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
    return Counter(line.split()[1] for line in lines if line.startswith(word))


def kill_somewhere(root, generator, is_at_work):
    """Start a process, kill it at a random time, and wait until its workers are gone."""
    before = logged(root, "started").total()
    victim = coordinate(root)
    deadline = time.monotonic() + 60
    while is_at_work and logged(root, "started").total() == before and victim.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(generator.uniform(0.0, 0.2 if is_at_work else 2.0))
    victim.kill()
    victim.communicate()
    wait_until_gone(victim.pid)


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
    for kill in range(NUM_KILLS):
        starts = logged(store.root, "started")
        kill_somewhere(store.root, generator, is_at_work=kill % 4 == 0)
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
    generator, folders = random.Random(0), [StudyFolder.of(STUDY, tmp_path / name) for name in ("killed", "whole")]
    for kill in range(NUM_KILLS):
        before, victim = num_stored(folders[0]), start(tmp_path / "killed")
        while kill % 2 == 0 and num_stored(folders[0]) == before and victim.poll() is None:
            time.sleep(0.01)  # until a run of this process is there
        time.sleep(generator.uniform(0.0, 0.3 if kill % 2 == 0 else 3.0))
        victim.kill()
        victim.communicate()
        wait_until_gone(victim.pid)
    for name in ("killed", "whole"):
        process = start(tmp_path / name)
        _, errors = process.communicate(timeout=180)
        assert process.returncode == 0, errors
    killed, whole = (load_study(folder) for folder in folders)
    assert folders[0].choices() == folders[1].choices()
    assert [run for run, _ in killed.runs] == [run for run, _ in whole.runs]
    assert {run.task.workload for run in killed.missing} == {"digits_cnn"}
    for run, _ in killed.runs:
        assert run_bytes(folders[0].store(), run.config) == run_bytes(folders[1].store(), run.config)
    assert not list((folders[0].store().root / ".partial").iterdir())


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
