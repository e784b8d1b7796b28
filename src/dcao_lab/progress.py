"""How far a set of runs is: a bar with the time left in a terminal, plain lines elsewhere."""

import time
from collections.abc import Iterable
from types import TracebackType
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from dcao_lab.baselines import get_baseline
from dcao_lab.config import RunConfig
from dcao_lab.workloads import get_workload

PROBING_SHARE = 0.5  # of a step's time, roughly; only the time left rests on it


class RunProgress(Protocol):
    """Something that shows how far a set of runs is."""

    def __enter__(self) -> "RunProgress":
        """Begin to show."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop showing."""

    def done(self, config: RunConfig, words: str) -> None:
        """One more run is done; ``words`` say what came out."""


def show_progress(console: Console, configs: Iterable[RunConfig]) -> RunProgress:
    """A bar where ``console`` is a terminal, plain lines where it is not."""
    configs = list(configs)
    return BarProgress(console, configs) if console.is_terminal else LineProgress(console, configs)


def expected_cost(config: RunConfig) -> float:
    """Rough milliseconds that a run takes."""
    step = get_workload(config.workload).info.step_cost
    probes = get_baseline(config.optimizer).is_wrapped or config.watch
    return config.num_steps * step * (1.0 + PROBING_SHARE * probes)


class BarProgress:
    """A rich bar that fills with the expected time of the runs, not with their number."""

    def __init__(self, console: Console, configs: list[RunConfig]) -> None:
        self._num_runs, self._num_done = len(configs), 0
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("left:"),
            TimeRemainingColumn(compact=True, elapsed_when_finished=False),
            console=console,
            speed_estimate_period=120.0,
        )
        self._task = self._bar.add_task(self._describe(), total=sum(map(expected_cost, configs)))

    def __enter__(self) -> "BarProgress":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def done(self, config: RunConfig, words: str) -> None:
        """Fill the bar by the run's expected time, and show the run above it."""
        self._num_done += 1
        self._bar.console.print(f"  {config.label}: {words}", highlight=False, markup=False)
        self._bar.update(self._task, advance=expected_cost(config), description=self._describe())

    def _describe(self) -> str:
        return f"{self._num_done} of {self._num_runs} runs"


class LineProgress:
    """One line a run, with the time left by the expected times of those done."""

    def __init__(self, console: Console, configs: list[RunConfig]) -> None:
        self._console = console
        self._num_runs, self._num_done = len(configs), 0
        self._total, self._spent = sum(map(expected_cost, configs)), 0.0
        self._started = time.monotonic()

    def __enter__(self) -> "LineProgress":
        self._started = time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def done(self, config: RunConfig, words: str) -> None:
        """Print the line."""
        self._num_done += 1
        self._spent += expected_cost(config)
        line = f"[{self._num_done}/{self._num_runs}] {config.label}: {words}; {self._left()} left"
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _left(self) -> str:
        elapsed = time.monotonic() - self._started
        seconds = elapsed * (self._total - self._spent) / self._spent
        return f"about {seconds:.0f} s"
