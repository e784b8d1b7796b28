"""Processes that cost no time to start: forks of one that has imported everything, for tests that kill many.

``python -m helpers.forks MODULE FOLDER`` forks at every line that it reads, and prints the fork's process id. The fork
has a session of its own and calls ``main(FOLDER)`` of the module.
"""

import contextlib
import importlib
import os
import subprocess
import sys
import time
from pathlib import Path

from helpers import TESTS


@contextlib.contextmanager
def forks(module, folder):
    """In the block: a function that starts a process doing ``module.main(folder)`` and returns its id."""
    command = [sys.executable, "-m", "helpers.forks", module, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=TESTS) as source:

        def fork():
            source.stdin.write("\n")
            source.stdin.flush()
            return int(source.stdout.readline())

        yield fork


def serve(module, folder):
    prepare = getattr(module, "prepare", lambda: None)
    prepare()
    for _ in sys.stdin:
        process = os.fork()
        if process == 0:
            become(module, folder)
        while os.getsid(process) != process:  # who asks which processes the session has must not come too early
            time.sleep(0.001)
        print(process, flush=True)


def become(module, folder):
    """The life of a fork; its standard streams go nowhere, else it would read and write those of its parent."""
    os.setsid()
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nowhere, stream)
    try:
        module.main(folder)
    finally:
        os._exit(0)


if __name__ == "__main__":
    serve(importlib.import_module(sys.argv[1]), Path(sys.argv[2]))
