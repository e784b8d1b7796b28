"""Runs on a Ray cluster, with or without a file system that its machines share."""

import contextlib
import logging
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from dcao_lab.config import RunConfig
from dcao_lab.errors import LabError, LostWorkerError
from dcao_lab.execution.executors import Executor
from dcao_lab.execution.workers import Reply, portable
from dcao_lab.runs.runner import HERE, RunPlace, run, stored_result
from dcao_lab.runs.store import CONFIG, MANIFEST, RunStore

TASKS_PER_PLACE = 2  # one runs and one waits its turn, so that a machine never idles until we answer
MAX_IN_FLIGHT = 400  # each holds a claim, which is an open file; 1024 of them are a usual limit
MAX_RETRIES = 3  # of a run whose process or machine dies
CONNECT_SECONDS = 10.0

Files = dict[str, bytes]


class RayExecutor(Executor):
    """Runs on the machines of a Ray cluster, which send their files back to this process's store.

    The machines need the same version of this package, and the data at the same place.

    Args:
        address: Of the cluster, ``host:port`` or ``auto``; None starts Ray on this machine.
        place: Where the data is on the machines, and the device.
        gpus_per_run: Share of a GPU that a run needs; with 0.25 four runs share one.
        cpus_per_run: Cores that a run needs; it gets as many threads, at least one.
    """

    jobs = MAX_IN_FLIGHT

    def __init__(
        self, address: str | None, place: RunPlace = HERE, gpus_per_run: float = 0.0, cpus_per_run: float = 1.0
    ) -> None:
        if not cpus_per_run > 0.0 or not gpus_per_run >= 0.0:
            raise LabError(
                f"a run needs more than 0 CPUs and 0 GPUs or more, got {cpus_per_run} and {gpus_per_run}; "
                "for example 1 CPU and 0.25 GPUs"
            )
        self.address = address
        self.place = place
        self.resources = {"CPU": cpus_per_run, "GPU": gpus_per_run}

    @contextlib.contextmanager
    def open_slots(self, store: RunStore) -> Iterator["RayTasks"]:
        """Slots on the machines of the cluster, connected for the block."""
        ray = _import_ray()
        with _connected(ray, self.address):
            yield RayTasks(ray, store, self.place, self.resources)


class RayTasks:
    """Slots that are tasks of a connected Ray cluster."""

    def __init__(self, ray: ModuleType, store: RunStore, place: RunPlace, resources: dict[str, float]) -> None:
        machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        self.num_slots = tasks_in_flight(machines, resources)
        self._ray, self._store, self._place = ray, store, place
        self._threads = max(1, int(resources["CPU"]))
        options = {"num_cpus": resources["CPU"], "num_gpus": resources["GPU"], "max_retries": MAX_RETRIES}
        self._do = ray.remote(files_of_run).options(**options)
        self._running: dict[Any, tuple[int, RunConfig]] = {}

    def start(self, slot: int, config: RunConfig) -> None:
        """Hand the run to the cluster."""
        self._running[self._do.remote(config, self._place, self._threads)] = (slot, config)

    def wait(self, seconds: float | None) -> list[tuple[int, Reply]]:
        """The slots whose run has ended and is in the store, with what came of it; maybe none yet."""
        ready, _ = self._ray.wait(list(self._running), num_returns=1, timeout=seconds)
        return [(self._running[task][0], self._finish(task)) for task in ready]

    def stop(self) -> None:
        """Cancel the tasks."""
        for task in self._running:
            self._ray.cancel(task, force=True)
        self._running.clear()

    def _finish(self, task: Any) -> Reply:
        _, config = self._running.pop(task)
        try:
            files = self._ray.get(task)
        except self._ray.exceptions.RayError as error:
            return LostWorkerError(
                f"{MAX_RETRIES + 1} times its process or machine died ({type(error).__name__}); "
                "is there enough memory? More CPUs or GPUs a run mean fewer at once"
            )
        if isinstance(files, Exception):
            return files
        self._store.publish(config, files)
        return stored_result(config, self._store)


def files_of_run(config: RunConfig, place: RunPlace, threads: int) -> "Files | Exception":
    """The contents of a run's files by name, done in a folder that is then deleted, or what it raised."""
    torch.set_num_threads(threads)
    try:
        with tempfile.TemporaryDirectory(prefix="dcao-lab-") as root:
            store = RunStore(Path(root))
            run(config, store, place)
            return {
                path.name: path.read_bytes()
                for path in store.folder(config).iterdir()
                if path.name not in (CONFIG, MANIFEST)
            }  # which the other store writes itself
    except Exception as error:
        return portable(error)


def tasks_in_flight(machines: list[dict[str, float]], needed: dict[str, float]) -> int:
    """How many tasks to hand to a cluster at once.

    Raises:
        LabError: No machine has what one run needs.

    Example:
        >>> tasks_in_flight([{"CPU": 8.0, "GPU": 1.0}, {"CPU": 64.0}], {"CPU": 1.0, "GPU": 0.25})
        8
    """
    num_at_once = sum(_num_that_fit(machine, needed) for machine in machines)
    if num_at_once == 0:
        raise LabError(
            f"no machine of the Ray cluster has the {needed['CPU']:g} CPUs and {needed['GPU']:g} GPUs that a run "
            "needs; ask for less, or add machines"
        )
    return min(TASKS_PER_PLACE * num_at_once, MAX_IN_FLIGHT)


def _num_that_fit(machine: dict[str, float], needed: dict[str, float]) -> int:
    return min(int(machine.get(name, 0.0) / amount) for name, amount in needed.items() if amount > 0.0)


def _import_ray() -> ModuleType:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # read at import: no reports to Ray's makers unasked
    try:
        import ray
    except ImportError:
        raise LabError("runs on a cluster need Ray: pip install '.[cluster]' in a clone") from None
    return ray


@contextlib.contextmanager
def _connected(ray: ModuleType, address: str | None) -> Iterator[None]:
    """A connection for the block, or the one that this process has already."""
    if ray.is_initialized():
        yield
        return
    _require_answer(address)
    try:
        ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level=logging.WARNING)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise _unreachable(address, str(error)) from error
    try:
        yield
    finally:
        ray.shutdown()


def _require_answer(address: str | None) -> None:
    """Try the port, because Ray would try for over a minute and then end the process."""
    host, _, port = (address or "").rpartition("://")[2].rpartition(":")
    if not port.isdigit():
        return  # None, "auto" or "local", or nonsense that Ray refuses
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise _unreachable(address, str(error)) from error


def _unreachable(address: str | None, reason: str) -> LabError:
    return LostWorkerError(
        f"no Ray cluster at {address} ({reason}); start one with `ray start --head` and give its host:port as --address"
    )
