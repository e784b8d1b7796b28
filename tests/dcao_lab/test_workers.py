import errno
import os
import signal
import threading
import time
from multiprocessing import active_children

import pytest

from dcao_lab import workers
from dcao_lab.errors import LabError
from dcao_lab.executors import LocalExecutor
from dcao_lab.runner import Place, RunResult
from dcao_lab.store import RunState, RunStore
from dcao_lab.workers import device_of_slot
from lab_runs import finish, small_config

RUNS = [small_config(seed=seed) for seed in range(3)]


@pytest.fixture
def store(tmp_path):
    return RunStore(tmp_path / "runs")


def run_all(configs, store, jobs=1, on_start=lambda slot, config: None):
    outcomes = {}
    LocalExecutor(jobs, threads=1).run_all(configs, store, outcomes.__setitem__, on_start)
    return outcomes


def test_runs_of_several_processes_all_arrive_and_a_failing_one_is_reported(store):
    bad = small_config(workload="no such thing")
    outcomes = run_all([bad, *RUNS], store, jobs=2)
    assert all(isinstance(outcomes[config], RunResult) for config in RUNS)
    assert all(store.state(config) is RunState.FINISHED for config in RUNS)
    assert isinstance(outcomes[bad], LabError)
    assert not active_children()


def quick(config, root, place):
    """Stands in for a run: nothing is stored, and the outcome is the process."""
    return os.getpid()


def test_a_run_is_asked_for_when_a_slot_is_free_and_not_before(store, monkeypatch):
    monkeypatch.setattr(workers, "_run_one", quick)
    under_way, most = set(), []

    def ask():
        for config in RUNS * 2:
            under_way.add(config)
            most.append(len(under_way))
            yield config

    LocalExecutor(2, threads=1).run_all(ask(), store, lambda config, outcome: under_way.discard(config))
    assert len(most) == 6
    assert max(most) == 2


def test_each_slot_has_one_process_and_its_number_is_told(store, monkeypatch):
    monkeypatch.setattr(workers, "_run_one", quick)
    slots = {}
    processes = run_all(RUNS, store, jobs=2, on_start=lambda slot, config: slots.__setitem__(config, slot))
    assert set(slots.values()) == {0, 1}
    assert len({(slots[config], processes[config]) for config in RUNS}) == 2


def test_a_run_that_is_there_is_loaded_and_not_started(store, monkeypatch):
    (stored,) = finish(store, RUNS[0])
    outcomes = run_all(RUNS[:1], store, on_start=lambda slot, config: pytest.fail("it was started"))
    assert outcomes == {RUNS[0]: stored.result}


def test_a_damaged_run_is_done_again(store, caplog):
    (stored,) = finish(store, RUNS[0])
    (store.folder(RUNS[0]) / "result.json").write_text("{")
    assert run_all(RUNS[:1], store) == {RUNS[0]: stored.result}
    assert "is done again: result.json differs from what was written" in caplog.text


def test_a_run_that_another_is_at_comes_last_and_its_result_is_taken(store, monkeypatch):
    claim, started = RunStore(store.root).claim(RUNS[0]), []

    def other():
        while started != RUNS[1:]:
            time.sleep(0.01)
        finish(store, RUNS[0])
        claim.release()

    thread = threading.Thread(target=other)
    thread.start()
    outcomes = run_all(RUNS, store, on_start=lambda slot, config: started.append(config))
    thread.join()
    assert list(outcomes) == [*RUNS[1:], RUNS[0]]
    assert started == RUNS[1:]


def test_a_run_that_another_gave_up_is_done_here(store, monkeypatch):
    monkeypatch.setattr(workers, "_run_one", quick)
    claim = RunStore(store.root).claim(RUNS[0])
    timer = threading.Timer(0.5, claim.release)
    timer.start()
    assert set(run_all(RUNS[:1], store)) == set(RUNS[:1])
    timer.join()


def die_once(config, root, place):
    """Stands in for a run whose process the system kills the first time."""
    mark = root / "died"
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


def die_always(config, root, place):
    if config.seed == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


def test_the_run_of_a_worker_that_died_is_done_again(store, monkeypatch):
    monkeypatch.setattr(workers, "_run_one", die_once)
    assert set(run_all(RUNS[:2], store)) == set(RUNS[:2])


def test_a_run_whose_workers_die_again_and_again_is_one_sentence_and_the_others_are_done(store, monkeypatch):
    monkeypatch.setattr(workers, "_run_one", die_always)
    outcomes = run_all(RUNS[:2], store)
    assert isinstance(outcomes[RUNS[0]], LabError)
    assert str(outcomes[RUNS[0]]) == (
        "3 times the worker process died (signal 9); is there enough memory? Fewer --jobs need less"
    )
    assert isinstance(outcomes[RUNS[1]], int)


def full_disk(config, root, place):
    with RunStore(root).writing(config):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_stops_everything_before_more_is_trained_for_nothing(store, monkeypatch):
    monkeypatch.setattr(workers, "_run_one", full_disk)
    asked = iter(RUNS)
    with pytest.raises(LabError, match=rf"cannot write to {store.root}: No space left on device; make room there"):
        run_all(asked, store)
    assert next(asked) == RUNS[1]
    assert not active_children()
    store.claim(RUNS[0]).release()


class Unpicklable(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


def raise_unpicklable(config, root, place):
    raise Unpicklable("this", "that")


def test_an_error_that_cannot_travel_between_processes_comes_as_its_words(store, monkeypatch):
    monkeypatch.setattr(workers, "_run_one", raise_unpicklable)
    (error,) = run_all(RUNS[:1], store).values()
    assert repr(error) == "RuntimeError('Unpicklable: this and that')"


def sleep_unless_first(config, root, place):
    if config.seed > 0:
        with RunStore(root).writing(config):
            time.sleep(60)


def test_an_interrupt_ends_the_workers_at_once_and_sweeps_behind_them(store, monkeypatch):
    monkeypatch.setattr(workers, "_run_one", sleep_unless_first)

    def interrupt(config, outcome):
        while not list((store.root / ".partial").glob("*")):
            time.sleep(0.01)
        raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        LocalExecutor(2, threads=1).run_all(RUNS, store, interrupt)
    assert time.monotonic() - began < 50
    assert not active_children()
    assert not list((store.root / ".partial").iterdir())


def test_jobs_on_cuda_take_turns_on_the_gpus():
    assert [device_of_slot("cuda", slot, num_gpus=4) for slot in range(6)] == [
        "cuda:0",
        "cuda:1",
        "cuda:2",
        "cuda:3",
        "cuda:0",
        "cuda:1",
    ]
    assert device_of_slot("cuda:2", 0, num_gpus=4) == "cuda:2"
    assert device_of_slot("cpu", 3, num_gpus=4) == "cpu"


def test_cuda_without_a_gpu_is_one_sentence_before_any_run(store, monkeypatch):
    monkeypatch.setattr(workers.torch.cuda, "device_count", lambda: 0)
    with pytest.raises(LabError, match="device is cuda and torch finds no GPU on this machine; use cpu"):
        LocalExecutor(1, Place(device="cuda")).run_all(RUNS, store, lambda *_: None)


def test_no_jobs_at_all_are_refused(store):
    with pytest.raises(LabError, match="jobs must be 1 or more, got 0"):
        run_all(RUNS, store, jobs=0)
