"""Many runs in a few processes, which never outlive the one that started them."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from dcao_lab.config import RunConfig
from dcao_lab.errors import LabError
from dcao_lab.runner import RunResult, run
from dcao_lab.store import RunStore

MAX_LOST_WORKERS = 3
OnDone = Callable[[RunConfig, "RunResult | Exception"], None]


def run_all(configs: Iterable[RunConfig], store: RunStore, jobs: int, on_done: OnDone) -> None:
    """Do the runs in ``jobs`` processes of one thread each; ``on_done`` hears of each, failed or not.

    A process that dies takes nothing with it: its runs are started again.

    Raises:
        LabError: Processes die again and again (most likely there is too little memory).
    """
    waiting = list(configs)
    for _ in range(MAX_LOST_WORKERS):
        waiting = _run_until_a_worker_dies(waiting, store.root, jobs, on_done)
        if not waiting:
            return
    raise LabError(
        f"{MAX_LOST_WORKERS} times a worker process died; {len(waiting)} runs are not done. "
        "Is there enough memory? Fewer --jobs need less; finished runs are kept"
    )


def _run_until_a_worker_dies(configs: list[RunConfig], root: Path, jobs: int, on_done: OnDone) -> list[RunConfig]:
    """Do the runs and return those that a worker's death left undone."""
    left = []
    with _pool(min(jobs, len(configs))) as pool:
        with _interrupts_ignored():  # processes start here, and inherit it: Ctrl-C is for the parent to answer
            futures = {pool.submit(_run_one, config, root): config for config in configs}
        for future in as_completed(futures):
            if isinstance(future.exception(), BrokenProcessPool):
                left.append(futures[future])
            else:
                on_done(futures[future], _outcome(future))
    return left


def _outcome(future: "Future[RunResult]") -> "RunResult | Exception":
    error = future.exception()
    if error is None:
        return future.result()
    return error if isinstance(error, Exception) else RuntimeError(str(error))


def _run_one(config: RunConfig, root: Path) -> RunResult:
    return run(config, RunStore(root))


@contextlib.contextmanager
def _pool(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """Worker processes that end with the block, at once if it ends by an exception, and with this process."""
    context = get_context("spawn")  # torch's threads do not survive a fork
    lifeline, held_here = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_start_worker, initargs=(lifeline,))
    try:
        yield pool
    except BaseException:
        held_here.close()  # workers see it and end in the middle of their runs
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        held_here.close()
        lifeline.close()


def _start_worker(lifeline: Connection) -> None:
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, args=(lifeline,), daemon=True).start()


def _end_with_parent(lifeline: Connection) -> None:
    """Wait until the pipe's other end closes, as the system does also for a parent that was killed."""
    with contextlib.suppress(EOFError, OSError):
        lifeline.recv()
    os._exit(1)


@contextlib.contextmanager
def _interrupts_ignored() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set it, and only it is interrupted
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
