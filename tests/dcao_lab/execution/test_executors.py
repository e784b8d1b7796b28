"""Which run goes where and when, on slots without processes; test_workers.py has the processes."""

import threading

import pytest

from dcao_lab.errors import LabError
from dcao_lab.execution.executors import run_in_slots
from dcao_lab.runs.runner import run
from dcao_lab.runs.store import RunStore, StoreError
from helpers.lab_runs import finish, small_config

RUNS = [small_config(seed=seed) for seed in range(3)]


class SlotsHere:
    """Slots whose runs are done by ``work`` when they are waited for, the last begun first."""

    def __init__(self, num_slots, work):
        self.num_slots, self.work = num_slots, work
        self.running, self.started, self.is_stopped = [], [], False

    def start(self, slot, config):
        assert slot in range(self.num_slots)
        assert slot not in [other for other, _ in self.running]
        self.running.append((slot, config))
        self.started.append(config)

    def wait(self, seconds):
        slot, config = self.running.pop()
        return [(slot, self.work(config))]

    def stop(self):
        self.is_stopped = True


@pytest.fixture
def store(tmp_path):
    return RunStore(tmp_path / "runs")


def run_here(store, configs, num_slots=1, work=None, on_start=lambda slot, config: None):
    slots, outcomes = SlotsHere(num_slots, work or (lambda config: run(config, store))), {}
    try:
        run_in_slots(slots, configs, store, outcomes.__setitem__, on_start)
    finally:
        assert slots.is_stopped
        assert all(store.claim(config) for config in RUNS)  # none is held any more
    return outcomes, slots.started


def test_a_run_is_asked_for_when_a_slot_is_free_and_not_before(store):
    configs, under_way, most = [small_config(seed=seed) for seed in range(9)], set(), []

    def ask():
        for config in configs:
            under_way.add(config)
            most.append(len(under_way))
            yield config

    def work(config):
        under_way.remove(config)
        return config.seed

    outcomes, _ = run_here(store, ask(), num_slots=3, work=work)
    assert outcomes == {config: config.seed for config in configs}
    assert most == [1, 2, *[3] * 7]


def test_a_run_that_is_there_is_loaded_and_not_started(store):
    (stored,) = finish(store, RUNS[0])
    outcomes, started = run_here(store, RUNS[:1], on_start=lambda slot, config: pytest.fail("it was started"))
    assert outcomes == {RUNS[0]: stored.result}
    assert started == []


def test_a_run_that_is_asked_for_twice_is_done_once(store):
    outcomes, started = run_here(store, [RUNS[0], RUNS[0]], num_slots=2)
    assert set(outcomes) == {RUNS[0]}
    assert started == [RUNS[0]]


def test_a_damaged_run_is_done_again(store, caplog):
    (stored,) = finish(store, RUNS[0])
    (store.folder(RUNS[0]) / "result.json").write_text("{")
    outcomes, _ = run_here(store, RUNS[:1])
    assert outcomes == {RUNS[0]: stored.result}
    assert "is done again: result.json differs from what was written" in caplog.text


def test_a_run_that_another_is_at_comes_last_and_its_result_is_taken(store):
    claim = RunStore(store.root).claim(RUNS[0])
    done_there = {}

    def work(config):
        if config == RUNS[2]:  # the last that can be done here: now the other process finishes
            (done_there[RUNS[0]],) = finish(store, RUNS[0])
            claim.close()
        return run(config, store)

    outcomes, started = run_here(store, RUNS, work=work)
    assert list(outcomes) == [*RUNS[1:], RUNS[0]]
    assert outcomes[RUNS[0]] == done_there[RUNS[0]].result
    assert started == RUNS[1:]


def test_a_run_that_another_gave_up_is_done_here(store):
    claim = RunStore(store.root).claim(RUNS[0])
    timer = threading.Timer(0.3, claim.close)
    timer.start()
    _, started = run_here(store, RUNS[:1])
    timer.join()
    assert started == RUNS[:1]


def test_a_failing_run_is_reported_and_the_others_are_done(store):
    def work(config):
        return ValueError("no") if config == RUNS[0] else config.seed

    outcomes, _ = run_here(store, RUNS, work=work)
    assert isinstance(outcomes[RUNS[0]], ValueError)
    assert set(outcomes) == set(RUNS)


def test_a_full_disk_stops_everything_before_more_is_trained_for_nothing(store):
    asked = iter(RUNS)
    with pytest.raises(LabError, match="cannot write to there: No space left on device"):
        run_here(store, asked, work=lambda config: StoreError("cannot write to there: No space left on device"))
    assert list(asked) == RUNS[1:]


def test_what_the_caller_raises_stops_everything(store):
    slots = SlotsHere(2, lambda config: config.seed)

    def interrupt(config, outcome):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_in_slots(slots, RUNS, store, interrupt)
    assert slots.is_stopped
    assert all(store.claim(config) for config in RUNS)
