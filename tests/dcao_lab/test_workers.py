import os
import signal

import pytest

from dcao_lab import workers
from dcao_lab.errors import LabError
from dcao_lab.runner import RunResult
from dcao_lab.store import RunState, RunStore
from lab_runs import small_config


def test_runs_of_several_processes_all_arrive_and_a_failing_one_is_reported(tmp_path):
    store, outcomes = RunStore(tmp_path), {}
    good, bad = [small_config(seed=seed) for seed in range(3)], small_config(workload="no such thing")
    workers.run_all([bad, *good], store, 2, outcomes.__setitem__)
    assert all(isinstance(outcomes[config], RunResult) for config in good)
    assert all(store.state(config) is RunState.FINISHED for config in good)
    assert isinstance(outcomes[bad], LabError)


def die_once(config, root):
    """Stands in for a run whose process the system kills the first time."""
    mark = root / "died"
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return


def die_always(config, root):
    os.kill(os.getpid(), signal.SIGKILL)


def test_the_runs_of_a_worker_that_died_are_done_again(tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "_run_one", die_once)
    done = []
    workers.run_all([small_config(seed=s) for s in range(2)], RunStore(tmp_path), 1, lambda c, r: done.append(c.seed))
    assert sorted(done) == [0, 1]


def test_workers_that_die_again_and_again_are_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "_run_one", die_always)
    with pytest.raises(LabError, match=r"3 times a worker process died; 1 runs are not done\. Is there enough memory"):
        workers.run_all([small_config()], RunStore(tmp_path), 1, lambda c, r: None)
