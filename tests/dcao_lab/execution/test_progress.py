import io
import re
from dataclasses import replace

import pytest
from rich.console import Console

from dcao_lab.execution import progress as progress_module
from dcao_lab.execution.progress import BarProgress, LineProgress, Tally, show_progress
from dcao_lab.study.plan import finals, trials, watched
from dcao_lab.study.recipes import RECIPES
from dcao_lab.study.sweeping import expected
from helpers.lab_runs import small_config

RUNS = [small_config(seed=seed) for seed in range(2)]


def terminal():
    return Console(file=io.StringIO(), force_terminal=True, width=120, height=40)


def test_without_a_terminal_each_run_is_a_plain_line_with_the_time_left():
    console = Console(file=io.StringIO(), width=60)
    with show_progress(console, RUNS, jobs=1) as progress:
        assert isinstance(progress, LineProgress)
        for config in RUNS:
            progress.started(0, config)
            progress.done(config, "accuracy 0.5 [b]")
    lines = console.file.getvalue().splitlines()
    assert lines[0].startswith("[1/2] digits_mlp adamw lr=0.001 seed=0: accuracy 0.5 [b]; about ")
    assert lines[1].endswith("about 0 s left")
    assert "\x1b" not in console.file.getvalue()


def test_a_run_that_was_there_already_counts_without_a_line():
    console = Console(file=io.StringIO(), width=60)
    with show_progress(console, RUNS, jobs=1) as progress:
        progress.done(RUNS[0], "accuracy 0.5")
        progress.started(0, RUNS[1])
        progress.done(RUNS[1], "accuracy 0.5")
    (line,) = console.file.getvalue().splitlines()
    assert line.startswith("[2/2] digits_mlp adamw lr=0.001 seed=1")


def test_in_a_terminal_there_is_a_bar_for_all_and_one_for_each_worker():
    console = terminal()
    with show_progress(console, RUNS, jobs=2) as progress:
        assert isinstance(progress, BarProgress)
        progress.started(0, RUNS[0])
        progress.started(1, RUNS[1])
        progress.started(99, small_config(seed=3))  # a cluster's many slots have no bars
        progress._bars.refresh()
        progress.done(RUNS[0], "accuracy 0.5 [b]")
        progress._bars.refresh()
    text = console.file.getvalue()
    for words in (
        "0 of 2 runs",
        "1 of 2 runs",
        "worker 1: digits_mlp adamw lr=0.001 seed=0",
        "worker 2: digits_mlp adamw lr=0.001 seed=1",
        "1 done",
        "accuracy 0.5 [b]",
    ):
        assert words in text


def test_the_time_left_rests_on_the_runs_that_took_time(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now[0])
    tally = Tally(small_config(seed=seed) for seed in range(4))
    tally.done(small_config(seed=0), was_started=False)
    assert tally.left() == "not known yet"
    now[0] = 300.0
    tally.done(small_config(seed=1), was_started=True)
    assert tally.left() == "about 10 min"  # two runs of five minutes
    now[0] = 570.0
    assert tally.left() == "about 6 min"  # it goes on between events: 10 min less 270 s, 330 s
    now[0] = 9e9
    assert tally.left() == "about 0 s"


def test_a_run_of_an_unknown_workload_is_left_to_fail_by_itself():
    console = terminal()
    with show_progress(console, [small_config(workload="no such thing")], jobs=1):
        pass
    assert "0 of 1 runs" in console.file.getvalue()


def run_with_the_longest_name():
    """Of all studies' runs the one with the longest name."""
    studies = [make("small" if name == "real" else "embedded") for name, make in RECIPES.items()]
    runs = [run for s in studies for run in (*trials(s), *expected(s)[0], *finals(s, {}), *watched(s, {}))]
    return max((run.config for run in runs), key=lambda config: len(config.label))


def last_frame(console, num_lines):
    """The lines that the last refresh has drawn, without colours."""
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", console.file.getvalue())
    return text.replace("\r", "\n").rstrip("\n").splitlines()[-num_lines:]


@pytest.mark.parametrize("width", [60, 80, 110])
def test_the_longest_labels_leave_room_for_the_bars_and_the_time_left(monkeypatch, width):
    now = [0.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now[0])
    longest = run_with_the_longest_name()
    assert len(longest.label) > 60  # so that it alone would fill the narrowest of the terminals
    configs = [replace(longest, seed=seed, num_steps=10**9) for seed in range(2000)]
    console = Console(file=io.StringIO(), force_terminal=True, width=width, height=40)
    with show_progress(console, configs, jobs=12) as progress:
        for slot in range(12):
            progress.started(slot, configs[slot])
        progress._bars.refresh()
        unknown = last_frame(console, 13)
        now[0] = 100.5 * 3600.0
        progress.done(configs[0], "accuracy 0.5")
        progress._bars.refresh()
        known = last_frame(console, 13)
    assert "left: not known yet 0:00:00" in unknown[0]
    assert "left: about 200899.5 h 100:30:00" in known[0]  # 1999 runs of 100.5 hours, over four days each
    for frame in (unknown, known):
        assert re.match(r"[01] of 2000 runs ", frame[0])
        for line in frame:
            assert len(line.rstrip()) <= width
            assert len(re.findall("[━╸╺]", line)) >= 8
        assert all(re.match(r"  worker \d+: \w+.*… ", line) for line in frame[2:])
        assert all(re.search(r" [01] done +\d+:\d\d:\d\d$", line.rstrip()) for line in frame[1:])
