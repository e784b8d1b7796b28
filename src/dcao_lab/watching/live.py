"""A run that is being watched: one look after another, and what there is to show after each."""

from dataclasses import dataclass
from pathlib import Path

from dcao_lab.watching.axes import Axis, axis_of
from dcao_lab.watching.course import EDGE, Course, Series
from dcao_lab.watching.places import Place, is_of_runs, place_of
from dcao_lab.watching.tail import Tail
from dcao_lab.watching.thinning import Numbers, thinned


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One curve, thinned, with its axis.

    Attributes:
        name: What it is called.
        latest: Its last value; None where there is none yet.
        steps: Optimizer step of each point.
        values: Height of each point; nan is a gap.
        axis: What is in view.
        edge: A height that is drawn as a line across; None: there is none.
    """

    name: str
    latest: float | None
    steps: Numbers
    values: Numbers
    axis: Axis
    edge: float | None = None


class LiveRun:
    """A run that may be under way, and whose log is read as it grows.

    Args:
        path: A log, the folder of a run, or a folder of runs, of which the one that began last is watched.
    """

    def __init__(self, path: Path) -> None:
        self.course = Course()
        self.version = 0  # changes when there is something else to show
        self._place = Place(path=path, log=path)
        self._is_there = False
        self._tail = Tail()

    @property
    def is_over(self) -> bool:
        """Whether the run's folder says so, and all of its log has been read."""
        return self._place.is_over

    @property
    def name(self) -> str:
        """What the run is called."""
        return self._place.path.name

    @property
    def state(self) -> str:
        """How the run stands, in words."""
        if self.course.step is None:
            return self._waiting
        place, last = self._place, f"last record at step {self.course.step}"
        if place.is_over:
            return f"over, {last}"
        if not self._is_there:
            return f"interrupted, {last}; waits for the run to go on"
        return last if place.path == place.log else f"running, {last}"  # a log alone does not say whether it will grow

    @property
    def _waiting(self) -> str:
        if self.is_over:
            return "over, without a log; dcao-lab run --watch keeps records of a bare optimizer too"
        if is_of_runs(self._place.path):
            return f"no run is under way in {self._place.path}"
        return f"no record yet in {self._place.log}"

    @property
    def notices(self) -> list[str]:
        """What happened in the run besides decisions, and what of its log could not be read."""
        events = [name if count == 1 else f"{name} {count} times" for name, count in self.course.events.items()]
        bad = self.course.num_unreadable
        return [*events, f"{bad} lines of the log are no records and are left out"] if bad else events

    def look(self) -> bool:
        """Read what is new; whether there is something else to show."""
        before, version = (self._place, self._is_there), self.version
        found = place_of(self._place.path)  # first, so that a run that it calls over has all of its log
        has_more = True
        while has_more:
            appended = self._tail.read(found.log)
            if appended.is_fresh_start:
                self.course = Course()
            for line in appended.lines:
                self.course.add(line)
            self.version += bool(appended.lines or appended.is_fresh_start)
            has_more = appended.has_more
        self._place, self._is_there = found, found.log.exists()
        self.version += before != (self._place, self._is_there)
        return self.version != version

    def panels(self, most: int) -> list[Panel]:
        """Loss, s against its edge, and lr, each of at most ``most`` points and its gaps."""
        course = self.course
        return [
            _panel("training loss", course.loss, most),
            _panel("stability number s", course.s, most, is_log=False, edge=EDGE),
            _panel("learning rate", course.lr, most, is_log=True),
        ]


def _panel(name: str, series: Series, most: int, *, is_log: bool | None = None, edge: float | None = None) -> Panel:
    steps, values = thinned(series.steps, series.values, most)
    keep = () if edge is None else (0.0, edge)
    axis = axis_of(values, is_log=is_log, keep=keep)
    latest = series.values[-1] if series.values else None
    return Panel(name=name, latest=latest, steps=steps, values=values, axis=axis, edge=edge)
