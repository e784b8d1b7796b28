"""How far a set of runs is: bars with the time left in a terminal, plain lines elsewhere."""

import time
from collections.abc import Iterable

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.table import Column
from rich.text import Text

from dcao_lab.config import RunConfig
from dcao_lab.runs.expected import expected_seconds

MAX_WORKER_BARS = 16  # a cluster has more workers than a terminal has lines


def show_progress(console: Console, expected_runs: Iterable[RunConfig], jobs: int) -> "LineProgress":
    """Bars where ``console`` is a terminal, one for all runs and one for each of ``jobs``; plain lines elsewhere."""
    tally = Tally(expected_runs)
    return BarProgress(console, tally, jobs) if console.is_terminal else LineProgress(console, tally)


class Tally:
    """What is done and what is left, by the number of runs and by the seconds that they are expected to take.

    Attributes:
        num_runs: Runs expected.
        num_done: Runs done, those that were there already included.
        total: Seconds expected of all.
        finished: Seconds expected of those that are done.
    """

    def __init__(self, configs: Iterable[RunConfig]) -> None:
        self._seconds = {config: _expected(config) for config in configs}
        self.num_runs, self.num_done = len(self._seconds), 0
        self.total, self.finished = sum(self._seconds.values()), 0.0
        self._worked = 0.0  # of `finished`, what was not there already: only this took time
        self._started = self._last_done = time.monotonic()

    def done(self, config: RunConfig, was_started: bool) -> None:
        """Count a run as done."""
        self.num_done += 1
        self.finished += self._seconds[config]
        if was_started:
            self._worked += self._seconds[config]
            self._last_done = time.monotonic()

    def left(self) -> str:
        """The time left in words, from how fast it went until now."""
        if self._worked == 0.0:
            return "not known yet"
        expected = (self._last_done - self._started) * (self.total - self.finished) / self._worked
        seconds = max(0.0, expected - (time.monotonic() - self._last_done))
        return f"about {_spelled(seconds)}"


class LineProgress:
    """One line a run, with the time left by the expected times of those done."""

    def __init__(self, console: Console, tally: Tally) -> None:
        self._console, self._tally = console, tally
        self._slots: dict[RunConfig, int] = {}  # of the runs that are under way

    def __enter__(self) -> "LineProgress":
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the lines where they are."""

    def started(self, slot: int, config: RunConfig) -> None:
        """A worker, by its number from 0, begins with a run."""
        self._slots[config] = slot

    def done(self, config: RunConfig, words: str) -> None:
        """A run is done; ``words`` say what came of it. One that was never started only counts: it was there."""
        slot = self._slots.pop(config, None)
        self._tally.done(config, was_started=slot is not None)
        if slot is not None:
            self._show(slot, config, words)

    def _show(self, slot: int, config: RunConfig, words: str) -> None:
        head = f"[{self._tally.num_done}/{self._tally.num_runs}] {config.label}"
        line = f"{head}: {words}; {self._tally.left()} left"
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)


class BarProgress(LineProgress):
    """A bar for all runs, filled by their expected times, and one for each worker with what it is doing."""

    def __init__(self, console: Console, tally: Tally, jobs: int) -> None:
        super().__init__(console, tally)
        self._bars = Progress(*_columns(tally), console=console, expand=True, get_time=time.monotonic)
        self._all = self._bars.add_task("", total=1.0)
        self._workers = [self._bars.add_task("", total=1.0, num_done=0) for _ in range(min(jobs, MAX_WORKER_BARS))]
        self._show_all()

    def __enter__(self) -> "BarProgress":
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop, without the bars of the workers: what they were doing is no news any more."""
        for task in self._workers:
            self._bars.remove_task(task)
        self._bars.stop()

    def started(self, slot: int, config: RunConfig) -> None:
        """Show the run at the worker's bar, which moves without an end: a run does not tell how far it is."""
        super().started(slot, config)
        if (task := self._worker(slot)) is not None:
            self._bars.reset(task, total=None, description=f"  worker {slot + 1}: {escape(config.label)}")

    def done(self, config: RunConfig, words: str) -> None:
        """Fill the bar by the run's expected time, and show the run above it."""
        super().done(config, words)
        self._show_all()

    def _show(self, slot: int, config: RunConfig, words: str) -> None:
        self._bars.console.print(f"  {config.label}: {words}", highlight=False, markup=False)
        if (task := self._worker(slot)) is not None:
            num_done = self._bars.tasks[self._bars.task_ids.index(task)].fields["num_done"] + 1
            self._bars.update(task, total=1.0, completed=1.0, num_done=num_done, description=f"  worker {slot + 1}")

    def _worker(self, slot: int) -> TaskID | None:
        return self._workers[slot] if slot < len(self._workers) else None

    def _show_all(self) -> None:
        description = f"{self._tally.num_done} of {self._tally.num_runs} runs"
        self._bars.update(self._all, total=self._tally.total, completed=self._tally.finished, description=description)


def _columns(tally: Tally) -> tuple[ProgressColumn, ...]:
    """Labels, bars, what is left and the time so far: labels and bars share, two to one, what the others leave them.

    A label that is longer ends with an ellipsis. Where its column could grow, it took all the width from the others.
    """
    label = TextColumn("{task.description}", table_column=Column(ratio=2, no_wrap=True, overflow="ellipsis"))
    return label, BarColumn(bar_width=None, table_column=Column(ratio=1)), _StateColumn(tally), _ElapsedColumn()


class _StateColumn(ProgressColumn):
    """The time left of the study; the number of runs that a worker has done."""

    def __init__(self, tally: Tally) -> None:
        super().__init__()
        self._tally = tally

    def render(self, task: Task) -> Text:
        if "num_done" in task.fields:
            return Text(f"{task.fields['num_done']} done")
        return Text(f"left: {self._tally.left()}")


class _ElapsedColumn(ProgressColumn):
    """The time so far, days in hours: in words they would take the width of a bar."""

    def render(self, task: Task) -> Text:
        return Text(_clock(task.finished_time if task.finished else task.elapsed), style="progress.elapsed")


def _expected(config: RunConfig) -> float:
    """The expected seconds, and something for a run whose names are unknown: it will fail, and say so itself."""
    try:
        return expected_seconds(config)
    except ValueError:
        return 1.0


def _spelled(seconds: float) -> str:
    if seconds < 100.0:
        return f"{seconds:.0f} s"
    return f"{seconds / 60.0:.0f} min" if seconds < 6000.0 else f"{seconds / 3600.0:.1f} h"


def _clock(seconds: float | None) -> str:
    """Hours, minutes and seconds."""
    if seconds is None:
        return "-:--:--"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
