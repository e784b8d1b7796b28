"""Runs done by several at once: each exactly once in a store, whoever else works on it."""

import logging
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Protocol

from dcao_lab.config import RunConfig
from dcao_lab.execution.cores import default_threads
from dcao_lab.execution.workers import LocalWorkers
from dcao_lab.runs.runner import HERE, RunPlace, RunResult, stored_result
from dcao_lab.runs.store import Claim, RunState, RunStore, StoreError

OnDone = Callable[[RunConfig, "RunResult | Exception"], None]
OnStart = Callable[[int, RunConfig], None]

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.2  # between looks at runs that another process is at


class Slots(Protocol):
    """Places where runs are done, one at a time in each."""

    num_slots: int

    def start(self, slot: int, config: RunConfig) -> None:
        """Begin a run in a slot that is free."""

    def wait(self, seconds: float | None) -> "list[tuple[int, RunResult | Exception]]":
        """The slots whose run has ended with what came of it; maybe none yet."""

    def stop(self) -> None:
        """End everything at once, in the middle of runs too."""


def _ignore(slot: int, config: RunConfig) -> None:
    """The ``on_start`` of callers that do not follow starts."""


class Executor(ABC):
    """Something that does runs.

    Attributes:
        jobs: How many at once, at most.
    """

    jobs: int

    @abstractmethod
    def open_slots(self, store: RunStore) -> AbstractContextManager[Slots]:
        """Slots for the runs of ``store``, there for a ``with`` block.

        Raises:
            LabError: There is nothing to run on.
        """

    def run_all(
        self, configs: Iterable[RunConfig], store: RunStore, on_done: OnDone, on_start: OnStart = _ignore
    ) -> None:
        """Do the runs that ``store`` does not have; ``on_done`` hears of each, done now, done before, or failed.

        ``configs`` is consumed lazily: the next one is asked for when a slot is free. Both callbacks are called in
        the caller's thread; ``on_start`` gets the number of the slot, from 0, and is not called for runs that were
        there already. A run that another process is at is left to it, and its result reported at the end.

        Raises:
            LabError: The store cannot be written to, or there is nothing to run on. Finished runs stay.
        """
        with self.open_slots(store) as slots:
            run_in_slots(slots, configs, store, on_done, on_start)


class LocalExecutor(Executor):
    """Runs in processes of this machine.

    Args:
        jobs: How many at once.
        place: Where the data is, and the device. With several jobs on ``cuda`` they take turns on the GPUs.
        threads: Of each process; None takes :func:`~dcao_lab.execution.cores.default_threads`. The last digits of a
            run may depend on it.
    """

    def __init__(self, jobs: int, place: RunPlace = HERE, threads: int | None = None) -> None:
        self.jobs = jobs
        self.place = place
        self.threads = default_threads(jobs) if threads is None else threads

    def open_slots(self, store: RunStore) -> AbstractContextManager[Slots]:
        """A slot a process."""
        return nullcontext(LocalWorkers(self.jobs, store.root, self.place, self.threads))


def run_in_slots(
    slots: Slots, configs: Iterable[RunConfig], store: RunStore, on_done: OnDone, on_start: OnStart = _ignore
) -> None:
    """Do the runs in ``slots``, as :meth:`Executor.run_all` says, and stop the slots, whatever happens."""
    schedule = _Schedule(slots, configs, store, on_done, on_start)
    try:
        _sweep(store)
        schedule.run()
    finally:
        slots.stop()
        schedule.release_all()
        _sweep(store)


def _sweep(store: RunStore) -> None:
    with suppress(StoreError):  # leftovers are in nobody's way; an error here would hide the real one
        store.sweep()


class _Schedule:
    """Which run goes next, and the claims of those that are under way."""

    def __init__(
        self, slots: Slots, configs: Iterable[RunConfig], store: RunStore, on_done: OnDone, on_start: OnStart
    ) -> None:
        self._slots, self._configs, self._store = slots, iter(configs), store
        self._on_done, self._on_start = on_done, on_start
        self._free = deque(range(slots.num_slots))
        self._running: dict[int, tuple[RunConfig, Claim]] = {}
        self._busy: deque[RunConfig] = deque()  # another process is at them

    def run(self) -> None:
        while True:
            self._fill()
            if self._running:
                for slot, outcome in self._slots.wait(POLL_SECONDS if self._busy and self._free else None):
                    self._end(slot, outcome)
            elif self._busy:
                time.sleep(POLL_SECONDS)
            else:
                return

    def release_all(self) -> None:
        for _, claim in self._running.values():
            claim.close()
        self._running.clear()

    def _fill(self) -> None:
        while self._free:
            found = self._next()
            if found is None:
                return
            slot = self._free.popleft()
            self._running[slot] = found
            self._on_start(slot, found[0])
            self._slots.start(slot, found[0])

    def _end(self, slot: int, outcome: "RunResult | Exception") -> None:
        config, claim = self._running.pop(slot)
        claim.close()
        self._free.append(slot)
        if isinstance(outcome, StoreError):  # it would be the same with every further run
            raise outcome
        self._on_done(config, outcome)

    def _next(self) -> "tuple[RunConfig, Claim] | None":
        """A run to do now, claimed; those that turn out to be done are reported on the way."""
        for config in self._configs:
            claim = self._claim(config)
            if claim is not None:
                return config, claim
        for _ in range(len(self._busy)):
            config = self._busy.popleft()
            claim = self._claim(config)
            if claim is not None:
                return config, claim
        return None

    def _claim(self, config: RunConfig) -> "Claim | None":
        if self._is_done(config):
            return None
        claim = self._store.claim(config)
        if claim is None:
            self._busy.append(config)
        elif self._is_done(config):  # another process finished it since
            claim.close()
            return None
        elif warning := self._store.replace_damaged(config):
            logger.warning(warning)
        return claim

    def _is_done(self, config: RunConfig) -> bool:
        if self._store.state(config) is not RunState.FINISHED:
            return False
        self._on_done(config, stored_result(config, self._store))
        return True
