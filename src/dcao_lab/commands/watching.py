"""``dcao-lab watch``: looks at a run again and again until it is over, or the person has seen enough."""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live

from dcao_lab.errors import LabError
from dcao_lab.watching.live import LiveRun
from dcao_lab.watching.screen import screen_of

if TYPE_CHECKING:
    from dcao_lab.watching.server import PageServer

STOPPED = "Stopped watching; the run goes on."
TICK = 0.1  # seconds
GRACE = 60.0
"""Seconds that the page of a run that is over waits for a browser which has not seen the end."""


def watch(path: Path, console: Console, *, every: float = 1.0) -> None:
    """Show a run in the terminal until it is over or Ctrl-C is pressed; the last picture stays."""
    with _ctrl_c() as has_enough:
        run = LiveRun(path)
        run.look()
        with Live(screen_of(run, console), console=console, auto_refresh=False) as live:
            while not (run.is_over or has_enough.wait(every)):
                if run.look():
                    live.update(screen_of(run, console), refresh=True)
        if not console.is_terminal:
            console.line()  # a file has the last picture alone, and that without an end
        if not run.is_over:
            console.print(STOPPED)


def serve(path: Path, console: Console, *, port: int = 0, every: float = 1.0, grace: float = GRACE) -> None:
    """Show a run as a page of this machine until a browser has shown its end, or Ctrl-C is pressed.

    Raises:
        LabError: The port is taken.
    """
    from dcao_lab.watching.server import PageServer

    with _ctrl_c() as has_enough:
        run = LiveRun(path)
        run.look()
        try:
            server = PageServer(run, port)
        except OSError as error:
            raise LabError(f"cannot serve on port {port}: {error.strerror}; give another --port, or none") from error
        with server, _answering(server):
            console.print(
                f"Watching {path} at {server.url} until it is over or Ctrl-C", highlight=False, soft_wrap=True
            )
            while not (run.is_over or has_enough.wait(every)):
                if run.look():
                    server.publish(run)
            if run.is_over:
                _wait_for_either(server.has_shown_the_end, has_enough, grace)
        said = f"The run is {run.state}." if run.is_over else STOPPED
        console.print(said, highlight=False, soft_wrap=True)


def _wait_for_either(one: threading.Event, other: threading.Event, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not (one.is_set() or other.wait(TICK)) and time.monotonic() < end:
        pass


@contextlib.contextmanager
def _answering(server: "PageServer") -> Iterator[None]:
    """Requests are answered in another thread."""
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": TICK}, daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()


@contextlib.contextmanager
def _ctrl_c() -> Iterator[threading.Event]:
    """An event that Ctrl-C sets, so that it ends the view between two pictures and not within one."""
    pressed = threading.Event()
    if threading.current_thread() is not threading.main_thread():  # only the main thread hears of Ctrl-C
        yield pressed
        return
    usual = signal.signal(signal.SIGINT, lambda *_: pressed.set())
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, usual)
