"""Processes that do runs, and never outlive the one that started them."""

import contextlib
import os
import pickle
import queue
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from multiprocessing import connection as connections
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from dcao_lab.config import RunConfig
from dcao_lab.errors import LabError, LostWorkerError
from dcao_lab.runs.runner import RunPlace, RunResult, run
from dcao_lab.runs.store import RunStore

MAX_DEATHS = 3  # of worker processes, by the same run
Reply = RunResult | Exception
Work = Callable[[RunConfig, Path, RunPlace], RunResult]


def device_of_slot(device: str, slot: int, num_gpus: int) -> str:
    """The device for a slot's runs: slots take turns on the GPUs when ``device`` names none of them.

    Raises:
        LabError: There is no GPU.

    Example:
        >>> [device_of_slot("cuda", slot, num_gpus=2) for slot in range(3)]
        ['cuda:0', 'cuda:1', 'cuda:0']
        >>> device_of_slot("cuda:1", slot=0, num_gpus=2), device_of_slot("cpu", slot=5, num_gpus=0)
        ('cuda:1', 'cpu')
    """
    if device != "cuda":
        return device
    if num_gpus == 0:
        raise LabError("device is cuda and torch finds no GPU on this machine; use cpu, or check torch's installation")
    return f"cuda:{slot % num_gpus}"


class LocalWorkers:
    """Slots that are processes, each started when it is first needed.

    The run of a process that dies is started again; after the third death it is given up with a sentence.

    Args:
        jobs: Number of processes.
        root: Folder of the store that they write to.
        place: Where the data is, and the device.
        threads: Of each process.
    """

    def __init__(self, jobs: int, root: Path, place: RunPlace, threads: int) -> None:
        if jobs < 1:
            raise LabError(f"jobs must be 1 or more, got {jobs}")
        self.num_slots = jobs
        self._root, self._threads = root, threads
        num_gpus = torch.cuda.device_count()
        self._places = [replace(place, device=device_of_slot(place.device, slot, num_gpus)) for slot in range(jobs)]
        self._workers: dict[int, _Worker] = {}
        self._running: dict[int, RunConfig] = {}
        self._deaths: Counter[RunConfig] = Counter()

    def start(self, slot: int, config: RunConfig) -> None:
        """Begin a run in a free slot."""
        if slot not in self._workers:
            self._workers[slot] = _Worker(_run_one, self._root, self._places[slot], self._threads)
        self._running[slot] = config
        self._workers[slot].send(config)

    def wait(self, seconds: float | None) -> list[tuple[int, Reply]]:
        """The slots whose run has ended, with what came of it; maybe none, also before the time is over."""
        slots = {self._workers[slot].connection: slot for slot in self._running}
        ready = connections.wait(list(slots), seconds)
        replies = [(slot, self._receive(slot)) for pipe, slot in slots.items() if pipe in ready]
        return [(slot, reply) for slot, reply in replies if reply is not None]

    def stop(self) -> None:
        """End the processes at once."""
        for worker in self._workers.values():
            worker.stop()
        self._workers.clear()

    def _receive(self, slot: int) -> Reply | None:
        """What came of the slot's run; None when its process died and the run has been started again."""
        config = self._running.pop(slot)
        try:
            reply: Reply = self._workers[slot].connection.recv()
        except (EOFError, OSError):
            return self._after_death(slot, config)
        return reply

    def _after_death(self, slot: int, config: RunConfig) -> Reply | None:
        exit_code = self._workers.pop(slot).stop()
        self._deaths[config] += 1
        if self._deaths[config] < MAX_DEATHS:
            self.start(slot, config)
            return None
        cause = f"signal {-exit_code}" if exit_code < 0 else f"exit status {exit_code}"
        return LostWorkerError(
            f"{MAX_DEATHS} times the worker process died ({cause}); is there enough memory? Fewer --jobs need less"
        )


class _Worker:
    """One process and the pipe to it."""

    def __init__(self, work: Work, root: Path, place: RunPlace, threads: int) -> None:
        context = get_context("spawn")  # torch's threads do not survive a fork
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, work, root, place, threads))
        with _interrupts_held_back():  # the process inherits it: Ctrl-C is for the parent to answer
            self._process.start()
        theirs.close()  # else the pipe would stay open when the process dies

    def send(self, config: RunConfig) -> None:
        with contextlib.suppress(OSError):  # it is dead, which the reading end will tell
            self.connection.send(config)

    def stop(self) -> int:
        """End the process and return its exit status."""
        self._process.kill()
        self._process.join()
        self.connection.close()
        exit_code = self._process.exitcode or 0
        self._process.close()
        return exit_code


def _serve(pipe: Connection, work: Work, root: Path, place: RunPlace, threads: int) -> None:
    """The life of a worker process."""
    torch.set_num_threads(threads)
    requests: queue.SimpleQueue[RunConfig] = queue.SimpleQueue()
    threading.Thread(target=_receive_until_the_parent_ends, args=(pipe, requests), daemon=True).start()
    while True:
        pipe.send(reply_to(work, requests.get(), root, place))


def _receive_until_the_parent_ends(pipe: Connection, requests: "queue.SimpleQueue[RunConfig]") -> None:
    """Pass requests on until the pipe's other end closes, as the system does also for a parent that was killed."""
    with contextlib.suppress(EOFError, OSError):
        while True:
            requests.put(pipe.recv())
    os._exit(1)


def reply_to(work: Work, config: RunConfig, root: Path, place: RunPlace) -> Reply:
    """The run's result, or what it raised in a form that can travel between processes."""
    try:
        return work(config, root, place)
    except Exception as error:
        return portable(error)


def portable(error: Exception) -> Exception:
    """The error itself, or its words where it cannot travel between processes."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _run_one(config: RunConfig, root: Path, place: RunPlace) -> RunResult:
    return run(config, RunStore(root), place)


@contextlib.contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Ctrl-C waits until the block ends, and reaches no process that starts in it: they inherit this thread's mask.

    Ignoring it meanwhile would lose it, and the person would have to press again. The mask alone would not do: torch's
    threads do not have it, and Python answers in the main thread what any thread receives.
    """
    resource_tracker.ensure_running()  # it clears the mask when it starts
    held: list[int] = []
    is_main = threading.current_thread() is threading.main_thread()  # the only one that is interrupted
    handler = signal.signal(signal.SIGINT, lambda number, _: held.append(number)) if is_main else None
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if is_main:
            signal.signal(signal.SIGINT, handler)
    if held:
        signal.raise_signal(signal.SIGINT)
