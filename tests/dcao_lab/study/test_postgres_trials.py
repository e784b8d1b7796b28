"""Many machines on one database: against a real PostgreSQL server."""

import itertools
import os
import signal
import subprocess
import sys
import time

import pytest
import sqlalchemy

from dcao_lab.runs.store import RunState, RunStore
from dcao_lab.study.conduct import load_study
from dcao_lab.study.folders import StudyFolder
from dcao_lab.study.plan import trials
from dcao_lab.study.tuning import Trials
from helpers import TESTS
from helpers.lab_studies import ended, tiny_study
from helpers.postgres import postgres_server

PLANNED = {run.config for run in trials(tiny_study())}


@pytest.fixture(scope="module")
def server():
    with postgres_server() as url:
        yield url


@pytest.fixture
def url(server):
    """An empty database."""
    name = f"trials_{time.monotonic_ns()}"
    engine = sqlalchemy.create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    engine.dispose()
    return server.replace("/postgres?", f"/{name}?")


def start(out, url):
    command = [sys.executable, "-m", "helpers.study_worker", str(out), url]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=TESTS)


def finish(process):
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors


def done(out):
    store = RunStore(out / "runs")
    return {config for config in PLANNED if store.state(config) is RunState.FINISHED}


def test_two_machines_with_stores_of_their_own_do_every_trial_exactly_once(tmp_path, url):
    outs = tmp_path / "one", tmp_path / "two"
    for process in [start(out, url) for out in outs]:
        finish(process)
    assert done(outs[0]) | done(outs[1]) == PLANNED
    assert not done(outs[0]) & done(outs[1])
    results = [load_study(StudyFolder(out / "tiny-demo")) for out in outs]
    finals = [{run.config for run, _ in result.runs if run.phase == "final"} for result in results]
    assert finals[0] == finals[1], "both choose alike, also from trials that the other one did"
    assert len(finals[0]) == 4


def test_a_killed_machine_s_trials_are_done_by_the_other(tmp_path, url):
    victim = start(tmp_path / "one", url)
    deadline = time.monotonic() + 100
    while not done(tmp_path / "one") and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(victim.pid, signal.SIGKILL)
    victim.communicate()
    finish(start(tmp_path / "two", url))
    assert done(tmp_path / "one") | done(tmp_path / "two") == PLANNED


def test_claims_of_open_and_of_lost_connections(url):
    study = tiny_study()
    dead = Trials(study, url)
    left = next(dead.claims(dead.pending()))
    with Trials(study, url) as alive, Trials(study, url) as other:
        assert left not in list(alive.claims([left]))
        dead.close()
        claims = [each.claims(each.pending()) for each in (alive, other)]
        mine, others = zip(*itertools.zip_longest(*claims), strict=True)
        claimed = [config for config in (*mine, *others) if config is not None]
        assert len(claimed) == len(set(claimed)) == 6
        for config in claimed:
            alive.tell(config, ended(0.5))
        assert other.pending() == []
        assert other.choices() == alive.choices()
        assert len(other.choices()) == 2
