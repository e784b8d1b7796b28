"""What a watched run looks like in a terminal."""

from rich.console import Console, Group
from rich.text import Text

from dcao_lab.watching.chart import CURVE, EDGE, FAINT, LABEL, chart_of
from dcao_lab.watching.live import LiveRun

FEWEST_ROWS, MOST_ROWS = 2, 8
OTHER_LINES = 11  # names of panels, state, steps, the reason
NARROWEST = 30


def screen_of(run: LiveRun, console: Console) -> Group:
    """The run's state, its curves as wide as the terminal, and the last decision with its reason."""
    width = max(console.width, NARROWEST)
    rows = min(max((console.height - OTHER_LINES) // 3, FEWEST_ROWS), MOST_ROWS)
    head = [Text(run.name, style="bold", overflow="ellipsis", no_wrap=True), Text(run.state, overflow="fold")]
    if run.course.step is None:
        return Group(*head)
    panels = run.panels(2 * width)
    charts = [chart_of(panel, width=width, rows=rows) for panel in panels]
    return Group(*head, *charts, _steps(panels[0].steps[0], panels[0].steps.max(), width), *_words(run))


def _steps(first: float, last: float, width: int) -> Text:
    left, right = f"step {first:.0f}", f"{last:.0f}"
    return Text(f"{'':{LABEL}} └{left}{right:>{width - LABEL - 2 - len(left)}}", style=FAINT)


def _words(run: LiveRun) -> list[Text]:
    decision = Text.assemble(("last decision ", CURVE), run.course.reason)
    notices = [Text("; ".join(run.notices), style=EDGE)] if run.notices else []
    return [decision, *notices]
