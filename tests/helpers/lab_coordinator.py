"""A process that does a dozen small runs and logs what its workers begin and end; for tests that kill it."""

import os
import sys
from pathlib import Path

from dcao_lab.execution import workers
from dcao_lab.execution.executors import LocalExecutor
from dcao_lab.runs.runner import RunResult, run
from dcao_lab.runs.store import RunStore
from helpers.lab_runs import small_config

CONFIGS = [
    small_config(optimizer=optimizer, seed=seed, num_steps=60, eval_every=20)
    for seed in range(6)
    for optimizer in ("adamw", "dcao:sgd")
]


def logged_run(config, root, place):
    log(root, "started", config)
    result = run(config, RunStore(root), place)
    log(root, "ended", config)
    return result


def log(root, word, config):
    """One write, which the system does not split, to a file that several processes append to."""
    file = os.open(root / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, f"{word} {config.fingerprint()}\n".encode())
    os.close(file)


def main(root):
    workers._run_one = logged_run

    def on_done(config, outcome):
        assert isinstance(outcome, RunResult), outcome
        print(config.fingerprint(), flush=True)

    LocalExecutor(2, threads=1).run_all(CONFIGS, RunStore(root), on_done)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
