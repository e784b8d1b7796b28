import os
import signal
import time
from multiprocessing import active_children

import pytest

from dcao_lab.errors import LabError
from dcao_lab.execution import workers
from dcao_lab.execution.executors import LocalExecutor
from dcao_lab.execution.workers import device_of_slot, reply_to
from dcao_lab.runs.runner import RunPlace, RunResult
from dcao_lab.runs.store import RunState, RunStore
from helpers.lab_runs import small_config

RUNS = [small_config(seed=seed) for seed in range(3)]


@pytest.fixture
def store(tmp_path):
    return RunStore(tmp_path / "runs")


def run_all(configs, store, jobs=1):
    outcomes = {}
    LocalExecutor(jobs, threads=1).run_all(configs, store, outcomes.__setitem__)
    return outcomes


def test_runs_of_several_processes_all_arrive_and_a_failing_one_is_reported(store):
    bad = small_config(workload="no such thing")
    outcomes = run_all([bad, *RUNS], store, jobs=2)
    assert all(isinstance(outcomes[config], RunResult) for config in RUNS)
    assert all(store.state(config) is RunState.FINISHED for config in RUNS)
    assert isinstance(outcomes[bad], LabError)
    assert not active_children()


def die_by_seed(config, root, place):
    """Stands in for runs whose process the system kills: of seed 0 each time, of seed 1 once, of seed 2 never."""
    mark = root / "died"
    if config.seed == 0 or (config.seed == 1 and not mark.exists()):
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "done"


def test_a_run_whose_worker_died_is_done_again_and_given_up_when_it_dies_again_and_again(store, monkeypatch):
    monkeypatch.setattr(workers, "_run_one", die_by_seed)
    outcomes = run_all([RUNS[1], RUNS[0], RUNS[2]], store)
    assert outcomes[RUNS[1]] == outcomes[RUNS[2]] == "done"
    assert isinstance(outcomes[RUNS[0]], LabError)
    assert str(outcomes[RUNS[0]]) == (
        "3 times the worker process died (signal 9); is there enough memory? Fewer --jobs need less"
    )


def sleep_unless_first(config, root, place):
    if config.seed > 0:
        with RunStore(root).writing(config):
            time.sleep(60)
    return "done"


def test_an_interrupt_ends_the_workers_at_once_and_sweeps_behind_them(store, monkeypatch):
    monkeypatch.setattr(workers, "_run_one", sleep_unless_first)

    def interrupt(config, outcome):
        while not list((store.root / ".partial").glob("*")):
            time.sleep(0.01)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        LocalExecutor(2, threads=1).run_all(RUNS, store, interrupt)
    assert not active_children()
    assert not list((store.root / ".partial").iterdir())


class Unpicklable(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


def raise_unpicklable(config, root, place):
    raise Unpicklable("this", "that")


def test_an_error_that_cannot_travel_between_processes_comes_as_its_words(tmp_path):
    error = reply_to(raise_unpicklable, RUNS[0], tmp_path, RunPlace())
    assert repr(error) == "RuntimeError('Unpicklable: this and that')"


def test_jobs_on_cuda_take_turns_on_the_gpus():
    turns = [device_of_slot("cuda", slot, num_gpus=3) for slot in range(5)]
    assert turns == ["cuda:0", "cuda:1", "cuda:2", "cuda:0", "cuda:1"]
    assert device_of_slot("cuda:2", 0, num_gpus=4) == "cuda:2"
    assert device_of_slot("cpu", 3, num_gpus=4) == "cpu"


def test_cuda_without_a_gpu_is_one_sentence_before_any_run(store, monkeypatch):
    monkeypatch.setattr(workers.torch.cuda, "device_count", lambda: 0)
    with pytest.raises(LabError, match="device is cuda and torch finds no GPU on this machine; use cpu"):
        LocalExecutor(1, RunPlace(device="cuda")).run_all(RUNS, store, lambda *_: None)


def test_no_jobs_at_all_are_refused(store):
    with pytest.raises(LabError, match="jobs must be 1 or more, got 0"):
        run_all(RUNS, store, jobs=0)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_while_a_process_starts_comes_late_and_is_not_lost():
    reached = []

    def interrupted():
        with workers._interrupts_held_back():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)
            reached.append("the end of the block")

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert reached == ["the end of the block"]
